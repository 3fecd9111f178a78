"""The proxy's tasks, and an accuracy that is their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CUE, ROUTING, LOCALISATION, TEXTURE = TASKS = ("cue", "routing", "localisation", "texture")
"""In the order in which they are reported."""

AXES: Final[Mapping[str, tuple[str, ...]]] = {
    "cue": (CUE,),
    "cue,routing": (CUE, ROUTING),
    "all": TASKS,
}
"""What the accuracy of a search may be the mean of."""
