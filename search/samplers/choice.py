"""Which sampler suits a search: chosen by how many trials there are and what one costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from effvit.config import unknown_name
from search.samplers import SAMPLERS

AUTO = "auto"

SECONDS_A_STEP = 0.05
"""CPU seconds of a training step of the proxy, with its share of the evaluation; near the mean of
recipe ``search`` in ``experiments/data/proxy_audit_sepvit.csv``: its magnitude is what matters."""

PROPOSAL_SECONDS = ((100, 0.03), (1000, 0.2))
"""CPU seconds of a proposal of ``surrogate``, up to so many trials; beyond, the last one."""

AFFORDED = 0.1
"""Share of a trial's time that its proposal may take."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A sampler's name, and why it was chosen, in a line."""

    name: str
    reason: str


def choose_sampler(asked: str, trials: int, steps: int, saved: Mapping[str, Any] | None) -> Choice:
    """Decide on a sampler.

    Args:
        asked: A name of :data:`search.samplers.SAMPLERS`, or :data:`AUTO`.
        trials: Trials of the search.
        steps: Training steps of a trial.
        saved: The identity of the run that is resumed, which keeps its sampler; None for a new one.

    Raises:
        ConfigError: No such sampler; the message lists the known names.
    """
    if asked != AUTO:
        if asked not in SAMPLERS:
            raise unknown_name("sampler", asked, [AUTO, *SAMPLERS])
        return Choice(asked, "asked for")
    if saved is not None:
        return Choice(str(saved["sampler"]), "the run began with it")
    cost = next(
        (cost for most, cost in PROPOSAL_SECONDS if trials <= most), PROPOSAL_SECONDS[-1][1]
    )
    seconds = steps * SECONDS_A_STEP
    name = "surrogate" if cost <= AFFORDED * seconds else "evolution"
    length = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
    compared = "at most" if name == "surrogate" else "more than"
    return Choice(
        name,
        f"{trials} trials of about {length} s, a proposal of surrogate of about {cost:g} s: "
        f"{compared} {AFFORDED:.0%}",
    )
