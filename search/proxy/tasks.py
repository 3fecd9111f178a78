"""The proxy's tasks by name, and accuracies that are the mean of some of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Final

from effvit.config import unknown_name

CUE, ROUTING, LOCALISATION, TEXTURE = TASKS = ("cue", "routing", "localisation", "texture")
"""In the order in which they are learned and reported."""

AXES: Final[Mapping[str, tuple[str, ...]]] = {
    CUE: (CUE,),
    f"{CUE}+{ROUTING}": (CUE, ROUTING),
    "all": TASKS,
}
"""Tasks that the accuracy of a search may be the mean of, by what is typed."""

AUTO: Final = "auto"
USUAL: Final = f"{CUE}+{ROUTING}"
USUAL_IN: Final = ("sepvit", "hybrid", "efficientvit")
"""Axis of a search unless something else is asked for, in spaces where ``python -m experiments.run
task_audit`` found that routing tells variants apart. MobileViTv2s are ranked nearly as well by the
cue task alone, which takes two fifths of the work; there, and in other spaces, that is the axis."""


def usual_axis(space: str) -> str:
    """The axis of a search of a space unless something else is asked for."""
    return USUAL if space in USUAL_IN else CUE


def axis_tasks(name: str) -> tuple[str, ...]:
    """Look an axis up.

    Raises:
        ConfigError: No such axis; the nearest name is offered.
    """
    if name not in AXES:
        raise unknown_name("tasks", name, (AUTO, *AXES))
    return AXES[name]


def combined(cue: float, further: Mapping[str, float]) -> float:
    """The accuracy of an axis: the mean of its tasks' shares of right cells.

    Args:
        cue: Of the cue task.
        further: Of the axis's other tasks.
    """
    return statistics.fmean([cue, *further.values()])
