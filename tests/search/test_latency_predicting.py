"""Building, validating and using tables, with meters that know what everything takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from effvit import ConfigError, ModelConfig, model_cost, model_costs
from search.latency import Latency, LatencyProtocol, predicting
from search.latency.__main__ import app
from search.latency.building import held_out_variants, measure_into, table_variants
from search.latency.meter import LatencyMeter
from search.latency.predictor import MIN_SAMPLES
from search.latency.source import (
    COPY,
    LatencyMode,
    PredictingMeter,
    choose_source,
    copy_table,
    read_copy,
)
from search.latency.store import LatencyTable, Sample, TableKey
from search.latency.validation import validate
from spaces import get_space
from tests.search.fakes import share

SPACE = get_space("sepvit")
KEY = TableKey.here("sepvit", (224, 224), "cpu", 1, LatencyProtocol())
NOISE = 0.02


def ratio_of(config: ModelConfig) -> float:
    """What :class:`KnowingMeter` measures: MACs, calls and up to 2 % of noise."""
    cost = model_cost(config)
    noise = NOISE * (2 * share(config) - 1)
    return (cost.macs / 5e8 + len(cost.operations) / 500) * math.exp(noise)


class KnowingMeter(LatencyMeter):
    """Measures at once; fails where a test says so."""

    def __init__(self, fails: Callable[[ModelConfig], bool] = lambda config: False) -> None:
        self.reference_ms = 1.0
        self._fails = fails
        self.measured: list[str] = []

    def measure(self, config: ModelConfig) -> Latency:
        self.measured.append(config.variant_id)
        if self._fails(config):
            raise MemoryError("needs about 9.0 GB")
        ratio = ratio_of(config)
        return Latency(ratio, 0.97 * ratio, 1.03 * ratio, ratio, 9, noisy=False)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EFFVIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def variants() -> list[ModelConfig]:
    return table_variants(SPACE, 60)


def samples_of(configs: list[ModelConfig]) -> list[Sample]:
    meter = KnowingMeter()
    return [Sample.of("table", config, meter.measure(config), 1.0) for config in configs]


# --- which networks -----------------------------------------------------------------------------


def test_a_table_begins_with_the_ends_and_the_published(variants: list[ModelConfig]) -> None:
    macs = model_costs(variants).macs
    drawn = model_costs(SPACE.sample_many(np.random.default_rng(9), 1000)).macs
    assert macs[0] <= drawn.min()
    assert macs[1] >= drawn.max()
    assert variants[2 : 2 + len(SPACE.published())] == list(SPACE.published().values())


def test_a_table_holds_different_networks_and_the_same_each_time(
    variants: list[ModelConfig],
) -> None:
    assert len({config.variant_id for config in variants}) == len(variants) == 60
    assert table_variants(SPACE, 60) == variants


def test_small_networks_are_not_rare(variants: list[ModelConfig]) -> None:
    drawn = model_costs(SPACE.sample_many(np.random.default_rng(9), 1000)).macs
    small = np.quantile(drawn, 0.05)
    assert (model_costs(variants).macs < small).mean() > 3 * 0.05


def test_held_out_networks_are_not_in_the_table(variants: list[ModelConfig]) -> None:
    held_out = held_out_variants(SPACE, 50, variants)
    assert len(held_out) == 50
    ids = {config.variant_id for config in held_out}
    assert len(ids) == 50
    assert not ids & {config.variant_id for config in variants}
    # Without a table the same draws come: those in the table are only passed over.
    assert held_out_variants(SPACE, 50, []) == held_out


# --- measuring them -----------------------------------------------------------------------------


def test_measuring_goes_on_where_it_stopped(variants: list[ModelConfig]) -> None:
    table, meter = LatencyTable(KEY), KnowingMeter()
    clock = itertools.count().__next__  # a second each time it is read
    seen: list[int] = []
    with table.writing():
        done = measure_into(table, "table", variants, meter, 10, lambda n, _: seen.append(n), clock)
    assert done == 10
    assert seen == list(range(11))
    with table.writing():
        done = measure_into(table, "table", variants, meter, 1e9, lambda n, _: None, clock)
    assert done == 60
    assert meter.measured == [config.variant_id for config in variants]  # each once, in order


def test_what_cannot_be_measured_is_left_out_and_said(variants: list[ModelConfig]) -> None:
    table = LatencyTable(KEY)
    meter = KnowingMeter(fails=lambda config: config == variants[1])
    failed: list[str] = []
    with table.writing():
        done = measure_into(
            table, "table", variants[:5], meter, 1e9, lambda _, text: failed.append(text)
        )
    assert done == 4
    assert [text for text in failed if text] == [f"{variants[1].variant_id}: needs about 9.0 GB"]


def test_roles_are_apart(variants: list[ModelConfig]) -> None:
    table = LatencyTable(KEY)
    with table.writing():
        for role in ("table", "held_out"):
            measure_into(table, role, variants[:3], KnowingMeter(), 1e9, lambda *_: None)
    assert len(table.of_role("table")) == len(table.of_role("held_out")) == 3


# --- how good predictions are -------------------------------------------------------------------


def test_validation_of_a_machine_that_adds_up(variants: list[ModelConfig]) -> None:
    table = LatencyTable(KEY)
    with table.writing():
        measure_into(table, "table", variants, KnowingMeter(), 1e9, lambda *_: None)
    held_out = samples_of(held_out_variants(SPACE, 60, variants))
    result = validate(table.predictor(), held_out)
    assert len(result.measured) == 60
    assert 0 < result.error_all.value < NOISE
    assert result.error_all.low <= result.error_all.value <= result.error_all.high
    assert result.tau_all.value > 0.95
    assert result.tau_all.low < result.tau_all.value < result.tau_all.high <= 1
    assert result.noise == pytest.approx(0.03)
    assert result.covered > 0.8
    assert 0 <= result.outside < 0.5


# --- a search's latencies -----------------------------------------------------------------------


def fill(count: int, variants: list[ModelConfig]) -> None:
    table = LatencyTable(KEY)
    with table.writing():
        measure_into(table, "table", variants[:count], KnowingMeter(), 1e9, lambda *_: None)


@pytest.mark.parametrize(
    ("mode", "count", "saved", "source"),
    [
        ("auto", 0, None, "measured"),
        ("auto", MIN_SAMPLES - 1, None, "measured"),
        ("auto", MIN_SAMPLES, None, "predicted"),
        ("predicted", MIN_SAMPLES, None, "predicted"),
        ("measured", MIN_SAMPLES, None, "measured"),
        ("auto", MIN_SAMPLES, "measured", "measured"),  # a resumed run stays what it was
        ("auto", 0, "predicted", "predicted"),
    ],
)
def test_where_latencies_come_from(
    variants: list[ModelConfig], mode: str, count: int, saved: str | None, source: str
) -> None:
    fill(count, variants)
    identity = None if saved is None else {"latency_source": saved}
    assert choose_source(LatencyMode(mode), KEY, identity) == source


def test_predicting_without_a_table_says_how_to_make_one(variants: list[ModelConfig]) -> None:
    fill(3, variants)
    with pytest.raises(ConfigError) as error:
        choose_source(LatencyMode.PREDICTED, KEY, None)
    assert f"needs a table of {MIN_SAMPLES} networks" in str(error.value)
    assert "there are 3: python -m search.latency build --space sepvit" in str(error.value)


def test_a_run_keeps_its_table(variants: list[ModelConfig], tmp_path: Path) -> None:
    fill(MIN_SAMPLES, variants)
    copy_table(KEY, tmp_path)
    fill(60, variants)
    assert len(read_copy(tmp_path)) == MIN_SAMPLES
    (tmp_path / COPY).write_text("{}")
    with pytest.raises(ConfigError, match=r"latency_table.jsonl is unreadable"):
        read_copy(tmp_path)


def test_what_the_table_covers_is_predicted_and_the_rest_measured(
    variants: list[ModelConfig],
) -> None:
    meter = KnowingMeter()
    predicting = PredictingMeter(samples_of(variants), meter, reference_ms=25.0)
    asked = held_out_variants(SPACE, 30, variants)
    latencies = [predicting.measure(config) for config in asked]
    outside = [c.variant_id for c, latency in zip(asked, latencies, strict=True) if latency.runs]
    assert meter.measured == outside
    assert len(outside) < len(asked) / 2
    for config, latency in zip(asked, latencies, strict=True):
        if latency.predicted:
            assert latency.ratio == pytest.approx(ratio_of(config), rel=0.1)
            assert latency.median_ms == pytest.approx(25.0 * latency.ratio)
            assert latency.low_ms < latency.median_ms < latency.high_ms


def test_slower_than_everything_in_the_table_is_measured(variants: list[ModelConfig]) -> None:
    meter = KnowingMeter()
    by_macs = sorted(variants, key=lambda config: model_cost(config).macs)
    predicting = PredictingMeter(samples_of(by_macs[:-5]), meter, 25.0)
    assert not predicting.measure(by_macs[-1]).predicted
    assert meter.measured == [by_macs[-1].variant_id]


def test_a_report_is_told_of_predictions(variants: list[ModelConfig]) -> None:
    text = PredictingMeter(samples_of(variants), KnowingMeter(), 25.0).describe()
    assert "predicted from a table of 60 measured networks (median error" in text


# --- commands -----------------------------------------------------------------------------------


@pytest.fixture
def _meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting.Setting, "meter", lambda setting, timing: KnowingMeter())


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"NO_COLOR": "1"}).invoke(app, [*arguments, "--threads", "1"])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow  # a whole table is built
@pytest.mark.usefixtures("_meter")
def test_build_and_validate(tmp_path: Path) -> None:
    code, stdout, stderr = invoke("build", "--variants", "50")
    assert code == 0, stderr
    assert "50 of 50 networks are in the table" in stdout
    assert "time goes to: linear macs" in stdout
    out = tmp_path / "held_out.csv"
    code, stdout, stderr = invoke("validate", "--variants", "30", "--out", str(out))
    assert code == 0, stderr
    assert "30 held-out networks, 50 in the table" in stdout
    assert "median absolute error" in stdout
    rows = pd.read_csv(out)
    assert len(rows) == 30
    assert {"predicted", "measured", "inside", "variant_id", "cpu", "torch"} <= set(rows)
    assert (rows["predicted"] / rows["measured"] - 1).abs().median() < NOISE
    result = CliRunner().invoke(app, ["tables"])
    assert "sepvit" in result.stdout
    assert "50" in result.stdout


@pytest.mark.usefixtures("_meter")
def test_too_little_time_is_said_and_the_command_goes_on() -> None:
    code, stdout, _ = invoke("build", "--variants", "50", "--minutes", "0")
    assert code == 1
    assert f"{MIN_SAMPLES} are needed: the same command goes on" in stdout
    assert invoke("build", "--variants", "50")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "--space", "sepvid"), "unknown space 'sepvid'; did you mean 'sepvit'"),
        (("build", "--backend", "eagre"), "unknown back end 'eagre'"),
        (("validate",), f"a prediction needs {MIN_SAMPLES} measured networks, the table has 0"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    code, stdout, stderr = invoke(*arguments)
    assert code == 2
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not stdout


def test_no_tables_are_said() -> None:
    result = CliRunner().invoke(app, ["tables"])
    assert result.stdout.startswith("no tables in")
