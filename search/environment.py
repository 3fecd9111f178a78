"""What travels with every measured number: machine, device, threads, versions, date."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from effvit import ConfigError

LIBRARIES = ("torch", "timm", "optuna", "numpy", "scikit-learn", "fvcore", "ptflops")


def cpu_name() -> str:
    """Name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name(device: str) -> str:
    """Name of a torch device: the GPU's for ``cuda``, the processor's for ``cpu``."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return cpu_name()


def checked_device(name: str) -> str:
    """Return the name of a torch device that is here.

    Raises:
        ConfigError: It is no CPU or CUDA device, or not available.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device must be cpu, cuda or like cuda:0, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be cpu, cuda or like cuda:0, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} is not available here (nearest valid: cpu)")
    return name


def environment(device: str = "cpu") -> dict[str, str | int]:
    """Describe where and with what something is measured."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": available_cores(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **versions,
    }
