"""What a run writes down about itself at its start."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from search.environment import device_name, environment
from search.latency.source import PredictingMeter
from search.settings import OBJECTIVES, Calibration, RunSettings
from spaces.space import Space


def document(
    settings: RunSettings,
    space: Space,
    accuracy: Mapping[str, Any],
    calibration: Calibration,
    predicting: PredictingMeter | None,
) -> dict[str, Any]:
    """Everything about a run, for ``settings.json``.

    Args:
        settings: What defines it.
        space: Where variants come from.
        accuracy: What its accuracy axis is, see :func:`search.proxy.statement.statement`.
        calibration: What was measured at its start.
        predicting: What predicts latencies, if anything does.
    """
    protocol = settings.latency.describe()
    return {
        "workbench_version": importlib.metadata.version("effvit-workbench"),
        "command": command_line(),
        "space": settings.space,
        "space_size": space.size(),
        "resolution": settings.resolution,
        "trials": settings.trials,
        "seed": settings.seed,
        "sampler": settings.sampler,
        "sampler_reason": settings.sampler_reason,
        "fidelities": settings.fidelities,
        "budgets": dataclasses.asdict(settings.budgets),
        "objectives": OBJECTIVES,
        "axes": [
            {"name": axis.name, "description": axis.description, "values": list(axis.values)}
            for axis in space.axes
        ],
        "proxy": {
            **accuracy,
            "source": settings.proxy,
            "tasks": settings.tasks if settings.embedded else (),
            "search_recipe": settings.search_recipe.to_dict(),
            "final_recipe": settings.final_recipe.to_dict(),
        },
        "latency": {
            "backend": "pytorch eager",
            "device": device_name(settings.device),
            "threads": settings.threads,
            "batch": settings.latency.batch,
            "source": settings.latency_source,
            "protocol": f"{protocol} {predicting.describe()}" if predicting else protocol,
            "reference_network": settings.latency.reference,
            "reference_ms": calibration.reference_ms,
        },
        "environment": environment(settings.device),
    }


def command_line() -> str:
    """What the user typed."""
    return shlex.join(["python", "-m", "search.run", *sys.argv[1:]])
