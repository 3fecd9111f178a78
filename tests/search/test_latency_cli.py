"""``python -m search.latency``: what it prints and writes, with fake meters where time counts."""

from __future__ import annotations

import functools
import json
import math
import re
import subprocess
from pathlib import Path

import pandas as pd
import psutil
import pytest
from typer.testing import CliRunner

from effvit import ConfigError, ModelConfig, model_config
from effvit.backends import BackendError, Execution, Precision
from effvit.config import Resolution
from search.latency import Latency, LatencyProtocol, repeatability
from search.latency import __main__ as commands
from search.latency.__main__ import app, with_default
from search.latency.meter import LatencyMeter
from search.latency.models import read_models
from search.latency.options import read_batches
from search.latency.repeatability import Repeat, Setting, variation
from search.latency.rows import Row, failures, measure_all, values
from search.latency.state import MachineState

LITE, TINY = model_config("sepvit_lite"), model_config("sepvit_tiny")
NO_OPENVINO = "openvino needs openvino: pip install '.[openvino]'"
BUSY = MachineState(1.0, 1.0, 2.5, None, 1)


class FakeMeter(LatencyMeter):
    """Takes a millisecond for each block; fails where a test says so."""

    def __init__(
        self, protocol: LatencyProtocol, resolution: Resolution, device: str, execution: Execution
    ) -> None:
        if execution.backend == "openvino":
            raise BackendError(NO_OPENVINO)
        self.protocol, self.resolution, self.execution = protocol, resolution, execution
        self.reference_ms = 10.0 * protocol.batch

    def measure(self, config: ModelConfig) -> Latency:
        if self.execution.backend == "onnxruntime" and config.variant_id == TINY.variant_id:
            raise BackendError("onnxruntime fp32 computes something else")
        ms = float(sum(config.to_dict()["depths"])) * self.protocol.batch
        ratio = ms / self.reference_ms
        return Latency(
            ms, 0.9 * ms, 1.2 * ms, ratio, 9, noisy=False, warm_up=4, difference=1e-6, state=BUSY
        )


@pytest.fixture
def fake_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "measure_all", functools.partial(measure_all, meter=FakeMeter))


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"NO_COLOR": "1"}).invoke(app, with_default(arguments))
    return result.exit_code, result.stdout, result.stderr


# --- which networks -----------------------------------------------------------------------------


def test_models_are_names_or_files(tmp_path: Path) -> None:
    small = LITE.replace(num_classes=10)
    single, front = tmp_path / "one.json", tmp_path / "pareto.json"
    single.write_text(small.to_json())
    entries = [
        {"number": 3, "published": "sepvit_tiny", "config": TINY.to_dict()},
        {"number": 12, "published": None, "config": small.to_dict()},
    ]
    front.write_text(json.dumps(entries))
    models = read_models(["sepvit_lite", str(single), str(front), f"{front}:12"])
    assert [model.config for model in models] == [LITE, small, TINY, small, small]
    names = [model.name for model in models]
    assert names == ["sepvit_lite", small.variant_id, "sepvit_tiny", *[small.variant_id] * 2]


@pytest.mark.parametrize(
    ("text", "content", "message"),
    [
        ("sepvit_lit", None, "unknown model 'sepvit_lit'; did you mean 'sepvit_lite'"),
        ("{}", None, "cannot read"),
        ("{}", "no json", "is no JSON file"),
        ("{}", "[]", "must hold a configuration or a list of them"),
        ("{}", "[1]", "must hold a configuration or a list of them"),
        ("{}", '{"family": "sepvat"}', "holds no variant: unknown family 'sepvat'"),
        ("{}", '{"family": "sepvit", "widths": 3}', "holds no variant"),
        ("{}:7", '[{"number": 3}, {"number": 5}]', r"has no trial 7 \(known: 3, 5\)"),
    ],
)
def test_what_is_no_network_is_an_error(
    tmp_path: Path, text: str, content: str | None, message: str
) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_models([text.format(path)])


# --- measuring ----------------------------------------------------------------------------------


def test_what_fails_is_a_row_and_the_others_go_on() -> None:
    seen: list[Row] = []
    executions = [Execution(name) for name in ("eager", "openvino", "onnxruntime")]
    models = read_models(["sepvit_lite", "sepvit_tiny"])
    protocol = LatencyProtocol()
    rows = measure_all(models, executions, [1, 4], protocol, "cpu", seen.append, FakeMeter)
    assert rows == seen
    assert len(rows) == 3 * 2 * 2
    measured = {
        (row.execution.backend, row.model.name, row.batch): row.latency.median_ms
        for row in rows
        if row.latency is not None
    }
    assert measured == {
        ("eager", "sepvit_lite", 1): 11,
        ("eager", "sepvit_lite", 4): 44,
        ("eager", "sepvit_tiny", 1): 11,
        ("eager", "sepvit_tiny", 4): 44,
        ("onnxruntime", "sepvit_lite", 1): 11,
        ("onnxruntime", "sepvit_lite", 4): 44,
    }
    assert failures(rows) == [
        f"openvino fp32: {NO_OPENVINO} (sepvit_lite, sepvit_tiny)",
        "onnxruntime fp32: onnxruntime fp32 computes something else (sepvit_tiny)",
    ]


def test_a_row_holds_everything() -> None:
    row = measure_all(
        read_models(["sepvit_lite"]),
        [Execution("eager", Precision.BF16, channels_last=True)],
        [4],
        LatencyProtocol(),
        "cpu",
        lambda row: None,
        FakeMeter,
    )[0]
    assert values(row, LatencyProtocol()) == {
        "model": "sepvit_lite",
        "variant_id": LITE.variant_id,
        "resolution": "224x224",
        "backend": "eager",
        "precision": "bf16",
        "channels_last": True,
        "batch": 4,
        "latency_ms": 44,
        "low_ms": 0.9 * 44,
        "high_ms": 1.2 * 44,
        "ratio": 44 / 40,
        "ratio_low": pytest.approx(0.9 * 44 / 40),
        "ratio_high": pytest.approx(1.2 * 44 / 40),
        "images_per_second": pytest.approx(4 / 0.044),
        "reference": "sepvit_lite",
        "reference_ms": 40,
        "runs": 9,
        "warm_up": 4,
        "noisy": False,
        "difference": 1e-6,
        "loaded": True,
        "others": 1.0,
        "wall_per_cpu": 1.0,
        "load_average": 2.5,
        "frequency_mhz": None,
        "error": "",
    }


@pytest.mark.usefixtures("fake_meter")
def test_command(tmp_path: Path) -> None:
    out = tmp_path / "new" / "latency.csv"
    code, stdout, stderr = invoke(
        "sepvit_lite", "sepvit_tiny", "--backend", "eager,openvino", "--batch", "1,2",
        "--threads", "1", "--out", str(out),
    )  # fmt: skip
    assert code == 0
    assert "sepvit_tiny  eager fp32      2  22.00  1.100  0.990 to 1.320" in stdout
    assert "loaded machine: in 4 of 4 measurements others kept up to 1.0 processors" in stdout
    assert stderr.splitlines()[-1].startswith("error: openvino fp32: openvino needs openvino")
    rows = pd.read_csv(out)
    assert len(rows) == 2 * 2 * 2
    assert list(rows["error"].notna()) == [False] * 4 + [True] * 4
    assert {"cpu", "cores", "device", "threads", "torch", "date"} <= set(rows)


@pytest.mark.usefixtures("fake_meter")
def test_nothing_measured_is_another_exit_code() -> None:
    code, _, stderr = invoke("sepvit_lite", "--backend", "openvino")
    assert code == 1
    assert "openvino needs openvino" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sepvit_lite", "--backend", "eagre"), "unknown back end 'eagre'; did you mean 'eager'"),
        (("sepvit_lite", "--batch", "1,x"), "batch sizes must be like 1 or 1,16, got '1,x'"),
        (("sepvit_lite", "--batch", "0"), "batch sizes must be like 1 or 1,16, got '0'"),
        (("sepvit_lite", "--device", "gpu"), "device must be cpu, cuda or like cuda:0"),
        (("sepvit_lite", "--resolution", "7"), "resolution sides must be 32 to 16384"),
        (("sepvit",), "unknown model 'sepvit'"),
        (("sepvit_lite", "--reference", "resnet"), "unknown model 'resnet'"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    code, stdout, stderr = invoke(*arguments)
    assert code == 2
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not stdout


def test_batches_are_read_once_each() -> None:
    assert read_batches("1, 16,1") == [1, 16]


def test_measure_is_the_default_command() -> None:
    assert with_default(["sepvit_lite"]) == ["measure", "sepvit_lite"]
    assert with_default(["--batch", "2", "x"]) == ["measure", "--batch", "2", "x"]
    for named in (["backends"], ["repeatability", "x"], ["--help"], []):
        assert with_default(named) == named


def test_back_ends_are_listed() -> None:
    code, stdout, _ = invoke("backends")
    assert code == 0
    assert "eager        PyTorch, operation by operation: available" in stdout
    assert "cuda_graph runs on cuda, not on cpu" in stdout


# --- repeatability ------------------------------------------------------------------------------


def test_variation() -> None:
    share, low, high = variation([9.0, 10.0, 11.0])
    assert share == pytest.approx(1 / 10)  # standard deviation 1, mean 10
    # Of chi-squared with 2 degrees of freedom, quantiles have closed forms: -2 log(1 - p).
    assert low == pytest.approx(0.1 * (2 / (-2 * math.log(0.025))) ** 0.5)
    assert high == pytest.approx(0.1 * (2 / (-2 * math.log(0.975))) ** 0.5)


def test_a_setting_survives_the_way_into_a_process() -> None:
    setting = Setting(
        "sepvit_lite",
        Execution("compile", Precision.FP16, channels_last=True),
        LatencyProtocol(batch=3),
        threads=2,
        device="cpu",
    )
    assert Setting.from_json(setting.to_json()) == setting


def test_repeatability_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = iter([1.0, 1.02, 0.98])

    def fresh(setting: Setting) -> Repeat:
        ratio = next(ratios)
        return Repeat(ratio, 0.9, 1.1, 30.0, 1 + 10 * (ratio - 1), 30.0, 0.0, loaded=False)

    monkeypatch.setattr(repeatability, "in_fresh_process", fresh)
    out = tmp_path / "repeats.csv"
    command = ("repeatability", "sepvit_tiny", "--out", str(out))
    invoke(*command, "--processes", "2")  # a run that was stopped before the third process
    code, stdout, _ = invoke(*command, "--processes", "3")
    assert code == 0
    # Three values m, m (1 + x), m (1 - x) vary by x: by the protocol by 2 %, single runs by 20 %.
    assert re.search(r"ratio, by the protocol +1.000 +0.980 +1.020 +2.0%", stdout)
    assert re.search(r"ratio, one warm-up and one run +1.000 +0.800 +1.200 +20.0%", stdout)
    assert list(pd.read_csv(out)["ratio"]) == [1.0, 1.02, 0.98]


def test_repeats_of_another_setting_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "repeats.csv"
    settings = [
        (Setting(model, Execution(), LatencyProtocol(), threads, "cpu"), busy)
        for model, threads, busy in (("a", 1, 0), ("b", 1, 0), ("a", 2, 0), ("a", 1, 1))
    ]
    repeats = [Repeat(1.0 + place / 7, 0.9, 1.1, 30.0, 1.0, 30.0, 0.1, True) for place in range(4)]
    for repeat, (setting, busy) in zip(repeats, settings, strict=True):
        repeatability.append(path, repeat, setting, busy)
    for repeat, (setting, busy) in zip(repeats, settings, strict=True):
        assert repeatability.finished(path, setting, busy) == [repeat]


def test_repeatability_measures_one_network(tmp_path: Path) -> None:
    front = tmp_path / "pareto.json"
    front.write_text(json.dumps([{"config": LITE.to_dict()}] * 2))
    code, _, stderr = invoke("repeatability", str(front))
    assert code == 2
    assert "must be one network, it holds 2" in stderr.replace("\n", "")


def test_busy_processes_end_with_what_they_disturb() -> None:
    before = set(psutil.Process().children())  # other tests of this process may have left some
    with repeatability.busy_processes(1):
        children = [child for child in psutil.Process().children() if child not in before]
        assert len(children) == 1
        assert children[0].is_running()
    assert not children[0].is_running()


@pytest.mark.slow
def test_a_fresh_process_measures_for_real(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(LITE.replace(image_size=(32, 32)).to_json())
    protocol = LatencyProtocol(seconds=0.05)
    repeat = repeatability.in_fresh_process(Setting(str(path), Execution(), protocol, 1, "cpu"))
    assert repeat.low <= repeat.ratio <= repeat.high
    assert 0.5 < repeat.ratio < 2  # the reference network against itself


def test_a_fresh_process_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 2, stdout="", stderr="warning\nerror: no such thing\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    setting = Setting("sepvit_lite", Execution(), LatencyProtocol(), 1, "cpu")
    with pytest.raises(ConfigError, match=r"^no such thing$"):
        repeatability.in_fresh_process(setting)
