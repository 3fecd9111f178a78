"""All ablations on one page: what was reproduced of the papers, and what shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from experiments.ablation.layout import (
    DASH,
    ROUTING_ORDER,
    SECOND_TASK,
    VERDICTS,
    Table,
    named_differences,
    verdicts,
)
from experiments.ablation.published import Verdict
from experiments.ablation.results import ACCURACY, Result
from experiments.ablation.significance import Difference
from experiments.ablation.store import ROUTING
from experiments.ablation.writers import markdown_table

PAGE = "ablations/README.md"

SIGNED = ("order of accuracy", ROUTING_ORDER)
"""What is compared by the sign of its steps only."""

SHOWN = 4
"""Differences that are named; the page of the ablation has the rest."""

INTRODUCTION = """# Ablations

What each idea costs and contributes, as far as a machine without ImageNet can say. Each page is
made from kept results of `python -m experiments.run NAME`; `--all` runs everything. Three kinds of
statement must not be mixed up:

- *Parameters and MACs* are exact counts at the size of the paper. "Reproduced" means equal in all
  printed digits.
- *Speed* is a ratio of latencies measured in turn on the machine that the results name.
- *Accuracy* is a proxy accuracy on handwritten digits, not ImageNet's. Only the *order* of rows is
  compared with the papers, and only where the difference is significant over paired seeds
  (Holm-corrected).
"""


def overview(results: Sequence[Result]) -> str:
    """Say in Markdown what all ablations found."""
    parts = [INTRODUCTION.rstrip(), SECOND_TASK]
    published = [result for result in results if result.ablation.published]
    if published:
        parts += ["## Beside the papers", markdown_table(_beside_papers(published), words=True)]
    trained = [result for result in results if result.trained]
    if trained:
        parts += ["## What shows", markdown_table(_what_shows(trained), words=True), _SHOWS]
    parts += ["## All", markdown_table(_all(results), words=True)]
    return "\n\n".join(parts) + "\n"


_SHOWS = (
    "Significant differences to the first trained row (where rows build on each other, to the row "
    "above), or significant effects of a factorial design: the largest "
    f"{SHOWN} of each score. None: nothing was significant at this number of seeds."
)


def _beside_papers(results: Sequence[Result]) -> Table:
    return Table(
        title="Beside the papers",
        caption="",
        header=("ablation", *VERDICTS),
        rows=tuple((_link(result), *_reproduced(result)) for result in results),
    )


def _reproduced(result: Result) -> list[str]:
    known = verdicts(result)
    return [
        _counted([v for row in result.rows if _given(v := known[name](row))], name in SIGNED)
        if name in known
        else DASH
        for name in VERDICTS
    ]


def _given(verdict: Verdict) -> bool:
    return verdict is not Verdict.NOT_PUBLISHED


def _counted(found: Sequence[Verdict], signed: bool) -> str:
    """How many of the published figures, or of their steps' signs, have which verdict."""
    if not found:
        return DASH
    counts = Counter(found)
    words = {verdict: verdict.value for verdict in Verdict}
    if signed:
        words |= {Verdict.ORDER: "same sign", Verdict.NOT_REPRODUCED: "opposite sign"}
    return ", ".join(f"{counts[v]} {words[v]}" for v in Verdict if counts[v])


def _what_shows(results: Sequence[Result]) -> Table:
    return Table(
        title="What shows",
        caption="",
        header=("ablation", "proxy accuracy", "routing"),
        rows=tuple(
            (
                _link(result),
                _largest(_differences(result, ACCURACY)),
                _largest(_differences(result, ROUTING)) if result.routed else DASH,
            )
            for result in results
        ),
    )


def _differences(result: Result, score: str) -> list[tuple[str, Difference]]:
    """Effects of a factorial design, else what rows are compared by, by name."""
    return named_differences(result, score, lambda row: row.steps[score])


def _largest(differences: Sequence[tuple[str, Difference]]) -> str:
    """The largest significant differences."""
    significant = [(name, found) for name, found in differences if found.significant]
    significant.sort(key=lambda pair: -abs(pair[1].value))
    named = [f"{name} {found.value:+.3f}" for name, found in significant[:SHOWN]]
    return "; ".join(named) or "none"


def _all(results: Sequence[Result]) -> Table:
    return Table(
        title="All",
        caption="",
        header=("ablation", "question", "rows", "seeds"),
        rows=tuple(
            (
                _link(result),
                result.ablation.question,
                str(len(result.rows)),
                str(len(result.plan.seeds)) if result.trained else DASH,
            )
            for result in results
        ),
    )


def _link(result: Result) -> str:
    return f"[{result.name}]({result.name}.md)"
