"""What the spaces of networks in stages share: an axis for each stage, widths that never shrink."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from spaces.axes import Axis, Choices, Rule, Value

STEM = "stem"
"""Stands for the stem where stages have numbers."""


def stage_names(prefix: str, stages: Iterable[int | str]) -> tuple[str, ...]:
    """Names of one axis a stage: ``width_stem``, ``width_1``, ``width_2``, ...

    Args:
        prefix: What the axes vary.
        stages: Numbers of stages, from 1, and :data:`STEM`.
    """
    return tuple(f"{prefix}_{stage}" for stage in stages)


def stage_axes(
    names: Sequence[str], values: Iterable[Sequence[Value]], what: str
) -> tuple[Axis, ...]:
    """Make one axis a stage.

    Args:
        names: Names of the axes, from :func:`stage_names`.
        values: Values of each.
        what: What the axes vary, in words that the stage can follow.
    """
    return tuple(
        Axis(name, tuple(steps), f"{what} {_place(name)}")
        for name, steps in zip(names, values, strict=True)
    )


def _place(name: str) -> str:
    stage = name.rpartition("_")[2]
    return "the stem" if stage == STEM else f"stage {stage}"


def stage_integers(choices: Choices, names: Sequence[str]) -> tuple[int, ...]:
    """Chosen values of ordered axes, in the order of ``names``."""
    return tuple(int(choices[name]) for name in names)


def growing_rules(widths: Sequence[str]) -> list[Rule]:
    """Rules that widths never shrink from stage to stage.

    Args:
        widths: Names of the axes that give them, first stage first.
    """
    return [_growing_rule(*pair) for pair in itertools.pairwise(widths)]


def _growing_rule(before: str, after: str) -> Rule:
    return Rule(
        name=f"{after}_grows",
        reason="widths never shrink from stage to stage, as positions become fewer",
        reads=(before, after),
        holds=lambda choices: int(choices[before]) <= int(choices[after]),
        statement=lambda choices: (
            f"{after} must be at least {before}, got {choices[after]} after {choices[before]}"
        ),
    )
