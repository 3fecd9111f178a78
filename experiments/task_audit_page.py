"""How well each axis of accuracy ranks, as a page made from kept trainings alone."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from effvit import ModelConfig, as_config
from experiments.ablation.layout import DASH, Table
from experiments.ablation.writers import markdown_table
from experiments.measure import machines
from experiments.ranking import (
    Estimate,
    FloatArray,
    estimate,
    kendall,
    less_another,
    one_and_the_others,
    partial_kendall,
)
from search.proxy import ProxyRecipe
from search.proxy.tasks import AXES, CUE, TASKS
from search.proxy.transfer import work
from search.surrogate import Encoder, Surrogate, out_of_fold
from spaces.space import Space

PAGE = "task_audit.md"
SEARCH, REFERENCE, SUPERNET = "search", "reference", "supernet"
"""Recipes of the trainings; with the last, variants inherit their weights."""

COLUMN = {CUE: "accuracy"}
"""Column of a task's score, where that is not its name."""

INTRODUCTION = """\
# What should a search's accuracy be the mean of?

`python -m experiments.run task_audit --space SPACE` trains the variants of the
[audit](proxy_audit.md) on the proxy's tasks ([what they are](proxy_tasks.md)), SepViTs on all four:
once as a trial of a search, and with other seeds twice as long on every task. The accuracy of an
axis is the mean of its tasks' shares of right cells. Kendall's tau with the longer training; 95 %
intervals are of a bootstrap over variants:

- *a trial's training*: how well one training, as long as a trial's, ranks by what it measures;
- *smoothed*: how well a surrogate does once it is told of all those trainings;
- *surrogate*: how well it guesses each variant from the longer training of the others, in no time
  (cross-validated);
- *supernet*: how well variants rank with weights that they inherit from one supernet, trained once
  on the cue task and then on routing;
- *surrogate with supernet*: the surrogate's guesses where it knows each variant's rank by inherited
  weights as well;
- *another longer training*: what noise allows, one such training against the mean of the others;
- *as all tasks*: how well a trial's training ranks by the mean of all tasks that were trained.

*Less another* is the difference of a tau to that of another longer training, both with the same
trainings (all longer ones but that other) and resampled together: where its interval holds 0, these
variants do not tell the two apart.

All are shares of cells of canvases of validation digits; none is an accuracy on images of things.
"""

REPRESENTATIONS = """\
Mean accuracy of the longer training by how windows are represented. Whatever else the variants are
differs as well; `none` has no attention among windows.
"""


@dataclasses.dataclass(frozen=True)
class Ranked:
    """How something ranks variants.

    Attributes:
        tau, fixed: Kendall's tau with the longer training, mean of its seeds; at fixed MACs.
        less: How much more tau is than that of another longer training, with the same trainings.
    """

    tau: Estimate
    fixed: Estimate
    less: Estimate | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisResult:
    """How an axis ranks; see the page.

    Attributes:
        trial: One training of a trial, as the longer training of the same axis does.
        smoothed: Trials as a surrogate that is told of them sees them.
        surrogate: What it learns from the longer training of the others.
        supernet: Variants with inherited weights; None where that was not measured.
        joint: What a surrogate makes of encoding and supernet together; None likewise.
        ceiling: One longer training with the mean of the others.
        whole: A trial, as the longer training of all tasks does.
        macs: The tau of MACs with the longer training of the same axis.
        work: Canvases trained on for all its tasks, as a multiple of those of the cue task alone.
    """

    trial: Ranked
    smoothed: Ranked
    surrogate: Ranked
    supernet: Ranked | None
    joint: Ranked | None
    ceiling: Estimate
    whole: Ranked
    macs: float
    work: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpaceResult:
    """What the trainings of a space say.

    Attributes:
        variants: How many have a training of each kind.
        seeds: Of the longer training.
        axes: By name.
        baseline: Kendall's tau of MACs with the longer training of all tasks.
        seconds: Of all tasks of a trial: the median.
        by_token: Mean accuracy of the longer training by how a SepViT represents a window, a row a
            way and a column an axis, beside ``variants``; without rows for other families.
        where: Processors with version of torch and last date.
    """

    variants: int
    seeds: int
    axes: dict[str, AxisResult]
    baseline: Estimate
    seconds: float
    by_token: pd.DataFrame
    where: str


@dataclasses.dataclass(frozen=True)
class Variants:
    """The variants of a space that were trained, and what a surrogate makes of accuracies."""

    encoder: Encoder
    configs: Sequence[ModelConfig]
    macs: FloatArray

    def guessed(self, accuracies: FloatArray, inherited: FloatArray | None = None) -> FloatArray:
        """Each accuracy as guessed by a surrogate that is told of the others.

        Args:
            accuracies: (variants,).
            inherited: (variants,) with a supernet's weights, if it shall know ranks by these.
        """
        rows = self.encoder.rows(self.configs)
        if inherited is not None:
            ranks = rankdata(inherited) / len(inherited)
            rows = np.hstack([rows, ranks[:, None]])
        return out_of_fold(rows, accuracies)[0]

    def smoothed(self, accuracies: FloatArray) -> FloatArray:
        """Each accuracy as guessed by a surrogate that is told of all, its own among them."""
        surrogate = Surrogate(self.encoder)
        for config, accuracy in zip(self.configs, accuracies, strict=True):
            surrogate.tell(config, float(accuracy))
        return surrogate.guess(self.configs).mean


def committed(results: Mapping[str, SpaceResult]) -> pd.DataFrame:
    """Rows of the summary that travels with the package: how each axis ranks by what it measures.

    Returns:
        A row a space and axis: ``variants``; ``tau``, ``low``, ``high`` with the longer training of
        the same axis, and ``fixed``, ``fixed_low``, ``fixed_high`` at fixed MACs; ``ceiling``,
        another longer training; ``macs``, tau of MACs; ``supernet``, ``supernet_low``,
        ``supernet_high`` with inherited weights, NaN where that was not measured.
    """
    found: pd.DataFrame = pd.DataFrame(
        {
            "space": space,
            "axis": axis,
            "variants": result.variants,
            "tau": each.trial.tau.value,
            "low": each.trial.tau.low,
            "high": each.trial.tau.high,
            "fixed": each.trial.fixed.value,
            "fixed_low": each.trial.fixed.low,
            "fixed_high": each.trial.fixed.high,
            "ceiling": each.ceiling.value,
            "macs": each.macs,
            **_supernet(each.supernet),
        }
        for space, result in results.items()
        for axis, each in result.axes.items()
    )
    return found


def _supernet(ranked: Ranked | None) -> dict[str, float]:
    tau = ranked.tau if ranked else Estimate(math.nan, math.nan, math.nan)
    return {"supernet": tau.value, "supernet_low": tau.low, "supernet_high": tau.high}


def accuracies(rows: pd.DataFrame, axis: str) -> pd.Series[float]:
    """The accuracy of each training on an axis."""
    columns = [COLUMN.get(task, task) for task in AXES[axis]]
    means: pd.Series[float] = rows[columns].mean(axis=1, skipna=False)
    return means


def summarise(rows: pd.DataFrame, space: Space) -> SpaceResult:
    """Say how each axis ranks the variants that have all their trainings."""
    trained = {task for task in TASKS if rows[COLUMN.get(task, task)].notna().any()}
    tables = {axis: _by_seed(rows, axis) for axis, tasks in AXES.items() if {*tasks} <= trained}
    settings = json.loads(rows.loc[rows["recipe"] == SEARCH, "recipe_settings"].iloc[0])
    cue = ProxyRecipe(**settings["routing"]["cue"])
    first = list(tables.values())[-1]  # the widest axis
    described = rows.groupby("label")[["macs", "config"]].first().loc[first.index]
    configs = [as_config(json.loads(text)) for text in described["config"]]
    variants = Variants(Encoder(space), configs, described["macs"].to_numpy(np.float64))
    whole = _reference(first).mean(axis=0)
    return SpaceResult(
        variants=len(first),
        seeds=len(_reference(first)),
        axes={
            axis: _axis(table, whole, variants, work(cue, AXES[axis]))
            for axis, table in tables.items()
        },
        baseline=estimate(kendall, variants.macs, whole),
        seconds=float(rows.loc[rows["recipe"] == SEARCH, "seconds"].median()),
        by_token=_by_token(tables, described["config"]),
        where=machines(rows),
    )


def _by_token(tables: Mapping[str, pd.DataFrame], configs: pd.Series[str]) -> pd.DataFrame:
    """Means of the longer training by ``window_representation``, ascending in the last axis."""
    token = configs.map(json.loads).map(
        lambda config: config["window_representation"] if config["family"] == "sepvit" else None
    )
    longer = {axis: _reference(table).mean(axis=0) for axis, table in tables.items()}
    groups = pd.DataFrame(longer, index=configs.index).groupby(token)
    last = list(tables)[-1]
    means: pd.DataFrame = groups.mean().assign(variants=groups.size()).sort_values(last)
    return means


def _by_seed(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """A row a variant, a column a training; variants that lack one are left out."""
    scored = rows.assign(score=accuracies(rows, axis))
    wide = scored.pivot_table(index="label", columns=["recipe", "seed"], values="score", sort=False)
    table: pd.DataFrame = wide.dropna()
    return table


def _first(table: pd.DataFrame, recipe: str) -> FloatArray:
    """(variants,) of the only training of a recipe."""
    values: FloatArray = table[recipe].to_numpy(np.float64)[:, 0]
    return values


def _reference(table: pd.DataFrame) -> FloatArray:
    """(seeds, variants) of the longer training."""
    values: FloatArray = table[REFERENCE].to_numpy(np.float64).T
    return values


def _axis(table: pd.DataFrame, whole: FloatArray, variants: Variants, work: float) -> AxisResult:
    trial = _first(table, SEARCH)
    longer = _reference(table)
    own, macs = longer.mean(axis=0), variants.macs

    inherited = _first(table, SUPERNET) if SUPERNET in table else None

    def ranked(says: FloatArray) -> Ranked:
        less = estimate(less_another, says, *longer)
        return dataclasses.replace(_ranked(says, own, macs), less=less)

    return AxisResult(
        trial=ranked(trial),
        smoothed=ranked(variants.smoothed(trial)),
        surrogate=ranked(variants.guessed(own)),
        supernet=None if inherited is None else ranked(inherited),
        joint=None if inherited is None else ranked(variants.guessed(own, inherited)),
        ceiling=estimate(one_and_the_others, *longer),
        whole=_ranked(trial, whole, macs),
        macs=float(kendall(macs, own)),
        work=work,
    )


def _ranked(says: FloatArray, truth: FloatArray, macs: FloatArray) -> Ranked:
    return Ranked(estimate(kendall, says, truth), estimate(partial_kendall, says, truth, macs))


def page(results: Mapping[str, SpaceResult]) -> str:
    """The page, in Markdown."""
    parts = [INTRODUCTION]
    for space, result in results.items():
        parts += [f"## {space}\n", markdown_table(_table(result)) + "\n", _how(result)]
        if len(result.by_token):
            parts += [REPRESENTATIONS, markdown_table(_token_table(result.by_token)) + "\n"]
    return "\n".join(parts)


def _table(result: SpaceResult) -> Table:
    """Rows of all axes; the widest one ranks by all tasks anyway."""
    lines = []
    for axis, each in result.axes.items():
        readings = {
            f"a trial's training, {each.work:.1f}x the canvases": each.trial,
            "smoothed": each.smoothed,
            "surrogate": each.surrogate,
        }
        if each.supernet and each.joint:
            readings |= {"supernet": each.supernet, "surrogate with supernet": each.joint}
        if axis != list(result.axes)[-1]:
            readings["a trial's training, as all tasks"] = each.whole
        for name, found in readings.items():
            cells = map(_cell, (found.tau, found.less, found.fixed))
            lines.append((f"`{axis}`", name, *cells))
        lines.append((f"`{axis}`", "another longer training", _cell(each.ceiling), DASH, DASH))
    header = ("axis", "what ranks", "Kendall's tau", "less another", "at fixed MACs")
    return Table("", "", header, tuple(lines))


def _token_table(means: pd.DataFrame) -> Table:
    axes = [str(name) for name in means if name != "variants"]
    lines = tuple(
        (f"`{token}`", str(int(row["variants"])), *(f"{row[axis]:.3f}" for axis in axes))
        for token, row in means.iterrows()
    )
    return Table("", "", ("window token", "variants", *axes), lines)


def _cell(found: Estimate | None) -> str:
    if found is None or math.isnan(found.value):
        return DASH
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _how(result: SpaceResult) -> str:
    return (
        f"{result.variants} variants, one training of a trial, {result.seeds} longer ones. MACs by "
        f"themselves rank as the longer training of all tasks does with tau "
        f"{_cell(result.baseline)}. Seconds of a trial on all tasks, the median: "
        f"{result.seconds:.0f}. {result.where}.\n"
    )
