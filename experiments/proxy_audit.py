"""How far can each accuracy proxy be trusted? All of them against longer training, on one sample.

Variants of a space, balanced over MACs, are trained with a recipe twice as long as a search's and
three seeds; the mean is what proxies are held against: one short training as a trial has it, a
supernet, a surrogate learned from the other variants, all zero-cost scores, and what costs nothing.
How well another such training agrees bounds what any proxy can show. The longer training is itself
a proxy: nothing here says how variants rank on ImageNet.

Every step writes its rows as they are finished and goes on where it stopped. What is not measured
yet is left out of the table, so that an audit that was cut short says what it can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from effvit import ModelConfig
from effvit.config import unknown_name
from experiments.audit.gather import gather, score_column
from experiments.audit.page import draw, page
from experiments.audit.plan import plan
from experiments.audit.summary import FIXED, REGRET, STATISTICS, TAU, find, summarise
from experiments.audit.supernet import obtain
from experiments.catalogue import Options
from experiments.measure import append_row, finished_rows, measure_all
from experiments.progress import progress_bar
from experiments.ranking import Estimate
from search.proxy import ProxyRecipe
from search.proxy.statement import SUMMARY
from search.scores.many import score_all
from search.scores.table import SCORES
from search.supernet.training import RECIPE
from spaces import SPACES, get_space
from spaces.space import Space

SPACE = "sepvit"
IMAGES = 4
"""Canvases of a batch that scores are computed on."""

QUICK_STEPS = 2


def run(options: Options) -> None:
    """Measure what is missing, join it, say what it means; after Ctrl-C, of what is finished."""
    name = options.space or SPACE
    if name not in SPACES:
        raise unknown_name("space", name, SPACES)
    space, console = get_space(name), Console()
    planned = plan(space, options.seed, quick=options.quick)
    files = Files(options.out, name)
    try:
        _score(planned.variants, files.scores, options)
        _inherit(space, planned.variants, files, options)
        measure_all(planned.tasks(), files.trainings, options.workers)
    except KeyboardInterrupt:
        conclude(space, planned.variants, files, console)
        raise
    conclude(space, planned.variants, files, console)


@dataclasses.dataclass(frozen=True)
class Files:
    """Where an audit of a space keeps what."""

    folder: Path
    space: str

    def _named(self, name: str) -> Path:
        return self.folder / f"proxy_audit_{self.space}{name}"

    @property
    def trainings(self) -> Path:
        """Rows of trainings."""
        return self._named("_trainings.csv")

    @property
    def scores(self) -> Path:
        """Rows of zero-cost scores."""
        return self._named("_scores.csv")

    @property
    def inherited(self) -> Path:
        """Rows of what the supernet says."""
        return self._named("_inherited.csv")

    @property
    def table(self) -> Path:
        """The measured table, a row a variant."""
        return self._named(".csv")

    @property
    def summary(self) -> Path:
        """What it says."""
        return self._named("_summary.csv")

    @property
    def page(self) -> Path:
        """The same for readers."""
        return self._named(".md")

    @property
    def figure(self) -> Path:
        """A figure of it."""
        return self._named(".png")


def conclude(
    space: Space, variants: Mapping[str, ModelConfig], files: Files, console: Console
) -> None:
    """Write table, summary, page and figure of what is finished, and print what matters most."""
    trainings = finished_rows(files.trainings)
    if trainings.empty:
        console.print("no training is finished: there is nothing to say")
        return
    scores, inherited = finished_rows(files.scores), finished_rows(files.inherited)
    table = gather(space, variants, trainings, scores, inherited)
    table.to_csv(files.table, index=False, float_format="%.6g")
    summary = summarise(pd.read_csv(files.table))
    summary.to_csv(files.summary, index=False, float_format="%.4f")
    files.page.write_text(page({files.space: summary}), encoding="utf-8")
    draw({files.space: summary}).savefig(files.figure)
    show(summary, console)
    console.print(f"written: {files.table}, {files.summary}, {files.page}", soft_wrap=True)


def _score(variants: Mapping[str, ModelConfig], path: Path, options: Options) -> None:
    """Compute zero-cost scores of the variants that the file does not hold."""
    rows = finished_rows(path)
    done = set() if rows.empty else set(rows["variant_id"])
    missing = [config for config in variants.values() if config.variant_id not in done]
    results = score_all(missing, options.seed, images=IMAGES, workers=options.workers)
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=len(missing))
        for index, scored in results:
            found = scored.values  # noqa: PD011 - not a data frame's
            row: dict[str, object] = {"variant_id": missing[index].variant_id}
            row |= {score_column(name): found.get(name) for name in SCORES}
            row |= {f"seconds_{name}": scored.seconds.get(name) for name in SCORES}
            append_row(path, row)
            bar.advance(task)


def _inherit(
    space: Space, variants: Mapping[str, ModelConfig], files: Files, options: Options
) -> None:
    """Measure the variants that the file does not hold with the supernet's weights."""
    rows = finished_rows(files.inherited)
    done = set() if rows.empty else set(rows["variant_id"])
    missing = [config for config in variants.values() if config.variant_id not in done]
    if not missing:
        return
    folder = files.folder / f"supernet-{space.name}"
    supernet = obtain(space, folder, _recipe(options.quick), options.seed)
    with progress_bar() as bar:
        variant = bar.add_task("inheriting", total=len(missing))
        for config in missing:
            inherited = supernet.score(config)
            row = {
                "variant_id": config.variant_id,
                "inherited_accuracy": inherited.scores.accuracy,
                "inherited_log_likelihood": -inherited.cross_entropy,
                "inherited_relation": inherited.scores.relation,
                "inherited_recognition": inherited.scores.recognition,
                "inherited_trained_share": inherited.trained_share,
                "inherited_seconds": round(inherited.seconds, 4),
            }
            append_row(files.inherited, row)
            bar.advance(variant)


def _recipe(quick: bool) -> ProxyRecipe:
    return dataclasses.replace(RECIPE, steps=QUICK_STEPS) if quick else RECIPE


def show(summary: pd.DataFrame, console: Console) -> None:
    """Print how each proxy ranks all variants."""
    part = summary[(summary["group"] == "all") & summary["statistic"].isin(STATISTICS)]
    if part.empty:
        console.print("too few variants are trained to say anything")
        return
    table = Table(title=f"{part['space'].iloc[0]}: {part['n'].iloc[0]} variants", box=None)
    for name in ("reading", TAU, "95 %", FIXED, "95 %", REGRET, "seconds"):
        table.add_column(name, justify="left" if name == "reading" else "right")
    for reading, rows in part.groupby("reading", sort=False):
        tau, fixed, regret = (find(rows, name) for name in (TAU, FIXED, REGRET))
        cells = [*_cells(tau), *_cells(fixed), _cells(regret)[0]]
        seconds = float(rows["seconds"].iloc[0])
        table.add_row(str(reading), *cells, "" if pd.isna(seconds) else f"{seconds:.3g}")
    console.print(table)


def _cells(figure: Estimate | None) -> tuple[str, str]:
    """A statistic and its interval."""
    if figure is None:
        return "", ""
    return f"{figure.value:+.2f}", f"{figure.low:+.2f} to {figure.high:+.2f}"


def committed_summary() -> Path:
    """Path of the summary of all spaces that travels with the package, for reports of a search."""
    return Path(str(resources.files("search"))) / "data" / SUMMARY
