"""How ways to run a network compare on this machine's CPU: ``python -m effvit.benchmark MODEL``.

A mode is a back end (:mod:`effvit.backends`) and what is done to the network before, such as
``eager``, ``compile`` or ``eager+folded+channels_last``. With ``--against`` another formulation
with the same weights (:mod:`effvit.benchmark_baselines`) runs in the same modes.

Every round runs everything once, one after the other, in one order and then in the reverse order,
so that a machine that slows down slows all of them down; what is reported is the ratio of two times
of the same round.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from effvit import as_config, create_model
from effvit.backends import BACKENDS, Execution, Runner, build, relative_difference
from effvit.benchmark_baselines import BASELINES, build_pair
from effvit.config import ConfigError, parse_resolution, unknown_name
from effvit.console import one_line_errors
from effvit.networks.inference import optimise_for_inference
from effvit.networks.layers import explicit_attention

WARM_UP = 3
"""Rounds before the clock counts: caches, memory pools, branch prediction."""

QUARTILES = (0.25, 0.5, 0.75)
CHANGES = ("channels_last", "explicit", "folded")


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a network is run.

    Attributes:
        backend: A name in :data:`effvit.backends.BACKENDS`.
        channels_last: Weights and images in channels_last order.
        explicit: Softmax attention as explicit matrix products instead of the fused kernel.
        folded: Batch norms folded into convolutions.
    """

    backend: str
    channels_last: bool = False
    explicit: bool = False
    folded: bool = False

    @classmethod
    def parse(cls, text: str) -> Mode:
        """Read a mode like ``eager`` or ``compile+folded``.

        Raises:
            ConfigError: An unknown back end or change.
        """
        backend, *changes = text.split("+")
        if backend not in BACKENDS:
            raise unknown_name("mode", backend, BACKENDS)
        for change in changes:
            if change not in CHANGES:
                raise unknown_name("change in a mode", change, CHANGES)
        return cls(backend, *(change in changes for change in CHANGES))

    def __str__(self) -> str:
        return "+".join([self.backend, *(change for change in CHANGES if getattr(self, change))])

    def build(self, model: nn.Module, images: Tensor) -> Runner:
        """Build a runner; the model stays as it is."""
        if self.folded:
            model = optimise_for_inference(model)
        execution = Execution(self.backend, channels_last=self.channels_last)
        if not self.explicit:
            return build(execution, model, images)
        with explicit_attention(model):  # the runner keeps a copy that stays explicit
            return build(execution, model, images)


class Ratio(NamedTuple):
    """Time of one contender over time of another in the same round: quartiles over the rounds."""

    low: float
    median: float
    high: float


class Timing(NamedTuple):
    """How one network ran in one mode.

    Attributes:
        mode: The mode.
        milliseconds: Median time of a run.
        over_eager: Time of the baseline network in eager, without a baseline of our own, over the
            network's time: above 1 is faster.
        over_same: Time of the baseline network in the same mode over the network's time.
        difference: Largest difference of logits from those in eager, as a share of the largest.
    """

    mode: str
    milliseconds: float
    over_eager: Ratio
    over_same: Ratio
    difference: float


def benchmark(
    models: Sequence[nn.Module], images: Tensor, modes: Sequence[str], rounds: int
) -> list[list[Timing]]:
    """Time networks with the same weights, in all modes, in interleaved rounds.

    Args:
        models: Networks in evaluation mode, on the CPU; the last is the one to compare with.
        images: (B, channels, H, W).
        modes: As :meth:`Mode.parse` reads them; the eager run is always made, and comes first.
        rounds: Timed runs of each network in each mode.

    Returns:
        For each network one timing a mode, eager first.

    Raises:
        ConfigError: An unknown mode.
        BackendError: A back end is not installed, or cannot build a network.
    """
    parsed = [Mode.parse(mode) for mode in dict.fromkeys(["eager", *modes])]
    with torch.inference_mode():
        runners = [mode.build(model, images) for model in models for mode in parsed]
        logits = [[runner() for _ in range(WARM_UP)][-1].clone() for runner in runners]
        seconds = _interleaved(runners, rounds)
    differences = np.array([relative_difference(found, logits[0]) for found in logits])
    shape = (len(models), len(parsed))
    return summarise(
        [str(mode) for mode in parsed], seconds.reshape(rounds, *shape), differences.reshape(shape)
    )


def summarise(
    modes: Sequence[str], seconds: NDArray[np.float64], differences: NDArray[np.float64]
) -> list[list[Timing]]:
    """Times as ratios.

    Args:
        modes: Names of the modes; the first is eager.
        seconds: (rounds, networks, modes); the last network is the one to compare with.
        differences: (networks, modes), of logits.

    Returns:
        For each network one timing a mode.
    """
    baseline = seconds[:, -1]
    return [
        [
            Timing(
                mode=mode,
                milliseconds=float(np.median(seconds[:, network, column])) * 1e3,
                over_eager=_ratio(baseline[:, 0], seconds[:, network, column]),
                over_same=_ratio(baseline[:, column], seconds[:, network, column]),
                difference=float(differences[network, column]),
            )
            for column, mode in enumerate(modes)
        ]
        for network in range(seconds.shape[1])
    ]


def _interleaved(runners: Sequence[Runner], rounds: int) -> NDArray[np.float64]:
    """Seconds (rounds, runners) of runs in turn, back and forth."""
    seconds = np.empty((rounds, len(runners)))
    for row in range(rounds):
        places = range(len(runners))
        for place in places if row % 2 else reversed(places):
            start = time.perf_counter()
            runners[place]()
            seconds[row, place] = time.perf_counter() - start
    return seconds


def _ratio(slow: NDArray[np.float64], fast: NDArray[np.float64]) -> Ratio:
    low, median, high = np.quantile(slow / fast, QUARTILES)
    return Ratio(float(low), float(median), float(high))


# --- the command --------------------------------------------------------------------------------


def _table(timings: Sequence[Sequence[Timing]], baseline: str | None) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("mode")
    titles = ["median ms", "speed over eager", "quartiles"]
    if baseline is not None:
        titles = ["median ms", f"{baseline}'s ms", "speed over same mode", "quartiles"]
        titles += [f"over {baseline}'s eager", "quartiles"]
    for title in (*titles, "logits differ by"):
        table.add_column(title, justify="right")
    for ours, theirs in zip(timings[0], timings[-1], strict=True):
        cells = [f"{ours.milliseconds:.2f}"]
        if baseline is not None:
            cells += [f"{theirs.milliseconds:.2f}", *_cells(ours.over_same)]
        difference = max(ours.difference, theirs.difference)
        table.add_row(ours.mode, *cells, *_cells(ours.over_eager), f"{difference:.1e}")
    return table


def _cells(ratio: Ratio) -> tuple[str, str]:
    return f"{ratio.median:.2f} x", f"{ratio.low:.2f} to {ratio.high:.2f}"


def _batches(text: str) -> list[int]:
    try:
        batches = [int(part) for part in text.split(",")]
    except ValueError:
        batches = [0]
    if min(batches) < 1:
        raise ConfigError(f"batch must be numbers of images like 1 or 1,16, got {text!r}")
    return batches


@one_line_errors
def main(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    against: Annotated[
        str | None,
        typer.Option(help=f"What to compare with, same weights: {' or '.join(BASELINES)}."),
    ] = None,
    modes: Annotated[
        str,
        typer.Option(
            help=f"Back ends ({', '.join(BACKENDS)}), separated by commas, each with changes to "
            f"the network if wanted ({', '.join('+' + change for change in CHANGES)})."
        ),
    ] = "eager,eager+explicit,eager+channels_last,compile,onnxruntime",
    batch: Annotated[str, typer.Option(help="Images at once, such as 1 or 1,16.")] = "1",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    rounds: Annotated[int, typer.Option(min=4, help="Timed runs of each mode.")] = 30,
    resolution: Annotated[
        str | None, typer.Option(help="Input size, like 224 or 512x2048 (default: the design's).")
    ] = None,
) -> None:
    """Compare ways to run a network on this machine's CPU, by interleaved runs."""
    config = as_config(model)
    size = parse_resolution(resolution) if resolution else config.image_size
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    models = build_pair(against, model) if against else (create_model(config).eval(),)
    console = Console()
    for count in _batches(batch):
        images = torch.randn(count, config.in_channels, *size)
        timings = benchmark(models, images, modes.split(","), rounds)
        console.print(
            f"[bold]{model}[/] at {size[0]}x{size[1]}, batch {count}, {threads} of "
            f"{os.cpu_count()} threads, {rounds} rounds, torch {torch.__version__}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(_table(timings, against))


if __name__ == "__main__":
    typer.run(main)
