"""Latency of what a row is about, in turn with a reference network."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from effvit import model_config
from effvit.backends import Execution, Runner, build
from effvit.config import Resolution
from experiments.ablation.store import LatencyRatio
from experiments.ablation.subjects import Blocks, Subject, TimmNetwork
from search.environment import environment
from search.latency import LatencyMeter, LatencyProtocol
from search.latency.meter import cheap_network
from search.latency.protocol import median_interval
from search.latency.timing import Stopwatch, time_in_turn

CPU = torch.device("cpu")


class SubjectMeter:
    """Measures subjects of one image size on the processor.

    Networks of this package are measured by :class:`search.latency.LatencyMeter`; blocks and
    networks of timm's in the same way, in turn with the same reference network.
    """

    def __init__(self, protocol: LatencyProtocol, image_size: Resolution) -> None:
        self._protocol = protocol
        self._image_size = image_size

    @functools.cached_property
    def _networks(self) -> LatencyMeter:
        return LatencyMeter(self._protocol, self._image_size)

    @functools.cached_property
    def _images(self) -> Tensor:
        return torch.rand(self._protocol.batch, 3, *self._image_size)

    @functools.cached_property
    def _reference(self) -> Runner:
        config = model_config(self._protocol.reference).replace(image_size=self._image_size)
        return build(Execution(), cheap_network(config, CPU), self._images)

    def measure(self, subject: Subject) -> LatencyRatio:
        """Measure the time of a subject over that of the reference network.

        Raises:
            RuntimeError, MemoryError: It does not fit into memory.
            ValueError: The reference does not fit into memory, or the subject cannot be run.
        """
        if subject.config is None:
            return self._time(self._runner(subject))
        latency = self._networks.measure(subject.config)
        return LatencyRatio(
            ratio=latency.ratio,
            low=latency.low_ms / self._networks.reference_ms,
            high=latency.high_ms / self._networks.reference_ms,
            noisy=latency.noisy,
            environment=dict(environment()),
        )

    def _runner(self, subject: Subject) -> Runner:
        if isinstance(subject, Blocks):
            return blocks_runner(subject, self._images)
        if isinstance(subject, TimmNetwork):
            model = timm.create_model(subject.name).eval().requires_grad_(False)
            return build(Execution(), model, self._images)
        raise ValueError(f"nothing to run in {subject!r}")

    def _time(self, runner: Runner) -> LatencyRatio:
        ratios = time_in_turn(
            self._reference, runner, self._protocol, Stopwatch(CPU, torch.get_num_threads())
        ).ratios
        ratio = float(np.median(ratios))
        low, high = median_interval(ratios)
        noisy = (high - low) / 2 > self._protocol.noisy_interval * ratio
        return LatencyRatio(ratio, low, high, bool(noisy), dict(environment()))


@dataclasses.dataclass(frozen=True)
class _Call:
    """A module and what its network called it with."""

    module: nn.Module
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


def blocks_runner(subject: Blocks, images: Tensor) -> Runner:
    """Make what runs the blocks alone, each on what it gets inside its network.

    Args:
        subject: The blocks.
        images: (B, 3, H, W), of the network's image size.
    """
    network = cheap_network(subject.network, CPU)
    calls: list[_Call] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        calls.append(_Call(module, arguments, keywords))

    hooks = [
        network.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)
        for name in subject.modules()
    ]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()

    def run() -> Tensor:
        outputs: list[Tensor] = [c.module(*c.arguments, **c.keywords) for c in calls]
        return outputs[-1]

    return run
