"""``python -m search.export DIR --trial N``: take a variant out of a run, checked."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from rich.console import Console
from rich.markup import escape
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from effvit import ConfigError, ModelConfig, as_config, create_model
from effvit.console import one_line_errors

TOLERANCE = 1e-4
"""Largest difference of a logit between torch and an exported network, float32."""

CHECKED_BATCHES = (1, 3)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Format(str, enum.Enum):
    """What to write."""

    JSON = "json"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"


@app.command()
@one_line_errors
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    trial: Annotated[int, typer.Option(min=0, help="Number of the trial.")],
    format: Annotated[Format, typer.Option(help="What to write.")] = Format.JSON,  # noqa: A002
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights to use, a safetensors file.", show_default="fresh ones"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of fresh weights.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="DIR/export/VARIANT.FORMAT")
    ] = None,
) -> None:
    """Write a variant as configuration, weights or ONNX, and print how far outputs agree."""
    config = read_trial(folder, trial)
    path = output or folder / "export" / f"{config.variant_id}.{format.value}"
    console = Console(highlight=False, soft_wrap=True)
    if format is Format.JSON:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
        same = as_config(json.loads(path.read_text(encoding="utf-8"))) == config
        console.print(f"wrote {escape(str(path))}; read back {'equal' if same else 'DIFFERENT'}")
        return
    torch.manual_seed(seed)
    model = create_model(config).eval()
    if weights is not None:
        load_weights(model, weights)
    source = "fresh weights, not trained" if weights is None else f"weights of {weights}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write = write_onnx if format is Format.ONNX else write_safetensors
    difference = write(model, config, path)
    console.print(
        f"wrote {escape(str(path))} ({escape(source)}); largest difference of a logit to torch "
        f"over batches {', '.join(map(str, CHECKED_BATCHES))}: {difference:.2e}"
    )
    if not difference <= TOLERANCE:
        raise ConfigError(f"outputs must agree within {TOLERANCE:g}, got {difference:.2e}")


def read_trial(folder: Path, number: int) -> ModelConfig:
    """Read the configuration of a trial.

    Raises:
        ConfigError: The folder holds no run, no such trial, or its records are unreadable.
    """
    path = folder / "trials.csv"
    if not path.exists():
        raise ConfigError(f"{folder} holds no run: there is no {path.name}")
    try:
        trials = pd.read_csv(path, usecols=["number", "config"])
    except ValueError as error:
        raise ConfigError(f"{path} is unreadable: {error}") from error
    found = trials.loc[trials["number"] == number, "config"]
    if found.empty:
        known = f"0 to {trials['number'].max()}" if len(trials) else "none yet"
        raise ConfigError(f"{folder} has no trial {number} (known: {known})")
    try:
        return as_config(json.loads(found.iloc[0]))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trial {number} in {path} holds no variant: {error}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights from a safetensors file.

    Raises:
        ConfigError: It is no such file, or its weights are of another network.
    """
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot read weights from {path}: {error}") from error
    except RuntimeError as error:
        raise ConfigError(f"weights of {path} are of another network: {error}") from error


def _images(config: ModelConfig, batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, config.in_channels, *config.image_size, generator=generator)


def write_safetensors(model: nn.Module, config: ModelConfig, path: Path) -> float:
    """Write weights with the configuration in the header; return the largest difference."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"config": config.to_json()})
    copy = create_model(config).eval()
    copy.load_state_dict(load_file(path))
    with torch.inference_mode():
        return max(
            float((model(images) - copy(images)).abs().max())
            for images in (_images(config, batch) for batch in CHECKED_BATCHES)
        )


def write_onnx(model: nn.Module, config: ModelConfig, path: Path) -> float:
    """Write ONNX with a dynamic batch; return the largest difference in ONNX Runtime.

    Raises:
        ConfigError: The packages of the extra ``onnx`` are not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise ConfigError(
            f"--format onnx needs {error.name}: install the extra, pip install '.[onnx]'"
        ) from error
    images = _images(config, 2)  # a batch of 1 would be taken for a constant
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        return max(
            float(abs(session.run(None, {"images": x.numpy()})[0] - model(x).numpy()).max())
            for x in (_images(config, batch) for batch in CHECKED_BATCHES)
        )


if __name__ == "__main__":
    app()
