"""A result as tables of text; what Markdown, LaTeX, the page and the terminal have in common."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from experiments.ablation.definition import Ablation
from experiments.ablation.designs import Path
from experiments.ablation.effects import Effect, term_name
from experiments.ablation.published import MEANING, Verdict
from experiments.ablation.results import ACCURACY, Count, Result, RowResult, Speed
from experiments.ablation.significance import MOST_SEEDS, Difference, Mean, seeds_to_resolve
from experiments.ablation.store import ROUTING, SCORES
from experiments.earlier import NOTE, is_earlier

DASH = "—"
"""Where there is nothing."""

MARKS: Mapping[Verdict, str] = {
    Verdict.REPRODUCED: "=",
    Verdict.LAST_DIGIT: "≈",
    Verdict.ORDER: "↕",
    Verdict.UNRESOLVED: "?",
    Verdict.NOT_REPRODUCED: "≠",
    Verdict.NOT_MEASURED: "not measured",
    Verdict.NOT_PUBLISHED: DASH,
}
"""Verdicts at a glance."""

NAMES = {"params": "parameters", "macs": "MACs"}
"""Costs as readers know them."""

SECOND_TASK = (
    "Routing: share of right decisions on the proxy's second task, where each half of a canvas has "
    "a cue of its own and that of the other half counts; chance is 0.5. It asks which window's cue "
    "belongs where, which learned tokens are made to answer: a difference says what a network can "
    "route within this budget, not what it would gain on images."
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: Short name.
        caption: How to read it.
        header: Names of the columns; the first is the row's label.
        rows: Cells.
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(result: Result) -> list[Table]:
    """All tables of a result; those without content are left out."""
    found = [_costs(result)]
    if result.ablation.published:
        found.insert(0, _glance(result))
    if result.trained:
        found += [_accuracy(result), _parts(result)]
    if result.routed:
        found.append(_routing(result))
    if result.effects:
        found.append(_effects(result))
    return [_without_empty_columns(table) for table in found]


def _without_empty_columns(table: Table) -> Table:
    """Drop columns that say nothing in any row; the first is kept."""
    kept = [
        place
        for place in range(len(table.header))
        if not place or any(row[place] != DASH for row in table.rows)
    ]
    return dataclasses.replace(
        table,
        header=tuple(table.header[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
    )


# --- cells --------------------------------------------------------------------------------------


def interval(found: Mean | Speed | None, digits: int = 3, *, signed: bool = False) -> str:
    """A value with its interval in brackets, where it has one."""
    if found is None:
        return DASH
    form = f"{'+' if signed else ''}.{digits}f"
    text = format(found.value, form)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{found.low:{form}}, {found.high:{form}}]"


def _step(found: Difference | None) -> str:
    """A difference with its interval and corrected p."""
    text = interval(found, signed=True)
    if found is None or found.p_holm is None:
        return text
    p = "< 0.001" if found.p_holm < 0.001 else f"{found.p_holm:.3f}"
    return f"{text}, p {p}"


def _count(count: Count) -> str:
    return DASH if count.value is None else f"{count.value:,}"


def _beside(count: Count, unit: str) -> tuple[str, str]:
    """The printed figure and the difference to it."""
    if count.printed is None:
        return DASH, DASH
    difference = count.difference
    return f"{count.printed.text} {unit}", DASH if difference is None else f"{difference:+}"


def _first(result: Result) -> str:
    """What rows are compared with."""
    grouped = any(row.measured.row.group for row in result.rows)
    return "the group's first row" if grouped else "the first row"


# --- tables -------------------------------------------------------------------------------------


ROUTING_ORDER = "order of routing"
"""Name of the column that needs the second task."""

VERDICTS: Mapping[str, Callable[[RowResult], Verdict]] = {
    "parameters": lambda row: row.params.verdict,
    "MACs": lambda row: row.macs.verdict,
    "speed": lambda row: row.speed_verdict,
    "order of accuracy": lambda row: row.order_verdict,
    ROUTING_ORDER: lambda row: row.routing_verdict,
}
"""What is compared with a publication, by the column's name."""


def verdicts(result: Result) -> dict[str, Callable[[RowResult], Verdict]]:
    """Those of :data:`VERDICTS` that a result can have."""
    return {
        name: verdict
        for name, verdict in VERDICTS.items()
        if result.routed or name != ROUTING_ORDER
    }


def named_differences(
    result: Result, score: str, compared: Callable[[RowResult], Difference | None]
) -> list[tuple[str, Difference]]:
    """Effects of a factorial design on a score, else a difference of each row, by name.

    Args:
        result: Whose.
        score: Which score.
        compared: The difference of a row.
    """
    found: list[tuple[str, Difference | None]]
    if result.effects:
        found = [
            (effect_name(e, result.ablation), e.estimate) for e in result.effects if e.on == score
        ]
    else:
        found = [(row.label, compared(row)) for row in result.rows]
    return [(name, difference) for name, difference in found if difference is not None]


def _glance(result: Result) -> Table:
    """What was reproduced, at a glance; columns that the publication does not give are left out."""
    kept = {
        name: verdict
        for name, verdict in verdicts(result).items()
        if any(verdict(row) is not Verdict.NOT_PUBLISHED for row in result.rows)
    }
    used = {verdict(row) for verdict in kept.values() for row in result.rows}
    assert result.ablation.published is not None
    return Table(
        title="What was reproduced",
        caption=f"Beside {result.ablation.published.source}. "
        + "; ".join(f"{_legend(v)}: {MEANING[v]}" for v in Verdict if v in used)
        + ".",
        header=("row", "printed as", *kept),
        rows=tuple(
            (
                row.label,
                row.published.printed_as or DASH,
                *(MARKS[verdict(row)] for verdict in kept.values()),
            )
            for row in result.rows
        ),
    )


def _legend(verdict: Verdict) -> str:
    """A mark with its meaning in a word."""
    mark = MARKS[verdict]
    return mark if mark == verdict.value else f"{mark} {verdict.value}"


def _costs(result: Result) -> Table:
    """Parameters and MACs beside the printed ones; speed relative to the first row."""
    published = result.ablation.published is not None
    header = ["row", "parameters"] + ["printed", "off by"] * published
    header += ["MACs"] + ["printed", "off by"] * published
    header += ["speed"] * result.timed + ["published speed"] * (result.timed and published)
    rows = []
    for row in result.rows:
        cells = [row.label, _count(row.params), *(_beside(row.params, "M") if published else ())]
        cells += [_count(row.macs), *(_beside(row.macs, "G") if published else ())]
        if result.timed:
            cells.append(_speed(row))
            cells += [_published_speed(row)] * published
        rows.append(tuple(cells))
    return Table("Costs and speed", _costs_caption(result), tuple(header), tuple(rows))


def _costs_caption(result: Result) -> str:
    protocol = result.plan.protocol
    text = "Exact counts, batch 1; off by: less the printed figure, after rounding as printed."
    if result.timed:
        text += (
            f" Speed: time of {_first(result)} over the row's, with its 95 % interval, measured in "
            f"turn with {protocol.reference} (images a call: {protocol.batch})."
        )
        if result.ablation.published and result.ablation.published.speed:
            text += f" Published speed: {result.ablation.published.speed}."
    return text


def _speed(row: RowResult) -> str:
    if row.speed is None:
        return "1" if row.measured.latency else DASH
    return interval(row.speed, 2) + " (noisy)" * row.speed.noisy


def _published_speed(row: RowResult) -> str:
    return DASH if row.published_speed is None else f"{row.published_speed:.2f}"


def _accuracy(result: Result) -> Table:
    """Proxy accuracy with its differences, beside the published accuracy."""
    return _beside_published(result, ACCURACY, "Proxy accuracy", _accuracy_caption(result))


def _routing(result: Result) -> Table:
    """The second task, likewise."""
    recipe = result.plan.routing
    caption = (
        f"{SECOND_TASK} Trained after the first task (recipe {recipe.cue.name!r}, "
        f"{recipe.cue.steps} steps of {recipe.cue.batch} canvases): {recipe.steps} steps of "
        f"{recipe.batch}. Seeds, brackets and p as above."
    )
    return _beside_published(result, ROUTING, "Second task: routing", caption)


def _beside_published(result: Result, score: str, title: str, caption: str) -> Table:
    published = result.ablation.published
    header = ["row", title[0].lower() + title[1:], "to the row above", "to the first trained row"]
    if published:
        header += [published.score or "published", "published step"]
    rows = []
    for row in result.rows:
        cells = [row.label, interval(row.means[score])]
        cells += [_step(row.above[score]), _step(row.base[score])]
        if published:
            printed, step = row.published.score, row.published_step
            cells += [printed.text if printed else DASH, DASH if step is None else f"{step:+}"]
        rows.append(tuple(cells))
    return Table(title, caption, tuple(header), tuple(rows))


def _accuracy_caption(result: Result) -> str:
    recipe, seeds = result.plan.recipe, result.plan.seeds
    missing = {m for r in result.rows if (m := r.measured.missing.get("proxy"))}
    text = (
        f"A proxy on embedded digits, not ImageNet: recipe {recipe.name!r} ({recipe.steps} steps "
        f"of {recipe.batch} canvases), seeds {seeds[0]} to {seeds[-1]}, shared by all rows. "
        "Brackets: Student's 95 % interval over seeds. p: two-sided paired t test, Holm-corrected "
        "down the column."
    )
    if result.ablation.published:
        above = isinstance(result.ablation.design, Path)
        text += f" Published step: from {'the row above' if above else 'the first trained row'}."
    if is_earlier(recipe):
        text += f" {NOTE}"
    return text + "".join(f" No accuracy: {reason}." for reason in sorted(missing))


def _parts(result: Result) -> Table:
    """The parts of the proxy accuracy, each with its difference to the first row."""
    parts = [score for score in SCORES if score not in (ACCURACY, ROUTING)]
    header = ["row", *(name for part in parts for name in (part, "to the first trained row"))]
    rows = [
        (
            row.label,
            *(t for part in parts for t in (interval(row.means[part]), _step(row.base[part]))),
        )
        for row in result.rows
    ]
    failed = [
        f" {row.label}, seed {training.seed}, failed: {training.error}."
        for row in result.rows
        for training in row.measured.trainings
        if training.error
    ]
    caption = "Parts of the proxy accuracy; as above." + "".join(failed)
    return Table("Parts of the accuracy", caption, tuple(header), tuple(rows))


def _effects(result: Result) -> Table:
    """Main effects and interactions: a row each, a column for each score and cost."""
    columns = list(dict.fromkeys(effect.on for effect in result.effects))
    cells: dict[str, dict[str, str]] = {}
    for effect in result.effects:
        cells.setdefault(effect_name(effect, result.ablation), {})[effect.on] = _size(effect)
    return Table(
        title="Main effects and interactions",
        caption="Contrasts of the rows: with two levels a main effect is the mean with the factor "
        "less the mean without it, an interaction of two is half of what one changes in the "
        "other's effect. p: two-sided t test over seeds, Holm-corrected down the column. Effects "
        "on costs are exact.",
        header=("effect", *(NAMES.get(column, column) for column in columns)),
        rows=tuple((name, *(row[column] for column in columns)) for name, row in cells.items()),
    )


def effect_name(effect: Effect, ablation: Ablation) -> str:
    """A term with the aliases that the design cannot tell from it."""
    names = [term_name(term, ablation.axes) for term in (effect.term, *effect.aliases)]
    return " = ".join(names)


def _size(effect: Effect) -> str:
    if effect.on in SCORES:
        return _step(effect.estimate)
    return DASH if effect.estimate is None else f"{effect.estimate.value:+,.0f}"


# --- sentences ----------------------------------------------------------------------------------


def sentences(result: Result) -> Iterator[str]:
    """What a reader must know beside the tables."""
    yield from result.ablation.notes
    if result.ablation.published:
        for row in result.rows:
            if row.published.note:
                yield f"{row.label}: {row.published.note}"
        if any(row.published_step is not None for row in result.rows):
            yield _order("proxy accuracy", [row.order_verdict for row in result.rows])
            if result.routed:
                yield _order("second task", [row.routing_verdict for row in result.rows])
            yield from _unresolved(result)
    for row in result.rows:
        if row.measured.row.stand_in and row.measured.trainings:
            yield f"{row.label}: the proxy trains {row.measured.row.stand_in.variant_id} instead"
        if row.measured.row.subject.absence:
            yield f"{row.label}: not built; {row.measured.row.subject.absence}"


def _order(by: str, verdicts: Sequence[Verdict]) -> str:
    """How many published steps of accuracy are confirmed by a score of the proxy."""
    counts = Counter(verdicts)
    published = len(verdicts) - counts[Verdict.NOT_PUBLISHED]
    return (
        f"Of {published} published steps of accuracy the {by} shows {counts[Verdict.ORDER]} with "
        f"the same sign significantly, {counts[Verdict.NOT_REPRODUCED]} with the opposite sign "
        f"significantly; {counts[Verdict.UNRESOLVED]} are not resolved, "
        f"{counts[Verdict.NOT_MEASURED]} not measured."
    )


def _unresolved(result: Result) -> Iterator[str]:
    """What it would take to resolve published steps that no score resolves."""
    for row in result.rows:
        verdicts = [row.order_verdict] + [row.routing_verdict] * result.routed
        if set(verdicts) != {Verdict.UNRESOLVED}:
            continue
        assert row.published_step is not None
        needed = [
            f"the {words} ({step.value:+.3f}) {_seeds_needed(step, float(row.published_step))}"
            for words, score in (("proxy accuracy", ACCURACY), ("second task", ROUTING))
            if (step := row.steps[score]) is not None
        ]
        yield f"{row.label}: not resolved; if mean and spread stayed, {', '.join(needed)}"


def _seeds_needed(step: Difference, published: float) -> str:
    seeds = seeds_to_resolve(step)
    if seeds is None:
        return f"would not be by {MOST_SEEDS} seeds"
    sign = "published" if step.value * published > 0 else "opposite"
    return f"would be by {seeds} seeds, with the {sign} sign"
