"""Results and verdicts from made-up measurements; what writers make of them."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from experiments.ablation import published
from experiments.ablation.definition import Ablation, Factor, Row, switch
from experiments.ablation.designs import FractionalFactorial, FullFactorial, OneFactor, Path
from experiments.ablation.engine import MeasuredRow
from experiments.ablation.figures import Point, bars, encode, figures, numbers, plane, sides
from experiments.ablation.layout import Table, interval, sentences, tables
from experiments.ablation.page import render
from experiments.ablation.published import (
    BILLION,
    MILLION,
    Printed,
    Published,
    PublishedRow,
    Verdict,
)
from experiments.ablation.results import (
    Count,
    Result,
    Speed,
    first_rows,
    order_verdict,
    rows_above,
    speed_verdict,
    summarise,
)
from experiments.ablation.significance import Difference, Mean
from experiments.ablation.store import LatencyRatio, Training
from experiments.ablation.subjects import Absent, Costs, Network
from experiments.ablation.writers import (
    effect_rows,
    latex,
    latex_table,
    markdown,
    markdown_table,
    result_rows,
    training_rows,
)
from tests.experiments.ablation_fakes import LITE, PLAN, STEPS

PRINTED = {
    "DSSA": PublishedRow(
        row="DSSA",
        printed_as="theirs",
        params=Printed("3.7", MILLION),
        macs=Printed("0.6", BILLION),
        throughput=Printed("700"),
        score=Printed("81.2"),
        note="as they say",
    ),
    "+ GSA": PublishedRow(
        row="+ GSA",
        params=Printed("4.0", MILLION),
        throughput=Printed("770"),
        score=Printed("82.0"),
    ),
    "+ learned token": PublishedRow(row="+ learned token", score=Printed("82.1")),
}


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Ablation:
    """The steps beside a published table."""
    monkeypatch.setattr(published.Published, "rows", lambda _: PRINTED)
    table = Published("file.csv", "a paper, Table 6", "published top-1 (%)", "images a second")
    return dataclasses.replace(STEPS, published=table, notes=("Mind the gap.",))


def measured(
    ablation: Ablation, accuracies: list[list[float]], ratios: list[float] | None = None
) -> list[MeasuredRow]:
    """Rows with these accuracies by seed and these latencies, known to 1 %."""
    rows = ablation.rows()
    timed = ratios or [1.0] * len(rows)
    return [
        MeasuredRow(
            row=row,
            costs=Costs(3_660_000, 570_000_000),
            latency=LatencyRatio(ratio, ratio * 0.99, ratio * 1.01, False, {"device": "cpu"}),
            trainings=tuple(
                Training(seed, dict.fromkeys(("accuracy", "relation", "recognition"), value), 1.0,
                         "", {"device": "cpu"})
                for seed, value in enumerate(values)
            ),
            missing={},
        )
        for row, values, ratio in zip(rows, accuracies, timed, strict=True)
    ]  # fmt: skip


ACCURACIES = [[0.50, 0.52, 0.51], [0.70, 0.722, 0.709], [0.69, 0.73, 0.71]]
"""GSA helps for sure, the token does not show."""


def summary(ablation: Ablation) -> Result:
    return summarise("steps", ablation, PLAN, measured(ablation, ACCURACIES, [1.0, 0.909, 0.8]))


# --- verdicts -----------------------------------------------------------------------------------


def test_rows_beside_a_published_table(beside: Ablation) -> None:
    first, grouped, learned = summary(beside).rows
    assert first.params.verdict is Verdict.REPRODUCED
    assert (grouped.params.difference, grouped.params.verdict) == (
        Decimal("3.7") - Decimal("4.0"),
        Verdict.NOT_REPRODUCED,
    )
    assert grouped.macs.verdict is Verdict.NOT_PUBLISHED
    assert first.speed is None
    assert first.published_step is None
    assert grouped.published_speed == pytest.approx(770 / 700)
    assert grouped.speed is not None
    assert grouped.speed.value == pytest.approx(1 / 0.909)
    assert grouped.speed_verdict is Verdict.REPRODUCED
    assert learned.speed_verdict is Verdict.NOT_PUBLISHED
    assert (grouped.published_step, learned.published_step) == (Decimal("0.8"), Decimal("0.1"))
    assert grouped.order_verdict is Verdict.ORDER
    assert learned.order_verdict is Verdict.UNRESOLVED


def test_differences_are_paired_and_corrected_down_the_column(beside: Ablation) -> None:
    first, grouped, learned = summary(beside).rows
    assert first.above["accuracy"] is first.base["accuracy"] is None
    to_above, to_base = learned.above["accuracy"], learned.base["accuracy"]
    assert to_above is not None
    assert to_base is not None
    assert to_above.value == pytest.approx((-0.01 + 0.008 + 0.001) / 3)
    assert to_base.value == pytest.approx((0.19 + 0.21 + 0.20) / 3)
    step = grouped.above["accuracy"]
    assert step is not None
    assert step.p is not None
    assert step.p_holm == pytest.approx(2 * step.p)  # the smaller p of two comparisons
    assert to_above.p_holm == pytest.approx(to_above.p)


@pytest.mark.parametrize(
    ("value", "low", "high", "printed", "verdict"),
    [
        (1.08, 1.05, 1.11, 1.07, Verdict.REPRODUCED),
        (1.30, 1.20, 1.40, 1.07, Verdict.ORDER),
        (0.80, 0.75, 0.85, 1.07, Verdict.NOT_REPRODUCED),
        (0.99, 0.95, 1.03, 1.07, Verdict.UNRESOLVED),
        (0.90, 0.85, 0.95, 1.00, Verdict.NOT_REPRODUCED),
        (1.00, 0.98, 1.02, 1.00, Verdict.REPRODUCED),
    ],
)
def test_verdicts_on_speed(
    value: float, low: float, high: float, printed: float, verdict: Verdict
) -> None:
    assert speed_verdict(Speed(value, low, high, False), printed) is verdict


def test_points_of_one_place_share_a_label() -> None:
    points = [Point("", x, y, None, None) for x, y in ((1, 0.5), (2, 0.9), (2, 0.895), (2, 0.8))]
    assert [text for text, _ in numbers(points)] == ["1", "2, 3", "4"]
    assert numbers(points[:1]) == [("1", points[0])]
    distant = [Point("", x, 1.0, None, None) for x in (1, 8, 1000)]
    assert [text for text, _ in numbers(distant)] == ["1, 2", "3"]
    assert [text for text, _ in numbers(distant, logarithmic=True)] == ["1", "2", "3"]


def test_a_number_goes_where_it_covers_neither_a_point_nor_another_number() -> None:
    alone, right_of_it = (0.5, 0.5), (0.52, 0.51)
    assert sides(["1"], [alone], [alone]) == [(1, 1)]
    assert sides(["1"], [alone], [alone, right_of_it]) == [(1, -1)]
    both = [alone, right_of_it]
    assert sides(["1", "2"], both, both) == [(1, -1), (1, 1)]
    # The number of one high above is short of the point, that of one just above is not.
    assert sides(["1"], [alone], [alone, (0.52, 0.6)]) == [(1, 1)]


def test_steps_of_the_second_task_have_verdicts_of_their_own(beside: Ablation) -> None:
    """The token's step, which the accuracy does not resolve, shows in the routing."""
    rows = [
        dataclasses.replace(
            row,
            trainings=tuple(
                dataclasses.replace(each, scores=each.scores | {"routing": routing + 0.01 * n})
                for n, each in enumerate(row.trainings)
            ),
        )
        for row, routing in zip(measured(beside, ACCURACIES), (0.7, 0.7, 0.95), strict=True)
    ]
    result = summarise("steps", beside, PLAN, rows)
    learned = result.rows[-1]
    assert learned.order_verdict is Verdict.UNRESOLVED
    assert learned.routing_verdict is Verdict.ORDER
    text = markdown(result)
    assert "| + learned token | 0.960 [0.935, 0.985] |" in text  # 0.95 to 0.97, t(2) = 4.303
    assert "the second task shows 1 with the same sign significantly" in text
    assert "not resolved; if" not in text  # each step is, by one of the two
    assert {"effects", "routing", "path"} == set(figures(result))


def test_tables_without_the_second_task_do_not_speak_of_it(beside: Ablation) -> None:
    assert "outing" not in markdown(summary(beside))


def test_an_unresolved_step_says_what_it_would_take(beside: Ablation) -> None:
    """The token's steps are -0.01, 0.008, 0.001: mean -0.0003, sd 0.0091."""
    assert (
        "+ learned token: not resolved; if mean and spread stayed, the proxy accuracy (-0.000) "
        "would not be by 100 seeds" in markdown(summary(beside))
    )


def test_a_busy_machine_settles_no_speed() -> None:
    assert speed_verdict(Speed(1.08, 1.05, 1.11, noisy=True), 1.07) is Verdict.UNRESOLVED


def test_verdicts_without_one_of_the_two() -> None:
    speed = Speed(1.0, 0.9, 1.1, False)
    step = Difference(0.1, 0.05, 0.15, 5, 0.001, 0.001)
    assert speed_verdict(None, 1.0) is order_verdict(None, Decimal(1)) is Verdict.NOT_MEASURED
    assert speed_verdict(speed, None) is order_verdict(step, None) is Verdict.NOT_PUBLISHED
    assert Count(None, Printed("1")).verdict is Verdict.NOT_MEASURED
    assert Count(1, None).verdict is Verdict.NOT_PUBLISHED


@pytest.mark.parametrize(
    ("value", "p", "step", "verdict"),
    [
        (0.1, 0.001, "0.3", Verdict.ORDER),
        (-0.1, 0.001, "0.3", Verdict.NOT_REPRODUCED),
        (-0.1, 0.001, "-0.3", Verdict.ORDER),
        (0.1, 0.05, "0.3", Verdict.UNRESOLVED),
        (0.1, None, "0.3", Verdict.UNRESOLVED),
        (0.1, 0.001, "0.0", Verdict.NOT_REPRODUCED),
    ],
)
def test_verdicts_on_order(value: float, p: float | None, step: str, verdict: Verdict) -> None:
    assert order_verdict(Difference(value, None, None, 5, p, p), Decimal(step)) is verdict


def test_rows_are_compared_within_their_group() -> None:
    groups = ["a", "a", "b", "a", "b"]
    assert rows_above(groups) == [None, 0, None, 1, 2]
    assert first_rows(groups, [True] * 5) == [None, 0, None, 0, 2]


def test_rows_are_compared_with_the_first_that_has_the_measure() -> None:
    groups = ["a", "a", "b", "a", "b"]
    assert first_rows(groups, [False, True, False, True, False]) == [None, None, None, 1, 2]


def test_speed_adds_the_relative_errors_of_both(beside: Ablation) -> None:
    """1 % and 1 % are about 1.4 % together."""
    speed = summary(beside).rows[1].speed
    assert speed is not None
    assert speed.high / speed.value == pytest.approx(1 + 0.01 * 2**0.5, rel=1e-3)


def test_a_failed_training_leaves_its_seed_out(beside: Ablation) -> None:
    rows = measured(beside, ACCURACIES)
    failed = Training(1, {}, None, "loss is nan", {})
    trainings = (rows[1].trainings[0], failed, rows[1].trainings[2])
    rows[1] = dataclasses.replace(rows[1], trainings=trainings)
    result = summarise("steps", beside, PLAN, rows)
    step = result.rows[1].above["accuracy"]
    assert step is not None
    assert step.seeds == 2
    assert step.value == pytest.approx((0.20 + 0.199) / 2)
    assert "+ GSA, seed 1, failed: loss is nan." in "".join(t.caption for t in tables(result))


def test_published_rows_that_the_ablation_lacks_are_refused(
    beside: Ablation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published.Published, "rows", lambda _: {"other": PublishedRow("other")})
    with pytest.raises(ValueError, match="has a row 'other', the ablation has DSSA, "):
        summary(beside)


# --- effects ------------------------------------------------------------------------------------


def factorial(*, fraction: bool = False) -> Ablation:
    return Ablation(
        question="?",
        base=LITE.replace(overlapping_patch_embedding=False, inner_shortcuts=False),
        factors=(
            switch("OPE", overlapping_patch_embedding=True),
            switch("shortcuts", inner_shortcuts=True),
        ),
        design=FractionalFactorial({"shortcuts": ("OPE",)}) if fraction else FullFactorial(),
    )


def test_factorial_designs_have_effects() -> None:
    values = [[0.5, 0.6], [0.5, 0.6], [0.7, 0.8], [0.9, 1.0]]
    result = summarise("f", factorial(), PLAN, measured(factorial(), values))
    rows = [row for row in effect_rows(result) if row["on"] == "accuracy"]
    assert [row["effect"] for row in rows] == ["OPE", "shortcuts", "OPE x shortcuts"]
    assert [row["size"] for row in rows] == pytest.approx([0.3, 0.1, 0.1])
    assert [bar.name for bar in bars(result)] == ["OPE", "shortcuts", "OPE x shortcuts"]
    assert "Main effects and interactions" in [table.title for table in tables(result)]


def test_fractions_name_aliases() -> None:
    ablation = factorial(fraction=True)
    result = summarise("f", ablation, PLAN, measured(ablation, [[0.5], [0.6]]))
    row = effect_rows(result)[0]
    assert (row["effect"], row["aliases"]) == ("OPE", "shortcuts")
    assert bars(result)[0].name == "OPE = shortcuts"


def test_an_incomplete_factorial_has_no_effects() -> None:
    rows = measured(factorial(), [[0.5]] * 4)
    rows[3] = dataclasses.replace(rows[3], costs=None)
    assert summarise("f", factorial(), PLAN, rows).effects == ()


# --- writers ------------------------------------------------------------------------------------


def test_markdown_of_a_result(beside: Ablation) -> None:
    text = markdown(summary(beside))
    assert text.startswith(
        "# steps\n\nDo components help?\n\n- Mind the gap.\n- DSSA: as they say\n"
    )
    assert "| DSSA | theirs | = | = | — | — |" in text
    assert "| + GSA | — | ≠ | — | = | ↕ |" in text
    assert (
        "| + GSA | 3,660,000 | 4.0 M | -0.3 | 570,000,000 | — | — | 1.10 [1.08, 1.12] | 1.10 |"
        in text
    )
    assert "| DSSA | 0.510 [0.485, 0.535] | — | — | 81.2 | — |" in text
    assert "recipe 'brief' (3 steps of 4 canvases), seeds 0 to 2" in text
    assert "Beside a paper, Table 6." in text
    assert (
        "Of 2 published steps of accuracy the proxy accuracy shows 1 with the same sign "
        "significantly, 0 with the opposite sign significantly; 1 are not resolved, 0 not measured."
        in text
    )


def test_markdown_tables_are_escaped() -> None:
    table = Table("t", "c", ("row", "a|b"), (("x", "1"),))
    assert markdown_table(table) == "| row | a\\|b |\n| --- | ---: |\n| x | 1 |"


def test_latex_tables_compile_by_eye() -> None:
    table = Table("Costs", "50 % of a_b", ("row", "p < 0.1"), (("{x} & y", "≈"), ("—", "↕")))
    assert latex_table(table).splitlines() == [
        r"\begin{table}",
        r"\caption{Costs. 50 \% of a\_b}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"row & p $<$ 0.1 \\",
        r"\midrule",
        r"\{x\} \& y & $\approx$ \\",
        r"--- & $\updownarrow$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_latex_has_every_table_and_plain_characters_only(beside: Ablation) -> None:
    result = summary(beside)
    text = latex(result)
    assert text.count(r"\begin{table}") == len(tables(result)) == 4
    assert text.isascii()


def test_numbers_of_results_and_trials(beside: Ablation) -> None:
    result = summary(beside)
    first, grouped, _ = result_rows(result)
    assert set(first) == set(grouped)
    assert grouped["row"] == "+ GSA"
    assert (grouped["params"], grouped["params_printed"]) == (3_660_000, "4.0")
    assert grouped["params_verdict"] == "not reproduced"
    assert grouped["accuracy_seeds"] == 3
    assert grouped["accuracy_above"] == pytest.approx((0.20 + 0.202 + 0.199) / 3)
    assert first["accuracy_above"] is None
    assert (grouped["factor_GSA"], first["factor_GSA"]) == ("on", "off")
    assert grouped["order_verdict"] == "order only"
    assert {"recipe_settings", "latency_protocol", "torch", "date", "config"} <= set(first)
    trials = training_rows(result)
    assert [(row["row"], row["seed"], row["accuracy"]) for row in trials[3:5]] == [
        ("+ GSA", 0, 0.70),
        ("+ GSA", 1, 0.722),
    ]
    assert all("device" in row for row in trials)


def test_without_a_published_table_nothing_is_compared() -> None:
    result = summary(STEPS)
    titles = [table.title for table in tables(result)]
    assert titles == ["Costs and speed", "Proxy accuracy", "Parts of the accuracy"]
    assert tables(result)[0].header == ("row", "parameters", "MACs", "speed")
    assert list(sentences(result)) == []


def test_rows_that_cannot_be_built_are_told() -> None:
    given = Ablation(
        question="?", given=(Row("one", Network(LITE)), Row("none", Absent("no code was released")))
    )
    rows = [
        MeasuredRow(given.rows()[0], Costs(5, 7), None, (), {}),
        MeasuredRow(given.rows()[1], None, None, (), {}),
    ]
    result = summarise("g", given, PLAN, rows)
    (table,) = tables(result)
    assert table.rows == (("one", "5", "7"), ("none", "—", "—"))
    assert list(sentences(result)) == ["none: not built; no code was released"]
    assert figures(result) == {}


def test_intervals_in_words() -> None:
    assert interval(Mean(0.5, 0.25, 0.75, 3)) == "0.500 [0.250, 0.750]"
    assert interval(Mean(0.5, None, None, 1)) == "0.500"
    assert interval(Difference(0.5, 0.25, 0.75, 3), signed=True) == "+0.500 [+0.250, +0.750]"
    assert interval(None) == "—"


# --- figures and page ---------------------------------------------------------------------------


def test_figures_show_what_the_tables_say(beside: Ablation) -> None:
    result = summary(beside)
    assert [(bar.name, bar.significant) for bar in bars(result)] == [
        ("+ GSA", True),
        ("+ learned token", True),
    ]
    info = plane(result)
    assert info.path
    assert [point.name for point in info.points] == ["DSSA", "+ GSA", "+ learned token"]
    assert info.points[0].y == pytest.approx(0.51)
    drawn = figures(result)
    assert list(drawn) == ["effects", "path"]
    for figure in drawn.values():
        assert encode(figure, "svg").startswith(b"<?xml")


def test_without_accuracies_the_plane_shows_speed() -> None:
    rows = [
        dataclasses.replace(row, trainings=()) for row in measured(STEPS, ACCURACIES, [1, 2, 4])
    ]
    info = plane(summarise("steps", STEPS, PLAN, rows))
    assert [point.y for point in info.points] == pytest.approx([1, 1 / 2, 1 / 4])
    assert "speed" in info.y


def test_the_page_holds_everything_and_loads_nothing(beside: Ablation) -> None:
    result = summary(dataclasses.replace(beside, question="Is 1 < 2 & so on?"))
    page = render(result, figures(result))
    assert "Is 1 &lt; 2 &amp; so on?" in page
    assert page.count("<table>") == len(tables(result))
    assert page.count("<svg") == 2
    for outside in ("<script", "src=", "@import", "url(http"):
        assert outside not in page


# --- definitions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "base_label", "labels"),
    [
        (Path(), "plain", ["plain", "+ token", "+ side 4", "+ side 14"]),
        (OneFactor(), "plain", ["plain", "token", "side 4", "side 14"]),
        (
            FullFactorial(),
            "",
            ["side 7", "side 4", "side 14", "token, side 7", "token, side 4", "token, side 14"],
        ),
    ],
)
def test_labels_say_what_a_row_changes(
    design: Path | OneFactor | FullFactorial, base_label: str, labels: list[str]
) -> None:
    ablation = Ablation(
        question="?",
        base=LITE.replace(window_representation="zero"),
        base_label=base_label,
        factors=(
            switch("token", window_representation="learned"),
            Factor("side", {s: {"windows": ((int(s),),) * 4} for s in ("7", "4", "14")}),
        ),
        design=design,
    )
    assert [row.label for row in ablation.rows()] == labels


def test_definitions_that_make_no_sense_are_refused() -> None:
    row = Row("one", Network(LITE))
    with pytest.raises(ValueError, match="has neither"):
        Ablation(question="?")
    with pytest.raises(ValueError, match="has both"):
        dataclasses.replace(STEPS, given=(row,))
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        dataclasses.replace(STEPS, seeds=0)
    with pytest.raises(ValueError, match="two rows are labelled 'one'"):
        Ablation(question="?", given=(row, row)).rows()
