"""How busy the machine is, on fake clocks and a fake system."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from search.latency import state
from search.latency.state import MachineState, Watch

CpuTimes = namedtuple("CpuTimes", "user nice system idle iowait steal guest")


class System:
    """Clocks and counters that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.own = 0.0
        self.times = CpuTimes(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        clock = SimpleNamespace(perf_counter=lambda: self.wall, process_time=lambda: self.own)
        monkeypatch.setattr(state, "time", clock)
        monkeypatch.setattr(psutil, "cpu_times", lambda: self.times)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


def test_others_are_what_was_busy_beyond_this_process(system: System) -> None:
    watch = Watch(threads=1)
    system.wall, system.own = 10.0, 8.0
    # Busy for 15 s of which 8 were ours; a guest's second is in user time already.
    system.times = CpuTimes(7.0, 2.0, 5.0, 40.0, 9.0, 1.0, 1.0)
    seen = watch.state()
    assert seen.others == pytest.approx((7 + 2 + 5 + 1 - 8) / 10)
    assert seen.wall_per_cpu == pytest.approx(10 / 8)


def test_others_are_never_negative(system: System) -> None:
    watch = Watch(threads=1)
    system.wall, system.own = 1.0, 1.0
    system.times = CpuTimes(0.99, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # counted in hundredths
    assert watch.state().others == 0


@pytest.mark.parametrize(
    ("others", "wall_per_cpu", "threads", "loaded"),
    [
        (0.0, 1.0, 1, False),
        (0.24, 1.0, 1, False),
        (0.26, 1.0, 1, True),
        (0.0, 1.06, 1, True),
        (0.0, 1.5, 2, False),  # its threads waited for each other
        (0.0, 9.0, 0, False),  # a GPU's work is not the processor's
    ],
)
def test_a_loaded_machine_is_flagged(
    others: float, wall_per_cpu: float, threads: int, loaded: bool
) -> None:
    assert MachineState(others, wall_per_cpu, None, None, threads).loaded is loaded


@pytest.mark.parametrize("error", [OSError, NotImplementedError, AttributeError])
def test_what_a_system_does_not_tell_is_none(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def silent() -> None:
        raise error

    monkeypatch.setattr(psutil, "cpu_freq", silent)
    assert Watch(threads=1).state().frequency_mhz is None


def test_the_load_average_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> None:
        raise OSError

    monkeypatch.setattr(psutil, "getloadavg", silent)
    assert Watch(threads=1).state().load_average is None
