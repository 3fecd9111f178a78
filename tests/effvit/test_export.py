"""Compiled and exported networks compute what eager ones do, at any batch size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from effvit.designs.macro import REPRESENTATIONS
from effvit.designs.sepvit import VARIANTS, SepViTConfig
from tests.effvit.models import sepvit, stage_of

# Odd sizes: windows are padded, and learned tokens are where the design puts them.
SMALL = SepViTConfig(
    image_size=(61, 90),
    num_classes=5,
    widths=(8, 16, 24, 32),
    heads=(1, 2, 3, 4),
    depths=(1, 2, 1, 1),
    windows=((4,), (4, 8), (2,), (2,)),
)
LITE = VARIANTS["sepvit_lite"]
BATCH = torch.export.Dim("batch", min=1, max=64)


def image(config: SepViTConfig, batch: int) -> Tensor:
    return torch.randn(batch, config.in_channels, *config.image_size)


def export(model: nn.Module, config: SepViTConfig) -> nn.Module:
    # Traced at batch 2: a size of 1 would be taken for a constant.
    program = torch.export.export(model, (image(config, 2),), dynamic_shapes=({0: BATCH},))
    return program.module()


@pytest.mark.parametrize(
    "representation",
    [
        "learned",
        *(pytest.param(name, marks=pytest.mark.slow) for name in REPRESENTATIONS[1:]),
    ],
)
@torch.no_grad()
def test_torch_export(representation: str) -> None:
    config = SMALL.replace(window_representation=representation)
    model = sepvit(config)
    exported = export(model, config)
    for batch in (1, 3):
        x = image(config, batch)
        torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-6)


def run_in_onnxruntime(program: torch.onnx.ONNXProgram, x: Tensor) -> Tensor:
    ort = pytest.importorskip("onnxruntime")
    content = program.model_proto.SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [LITE, SMALL, SMALL.replace(window_representation="average")],
    ids=["lite", "padded", "padded, averaged"],
)
@torch.no_grad()
def test_onnx(config: SepViTConfig) -> None:
    pytest.importorskip("onnxscript")
    model = sepvit(config)
    program = torch.onnx.export(
        model,
        (image(config, 2),),
        dynamo=True,
        dynamic_shapes=({0: BATCH},),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    for batch in (1, 3):
        x = image(config, batch)
        torch.testing.assert_close(run_in_onnxruntime(program, x), model(x), rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_torch_compile_sees_one_graph_for_all_batch_sizes() -> None:
    model = sepvit(SMALL)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for batch in (2, 3):
        x = image(SMALL, batch)
        torch._dynamo.mark_dynamic(x, 0)  # an error if the batch size had to be a constant
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-6)


@pytest.mark.slow
@torch.no_grad()
def test_torch_compile_generates_correct_code() -> None:
    """One stage, since each of a network's many kernels takes seconds to compile."""
    stage = stage_of(sepvit(SMALL), 1)
    x = torch.randn(1, 16, 23, 8)
    torch.testing.assert_close(torch.compile(stage)(x), stage(x), rtol=0, atol=1e-5)
