"""How ways to run a network compare on this machine's CPU: ``python -m effvit.benchmark MODEL``.

Every round runs each mode once, one after the other, so that a machine that slows down slows all of
them down; what is reported is the ratio to the eager run of the same round.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from effvit import as_config, create_model
from effvit.config import ConfigError, parse_resolution, unknown_name
from effvit.console import one_line_errors
from effvit.networks.layers import Attention

Runner = Callable[[], Tensor]
"""Runs the network once on the benchmark's images and returns its logits."""

WARM_UP = 3
"""Rounds before the clock counts: caches, memory pools, compilation."""


class Timing(NamedTuple):
    """How one mode ran.

    Attributes:
        mode: Its name.
        milliseconds: Median time of a run.
        speed: Eager time over the mode's time: lower quartile, median and upper quartile over the
            rounds. Above 1 is faster than eager.
        difference: Largest difference from the eager logits.
    """

    mode: str
    milliseconds: float
    speed: tuple[float, float, float]
    difference: float


def _eager(model: nn.Module, images: Tensor) -> Runner:
    return lambda: model(images)


def _explicit(model: nn.Module, images: Tensor) -> Runner:
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused = False
    return _eager(model, images)


def _channels_last(model: nn.Module, images: Tensor) -> Runner:
    layout = torch.channels_last
    return _eager(copy.deepcopy(model).to(memory_format=layout), images.to(memory_format=layout))


def _compile(model: nn.Module, images: Tensor) -> Runner:
    compiled = torch.compile(copy.deepcopy(model))
    return lambda: compiled(images)


def _onnx(model: nn.Module, images: Tensor) -> Runner:
    import onnxruntime as ort  # noqa: PLC0415 - optional, and slow to import

    program = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
    if program is None:
        raise ConfigError("torch's ONNX exporter gave no program")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {session.get_inputs()[0].name: images.numpy()}
    return lambda: torch.from_numpy(session.run(None, inputs)[0])


MODES: dict[str, Callable[[nn.Module, Tensor], Runner]] = {
    "eager": _eager,
    "explicit": _explicit,
    "channels_last": _channels_last,
    "compile": _compile,
    "onnx": _onnx,
}
"""Eager with fused attention; with explicit products; weights and images in channels_last order;
torch.compile; ONNX Runtime."""


def benchmark(model: nn.Module, images: Tensor, modes: list[str], rounds: int) -> list[Timing]:
    """Time modes in interleaved rounds.

    Args:
        model: The network in evaluation mode, on the CPU.
        images: (B, channels, H, W).
        modes: Names from :data:`MODES`; the eager run is always made, and comes first.
        rounds: Timed runs of each mode.

    Returns:
        One timing a mode, eager first.

    Raises:
        ConfigError: An unknown mode.
    """
    for mode in modes:
        if mode not in MODES:
            raise unknown_name("mode", mode, MODES)
    names = list(dict.fromkeys(["eager", *modes]))
    with torch.no_grad():
        runners = [MODES[name](model, images) for name in names]
        logits = [[runner() for _ in range(WARM_UP)][-1] for runner in runners]
        seconds = np.array([[_seconds(runner) for runner in runners] for _ in range(rounds)])
    speed = np.quantile(seconds[:, :1] / seconds, (0.25, 0.5, 0.75), axis=0)
    return [
        Timing(
            mode=name,
            milliseconds=float(np.median(seconds[:, column])) * 1e3,
            speed=(float(speed[0, column]), float(speed[1, column]), float(speed[2, column])),
            difference=float((logits[column] - logits[0]).abs().max()),
        )
        for column, name in enumerate(names)
    ]


def _seconds(runner: Runner) -> float:
    start = time.perf_counter()
    runner()
    return time.perf_counter() - start


def _table(timings: list[Timing]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("mode")
    for title in ("median ms", "speed over eager", "quartiles", "logits differ by"):
        table.add_column(title, justify="right")
    for timing in timings:
        low, middle, high = timing.speed
        table.add_row(
            timing.mode,
            f"{timing.milliseconds:.2f}",
            f"{middle:.2f} x",
            f"{low:.2f} to {high:.2f}",
            f"{timing.difference:.1e}",
        )
    return table


@one_line_errors
def main(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    resolution: Annotated[
        str | None, typer.Option(help="Input size, like 224 or 512x2048 (default: the design's).")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    modes: Annotated[str, typer.Option(help="Modes, separated by commas.")] = ",".join(MODES),
    rounds: Annotated[int, typer.Option(min=4, help="Timed runs of each mode.")] = 30,
) -> None:
    """Compare ways to run a network on this machine's CPU, by interleaved runs."""
    config = as_config(model)
    size = parse_resolution(resolution) if resolution else config.image_size
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # one line a norm that it cannot fold
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = create_model(config).eval()
    images = torch.randn(batch, config.in_channels, *size)
    timings = benchmark(network, images, modes.split(","), rounds)
    console = Console()
    console.print(
        f"[bold]{model}[/] at {size[0]}x{size[1]}, batch {batch}, {threads} of {os.cpu_count()} "
        f"threads, {rounds} rounds, torch {torch.__version__}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_table(timings))


if __name__ == "__main__":
    typer.run(main)
