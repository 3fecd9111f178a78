"""Published tables: every figure's count and relation, as committed; and what relations mean."""

from __future__ import annotations

import dataclasses
import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import effvit
from effvit.config import ConfigError
from effvit.cost import Operation
from experiments import published_tables
from experiments.dense_heads import HEADS, dense_operations
from experiments.published_rows import (
    COUNTS,
    MEANING,
    REPRODUCED,
    ROUNDING,
    Figure,
    Relation,
    Row,
    read_rows,
)
from experiments.published_tables import ABSENT, IN_ROUNDING, NO, YES, compare, verdict

EMPTY = Row(**dict.fromkeys((field.name for field in dataclasses.fields(Row)), ""))
LITE = dataclasses.replace(EMPTY, model="sepvit_lite")


# --- the tables ---------------------------------------------------------------------------------


def test_every_count_and_relation_is_as_committed() -> None:
    """A change of any cost formula, or of any printed figure, shows here."""
    found, committed = compare().to_dict("records"), published_tables.read().to_dict("records")
    changed = [(was, now) for was, now in zip(committed, found, strict=True) if was != now]
    assert changed == []


def test_what_differs_from_the_papers_is_this_and_nothing_else() -> None:
    """Figures that no rounding explains, of the papers of the families here and what they cite."""
    lines = published_tables.read()
    lines = lines[lines["reproduced"] == NO]
    found: dict[str, set[str]] = {}
    for line in lines.to_dict("records"):
        found.setdefault(line["paper"].split(",")[0], set()).add(
            f"{line['row']}: {line['printed']}"
        )
    assert found == {
        "SepViT": {
            "SepViT-T dagger: DSSA: 29.3M",
            "SepViT-T dagger: DSSA: 4.3G",
            "PVTv2-B0: 3.4M",
            "stage 1: two Twins-SVT blocks: 0.76±0.004G",
            "stage 2: two Twins-SVT blocks: 0.712±0.004G",
            "stage 3: two Twins-SVT blocks: 0.70±0.004G",
            "stage 4: two Twins-SVT blocks: 0.694±0.004G",
            "Semantic FPN, Twins-SVT-S: 144G",
            "Semantic FPN, Twins-SVT-B: 261G",
            "Semantic FPN, Swin-B: 422G",
            "UperNet, Twins-SVT-S: 901G",
            "UperNet, Twins-SVT-B: 1020G",
            "RetinaNet, Twins-SVT-S: 34.4M",
            "Mask R-CNN, Twins-SVT-B: 340G",
        },
        "AutoFormer": {"AutoFormer-tiny: 5.7M", "AutoFormer-small: 5.1G"},
        "PiT": {"PiT-Ti: 0.71G"},
        "MobileViTv2": {"MobileViTv2-2.0: 7.5G", "MobileViTv2-2.0, ImageNet-21k-P: 7.5G"},
        "timm's result tables": {
            "mobilevit_xxs: 0.34G",
            "mobilevit_xs: 0.93G",
            "mobilevit_s: 1.86G",
        },
        "keras_cv_attention_models' readme": {
            "MobileViTv2-0.75: 1.04G",
            "MobileViTv2-1.0: 1.83G",
            "MobileViTv2-1.25: 2.84G",
            "MobileViTv2-1.5: 4.07G",
            "MobileViTv2-1.75: 5.52G",
            "MobileViTv2-2.0: 7.12G",
        },
    }


def test_whatever_is_not_reproduced_has_a_reason() -> None:
    lines = published_tables.read()
    assert lines[(lines["reproduced"] != YES) & (lines["note"] == "")].empty


def test_counts_of_the_released_code_are_reproduced_without_exception() -> None:
    lines = published_tables.read()
    counted = lines[lines["table"].str.startswith("counted")]
    assert len(counted) > 300
    assert set(counted["reproduced"]) == {YES}


def test_every_published_model_is_in_a_table_and_no_row_is_there_twice() -> None:
    rows = list(read_rows())
    assert {row.model for row in rows} - {""} == set(effvit.list_models())
    keys = [(row.paper, row.table, row.row, row.resolution) for row in rows]
    assert len(keys) == len(set(keys))
    assert all(row.params or row.macs for row in rows)


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_screen(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    lines = published_tables.read()
    lines = lines[lines["paper"].str.startswith(("SepViT", "MobileViTv2, arXiv"))]
    published_tables.show(lines, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    tables, reasons = text.split("Not reproduced to the printed digit")
    assert max(map(len, tables.splitlines())) <= width
    assert "MACs printed 7.5G, counted 7,155,785,728. Table 6 of the same paper" in reasons
    totals = dict(line.rsplit(None, 1) for line in _totals(reasons))
    for relation in set(lines["relation"]):
        assert int(totals[relation]) == (lines["relation"] == relation).sum()


def _totals(text: str) -> list[str]:
    """Relation and number of each line of the last table."""
    names = sorted((relation.value for relation in Relation), key=len, reverse=True)
    found = []
    for line in text[text.rindex("meaning") :].splitlines():
        name = next((name for name in names if line.startswith(f"{name}  ")), None)
        if name:
            found.append(f"{name} {line[len(name) :].split()[0]}")
    return found


# --- figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "count", "relation"),
    [
        ("31.2M", 31_182_856, Relation.ROUNDED),
        ("31.2M", 31_250_000, Relation.CUT_OFF),
        ("82.3M", 82_377_064, Relation.CUT_OFF),
        ("18.5M", 18_449_329, Relation.ROUNDED_UP),
        ("50.0M", 49_606_258, Relation.WHOLE),
        ("133.0M", 133_809_940, Relation.WHOLE_CUT_OFF),
        ("29.0M", 28_288_354, Relation.WHOLE_UP),
        ("56.0M", 56_070_952, Relation.CUT_OFF),  # also a whole number: the first that fits
        ("7.5G", 7_155_785_728, Relation.DIFFERS),
        ("50M", 49_606_258, Relation.ROUNDED),
        ("50M", 48_400_000, Relation.DIFFERS),
        ("3410008", 3_410_008, Relation.EQUAL),
        ("3410008", 3_410_009, Relation.DIFFERS),
        ("0.76±0.004G", 756_000_000, Relation.READING),
        ("0.76±0.004G", 755_999_999, Relation.DIFFERS),
    ],
)
def test_relations(printed: str, count: int, relation: Relation) -> None:
    assert Figure.parse(printed).relation(count) is relation


@given(st.integers(1, 10**12), st.integers(0, 4), st.sampled_from("kMG"))
def test_a_count_printed_in_any_digits_is_reproduced(count: int, digits: int, unit: str) -> None:
    printed = published_tables.written(Figure.parse(f"{0:.{digits}f}{unit}"), count)
    assert Figure.parse(printed).relation(count) is Relation.ROUNDED
    step = Figure.parse(printed).digit
    assert Figure.parse(f"{Decimal(printed[:-1]) + 3 * step}{unit}").relation(count) in (
        Relation.DIFFERS,
        Relation.WHOLE,  # three more may be a whole number to which the count rounds
        Relation.WHOLE_UP,
    )


@pytest.mark.parametrize("text", ["", "M", "4,5G", "4.5T", "0.7±xG"])
def test_a_figure_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"a figure must be like 31\.2M"):
        Figure.parse(text)


def test_each_relation_has_a_meaning_and_one_verdict() -> None:
    assert set(MEANING) == set(Relation)
    verdicts = {relation: verdict(relation) for relation in Relation}
    assert {r for r, v in verdicts.items() if v == YES} == set(REPRODUCED)
    assert {r for r, v in verdicts.items() if v == IN_ROUNDING} == set(ROUNDING)
    assert verdicts[Relation.DIFFERS] == NO
    assert verdicts[Relation.NOT_BUILT] == ABSENT


# --- counts -------------------------------------------------------------------------------------


def test_a_part_is_what_its_modules_cost() -> None:
    parts = effvit.model_cost("sepvit_lite").by_module(2)
    row = dataclasses.replace(LITE, part="stages.0 + stages.2")
    chosen = [parts["stages.0"], parts["stages.2"]]
    assert row.count() == (sum(p for p, _, _ in chosen), sum(m for _, m, _ in chosen))


def test_overrides_and_resolution_reach_the_network() -> None:
    row = dataclasses.replace(LITE, overrides='{"depths": [1, 1, 1, 1]}', resolution="64x96")
    cost = effvit.model_cost("sepvit_lite", (64, 96), depths=(1, 1, 1, 1))
    assert row.count() == (cost.params, cost.macs)


def test_counters_see_what_they_see() -> None:
    operators = {
        op.value: sums for op, sums in effvit.model_cost("sepvit_lite").by_operator().items()
    }
    _, macs = LITE.count()
    products, norms = operators["matmul"][1], operators["layer_norm"][2]

    def counted(counter: str) -> int:
        return dataclasses.replace(LITE, counter=counter).count()[1]

    assert counted("without products") == macs - products
    assert counted("fvcore") == macs + 5 * norms
    biases = operators["convolution"][2]  # all convolutions of SepViT have one
    assert counted("mmcv") == macs - products + 2 * norms + biases
    assert counted("mmcv and products") == macs + 2 * norms + biases


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "sepvit_lit"}, "did you mean 'sepvit_lite'"),
        ({"overrides": '{"depth": 1}'}, "did you mean 'depths'"),
        ({"part": "stages.7"}, r"sepvit_lite has no part 'stages\.7'"),
        ({"counter": "mmvc"}, "did you mean 'mmcv'"),
        ({"head": "RetinaNet "}, "did you mean 'RetinaNet'"),
        ({"model": "pvt_v2_b2", "head": "UperNet"}, "behind SepViT, Swin and Twins, got pvt_v2"),
        ({"model": "efficientvit_b0", "head": "UperNet"}, "unknown dense head"),
        (
            {"model": "efficientvit_b0", "head": "segmentation, ADE20K"},
            "no released head of efficientvit_b0 for segmentation, ADE20K",
        ),
    ],
)
def test_a_row_that_cannot_be_counted_says_why(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(LITE, **change).count()


# --- necks and heads ----------------------------------------------------------------------------

WIDTHS = (96, 192, 384, 768)


def params(operations: tuple[Operation, ...], module: str) -> int:
    return sum(op.params for op in operations if op.module.startswith(module))


def test_retinanet_from_its_layers() -> None:
    """Pyramid over three maps and two strided convolutions; two towers; 9 anchors, 80 classes."""
    tower = 3 * 3 * 256 * 256 + 256
    neck = sum(width * 256 + 256 for width in WIDTHS[1:]) + 3 * tower
    neck += (3 * 3 * 768 * 256 + 256) + tower
    head = 2 * 4 * tower + 9 * 256 * (9 * 80 + 9 * 4) + (9 * 80 + 9 * 4)
    found = dense_operations(
        "swin_tiny", effvit.model_config("swin_tiny"), (800, 1280), "RetinaNet"
    )
    assert params(found, "dense.neck") == neck
    assert params(found, "dense.head") == head
    positions = 100 * 160 + 50 * 80 + 25 * 40 + 13 * 20 + 7 * 10
    macs = sum(op.macs for op in found if op.module.startswith("dense.head"))
    assert macs == positions * 9 * 256 * (2 * 4 * 256 + 9 * 80 + 9 * 4)


def test_semantic_fpn_from_its_layers() -> None:
    """Each level to stride 4 by 1, 1, 2 and 3 convolutions with batch norms; 150 classes."""
    config = effvit.model_config("swin_tiny")
    found = dense_operations("swin_tiny", config, (512, 512), "Semantic FPN")
    first, next_ = 9 * 256 * 128 + 2 * 128, 9 * 128 * 128 + 2 * 128
    assert params(found, "dense.head") == 4 * first + 3 * next_ + 128 * 150 + 150
    macs = sum(op.macs for op in found if op.module.startswith("dense.head.scale"))
    side = (128, 64, 32, 16)
    wide = sum(9 * 256 * 128 * s**2 for s in side)
    assert macs == wide + 9 * 128 * 128 * (64**2 + 32**2 + 64**2)


def test_an_upernet_trains_a_head_that_does_not_run() -> None:
    config = effvit.model_config("swin_tiny")
    found = dense_operations("swin_tiny", config, (512, 512), "UperNet")
    auxiliary = [op for op in found if op.module.startswith("dense.auxiliary")]
    assert sum(op.macs for op in auxiliary) == 0
    assert sum(op.params for op in auxiliary) == 9 * 384 * 256 + 2 * 256 + 256 * 150 + 150


@pytest.mark.parametrize("head", HEADS)
def test_what_only_classification_runs_is_left_out(head: str) -> None:
    """Swin's dense code drops the classifier; SepViT's and Twins' keep its parameters."""
    for name, kept in (("swin_tiny", 0), ("sepvit_tiny", 1), ("twins_svt_small", 1)):
        config = effvit.model_config(name)
        found = dense_operations(name, config, (64, 64), head)
        width = config.to_dict()["widths"][-1] if kept else 0
        assert params(found, "head") == kept * (width * 1000 + 1000)
        assert params(found, "norm") == kept * 2 * width
        unused = [op for op in found if op.module in ("head", "norm")]
        assert all((op.macs, op.elements, op.bias_elements) == (0, 0, 0) for op in unused)


def test_counts_have_names() -> None:
    assert "" in COUNTS
    assert {"mmcv", "fvcore", "ptflops (aten)"} <= set(COUNTS)
