"""Ways to run a network: what is said where one is missing, and what all of them compute."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from effvit import ConfigError, create_model
from effvit.backends import (
    BACKENDS,
    TOLERANCES,
    BackendError,
    Execution,
    Precision,
    build,
    check_outputs,
    eager_logits,
    keep_freed_memory,
    obstacle,
    relative_difference,
)

SIDE = 8


class Tiny(nn.Module):
    """A network that every back end builds in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * SIDE * SIDE, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.nn.functional.gelu(self.conv(x)).flatten(1))
        return y


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


# --- what all back ends compute -----------------------------------------------------------------

CPU_EXECUTIONS = [
    Execution(name, precision, channels_last)
    for name, backend in BACKENDS.items()
    for precision in backend.precisions
    for channels_last in (False, True)
    if "cpu" in backend.devices
]
QUICK = [execution for execution in CPU_EXECUTIONS if execution.backend == "eager"]
SLOW = [
    *(
        execution
        for execution in CPU_EXECUTIONS
        if execution.backend in ("onnxruntime", "openvino")
    ),
    Execution("compile"),
    Execution("compile", Precision.BF16, channels_last=True),
]


def assert_same_as_eager(execution: Execution, model: nn.Module, images: Tensor) -> None:
    missing = obstacle(execution)
    if missing is not None:
        pytest.skip(missing)
    expected = eager_logits(model, images)
    runner = build(execution, model, images)
    with torch.inference_mode():
        for _ in range(2):  # a runner may be called again and again
            difference = check_outputs(execution, runner(), expected)
    if execution.precision is not Precision.FP32:
        assert difference > 0  # it did round
    assert model.conv.weight.dtype is torch.float32  # type: ignore[union-attr]


@pytest.mark.parametrize("execution", QUICK, ids=str)
def test_eager_computes_the_same_in_all_precisions(
    execution: Execution, model: nn.Module, images: Tensor
) -> None:
    assert_same_as_eager(execution, model, images)


@pytest.mark.slow
@pytest.mark.parametrize("execution", SLOW, ids=str)
def test_other_back_ends_compute_the_same(
    execution: Execution, model: nn.Module, images: Tensor
) -> None:
    assert_same_as_eager(execution, model, images)


def test_a_runner_has_weights_of_its_own(model: nn.Module, images: Tensor) -> None:
    runner = build(Execution(), model, images)
    expected = eager_logits(model, images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with torch.inference_mode():
        assert torch.equal(runner(), expected)


def test_the_images_layout_follows_the_execution(images: Tensor) -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    for channels_last in (False, True):
        build(Execution(precision=Precision.BF16, channels_last=channels_last), Spy(), images)()
    assert all(x.dtype is torch.bfloat16 for x in seen)
    assert [x.is_contiguous(memory_format=torch.channels_last) for x in seen] == [False, True]


def test_many_networks_of_one_kind_are_all_compiled(
    monkeypatch: pytest.MonkeyPatch, images: Tensor
) -> None:
    """torch.compile gives up on code after 8 recompilations; each runner has code of its own."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, example: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=keep))
    for width in range(1, 11):
        network = nn.Sequential(nn.Conv2d(3, width, 1), nn.Flatten())
        runner = build(Execution("compile"), network, images)
        assert len(graphs) == width
        with torch.inference_mode():
            assert relative_difference(runner(), eager_logits(network, images)) < 1e-4


# --- what is said where a network cannot be run -------------------------------------------------


def test_an_unknown_back_end_offers_the_nearest(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(ConfigError, match="unknown back end 'compiled'; did you mean 'compile'"):
        build(Execution("compiled"), model, images)


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("onnxruntime", "onnx and onnxruntime and onnxscript"),
        ("openvino", "openvino"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, packages: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    extra = "onnx" if name == "onnxruntime" else name
    assert obstacle(Execution(name)) == f"{name} needs {packages}: pip install '.[{extra}]'"


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert obstacle(Execution("compile")) == (
        "compile needs a C++ compiler: install g++, or name one in CXX"
    )


@pytest.mark.parametrize(
    ("execution", "device", "reason"),
    [
        (Execution("cuda_graph"), "cpu", "cuda_graph runs on cuda, not on cpu"),
        (Execution("tensorrt"), "cpu", "tensorrt runs on cuda, not on cpu"),
        (Execution("onnxruntime"), "cuda:0", "onnxruntime runs on cpu, not on cuda"),
        (
            Execution("onnxruntime", Precision.BF16),
            "cpu",
            "onnxruntime computes in fp32, not in bf16",
        ),
    ],
)
def test_devices_and_precisions_are_checked(
    execution: Execution, device: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert obstacle(execution, device) == reason


def test_a_missing_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = obstacle(Execution("cuda_graph"), "cuda")
    assert reason == "cuda_graph on cuda needs a CUDA GPU, and torch sees none here"


def test_what_a_library_raises_becomes_one_line(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, images: Tensor
) -> None:
    def fail(network: nn.Module, batch: Tensor) -> None:
        raise KeyError("unknown operator\nwith a long story")

    monkeypatch.setitem(
        BACKENDS, "eager", SimpleNamespace(**{**vars(BACKENDS["eager"]), "make": fail})
    )
    with pytest.raises(BackendError) as error:
        build(Execution(), model, images)
    assert str(error.value).startswith("eager cannot build Tiny: ")
    assert "\n" not in str(error.value)


# --- comparing outputs --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", list(Precision))
def test_differences_beyond_the_tolerance_are_an_error(precision: Precision) -> None:
    execution = Execution(precision=precision)
    expected = torch.tensor([[-4.0, 2.0]])
    allowed = 4.0 * TOLERANCES[precision]  # of the largest logit
    near, far = expected.clone(), expected.clone()
    near[0, 1] += 0.9 * allowed
    far[0, 1] += 1.1 * allowed
    assert check_outputs(execution, near, expected) == pytest.approx(
        0.9 * TOLERANCES[precision], rel=1e-2
    )
    with pytest.raises(BackendError, match=f"eager {precision.value} computes something else"):
        check_outputs(execution, far, expected)


def test_nan_is_never_within_the_tolerance() -> None:
    with pytest.raises(BackendError, match="differ from eager float32 by nan"):
        check_outputs(Execution(), torch.tensor([float("nan")]), torch.tensor([1.0]))


def test_relative_difference() -> None:
    assert relative_difference(torch.tensor([3.0, -9.0]), torch.tensor([3.0, -10.0])) == (
        pytest.approx(1 / 10)
    )
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0


# --- memory -------------------------------------------------------------------------------------


def test_the_c_library_is_told_to_keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory()
    # malloc.h: M_MMAP_MAX is -4, and no block may lie outside; M_TRIM_THRESHOLD is -1, -1 is never.
    assert calls == [(-4, 0), (-1, -1)]


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(mallopt=lambda *_: 0)])
def test_other_c_libraries_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, library: SimpleNamespace
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert not keep_freed_memory()


def test_real_networks_agree_with_eager_in_half_precision() -> None:
    network = create_model("sepvit_lite", image_size=(32, 32), num_classes=10).eval()
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert_same = build(Execution(precision=Precision.BF16), network, images)
    with torch.inference_mode():
        difference = relative_difference(assert_same(), eager_logits(network, images))
    # 40 operations one after the other, each rounding by up to 2**-9.
    assert 2**-12 < difference < TOLERANCES[Precision.BF16]
