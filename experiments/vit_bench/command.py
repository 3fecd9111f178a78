"""Do scores, costs or what is learned from them rank the networks of ViT-Bench-101?

All zero-cost scores of its AutoFormer-T and PiT architectures, parameters, MACs and activations
beside the accuracies that the benchmark's authors trained, and combinations learned with nested
cross-validation. Every reading is compared with the parameter count, on the same resamples.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from rich.console import Console

from experiments.ablation.figures import encode
from experiments.catalogue import Options
from experiments.ranking import FloatArray
from experiments.vit_bench.agreement import compare, ranks
from experiments.vit_bench.architectures import (
    SHARED_ENCODING,
    SLICES,
    TARGETS,
    Architecture,
    costs,
)
from experiments.vit_bench.learning import Choices, Features, left_out, transferred
from experiments.vit_bench.page import CHOSEN, FIGURE, PAGE, RESULT, draw, page, read
from experiments.vit_bench.scoring import kept_scores, mean_scores, score_missing
from search.records import write_text

RAW = "vit_bench_scores.csv"
SEEDS, QUICK_ARCHITECTURES = 2, 20
GROUPS = ("parameters", "costs", "encoding", "scores")
FIXED: Mapping[str, Choices] = {
    "learned: costs": (("parameters", "costs"),),
    "learned: costs + encoding": (("parameters", "costs", "encoding"),),
    "learned: scores": (("scores",),),
}
"""Combinations beside the chosen one: what each group can say."""


def run(options: Options) -> None:
    """Score what is missing, compare, write the table, the page and its figure.

    Before scoring begins, which takes long, the same is written of what there is.
    """
    console = Console(highlight=False, soft_wrap=True)
    count = QUICK_ARCHITECTURES if options.quick else None
    chosen = {name: each.read(name)[:count] for name, each in SLICES.items()}
    seeds = range(options.seed, options.seed + (options.seeds or SEEDS))
    every = list(itertools.chain(*chosen.values()))
    raw = options.out / RAW
    if not (options.out / RESULT).exists():
        _write(evaluate(chosen, kept_scores(raw), options.seed), options, console)
    rows = score_missing(every, seeds, raw, options.workers)
    _write(evaluate(chosen, rows, options.seed), options, console)


def _write(found: pd.DataFrame, options: Options, console: Console) -> None:
    """Write the table, its page and its figure, and print the page."""
    found.to_csv(options.out / RESULT, index=False, float_format="%.4f")
    table = read(options.out / RESULT)
    (options.out / FIGURE).write_bytes(encode(draw(table), "png"))
    write_text(options.out / PAGE, page(table))
    console.print(page(table))
    console.print(f"written: {', '.join(str(options.out / n) for n in (RESULT, PAGE, FIGURE))}")


def evaluate(
    chosen: Mapping[str, Sequence[Architecture]], rows: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Compare every reading with every column of accuracies.

    Args:
        chosen: Architectures of each slice.
        rows: Their scores, from :func:`experiments.vit_bench.scoring.score_missing`.
        seed: Of folds and resamples.

    Returns:
        One row a slice, target and reading, see :func:`experiments.vit_bench.agreement.compare`,
        with the number of architectures, the seeds of the scores, and the sets of features that
        inner folds chose.
    """
    found = []
    for name, members in chosen.items():
        others = {other: them for other, them in chosen.items() if other != name}
        for target in members[0].accuracies:
            readings, notes = _readings(members, rows, target, seed)
            for other, them in others.items():
                if target in them[0].accuracies:
                    title = f"learned on {SLICES[other].title}"
                    readings[title] = _transfer(them, members, rows, target, seed)
            table = compare(readings, _accuracies(members, target), seed)
            table.insert(0, "slice", SLICES[name].title)
            table.insert(1, "target", TARGETS[target])
            table["architectures"] = len(members)
            table["seeds"] = _seeds(rows, members)
            table["chosen"] = table["reading"].map(notes).fillna("")
            found.append(table)
    result: pd.DataFrame = pd.concat(found, ignore_index=True)
    return result


def _accuracies(members: Sequence[Architecture], target: str) -> FloatArray:
    return np.array([member.accuracies[target] for member in members], np.float64)


def _seeds(rows: pd.DataFrame, members: Sequence[Architecture]) -> int:
    """Seeds whose scores all architectures have."""
    chosen = rows[rows["architecture"].isin([member.name for member in members])]
    return int((chosen.groupby("seed")["architecture"].nunique() == len(members)).sum())


def _readings(
    members: Sequence[Architecture], rows: pd.DataFrame, target: str, seed: int
) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """All readings of a slice, and what inner folds chose for those that are learned."""
    counted = costs(list(members))
    scores = mean_scores(rows, [member.name for member in members])
    readings: dict[str, FloatArray] = dict(counted)
    readings |= {name: scores[name].to_numpy(np.float64) for name in scores.columns}
    features = _features(members, rows, shared=False)
    truth = _accuracies(members, target)
    notes = {}
    for name, choices in {**FIXED, CHOSEN: subsets(features)}.items():
        if not set(choices) <= set(subsets(features)):
            continue
        readings[name], forms = left_out(features, truth, choices, seed)
        if len(choices) > 1:
            counted_forms = Counter(" + ".join(form) for form in forms).most_common()
            notes[name] = ", ".join(f"{form} ({n} of {len(forms)})" for form, n in counted_forms)
    return readings, notes


def _features(members: Sequence[Architecture], rows: pd.DataFrame, shared: bool) -> Features:
    """Groups of features; ``shared`` are those that both slices have, as ranks within a slice."""
    counted = np.log(np.column_stack(list(costs(list(members)).values())))
    scores = mean_scores(rows, [member.name for member in members]).to_numpy(np.float64)
    names = SHARED_ENCODING if shared else tuple(members[0].encoding)
    encoding = np.array([[member.encoding[n] for n in names] for member in members], np.float64)
    groups = dict(zip(GROUPS, (counted[:, :1], counted[:, 1:], encoding, scores), strict=True))
    there = {name: group for name, group in groups.items() if group.shape[1]}
    return Features.join({n: ranks(g) for n, g in there.items()} if shared else there)


def subsets(*features: Features) -> Choices:
    """All sets of groups that all of them have, small ones first."""
    shared = [name for name in GROUPS if all(name in each.groups for each in features)]
    sizes = range(1, len(shared) + 1)
    return [names for size in sizes for names in itertools.combinations(shared, size)]


def _transfer(
    known: Sequence[Architecture],
    unknown: Sequence[Architecture],
    rows: pd.DataFrame,
    target: str,
    seed: int,
) -> FloatArray:
    here, there = _features(known, rows, shared=True), _features(unknown, rows, shared=True)
    truth = _accuracies(known, target)
    return transferred(here, truth, there, subsets(here, there), seed)
