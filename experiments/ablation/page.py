"""A result as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments.ablation.figures import encode
from experiments.ablation.layout import sentences, tables
from experiments.ablation.results import Result
from search.environment import environment


def render(result: Result, figures: Mapping[str, Figure]) -> str:
    """Write the page.

    Args:
        result: What to show.
        figures: Its figures by name.

    Returns:
        HTML that loads nothing: style and figures are inside.
    """
    templates = Environment(
        loader=PackageLoader("experiments.ablation", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html.j2").render(
        name=result.name,
        ablation=result.ablation,
        plan=result.plan,
        sentences=list(sentences(result)),
        tables=tables(result),
        figures=[_svg(figure) for figure in figures.values()],
        environment=environment(),
    )


def _svg(figure: Figure) -> Markup:
    """A figure as an element of the page, without the XML declaration before it."""
    text = encode(figure, "svg").decode()
    return Markup(text[text.index("<svg") :])  # noqa: S704 - drawn here, labels escaped by matplotlib
