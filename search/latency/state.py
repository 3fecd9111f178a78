"""How busy the machine is while something is timed."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import psutil

LOADED_OTHERS = 0.25
"""Processors that others keep busy above which a machine counts as loaded."""

LOADED_WAITING = 1.05
"""Wall time over CPU time of one thread above which it counts as loaded too."""


@dataclasses.dataclass(frozen=True)
class MachineState:
    """How busy the machine was during a measurement.

    Attributes:
        others: Processors that other processes kept busy, on average.
        wall_per_cpu: Wall time over this process's CPU time a thread. With one thread on a CPU,
            1 means that it never waited; with several, threads also wait for each other.
        load_average: Runnable processes over the last minute, at the end.
        frequency_mhz: The processor's frequency at the end; None where the system does not tell.
        threads: Threads of the measurement; 0 on a GPU, where the processor hardly matters.
    """

    others: float
    wall_per_cpu: float
    load_average: float | None
    frequency_mhz: float | None
    threads: int

    @property
    def loaded(self) -> bool:
        """Whether others got in the way."""
        waited = self.threads == 1 and self.wall_per_cpu > LOADED_WAITING
        return waited or self.others > LOADED_OTHERS


class Watch:
    """Watches the machine from its creation on."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._wall = time.perf_counter()
        self._own = time.process_time()
        self._busy = _busy_seconds()

    def state(self) -> MachineState:
        """Return the state since the watch began."""
        wall = time.perf_counter() - self._wall
        own = time.process_time() - self._own
        busy = _busy_seconds() - self._busy
        return MachineState(
            others=max(0.0, (busy - own) / wall),
            wall_per_cpu=wall * max(1, self._threads) / max(own, 1e-9),
            load_average=_load_average(),
            frequency_mhz=_frequency(),
            threads=self._threads,
        )


def _busy_seconds() -> float:
    """Seconds that all processors together were not idle, since the system started."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is part of user time already.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(seconds for name, seconds in times.items() if name not in idle))


def _load_average() -> float | None:
    try:
        return float(psutil.getloadavg()[0])
    except OSError:  # the system has none
        return None


def _frequency() -> float | None:
    """Frequency in MHz; some systems and virtual machines do not tell."""
    with contextlib.suppress(OSError, NotImplementedError, AttributeError):
        frequency = psutil.cpu_freq()
        return float(frequency.current) if frequency else None
    return None
