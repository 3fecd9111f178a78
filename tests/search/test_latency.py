"""Latency, on networks that take the time they are told on a clock that does not run by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from effvit import ConfigError, ModelConfig, model_config
from effvit.backends import BackendError, Execution, Precision, Runner
from search.latency import LatencyMeter, LatencyProtocol, meter
from search.latency.meter import cheap_network, checked_runner, random_images
from search.latency.protocol import median_interval
from search.latency.timing import Stopwatch, is_warm, time_in_turn

PROTOCOL = LatencyProtocol(
    seconds=1.0,
    patience=3.0,
    min_runs=7,
    max_runs=20,
    reference="sepvit_lite",
    warm_window=1,
    max_warm_up=2,
)
WARM_UP = 2
SLOW = model_config("sepvit_tiny")
CPU = torch.device("cpu")


class Network:
    """Takes the next of its times, in milliseconds, again and again."""

    def __init__(self, times: Sequence[float], name: str = "") -> None:
        self.name = name
        self._times = itertools.cycle(times)
        self.calls = 0

    def __call__(self) -> Tensor:
        raise AssertionError("a fake runs on a fake stopwatch only")

    def next(self) -> float:
        self.calls += 1
        return next(self._times)


class Clock(Stopwatch):
    """A clock that only networks move."""

    def __init__(self) -> None:
        super().__init__(CPU, threads=1)
        self._seconds = 0.0
        self.order: list[str] = []

    def now(self) -> float:
        return self._seconds

    def time(self, runner: Runner) -> float:
        assert isinstance(runner, Network)
        milliseconds = runner.next()
        self._seconds += milliseconds / 1e3
        self.order.append(runner.name)
        return milliseconds


class Bench:
    """Hands out fake networks instead of real ones: the first is the reference."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.networks: list[Network] = []
        self._times: list[Sequence[float]] = []
        monkeypatch.setattr(meter, "checked_runner", self._build)

    def _build(
        self, execution: Execution, config: ModelConfig, images: Tensor
    ) -> tuple[Network, float]:
        self.networks.append(Network(self._times[len(self.networks)]))
        return self.networks[-1], 0.25

    def meter(self, *times: Sequence[float], reference_ms: float | None = None) -> LatencyMeter:
        self.networks.clear()
        self._times = list(times)
        return LatencyMeter(PROTOCOL, (32, 32), reference_ms=reference_ms, stopwatch=Clock())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


# --- two networks in turn -----------------------------------------------------------------------


def test_the_order_changes_from_pair_to_pair() -> None:
    clock = Clock()
    times = time_in_turn(Network([10.0], "A"), Network([30.0], "B"), PROTOCOL, clock)
    assert times.warm_up == WARM_UP
    assert "".join(clock.order).startswith("ABBA" + "ABBA" + "ABBA")
    assert len(times.reference) == len(times.network) == PROTOCOL.max_runs
    assert times.ratios == pytest.approx(np.full(PROTOCOL.max_runs, 3.0))


def test_a_machine_that_slows_down_steadily_keeps_the_ratio() -> None:
    # Each run takes 1 % longer than the one before: A B B A and so on, both of 10 ms at first.
    clock, drift = Clock(), itertools.count()

    class Drifting(Network):
        def next(self) -> float:
            return 10.0 * 1.01 ** next(drift)

    times = time_in_turn(Drifting([]), Drifting([]), PROTOCOL, clock)
    # A pair's ratio is 1.01 or 1 / 1.01 in turn: the median lies between.
    assert np.median(times.ratios) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("times", "seconds", "warm"),
    [
        ([], 9.0, False),  # one run is always made
        ([(50.0, 90.0)], 0.1, False),
        ([(50.0, 90.0)], 1.1, True),  # its time is over
        ([(10.0, 20.0)] * 3, 0.1, False),
        ([(10.0, 20.0)] * 4, 0.1, True),
        ([(20.0, 20.0)] * 2 + [(10.0, 20.0)] * 2, 0.1, False),  # the first one became faster
        ([(10.0, 24.0)] * 2 + [(10.0, 20.0)] * 2, 0.1, False),  # the second one did
        ([(10.0, 20.9)] * 2 + [(10.0, 20.0)] * 2, 0.1, True),  # by less than 5 %
        ([(10.0, 20.0)] * 2 + [(90.0, 90.0)] * 2, 0.1, True),  # slower: somebody else's doing
        ([(10.0, 20.0), (90.0, 90.0), (80.0, 20.0), (10.0, 50.0)], 0.1, True),  # the fastest count
        ([(10.0 / 2**i, 1.0) for i in range(9)], 0.1, True),  # at most 9 runs
    ],
)
def test_warm_is_when_nothing_becomes_faster(
    times: list[tuple[float, float]], seconds: float, warm: bool
) -> None:
    protocol = LatencyProtocol(seconds=1.0, warm_window=2, warm_change=0.05, max_warm_up=9)
    assert is_warm(times, protocol, seconds) is warm


@pytest.mark.parametrize(
    ("wall", "cpu", "threads", "counted"),
    [
        (3.0, 1.0, 1, 1.0),  # waited for 2 s
        (3.0, 1.0, 2, 3.0),  # threads wait for each other as well
        (3.0, 5.0, 1, 3.0),  # a library's own threads
    ],
)
def test_waiting_for_a_processor_does_not_count(
    monkeypatch: pytest.MonkeyPatch, wall: float, cpu: float, threads: int, counted: float
) -> None:
    clocks = SimpleNamespace(wall=0.0, cpu=0.0)
    monkeypatch.setattr("time.perf_counter", lambda: clocks.wall)
    monkeypatch.setattr("time.process_time", lambda: clocks.cpu)

    def runner() -> Tensor:
        clocks.wall += wall
        clocks.cpu += cpu
        return torch.zeros(1)

    assert Stopwatch(CPU, threads).time(runner) == pytest.approx(1e3 * counted)


def test_a_coarse_clock_of_cpu_time_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.get_clock_info", lambda name: SimpleNamespace(resolution=0.015))
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    assert Stopwatch(CPU, 1).time(lambda: torch.zeros(1)) > 0


# --- the meter ----------------------------------------------------------------------------------


def test_latency_is_the_median_ratio_on_the_calibrated_scale(bench: Bench) -> None:
    # The machine is twice as slow as at the start: both networks take twice their time.
    measured = bench.meter([20.0], [60.0], reference_ms=10.0).measure(SLOW)
    assert measured.ratio == pytest.approx(60 / 20)
    assert measured.median_ms == pytest.approx(60 / 20 * 10)
    assert (measured.low_ms, measured.high_ms) == pytest.approx((30, 30))
    assert measured.raw_ms == pytest.approx(60)
    assert measured.difference == 0.25


def test_networks_run_in_turn_after_warming_up(bench: Bench) -> None:
    measured = bench.meter([10.0], [10.0], reference_ms=10.0).measure(SLOW)
    assert measured.runs == PROTOCOL.max_runs  # 20 runs of 10 + 10 ms are over before 1 s
    assert measured.warm_up == WARM_UP
    assert [network.calls for network in bench.networks] == [WARM_UP + 20, WARM_UP + 20]


def test_it_ends_once_its_time_is_over(bench: Bench) -> None:
    # 0.1 s a run: after 10 runs 1 s has passed, but only more than that ends it.
    assert 10 <= bench.meter([20.0], [80.0], reference_ms=20.0).measure(SLOW).runs <= 11


def test_slow_networks_get_their_least_runs_within_patience(bench: Bench) -> None:
    measured = bench.meter([100.0], [300.0], reference_ms=100.0).measure(SLOW)
    assert measured.runs == PROTOCOL.min_runs  # 7 runs of 0.4 s: 2.8 s of 3 s


def test_patience_ends_it_before_the_least_runs(bench: Bench) -> None:
    measured = bench.meter([400.0], [900.0], reference_ms=400.0).measure(SLOW)
    assert measured.runs == 3  # 2.6 s are less than 3 s, 3.9 s are more


def test_interval_holds_the_order_statistics_around_the_median() -> None:
    values = np.arange(30.0, 50.0)
    # Binomial(20, 1/2) puts 95.9 % between its values 6 and 14: the 6th and the 15th of 20.
    coverage = sum(math.comb(20, k) for k in range(6, 15)) / 2**20
    assert 0.95 <= coverage < 0.97
    assert median_interval(values) == (values[5], values[14])


def test_interval_of_few_runs_is_their_range() -> None:
    assert median_interval(np.array([8.0, 7.0, 9.0])) == (7.0, 9.0)


@pytest.mark.parametrize(
    ("reference", "network", "noisy"),
    [
        ([10.0], [30.0], False),
        ([12.4], [30.0], False),  # the machine slowed down by less than a quarter
        ([12.6], [30.0], True),
        ([7.4], [30.0], True),
        ([10.0], [25.0, 35.0], True),  # the interval is 25 to 35, half of it 5 > 10 % of 30
        ([10.0], [29.0, 31.0], False),
    ],
)
def test_noise_is_flagged(
    bench: Bench, reference: list[float], network: list[float], noisy: bool
) -> None:
    assert bench.meter(reference, network, reference_ms=10.0).measure(SLOW).noisy is noisy


def test_reference_is_timed_once_at_the_start_and_not_when_resumed(bench: Bench) -> None:
    assert bench.meter([10.0, 12.0, 14.0]).reference_ms == pytest.approx(12.0)
    assert bench.networks[0].calls > 0
    assert bench.meter([10.0], reference_ms=99.0).reference_ms == 99.0
    assert bench.networks[0].calls == 0


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**7))


@pytest.mark.usefixtures("little_memory")
def test_a_reference_that_does_not_fit_into_memory_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"resolution 512x2048 with batch 1 is too large"
    ) as error:
        LatencyMeter(PROTOCOL, (512, 2048))
    assert "needs about" in str(error.value)


def test_a_variant_that_does_not_fit_into_memory_is_not_built(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = bench.meter([10.0], [10.0], reference_ms=10.0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**7))
    with pytest.raises(MemoryError, match=r"needs about .* GB, 0\.0 GB are available"):
        meter.measure(SLOW)
    assert len(bench.networks) == 1


def test_a_real_network_on_the_real_clock() -> None:
    protocol = LatencyProtocol(seconds=0.05, min_runs=3, max_runs=3, max_warm_up=1)
    meter = LatencyMeter(protocol, (32, 32))
    measured = meter.measure(model_config("sepvit_lite").replace(image_size=(32, 32)))
    assert measured.runs == 3
    assert 0 < measured.low_ms <= measured.median_ms <= measured.high_ms
    assert measured.median_ms == pytest.approx(measured.ratio * meter.reference_ms)
    assert measured.difference is None  # eager float32 is what others are compared with
    assert measured.state is not None


# --- networks that are measured -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["sepvit_lite", "mobilevitv2_050"])
def test_cheap_weights_hold_no_denormals(name: str) -> None:
    network = cheap_network(model_config(name), CPU)
    for parameter in network.parameters():
        assert torch.isfinite(parameter).all()
        assert parameter.abs().max() <= 0.05
    for buffer in network.buffers():
        assert (buffer == 1).all()


def test_outputs_of_other_executions_are_compared_with_eager() -> None:
    config = model_config("sepvit_lite").replace(image_size=(32, 32), num_classes=10)
    images = random_images(2, 3, (32, 32), CPU)
    _, difference = checked_runner(Execution(precision=Precision.BF16), config, images)
    assert difference is not None
    assert 0 < difference < 0.05


def test_what_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_config("sepvit_lite").replace(image_size=(32, 32), num_classes=10)
    images = random_images(1, 3, (32, 32), CPU)
    monkeypatch.setattr(meter, "build", lambda execution, model, images: lambda: torch.ones(1, 10))
    with pytest.raises(BackendError, match="eager fp32 channels_last computes something else"):
        checked_runner(Execution(channels_last=True), config, images)


def test_images_are_the_same_in_every_process() -> None:
    first, second = (random_images(2, 3, (32, 48), CPU) for _ in range(2))
    assert first.shape == (2, 3, 32, 48)
    assert torch.equal(first, second)
