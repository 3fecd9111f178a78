"""The pages of results in the documentation, made from the results that travel with the package.

Nothing is measured here. The same results give the same pages, which a test compares with those in
the repository, so that a page cannot say what no kept result says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from experiments import (
    fidelity_benchmark,
    fidelity_curves,
    fidelity_page,
    latency_page,
    proxy_tasks_page,
    sampler_benchmark_findings,
    sampler_benchmark_page,
    score_health_page,
    task_audit,
    task_audit_page,
    tradeoff_curves,
)
from experiments.ablation import overview
from experiments.ablation.figures import encode, figures
from experiments.ablation.kept import kept_names, read_result
from experiments.ablation.writers import markdown
from experiments.audit import page as audit_page
from experiments.audit.plan import VARIANTS
from experiments.audit.summary import summarise
from experiments.catalogue import DATA, Options
from experiments.proxy_audit import Files
from experiments.vit_bench import page as vit_bench
from search.records import write_text
from spaces import get_space


class Document(NamedTuple):
    """A page of the documentation.

    Attributes:
        text: In Markdown.
        figures: What is drawn beside it, by name of the PNG file.
    """

    text: str
    figures: Mapping[str, Figure]


def run(options: Options) -> None:
    """Write all pages into the folder."""
    console = Console(highlight=False, soft_wrap=True)
    for name, make in documents(DATA).items():
        write(make(), options.out / name)
        console.print(f"written: {options.out / name}")


def write(document: Document, path: Path) -> None:
    """Write a page and its figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, document.text)
    for name, figure in document.figures.items():
        (path.parent / name).write_bytes(encode(figure, "png"))


def documents(folder: Path) -> dict[str, Callable[[], Document]]:
    """What makes each page, by its path under ``docs``, from the kept results in a folder."""
    pages: dict[str, Callable[[], Document]] = {
        f"ablations/{name}.md": functools.partial(of_ablation, name, folder)
        for name in kept_names(folder)
    }
    if pages:
        pages[overview.PAGE] = functools.partial(of_ablations, folder)
    if latency_page.measured(folder):
        pages[latency_page.PAGE] = functools.partial(of_latency, folder)
    of_files: dict[str, tuple[str, Callable[[Path], Document]]] = {
        tradeoff_curves.POINTS: (tradeoff_curves.PAGE, of_tradeoffs),
        sampler_benchmark_page.RAW: (sampler_benchmark_page.PAGE, of_samplers),
        fidelity_benchmark.SUMMARY: (fidelity_page.PAGE, of_fidelities),
        vit_bench.RESULT: (vit_bench.PAGE, of_vit_bench),
        proxy_tasks_page.RAW: (proxy_tasks_page.PAGE, of_proxy_tasks),
        score_health_page.SUMMARY: (score_health_page.PAGE, of_score_health),
    }
    for kept, (page, make) in of_files.items():
        if (folder / kept).exists():
            pages[page] = functools.partial(make, folder)
    if task_audit.kept(folder):
        pages[task_audit_page.PAGE] = functools.partial(of_task_audit, folder)
    audits = {space: Files(folder, space).table for space in VARIANTS}
    audited = {space: path for space, path in audits.items() if path.exists()}
    if audited:
        pages[audit_page.PAGE] = functools.partial(of_audits, audited)
    return pages


def of_audits(tables: Mapping[str, Path]) -> Document:
    """The page of the audits of accuracy proxies, from their measured tables by space."""
    summaries = {space: summarise(pd.read_csv(path)) for space, path in tables.items()}
    images = {audit_page.FIGURE: audit_page.draw(summaries)}
    return Document(audit_page.page(summaries), images)


def of_ablation(name: str, folder: Path) -> Document:
    """The page of an ablation: its tables, then its figures."""
    result = read_result(name, folder)
    images = {f"{name}_{kind}.png": figure for kind, figure in figures(result).items()}
    links = [f"![{file.removesuffix('.png').replace('_', ' ')}]({file})" for file in images]
    text = "\n\n".join([markdown(result).rstrip(), *links]) + "\n"
    return Document(text, images)


def of_ablations(folder: Path) -> Document:
    """The page of all ablations."""
    return Document(overview.overview([read_result(n, folder) for n in kept_names(folder)]), {})


def of_latency(folder: Path) -> Document:
    """The page about latency."""
    images = {f"{name}.png": figure for name, figure in latency_page.figures(folder).items()}
    return Document(latency_page.page(folder), images)


def of_tradeoffs(folder: Path) -> Document:
    """The page of the trade-off curves."""
    points = pd.read_csv(folder / tradeoff_curves.POINTS)
    drawn = tradeoff_curves.figures(points)
    images = {f"{name}.png": figure for name, figure in drawn.items()}
    return Document(tradeoff_curves.page(points), images)


def of_vit_bench(folder: Path) -> Document:
    """The page of the external benchmark."""
    table = vit_bench.read(folder / vit_bench.RESULT)
    return Document(vit_bench.page(table), {vit_bench.FIGURE: vit_bench.draw(table)})


def of_proxy_tasks(folder: Path) -> Document:
    """The page about the proxy's tasks."""
    rows = pd.read_csv(folder / proxy_tasks_page.RAW)
    images = {proxy_tasks_page.FIGURE: proxy_tasks_page.draw(rows)}
    return Document(proxy_tasks_page.page(rows), images)


def of_score_health(folder: Path) -> Document:
    """The page about scores that are no finite numbers."""
    return Document(score_health_page.page(pd.read_csv(folder / score_health_page.SUMMARY)), {})


def of_task_audit(folder: Path) -> Document:
    """The page about means of the proxy's tasks."""
    found = {
        space: task_audit_page.summarise(rows, get_space(space))
        for space, rows in task_audit.kept(folder).items()
    }
    return Document(task_audit_page.page(found), {})


def of_fidelities(folder: Path) -> Document:
    """The page about fidelities."""
    names = (fidelity_benchmark.SUMMARY, fidelity_benchmark.AGREEMENT, fidelity_curves.RAW)
    return Document(fidelity_page.page(*(pd.read_csv(folder / name) for name in names)), {})


def of_samplers(folder: Path) -> Document:
    """The page of the sampler benchmark."""
    rows = pd.read_csv(folder / sampler_benchmark_page.RAW)
    images = {f"{sampler_benchmark_findings.FIGURE}.png": sampler_benchmark_page.figure(rows)}
    return Document(sampler_benchmark_page.page(rows), images)
