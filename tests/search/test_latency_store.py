"""Tables in the cache: what tells them apart, and what survives a stop."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from effvit import ConfigError, model_config
from effvit.backends import Execution, Precision
from search.latency import Latency, LatencyProtocol
from search.latency.state import MachineState
from search.latency.store import LatencyTable, Sample, TableKey, cache_folder, network_code

LITE, TINY = model_config("sepvit_lite"), model_config("sepvit_tiny")


def key(**changes: object) -> TableKey:
    made = TableKey.here("sepvit", (224, 224), "cpu", 1, LatencyProtocol())
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def sample(ratio: float = 2.0) -> Sample:
    return Sample(
        "table", json.loads(LITE.to_json()), ratio, 0.9 * ratio, 1.1 * ratio, 9, loaded=False
    )


def filled(root: Path, *ratios: float) -> LatencyTable:
    table = LatencyTable(key(), root)
    with table.writing():
        for ratio in ratios:
            table.append(sample(ratio))
    return table


def ratios(root: Path) -> list[float]:
    return [sample.ratio for sample in LatencyTable(key(), root).samples]


def test_samples_come_back(tmp_path: Path) -> None:
    table = filled(tmp_path, 2.0, 3.0)
    again = LatencyTable(key(), tmp_path)
    assert again.samples == table.samples == [sample(2.0), sample(3.0)]
    assert again.samples[0].model_config == LITE
    assert json.loads((table.folder / "key.json").read_text()) == key().to_dict()


def test_opening_writes_nothing(tmp_path: Path) -> None:
    assert not LatencyTable(key(), tmp_path / "new").samples
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"space": "mobilevitv2"},
        {"resolution": (256, 256)},
        {"device": "another processor"},
        {"system": "Plan9 mips"},
        {"execution": Execution("compile")},
        {"execution": Execution(precision=Precision.BF16)},
        {"execution": Execution(channels_last=True)},
        {"threads": 2},
        {"batch": 16},
        {"reference": "sepvit_tiny"},
        {"versions": ("torch 1.0",)},
        {"code": "0"},
    ],
    ids=str,
)
def test_each_setting_has_a_table_of_its_own(tmp_path: Path, change: dict[str, object]) -> None:
    filled(tmp_path, 2.0)
    assert not LatencyTable(key(**change), tmp_path).samples


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_a_stop_left_unfinished_is_dropped(tmp_path: Path, cut: int) -> None:
    table = filled(tmp_path, 2.0, 3.0)
    path = table.folder / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert ratios(tmp_path) == [2.0]
    filled(tmp_path, 4.0)  # goes on after the last whole line
    assert ratios(tmp_path) == [2.0, 4.0]


def test_damage_elsewhere_is_an_error(tmp_path: Path) -> None:
    table = filled(tmp_path, 2.0, 3.0)
    path = table.folder / "samples.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(ConfigError, match=r"samples.jsonl is damaged at line 1"):
        LatencyTable(key(), tmp_path)


def test_two_processes_do_not_write_at_once(tmp_path: Path) -> None:
    first, second = LatencyTable(key(), tmp_path), LatencyTable(key(), tmp_path)
    with (
        first.writing(),
        pytest.raises(ConfigError, match="another process is writing"),
        second.writing(),
    ):
        pass
    with second.writing():
        second.append(sample())
    assert ratios(tmp_path) == [2.0]


def test_writing_sees_what_others_wrote_meanwhile(tmp_path: Path) -> None:
    late = LatencyTable(key(), tmp_path)
    filled(tmp_path, 2.0)
    with late.writing():
        late.append(sample(3.0))
    assert [s.ratio for s in late.samples] == ratios(tmp_path) == [2.0, 3.0]


def test_a_sample_keeps_ratios_whatever_the_scale() -> None:
    busy = MachineState(1.0, 1.0, None, None, 1)
    latency = Latency(30.0, 28.0, 33.0, 3.0, 9, noisy=False, state=busy)
    made = Sample.of("held_out", TINY, latency, reference_ms=10.0)
    assert (made.ratio, made.low, made.high) == pytest.approx((3.0, 2.8, 3.3))
    assert made.loaded
    assert made.role == "held_out"


def test_the_cache_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EFFVIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "latency"
    monkeypatch.delenv("EFFVIT_CACHE")
    assert "effvit-workbench" in str(cache_folder())


def test_the_key_knows_this_machine() -> None:
    made = key()
    assert made.device
    assert made.versions[0].startswith("torch ")
    assert made.code == network_code()
    onnx = TableKey.here("sepvit", (224, 224), "cpu", 2, LatencyProtocol(batch=4), Execution())
    assert (onnx.threads, onnx.batch) == (2, 4)
