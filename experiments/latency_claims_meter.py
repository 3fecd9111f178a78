"""Time of one thing over that of another, the two in turn: networks, blocks, attention layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import timm
import torch
from torch import Tensor, nn

from effvit import ConfigError, create_model, model_cost
from effvit.backends import (
    Execution,
    Runner,
    build,
    check_outputs,
    eager_logits,
    keep_freed_memory,
)
from effvit.designs.attention.full import FullAttention
from effvit.networks.attention.block import build_attention
from experiments.ablation.subjects import Blocks, Network, Subject, TimmNetwork
from experiments.latency_claims_table import AttentionLayer
from search.latency.meter import SEED
from search.latency.protocol import LatencyProtocol, median_interval
from search.latency.state import MachineState, Watch
from search.latency.timing import Stopwatch, time_in_turn

KEPT_RUNNERS = 4
"""Runners kept for the next pairs, which often share a side."""

WRITES_ATTENTION_MAPS = ("onnxruntime", "openvino")
"""Back ends that have no fused attention: the map of all pairs of pixels lies in memory, twice."""

FLOAT32_BYTES = 4
IMAGE_CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two things measured in turn.

    Attributes:
        times: How many times as fast ours is: the median of the peer's time over ours.
        low, high: 95 % interval of that median; the range below seven runs.
        runs: Counted runs of each.
        warm_up: Runs of each before these.
        ours_ms, peer_ms: Median times of a run in milliseconds.
        difference: Largest difference of an output from eager float32 on either side, as a share of
            the largest output; None where nothing was to compare.
        state: How busy the machine was.
    """

    times: float
    low: float
    high: float
    runs: int
    warm_up: int
    ours_ms: float
    peer_ms: float
    difference: float | None = None
    state: MachineState | None = None


Checked = tuple[Runner, float | None]
"""A runner, and how far its output is from eager float32 as in :class:`Pair`."""


class PairMeter:
    """Measures pairs on one device and back end.

    Args:
        protocol: How to measure; its reference is not used, each pair has its own.
        execution: How things are run.
        device: A torch device.
    """

    def __init__(self, protocol: LatencyProtocol, execution: Execution, device: str) -> None:
        self._protocol = protocol
        self._execution = execution
        self._device = torch.device(device)
        self._threads = torch.get_num_threads() if self._device.type == "cpu" else 0
        self._stopwatch = Stopwatch(self._device, self._threads)
        self._kept: dict[str, Checked] = {}
        keep_freed_memory()

    def measure(self, ours: Subject, peer: Subject) -> Pair:
        """Measure ours in turn with its peer.

        Raises:
            BackendError: The back end cannot build one of them, or computes something else.
            RuntimeError, MemoryError: One of them does not fit into memory.
        """
        first, first_difference = self._runner(ours)
        second, second_difference = self._runner(peer)
        watch = Watch(self._threads)
        found = time_in_turn(second, first, self._protocol, self._stopwatch)
        times = 1 / found.ratios
        low, high = median_interval(times)
        differences = [d for d in (first_difference, second_difference) if d is not None]
        return Pair(
            times=float(np.median(times)),
            low=low,
            high=high,
            runs=len(times),
            warm_up=found.warm_up,
            ours_ms=float(np.median(found.network)),
            peer_ms=float(np.median(found.reference)),
            difference=max(differences, default=None),
            state=watch.state(),
        )

    def _runner(self, subject: Subject) -> Checked:
        """The runner of a subject, built unless it was among the last."""
        if subject.key not in self._kept:
            while len(self._kept) >= KEPT_RUNNERS:
                del self._kept[next(iter(self._kept))]
            self._kept[subject.key] = self._checked_runner(subject)
        return self._kept[subject.key]

    def _checked_runner(self, subject: Subject) -> Checked:
        """Build a subject's runner, and compare its outputs with eager float32."""
        self._check_memory(subject)
        module, images = module_of(subject, self._protocol.batch, self._device)
        if self._execution == Execution():
            return build(self._execution, module, images), None
        expected = eager_logits(module, images)
        if self._execution.backend in WRITES_ATTENTION_MAPS:
            write_attention_out(module)
        runner = build(self._execution, module, images)
        with torch.inference_mode():
            return runner, check_outputs(self._execution, runner(), expected)

    def _check_memory(self, subject: Subject) -> None:
        """Refuse what the system would kill this process for; a GPU's memory refuses by itself."""
        needed = self._protocol.batch * activation_bytes(subject, self._execution.backend)
        available = psutil.virtual_memory().available
        if self._device.type == "cpu" and needed > available:
            raise MemoryError(
                f"{subject.key} needs about {needed / 1e9:.1f} GB, "
                f"{available / 1e9:.1f} GB are available"
            )


def activation_bytes(subject: Subject, backend: str) -> int:
    """Bytes of activations for one image, as far as a closed form says; else 0."""
    if isinstance(subject, AttentionLayer):
        written = 0
        if isinstance(subject.design, FullAttention) and backend in WRITES_ATTENTION_MAPS:
            written = 2 * FLOAT32_BYTES * int(subject.design.heads) * subject.side**4
        return subject.peak_bytes + written
    config = subject.network if isinstance(subject, Blocks) else subject.config
    return model_cost(config).peak_bytes() if config is not None else 0


# --- modules ------------------------------------------------------------------------------------


def module_of(subject: Subject, batch: int, device: torch.device) -> tuple[nn.Module, Tensor]:
    """Build a subject with random weights, and what it is run on.

    Returns:
        The module in evaluation mode, and its input: images (batch, channels, H, W), or the map
        that blocks or a layer get, both the same in every process.

    Raises:
        ConfigError: Nothing can be run for such a subject.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        module = _build(subject).to(device).eval().requires_grad_(False)
        images = torch.rand(_input_shape(subject, batch)).to(device)
        if isinstance(subject, Blocks):
            return _blocks_alone(module, subject, images)
        return module, images


def _build(subject: Subject) -> nn.Module:
    if isinstance(subject, Network):
        return create_model(subject.config)
    if isinstance(subject, Blocks):
        return create_model(subject.network)
    if isinstance(subject, TimmNetwork):
        network: nn.Module = timm.create_model(subject.name)
        return network
    if isinstance(subject, AttentionLayer):
        return build_attention(subject.design)
    raise ConfigError(f"nothing to run in {subject!r}")


def _input_shape(subject: Subject, batch: int) -> tuple[int, ...]:
    """Images are (batch, 3, H, W), maps (batch, H, W, channels)."""
    if isinstance(subject, AttentionLayer):
        return batch, *subject.image_size, int(subject.design.channels)
    return batch, IMAGE_CHANNELS, *subject.image_size


def write_attention_out(module: nn.Module) -> None:
    """Let timm's attention use matrix products, which back ends without a fused one need.

    Their converters take queries of four dimensions only; the windows of timm's Twins have five.
    """
    for part in module.modules():
        if getattr(part, "fused_attn", False):
            part.fused_attn = False  # type: ignore[assignment]  # typed for tensors


class BlocksAlone(nn.Module):
    """Blocks of a network, one after another.

    Args:
        blocks: The blocks.
        others: What each gets beside the map, such as its size.
    """

    def __init__(self, blocks: Sequence[nn.Module], others: Sequence[tuple[Any, ...]]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.others = list(others)

    def forward(self, x: Tensor) -> Tensor:
        """Run all; the shape of the map stays."""
        for block, others in zip(self.blocks, self.others, strict=True):
            x = block(x, *others)
        return x


def _blocks_alone(network: nn.Module, subject: Blocks, images: Tensor) -> tuple[nn.Module, Tensor]:
    """Take blocks out of a network, with the map that the first of them gets there.

    A network may run many images in pieces: each block is called once a piece, and the map is that
    of all pieces.
    """
    blocks = [network.get_submodule(name) for name in subject.modules()]
    calls: dict[nn.Module, list[tuple[Any, ...]]] = {block: [] for block in blocks}
    hooks = [
        block.register_forward_pre_hook(lambda called, given: calls[called].append(given))
        for block in blocks
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    whole = torch.cat([given[0] for given in calls[blocks[0]]])
    return BlocksAlone(blocks, [given[0][1:] for given in calls.values()]).eval(), whole
