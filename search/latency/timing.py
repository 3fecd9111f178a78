"""Timing two networks in turn."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import torch

from effvit.backends import Runner
from search.latency.protocol import FloatArray, LatencyProtocol

CPU_CLOCK_RESOLUTION = 1e-5
"""Seconds; a coarser clock of CPU time, as some systems have it, is not used."""


class Stopwatch:
    """Times runs: CUDA events on a GPU; on a processor the wall clock.

    With one thread, time that the process spent waiting for a processor does not count: the wall
    clock of a busy machine measures the others. What is left is the wall time on an idle machine.

    Args:
        device: Where runs happen.
        threads: Threads of the runs; 0 for the plain wall clock.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self._events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            if device.type == "cuda"
            else None
        )
        resolution = time.get_clock_info("process_time").resolution
        self._skips_waiting = threads == 1 and resolution <= CPU_CLOCK_RESOLUTION

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def time(self, runner: Runner) -> float:
        """Run once; return milliseconds. Nothing is queued on the device before or after."""
        with torch.inference_mode():
            return self._cpu_time(runner) if self._events is None else self._gpu_time(runner)

    def _cpu_time(self, runner: Runner) -> float:
        start, start_cpu = time.perf_counter(), time.process_time()
        runner()
        cpu, wall = time.process_time() - start_cpu, time.perf_counter() - start
        # Threads of a library's own would make CPU time the longer one.
        return 1e3 * (min(wall, cpu) if self._skips_waiting else wall)

    def _gpu_time(self, runner: Runner) -> float:
        assert self._events is not None
        start, end = self._events
        start.record()
        runner()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


@dataclasses.dataclass(frozen=True)
class Times:
    """Times of two networks that ran in turn.

    Attributes:
        reference, network: (runs,) milliseconds; entries of one index ran one after the other.
        warm_up: Runs of each before these.
    """

    reference: FloatArray
    network: FloatArray
    warm_up: int

    @property
    def ratios(self) -> FloatArray:
        """(runs,) time of the network over that of the reference."""
        ratios: FloatArray = self.network / self.reference
        return ratios


def time_in_turn(
    reference: Runner, network: Runner, protocol: LatencyProtocol, stopwatch: Stopwatch
) -> Times:
    """Warm up, then time two networks in pairs: A B, B A, A B, ...

    A machine that slows down steadily slows both alike, and each network runs as often after
    itself, on warm caches, as after the other one.
    """

    def pair(index: int) -> tuple[float, float]:
        if index % 2:
            second = stopwatch.time(network)
            return stopwatch.time(reference), second
        return stopwatch.time(reference), stopwatch.time(network)

    start = stopwatch.now()
    warm: list[tuple[float, float]] = []
    while not is_warm(warm, protocol, stopwatch.now() - start):
        warm.append(pair(len(warm)))
    start = stopwatch.now()
    times: list[tuple[float, float]] = []
    while len(times) < protocol.max_runs:
        times.append(pair(len(times)))
        patience = 1 if len(times) >= protocol.min_runs else protocol.patience
        if stopwatch.now() - start > patience * protocol.seconds:
            break
    columns = np.asarray(times).T
    return Times(columns[0], columns[1], len(warm))


def is_warm(times: list[tuple[float, float]], protocol: LatencyProtocol, seconds: float) -> bool:
    """Whether a warm-up is over: nothing became faster of late, or it took long enough.

    The fastest of a few runs is compared, because other processes only ever make runs slower.

    Args:
        times: Milliseconds of both networks, run by run.
        protocol: The rule; one run is always made.
        seconds: How long it took so far.
    """
    if times and (len(times) >= protocol.max_warm_up or seconds > protocol.seconds):
        return True
    window = protocol.warm_window
    if len(times) < 2 * window:
        return False
    before = np.min(times[-2 * window : -window], axis=0)
    after = np.min(times[-window:], axis=0)
    return bool((after > (1 - protocol.warm_change) * before).all())
