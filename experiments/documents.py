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

from experiments import tradeoff_curves
from experiments.ablation.figures import encode, figures
from experiments.ablation.kept import kept_names, read_result
from experiments.ablation.writers import markdown
from experiments.catalogue import DATA, Options
from search.records import write_text


class Document(NamedTuple):
    """A page of the documentation.

    Attributes:
        text: In Markdown.
        figures: PNG files beside it, by name.
    """

    text: str
    figures: Mapping[str, bytes]


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
    for name, content in document.figures.items():
        (path.parent / name).write_bytes(content)


def documents(folder: Path) -> dict[str, Callable[[], Document]]:
    """What makes each page, by its path under ``docs``, from the kept results in a folder."""
    pages: dict[str, Callable[[], Document]] = {
        f"ablations/{name}.md": functools.partial(of_ablation, name, folder)
        for name in kept_names(folder)
    }
    if (folder / tradeoff_curves.POINTS).exists():
        pages[tradeoff_curves.PAGE] = functools.partial(of_tradeoffs, folder)
    return pages


def of_ablation(name: str, folder: Path) -> Document:
    """The page of an ablation: its tables, then its figures."""
    result = read_result(name, folder)
    images = {f"{name}_{kind}.png": figure for kind, figure in figures(result).items()}
    links = [f"![{file.removesuffix('.png').replace('_', ' ')}]({file})" for file in images]
    text = "\n\n".join([markdown(result).rstrip(), *links]) + "\n"
    return Document(text, _encoded(images))


def of_tradeoffs(folder: Path) -> Document:
    """The page of the trade-off curves."""
    points = pd.read_csv(folder / tradeoff_curves.POINTS)
    drawn = tradeoff_curves.figures(points)
    images = {f"{name}.png": figure for name, figure in drawn.items()}
    return Document(tradeoff_curves.page(points), _encoded(images))


def _encoded(images: Mapping[str, Figure]) -> dict[str, bytes]:
    return {file: encode(figure, "png") for file, figure in images.items()}
