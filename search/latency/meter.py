"""The meter: builds networks on a back end, checks what they compute, times them."""

from __future__ import annotations

import dataclasses

import numpy as np
import psutil
import torch
from torch import nn

from effvit import ConfigError, ModelConfig, create_model, model_config, model_cost
from effvit.backends import (
    Execution,
    Runner,
    build,
    check_outputs,
    eager_logits,
    keep_freed_memory,
)
from effvit.config import Resolution
from search.latency.protocol import Latency, LatencyProtocol, median_interval
from search.latency.state import Watch
from search.latency.timing import Stopwatch, Times, time_in_turn

SEED = 0
"""Of images, and of weights where outputs are compared."""


class LatencyMeter:
    """Measures networks of one resolution, on one device and back end.

    Attributes:
        reference_ms: Median time of the reference network, in milliseconds.
    """

    def __init__(
        self,
        protocol: LatencyProtocol,
        resolution: Resolution,
        device: str = "cpu",
        reference_ms: float | None = None,
        execution: Execution | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        """Build the reference network, and time it unless its time is known.

        Args:
            protocol: How to measure.
            resolution: Height and width of the images.
            device: A torch device.
            reference_ms: The reference's median from an earlier part of the same run, so that a
                resumed run stays on one scale.
            execution: How networks are run; eager in float32 if not given.
            stopwatch: What times them; the device's own if not given.

        Raises:
            ConfigError: The reference network does not fit into memory.
            BackendError: The back end is not available, or fails at the reference network.
        """
        self.protocol = protocol
        self.resolution = resolution
        self.device = torch.device(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # events, graphs and streams are made on this one
        self.execution = execution or Execution()
        self._threads = torch.get_num_threads() if self.device.type == "cpu" else 0
        self._stopwatch = stopwatch or Stopwatch(self.device, self._threads)
        keep_freed_memory()
        reference = model_config(protocol.reference).replace(image_size=resolution)
        try:
            self._check_memory(reference)
        except MemoryError as error:
            height, width = resolution
            raise ConfigError(
                f"resolution {height}x{width} with batch {protocol.batch} is too large for this "
                f"machine: {protocol.reference} {error}"
            ) from error
        self._images = random_images(protocol.batch, reference.in_channels, resolution, self.device)
        self._reference, _ = checked_runner(self.execution, reference, self._images)
        if reference_ms is None:
            times = time_in_turn(self._reference, self._reference, protocol, self._stopwatch)
            reference_ms = float(np.median([times.reference, times.network]))
        self.reference_ms = reference_ms

    def measure(self, config: ModelConfig) -> Latency:
        """Measure a network in turn with the reference.

        Raises:
            RuntimeError, MemoryError: The network does not fit into memory.
            BackendError: The back end cannot build it, or computes something else.
        """
        self._check_memory(config)
        runner, difference = checked_runner(self.execution, config, self._images)
        watch = Watch(self._threads)
        times = time_in_turn(self._reference, runner, self.protocol, self._stopwatch)
        measured = self._latency(times)
        return dataclasses.replace(measured, difference=difference, state=watch.state())

    def _latency(self, times: Times) -> Latency:
        ratios = times.ratios
        ratio = float(np.median(ratios))
        low, high = median_interval(ratios)
        drift = abs(float(np.median(times.reference)) / self.reference_ms - 1)
        wide = (high - low) / 2 > self.protocol.noisy_interval * ratio
        return Latency(
            median_ms=ratio * self.reference_ms,
            low_ms=low * self.reference_ms,
            high_ms=high * self.reference_ms,
            ratio=ratio,
            runs=len(ratios),
            noisy=bool(wide or drift > self.protocol.noisy_drift),
            raw_ms=float(np.median(times.network)),
            warm_up=times.warm_up,
        )

    def _check_memory(self, config: ModelConfig) -> None:
        """Refuse what the system would kill this process for; a GPU's memory refuses by itself."""
        cost = model_cost(config)
        needed = self.protocol.batch * cost.peak_bytes() + 4 * cost.params
        available = psutil.virtual_memory().available
        if self.device.type == "cpu" and needed > available:
            raise MemoryError(
                f"needs about {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are available"
            )


def random_images(
    batch: int, channels: int, resolution: Resolution, device: torch.device
) -> torch.Tensor:
    """Draw images that are the same in every process, (batch, channels, height, width)."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.rand(batch, channels, *resolution, generator=generator).to(device)


def checked_runner(
    execution: Execution, config: ModelConfig, images: torch.Tensor
) -> tuple[Runner, float | None]:
    """Build a network's runner, and compare its outputs with eager float32.

    Returns:
        The runner, and the largest difference of a logit as a share of the largest; None for eager
        float32 itself.

    Raises:
        BackendError: The back end cannot build it, or computes something else.
    """
    if execution == Execution():
        return build(execution, cheap_network(config, images.device), images), None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = create_model(config).eval().requires_grad_(False).to(images.device)
    expected = eager_logits(model, images)
    runner = build(execution, model, images)
    with torch.inference_mode():
        return runner, check_outputs(execution, runner(), expected)


def cheap_network(config: ModelConfig, device: torch.device) -> nn.Module:
    """Build a network with cheap weights: their values do not matter here, denormals would."""
    with torch.device("meta"):
        model = create_model(config)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.uniform_(-0.05, 0.05)
    for buffer in model.buffers():
        buffer.fill_(1)
    return model
