"""Budgets as people type them: ``1G`` MACs, ``5M`` parameters, ``20ms``."""

from __future__ import annotations

import dataclasses
import math
import re

from effvit import ConfigError

COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
TIME_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def _parse(text: str, what: str, units: dict[str, float], example: str) -> float:
    match = re.fullmatch(r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*", text)
    known = ", ".join(unit for unit in units if unit)
    try:
        number = float(match[1]) if match else math.nan
    except ValueError:
        number = math.nan
    by_lower = {unit.lower(): unit for unit in units}
    unit = by_lower.get(match[2].lower()) if match else None
    if match is None or math.isnan(number) or unit is None:
        raise ConfigError(
            f"{what} must be a number with a unit of {known}, got {text!r} (for example {example})"
        )
    if not 0 < number < math.inf:
        raise ConfigError(f"{what} must be positive, got {text!r} (for example {example})")
    return number * units[unit]


def parse_count(text: str, what: str) -> int:
    """Read a count such as ``1G``, ``1.5 M`` or ``250000``.

    Raises:
        ConfigError: Unknown unit, no number, or not positive.
    """
    value = _parse(text, what, dict(COUNT_UNITS), "1.5G")
    if value < 1:
        raise ConfigError(f"{what} must be at least 1, got {text!r} (for example 1.5G)")
    return round(value)


def parse_milliseconds(text: str, what: str) -> float:
    """Read a time such as ``20ms`` or ``0.02s``; the result is in milliseconds.

    Raises:
        ConfigError: Unknown unit, no number, or not positive.
    """
    return _parse(text, what, dict(TIME_UNITS), "20ms")


@dataclasses.dataclass(frozen=True)
class Budgets:
    """Upper limits of what a variant may cost; None where there is none.

    Attributes:
        max_macs: Multiply-accumulates at the space's resolution.
        max_params: Parameters.
        max_latency_ms: Measured latency in milliseconds.
    """

    max_macs: int | None = None
    max_params: int | None = None
    max_latency_ms: float | None = None

    @classmethod
    def parse(cls, macs: str | None, params: str | None, latency: str | None) -> Budgets:
        """Read the command line's ``--max-macs``, ``--max-params`` and ``--max-latency``."""
        return cls(
            parse_count(macs, "--max-macs") if macs is not None else None,
            parse_count(params, "--max-params") if params is not None else None,
            parse_milliseconds(latency, "--max-latency") if latency is not None else None,
        )
