"""Whether a published claim about latency holds here, and how its figure lies to the one here."""

from __future__ import annotations

import enum

from experiments.latency_claims_meter import Pair
from search.latency.protocol import LatencyProtocol


class Verdict(str, enum.Enum):
    """Whether a claim holds here."""

    HOLDS = "holds here"
    FAILS = "does not hold here"
    OPEN = "not resolved"


class Effect(str, enum.Enum):
    """How the figure here lies to the published one."""

    EQUAL = "as published"
    LESS = "less"
    MORE = "more"


def verdict(found: Pair, published: float | None) -> Verdict:
    """Whether a claim holds: is the time here on the side of the peer's that the paper says?

    Args:
        found: The measurement.
        published: The paper's figure; None where it says faster without one.

    Returns:
        Not resolved, where the interval contains 1 or too few runs give none.
    """
    if found.runs < LatencyProtocol.min_runs or found.low <= 1 <= found.high:
        return Verdict.OPEN
    claimed_faster = published is None or published > 1
    return Verdict.HOLDS if (found.low > 1) == claimed_faster else Verdict.FAILS


def effect(found: Pair, published: float | None) -> Effect | None:
    """How the interval here lies to a published figure; None where there is none."""
    if published is None:
        return None
    if found.low <= published <= found.high:
        return Effect.EQUAL
    return Effect.LESS if found.high < published else Effect.MORE
