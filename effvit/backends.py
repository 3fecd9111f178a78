"""Ways to run a network: what each one needs, how a runner is built, how its outputs are checked.

    runner = build(Execution("compile", Precision.BF16), model, images)
    with torch.inference_mode():
        logits = runner()

Every runner computes with its own copy of the weights, so that one network can stand in several
back ends at once. The number of threads is torch's (:func:`torch.set_num_threads`) at the moment of
building, for all back ends.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import dataclasses
import enum
import importlib.util
import logging
import os
import shutil
import types
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor_config

from effvit.config import unknown_name

Runner = Callable[[], Tensor]
"""Runs a network once on the images it was built for; returns the logits, in any precision."""


class BackendError(ValueError):
    """A back end is not available here, cannot build a network, or computes something else."""


class Precision(str, enum.Enum):
    """Precision of weights, images and arithmetic."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    @property
    def dtype(self) -> torch.dtype:
        """Torch's name of it."""
        return DTYPES[self]


DTYPES = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}

TOLERANCES = {Precision.FP32: 1e-4, Precision.FP16: 1e-2, Precision.BF16: 5e-2}
"""Largest difference from the eager float32 logits, as a share of the largest of these.

A network rounds after every operation, so the error is some tens of units in the last place:
2**-24, 2**-11 and 2**-8. A GPU may round float32 products to TF32, which has float16's 11 bits:
there float16's tolerance holds for both.
"""


M_TRIM_THRESHOLD, M_MMAP_MAX, NEVER = -1, -4, -1
"""Of malloc.h: free bytes at the end of the heap to return to the system, -1 for never; blocks that
may lie outside of the heap."""


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a network is run.

    Attributes:
        backend: A name in :data:`BACKENDS`.
        precision: Precision of weights and images.
        channels_last: Weights and images in channels_last order.
    """

    backend: str = "eager"
    precision: Precision = Precision.FP32
    channels_last: bool = False

    def __str__(self) -> str:
        layout = " channels_last" if self.channels_last else ""
        return f"{self.backend} {self.precision.value}{layout}"


@dataclasses.dataclass(frozen=True)
class Backend:
    """A way to run networks.

    Attributes:
        summary: What it is, in a few words.
        devices: Kinds of torch device it runs on.
        precisions: Precisions it computes in.
        modules: Packages it imports beyond the project's own dependencies.
        install: The command that brings them.
        lacks: What else is missing on this machine, if anything.
        make: Builds a runner from a network of its own and images, both in the wanted precision and
            layout and on the wanted device.
    """

    summary: str
    devices: tuple[str, ...]
    precisions: tuple[Precision, ...]
    make: Callable[[nn.Module, Tensor], Runner]
    modules: tuple[str, ...] = ()
    install: str = ""
    lacks: Callable[[str], str | None] = lambda _device: None


# --- how runners are made -----------------------------------------------------------------------


def _eager(model: nn.Module, images: Tensor) -> Runner:
    return lambda: model(images)


def _compile(model: nn.Module, images: Tensor) -> Runner:
    def forward(batch: Tensor) -> Tensor:
        logits: Tensor = model(batch)
        return logits

    # torch.compile gives up on a piece of code after a few recompilations (8 in torch 2.6), and all
    # networks of a family share theirs. Each runner is a piece of code of its own.
    own = types.FunctionType(
        forward.__code__.replace(),
        forward.__globals__,
        closure=forward.__closure__,
    )
    compiled = torch.compile(own, fullgraph=True, dynamic=False)
    # On a processor weights become constants: norms are folded, and kernels get weights in the
    # order that they want.
    freezing = inductor_config.patch(freezing=images.device.type == "cpu")
    with torch.inference_mode(), freezing:
        compiled(images)  # compiles now, not in the first run that counts
    return lambda: compiled(images)


def _onnxruntime(model: nn.Module, images: Tensor) -> Runner:
    import onnxruntime  # noqa: PLC0415 - optional

    with _quiet("onnxscript"), torch.no_grad():
        program = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Its threads wait for the next run in a busy loop; that slows what runs in between.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {session.get_inputs()[0].name: images.numpy()}
    return lambda: torch.from_numpy(session.run(None, inputs)[0])


def _cuda_graph(model: nn.Module, images: Tensor) -> Runner:
    side = torch.cuda.Stream(images.device)
    side.wait_stream(torch.cuda.current_stream(images.device))
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):  # libraries choose algorithms and allocate outside of the graph
            model(images)
    torch.cuda.current_stream(images.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        logits: Tensor = model(images)

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


def _openvino(model: nn.Module, images: Tensor) -> Runner:
    import openvino  # noqa: PLC0415 - optional

    with torch.no_grad():
        converted = openvino.convert_model(torch.export.export(model, (images,)))
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else it is the processor's choice
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.compile_model(converted, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(images.numpy(), shared_memory=True))

    def infer() -> Tensor:
        request.infer()
        return torch.from_numpy(request.get_output_tensor().data)

    return infer


def _tensorrt(model: nn.Module, images: Tensor) -> Runner:
    import torch_tensorrt  # noqa: PLC0415 - optional

    compiled = torch_tensorrt.compile(model, ir="dynamo", inputs=[images], use_explicit_typing=True)
    return lambda: compiled(images)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger to errors."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _lacks_compiler(device: str) -> str | None:
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton: pip install triton"
    if device == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        return "a C++ compiler: install g++, or name one in CXX"
    return None


# --- the table ----------------------------------------------------------------------------------

ALL_PRECISIONS = tuple(Precision)

BACKENDS: dict[str, Backend] = {
    "eager": Backend("PyTorch, operation by operation", ("cpu", "cuda"), ALL_PRECISIONS, _eager),
    "compile": Backend(
        "torch.compile with its default compiler",
        ("cpu", "cuda"),
        ALL_PRECISIONS,
        _compile,
        lacks=_lacks_compiler,
    ),
    "onnxruntime": Backend(
        "ONNX Runtime on the processor",
        ("cpu",),
        (Precision.FP32,),
        _onnxruntime,
        modules=("onnx", "onnxruntime", "onnxscript"),
        install="pip install '.[onnx]'",
    ),
    "cuda_graph": Backend(
        "PyTorch, recorded once as a CUDA graph", ("cuda",), ALL_PRECISIONS, _cuda_graph
    ),
    "openvino": Backend(
        "OpenVINO on the processor",
        ("cpu",),
        (Precision.FP32,),
        _openvino,
        modules=("openvino",),
        install="pip install '.[openvino]'",
    ),
    "tensorrt": Backend(
        "TensorRT through torch_tensorrt",
        ("cuda",),
        (Precision.FP32, Precision.FP16),
        _tensorrt,
        modules=("torch_tensorrt",),
        install="pip install '.[tensorrt]'",
    ),
}


# --- what users of the table call ---------------------------------------------------------------


def obstacle(execution: Execution, device: str = "cpu") -> str | None:
    """Why a network cannot be run this way here, in one line; None if it can. Nothing is built.

    Args:
        execution: Back end, precision and layout.
        device: A torch device, such as ``cpu`` or ``cuda:0``.

    Raises:
        ConfigError: No such back end.
    """
    name = execution.backend
    if name not in BACKENDS:
        raise unknown_name("back end", name, BACKENDS)
    backend = BACKENDS[name]
    kind = torch.device(device).type
    if kind not in backend.devices:
        return f"{name} runs on {' or '.join(backend.devices)}, not on {kind}"
    if kind == "cuda" and not torch.cuda.is_available():
        return f"{name} on {device} needs a CUDA GPU, and torch sees none here"
    if execution.precision not in backend.precisions:
        known = ", ".join(precision.value for precision in backend.precisions)
        return f"{name} computes in {known}, not in {execution.precision.value}"
    missing = [module for module in backend.modules if importlib.util.find_spec(module) is None]
    if missing:
        return f"{name} needs {' and '.join(missing)}: {backend.install}"
    lack = backend.lacks(kind)
    return f"{name} needs {lack}" if lack else None


def build(execution: Execution, model: nn.Module, images: Tensor) -> Runner:
    """Build a runner.

    Args:
        execution: Back end, precision and layout.
        model: A network in evaluation mode; it stays as it is.
        images: (B, channels, H, W), float32, on the device to run on.

    Returns:
        The runner, to be called under :func:`torch.inference_mode`.

    Raises:
        BackendError: It is not available here, or cannot build this network.
        ConfigError: No such back end.
    """
    hindrance = obstacle(execution, str(images.device))
    if hindrance is not None:
        raise BackendError(hindrance)
    layout = torch.channels_last if execution.channels_last else torch.contiguous_format
    dtype = execution.precision.dtype
    own = copy.deepcopy(model).to(images.device, dtype)
    if execution.channels_last:
        own = own.to(memory_format=torch.channels_last)
    batch = images.to(dtype).contiguous(memory_format=layout)
    try:
        return BACKENDS[execution.backend].make(own, batch)
    except Exception as error:  # each library raises kinds of its own
        raise BackendError(
            f"{execution.backend} cannot build {type(model).__name__}: {_reason(error)}"
        ) from error


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, before networks are timed on a processor.

    The C library returns large blocks to the system, and every run then gets them back page by
    page. How much of this happens depends on what else lies in memory: between two builds of one
    network it changes latency by 5 to 15 %. Only the GNU C library can be told not to.

    Returns:
        Whether the C library could be told.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))


def eager_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits in eager float32, which every other way is compared with; (B, classes)."""
    with torch.inference_mode():
        logits: Tensor = model(images)
        return logits


def check_outputs(execution: Execution, logits: Tensor, expected: Tensor) -> float:
    """Compare a runner's logits with the eager float32 ones.

    Returns:
        The largest difference, as a share of the largest expected logit.

    Raises:
        BackendError: It exceeds the precision's tolerance, or is not a number.
    """
    difference = relative_difference(logits, expected)
    on_gpu = execution.precision is Precision.FP32 and expected.device.type == "cuda"
    tolerance = TOLERANCES[Precision.FP16 if on_gpu else execution.precision]
    if not difference <= tolerance:
        raise BackendError(
            f"{execution} computes something else: logits differ from eager float32 by "
            f"{difference:.1e} of the largest, {tolerance:g} is allowed"
        )
    return difference


def relative_difference(logits: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute expected value; 0 where both are 0."""
    ours, theirs = logits.detach().float().cpu(), expected.detach().float().cpu()
    difference = float((ours - theirs).abs().max())
    scale = float(theirs.abs().max())
    return difference / scale if difference else 0.0


def _reason(error: BaseException) -> str:
    """First line of an error, or of the first cause that says something."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
