"""Options of data and recipe that the commands share, and how changes of a recipe are read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from effvit.config import ConfigError, unknown_name
from search.train.recipe import Recipe

DATA_PANEL = "Data set"
"""Group in which the help shows these options."""

DataOption = Annotated[
    str,
    typer.Option(
        help="digits, a folder, a tar file, or SCHEME/NAME as timm has it.",
        rich_help_panel=DATA_PANEL,
    ),
]
DataRootOption = Annotated[
    str | None, typer.Option(help="Folder of a scheme's files.", rich_help_panel=DATA_PANEL)
]
ClassesOption = Annotated[
    int | None, typer.Option(help="Use the first so many classes.", rich_help_panel=DATA_PANEL)
]
SubsetOption = Annotated[
    float, typer.Option(help="Training images: share, or number.", rich_help_panel=DATA_PANEL)
]
ValidationOption = Annotated[
    float,
    typer.Option(
        help="Share of training images for validation, where there is none.",
        rich_help_panel=DATA_PANEL,
    ),
]
TrainPartOption = Annotated[
    str | None, typer.Option(help="Name of its training part.", rich_help_panel=DATA_PANEL)
]
ValidationPartOption = Annotated[
    str | None, typer.Option(help="Name of its validation part.", rich_help_panel=DATA_PANEL)
]
TestPartOption = Annotated[
    str | None, typer.Option(help="Name of its test part.", rich_help_panel=DATA_PANEL)
]
ChangeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Another field of the recipe: NAME=VALUE.", rich_help_panel=DATA_PANEL
    ),
]


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Return a recipe with other values, each given as ``name=value``.

    Raises:
        ConfigError: There is no such field, the value is not of its kind, or it breaks a rule.
    """
    fields = dict(_change(text, recipe) for text in changes)
    return dataclasses.replace(recipe, **fields)


def _change(text: str, recipe: Recipe) -> tuple[str, Any]:
    """Read ``name=value``; the value is of the kind that the field has, or ``none``."""
    name, equals, value = text.partition("=")
    known = recipe.to_dict()
    if name not in known:
        raise unknown_name("recipe field", name, known)
    try:
        read = None if value.lower() == "none" else json.loads(value)
    except ValueError:
        read = value
    was = known[name]
    numbers = isinstance(was, int | float) and isinstance(read, int | float)
    if not equals or not (numbers or was is None or read is None or type(read) is type(was)):
        raise ConfigError(f"--set takes NAME=VALUE, such as {name}={json.dumps(was)}; got {text!r}")
    return name, tuple(read) if isinstance(read, list) else read
