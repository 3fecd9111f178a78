"""All ablations in one visible place."""

from __future__ import annotations

from effvit.config import unknown_name
from experiments.ablation import (
    attention_tables,
    efficientvit_tables,
    mobilevitv2_tables,
    sepvit_tables,
)
from experiments.ablation.definition import Ablation

ABLATIONS: dict[str, Ablation] = (
    sepvit_tables.ABLATIONS
    | attention_tables.ABLATIONS
    | efficientvit_tables.ABLATIONS
    | mobilevitv2_tables.ABLATIONS
)


def ablation(name: str) -> Ablation:
    """Look an ablation up.

    Raises:
        ConfigError: No such ablation; the nearest name is offered.
    """
    if name not in ABLATIONS:
        raise unknown_name("ablation", name, ABLATIONS)
    return ABLATIONS[name]
