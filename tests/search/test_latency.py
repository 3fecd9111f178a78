"""Latency, on networks that take the time they are told on a clock that does not run by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effvit import ConfigError, ModelConfig, model_config
from search import latency
from search.latency import LatencyGuess, LatencyMeter, LatencyProtocol

Array = NDArray[np.float64]

PROTOCOL = LatencyProtocol(
    seconds=1.0, patience=3.0, min_runs=7, max_runs=20, warm_up=2, reference="sepvit_lite"
)
SLOW = model_config("sepvit_tiny")


class Clock:
    """Time in seconds that only networks move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Network(nn.Module):
    """Takes the next of its times, in milliseconds, again and again."""

    def __init__(self, clock: Clock, times: Sequence[float]) -> None:
        super().__init__()
        self._clock = clock
        self._times = itertools.cycle(times)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self._clock.now += next(self._times) / 1e3
        return images


class Bench:
    """Hands out fake networks instead of real ones: the first is the reference."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.networks: list[Network] = []
        self._times: Iterator[Sequence[float]] = iter(())
        monkeypatch.setattr(latency, "create_model", self._create)
        monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=self.clock.perf_counter))

    def _create(self, config: ModelConfig) -> Network:
        self.networks.append(Network(self.clock, next(self._times)))
        return self.networks[-1]

    def meter(self, *times: Sequence[float], reference_ms: float | None = None) -> LatencyMeter:
        self._times = iter(times)
        return LatencyMeter(PROTOCOL, (32, 32), reference_ms=reference_ms)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_latency_is_the_median_ratio_on_the_calibrated_scale(bench: Bench) -> None:
    # The machine is twice as slow as at the start: both networks take twice their time.
    meter = bench.meter([20.0], [60.0], reference_ms=10.0)
    measured = meter.measure(SLOW)
    assert measured.ratio == pytest.approx(60 / 20)
    assert measured.median_ms == pytest.approx(60 / 20 * 10)
    assert measured.low_ms == pytest.approx(30)
    assert measured.high_ms == pytest.approx(30)


def test_networks_run_in_turn_after_warming_up(bench: Bench) -> None:
    meter = bench.meter([10.0], [10.0], reference_ms=10.0)
    measured = meter.measure(SLOW)
    assert measured.runs == PROTOCOL.max_runs  # 20 runs of 10 + 10 ms are over before 1 s
    assert [network.calls for network in bench.networks] == [2 + 20, 2 + 20]


def test_it_ends_once_its_time_is_over(bench: Bench) -> None:
    meter = bench.meter([20.0], [80.0], reference_ms=20.0)
    # 0.1 s a run: after 10 runs 1 s has passed, but only more than that ends it.
    assert 10 <= meter.measure(SLOW).runs <= 11


def test_slow_networks_get_their_least_runs_within_patience(bench: Bench) -> None:
    meter = bench.meter([100.0], [300.0], reference_ms=100.0)
    assert meter.measure(SLOW).runs == PROTOCOL.min_runs  # 7 runs of 0.4 s: 2.8 s of 3 s


def test_patience_ends_it_before_the_least_runs(bench: Bench) -> None:
    meter = bench.meter([400.0], [900.0], reference_ms=400.0)
    assert meter.measure(SLOW).runs == 3  # 2.6 s are less than 3 s, 3.9 s are more


def test_interval_holds_the_order_statistics_around_the_median(bench: Bench) -> None:
    times = [float(t) for t in range(30, 50)]  # 20 runs, after two warm-up runs of the cycle
    meter = bench.meter([10.0], times, reference_ms=10.0)
    measured = meter.measure(SLOW)
    assert measured.median_ms == pytest.approx(np.median(times))
    # Binomial(20, 1/2) puts 95.9 % between its values 6 and 14: the 6th and the 15th of 20.
    coverage = sum(math.comb(20, k) for k in range(6, 15)) / 2**20
    assert 0.95 <= coverage < 0.97
    assert (measured.low_ms, measured.high_ms) == pytest.approx((times[5], times[14]))


def test_interval_of_few_runs_is_their_range(bench: Bench) -> None:
    meter = bench.meter([500.0], [700.0, 800.0, 900.0], reference_ms=500.0)
    measured = meter.measure(SLOW)
    assert measured.runs == 3
    assert (measured.low_ms, measured.high_ms) == pytest.approx((700.0, 900.0))


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
    meter = bench.meter(reference, network, reference_ms=10.0)
    assert meter.measure(SLOW).noisy is noisy


def test_reference_is_timed_once_at_the_start_and_not_when_resumed(bench: Bench) -> None:
    assert bench.meter([10.0, 12.0, 14.0]).reference_ms == pytest.approx(12.0)
    calls = bench.networks[0].calls
    assert calls > 0
    assert bench.meter([10.0], reference_ms=99.0).reference_ms == 99.0
    assert bench.networks[1].calls == 0


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
    protocol = LatencyProtocol(seconds=0.05, min_runs=3, max_runs=3, warm_up=1)
    meter = LatencyMeter(protocol, (32, 32))
    measured = meter.measure(model_config("sepvit_lite").replace(image_size=(32, 32)))
    assert measured.runs == 3
    assert 0 < measured.low_ms <= measured.median_ms <= measured.high_ms
    assert measured.median_ms == pytest.approx(measured.ratio * meter.reference_ms)


def test_cheap_weights_hold_no_denormals() -> None:
    protocol = LatencyProtocol(min_runs=1, max_runs=1, warm_up=0)
    network = LatencyMeter(protocol, (32, 32))._build(model_config("sepvit_lite"))
    for parameter in network.parameters():
        assert torch.isfinite(parameter).all()
        assert parameter.abs().max() <= 0.05


# --- the guess ----------------------------------------------------------------------------------


def costs(count: int, seed: int = 0) -> Array:
    return np.exp(np.random.default_rng(seed).uniform(5, 12, size=(count, 3)))


def power_law(x: Array) -> Array:
    return 1e-4 * x[:, 0] ** 0.5 * x[:, 1] ** 0.3 * x[:, 2] ** 0.1


def test_guess_follows_a_power_law() -> None:
    guess = LatencyGuess()
    known, new = costs(60), costs(20, seed=1)
    for features, ms in zip(known, power_law(known), strict=True):
        guess.add(features, float(ms))
    predicted = guess.predict(new)
    assert predicted is not None
    # The ridge shrinks slopes by about 1 %, of logs that spread over 1 to 2.
    assert np.abs(np.log(predicted / power_law(new))).max() < 0.05


def test_guess_needs_some_measurements_first() -> None:
    guess = LatencyGuess()
    x = costs(LatencyGuess.MIN_POINTS)
    for features in x[:-1]:
        guess.add(features, 1.0)
    assert guess.predict(x) is None
    guess.add(x[-1], 1.0)
    assert guess.predict(x) == pytest.approx(np.ones(len(x)))


def test_guess_bears_costs_that_do_not_vary() -> None:
    guess = LatencyGuess()
    x = costs(20)
    x[:, 1] = 7.0
    for features in x:
        guess.add(features, 3.0)
    assert guess.predict(x) == pytest.approx(np.full(len(x), 3.0))
