"""The closed form against the paper: its formulas written out, its tables, the field's counters."""

from __future__ import annotations

import pytest

import effvit
from effvit.cost import Cost
from effvit.counters import COUNTERS, compare
from effvit.designs.sepvit import SepViTConfig

# Released code at 224 x 224, batch 1: conv + linear + matmul, then what other counters print.
TOTALS = {
    "sepvit_lite": (568_414_464, 573_229_824, 572_202_984, 493_432_296),
    "sepvit_tiny": (4_518_998_784, 4_533_444_864, 4_530_362_344, 4_294_050_280),
    "sepvit_small": (7_455_290_112, 7_475_818_752, 7_472_103_400, 7_091_874_280),
    "sepvit_base": (13_054_592_000, 13_081_963_520, 13_077_009_384, 12_570_037_224),
}
OTHER_COUNTERS = ("fvcore", "ptflops (aten)", "ptflops (pytorch)")

TINY = SepViTConfig()
DSSA = ((7,), (7,), (7,), (7,))


def block_macs(cost: Cost, place: str) -> int:
    return sum(op.macs for op in cost.operations if op.module.startswith(f"{place}."))


# --- one block, from the paper's formulas -------------------------------------------------------


def depthwise_attention(pixels: int, side: int, windows: int, c: int) -> int:
    """DSA: three projections of pixels and tokens, scores and values in each window."""
    return 3 * pixels * c**2 + 3 * windows * c**2 + 2 * windows * (side**2 + 1) ** 2 * c


def pointwise_attention(pixels: int, windows: int, c: int) -> int:
    """PSA: output projection, token query and key, scores, values of all pixels."""
    return pixels * c**2 + 2 * windows * c**2 + windows**2 * c + windows * pixels * c


def mlp(pixels: int, c: int) -> int:
    return 2 * pixels * c * (4 * c)


def test_dssa_block_of_stage_1() -> None:
    pixels, windows, c = 56 * 56, 8 * 8, 96
    expected = (
        depthwise_attention(pixels, 7, windows, c)
        + pointwise_attention(pixels, windows, c)
        + mlp(pixels, c)
    )
    assert block_macs(effvit.model_cost(TINY), "stages.0.blocks.0") == expected


def test_gsa_block_of_stage_2() -> None:
    pixels, windows, c = 28 * 28, 2 * 2, 192
    expected = (
        depthwise_attention(pixels, 14, windows, c)
        + pointwise_attention(pixels, windows, c)
        + mlp(pixels, c)
    )
    assert block_macs(effvit.model_cost(TINY), "stages.1.blocks.1") == expected


@pytest.mark.parametrize(
    ("place", "side", "c"), [("stages.2.blocks.1", 14, 384), ("stages.3.blocks.0", 7, 768)]
)
def test_a_single_window_is_plain_attention(place: str, side: int, c: int) -> None:
    """Released code: neither token nor pointwise attention where a block has one window."""
    pixels = side**2
    attention = 4 * pixels * c**2 + 2 * pixels**2 * c
    assert block_macs(effvit.model_cost(TINY), place) == attention + mlp(pixels, c)


def test_padded_windows_cost_their_padding() -> None:
    """At 32 x 40 pixels stage 1 maps 8 x 10: 2 x 2 windows of 7 x 7 on padded 14 x 14 pixels."""
    pixels, padded, windows, area, c, heads = 80, 196, 4, 49, 96, 3
    expected = (
        3 * (padded + windows) * c**2  # query, key, value
        + 2 * windows * (area + 1) ** 2 * c
        + 2 * windows * c**2
        + windows**2 * c
        + windows**2 * area * c
        + heads * windows**2 * area  # the share of real pixels that averages are divided by
        + pixels * c**2  # output projection, of real pixels
        + mlp(pixels, c)
    )
    assert block_macs(effvit.model_cost(TINY, (32, 40)), "stages.0.blocks.0") == expected


def test_patch_embedding_and_position_encoding() -> None:
    cost = effvit.model_cost(TINY)
    macs = {op.module: op.macs for op in cost.operations}
    assert macs["stages.0.embed.conv"] == 56**2 * 96 * (3 * 7**2)
    assert macs["stages.1.embed.conv"] == 28**2 * 192 * (96 * 3**2)
    assert macs["stages.0.position"] == 56**2 * 96 * 3**2
    assert macs["head"] == 768 * 1000


# --- totals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOTALS)
def test_totals_and_what_other_counters_print(name: str) -> None:
    cost = effvit.model_cost(name)
    predicted = [
        cost.macs + sum(term.macs for term in COUNTERS[counter].terms(cost))
        for counter in OTHER_COUNTERS
    ]
    assert (cost.macs, *predicted) == TOTALS[name]


@pytest.mark.parametrize("resolution", [(224, 224), (75, 139)])
def test_no_counter_has_an_unexplained_difference(resolution: tuple[int, int]) -> None:
    model, cost = effvit.create_model("sepvit_lite"), effvit.model_cost("sepvit_lite", resolution)
    results = compare(model, cost, resolution)
    assert {result.counter: result.unexplained for result in results} == dict.fromkeys(COUNTERS, 0)
    if resolution == (224, 224):
        counted = {result.counter: result.counted for result in results}
        assert tuple(counted[name] for name in OTHER_COUNTERS) == TOTALS["sepvit_lite"][1:]


# --- the paper's tables, SepViT-T at 224 x 224 --------------------------------------------------


@pytest.mark.parametrize(
    ("config", "params_m", "macs_g"),
    [
        (TINY.replace(windows=DSSA, window_representation="zero"), 32.1, 4.4),
        (TINY.replace(window_representation="zero"), 31.2, 4.5),
        (TINY, 31.2, 4.5),
    ],
    ids=["DSSA", "DSSA + GSA", "DSSA + GSA + LWT"],
)
def test_table_6_components(config: SepViTConfig, params_m: float, macs_g: float) -> None:
    cost = effvit.model_cost(config)
    assert (round(cost.params / 1e6, 1), round(cost.macs / 1e9, 1)) == (params_m, macs_g)


@pytest.mark.parametrize(
    ("windows", "params_m", "macs_g"),
    [(DSSA, 30.13, 4.18), (TINY.windows, 29.24, 4.27)],
    ids=["DSSA", "DSSA + GSA"],
)
def test_table_6_dagger_row_is_not_reproduced(
    windows: tuple[tuple[int, ...], ...], params_m: float, macs_g: float
) -> None:
    """Printed 29.3 M and 4.3 G for DSSA without overlapping patch embedding.

    The released code gives other figures for that; with GSA it comes close.
    """
    cost = effvit.model_cost(TINY, windows=windows, overlapping_patch_embedding=False)
    assert (round(cost.params / 1e6, 2), round(cost.macs / 1e9, 2)) == (params_m, macs_g)


@pytest.mark.parametrize(
    ("representation", "params_m"),
    [("learned", 31.2), ("zero", 31.2), ("average", 31.2), ("depthwise", 31.3)],
)
def test_table_7_window_representations(representation: str, params_m: float) -> None:
    cost = effvit.model_cost(TINY, window_representation=representation)
    assert (round(cost.params / 1e6, 1), round(cost.macs / 1e9, 1)) == (params_m, 4.5)


@pytest.mark.parametrize(
    ("stage", "pointwise", "macs_g"),
    [
        (0, "always", 0.4001),
        (1, "always", 0.3676),
        (2, "always", 0.3578),
        (3, "always", 0.3536),  # the paper's formula with one window
        (3, "multi_window", 0.3505),  # the released code's single window
    ],
)
def test_one_block_of_each_stage(stage: int, pointwise: str, macs_g: float) -> None:
    """The chart of one block against two, read to 0.004: 0.40, 0.367, 0.358, 0.354."""
    cost = effvit.model_cost(TINY, pointwise_attention=pointwise)
    assert round(block_macs(cost, f"stages.{stage}.blocks.0") / 1e9, 4) == macs_g


def test_backbone_of_dense_prediction() -> None:
    """Released detection code: tokens fixed to zero, pointwise attention in all blocks.

    It also has a norm on each of the four maps, and keeps the classifier that it does not use.
    """
    norms = 2 * (96 + 192 + 384 + 768)
    downstream = TINY.replace(window_representation="zero", pointwise_attention="always")
    assert round((effvit.model_cost(downstream).params + norms) / 1e6, 2) == 34.43
    headless = effvit.model_cost(downstream, num_classes=0)
    assert round((headless.params + norms) / 1e6, 2) == 33.66
