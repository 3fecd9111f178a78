"""The shared weights: tensors as wide as the widest variant, and the slices that variants are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from effvit.config import ConfigError, ModelConfig
from search.proxy.network import ProxyNetwork, draw, initialise, is_drawn
from search.supernet.sharing import AxisSlice, Share, share

SKELETONS = 64
"""Variants whose network, without weights, is kept."""


class SharedWeights:
    """Weights of which every scaled variant of a space is a slice.

    A tensor is made when a variant first needs it, as wide as the widest variant of its kind, with
    initial values that follow from its key and the seed, not from the order of the variants.

    Attributes:
        extents: How many places each group of axes has, by the group's name.
        tensors: The shared tensors by key.
        seed: Of initial values.

    Args:
        variants: Scaled variants that together are as wide, in every axis, as any will be.
        seed: Of initial values.
    """

    def __init__(self, variants: Iterable[ModelConfig], seed: int) -> None:
        self.seed = seed
        self.extents: dict[str, int] = {}
        self.tensors: dict[str, nn.Parameter] = {}
        for config in variants:
            widen(self.extents, config)

    @classmethod
    def restored(
        cls, extents: Mapping[str, int], tensors: Mapping[str, Tensor], seed: int
    ) -> SharedWeights:
        """Make them of what was saved."""
        weights = cls((), seed)
        weights.extents = dict(extents)
        weights.tensors = {key: nn.Parameter(tensor) for key, tensor in tensors.items()}
        return weights

    def slices(self, config: ModelConfig) -> dict[str, Tensor]:
        """Parameters of a scaled variant by name; gradients go into the shared tensors.

        Raises:
            ConfigError: The variant is wider than any that the weights were made for.
        """
        entries = shares(config)
        missing = [name for name, entry in entries.items() if entry.key not in self.tensors]
        if missing:
            self._make(config, {name: entries[name] for name in missing})
        return {name: self._slice(entry) for name, entry in entries.items()}

    def network(self, config: ModelConfig) -> ProxyNetwork:
        """Build a scaled variant on its own, with a copy of its slice of the weights.

        Batch norms have not collected statistics.
        """
        network = ProxyNetwork(config)
        own = {name: tensor.detach() for name, tensor in self.slices(config).items()}
        network.load_state_dict(own, strict=False)  # buffers of batch norms have no slice
        return network

    def trained_share(self, config: ModelConfig, trained: Iterable[str]) -> float:
        """Share of a variant's parameters that are slices of the tensors ``trained``, 0 to 1."""
        known = set(trained)
        counts = [
            (parameter.numel(), shares(config)[name].key in known)
            for name, parameter in skeleton(config).named_parameters()
        ]
        return sum(count for count, is_known in counts if is_known) / sum(n for n, _ in counts)

    def _slice(self, entry: Share) -> Tensor:
        tensor: Tensor = self.tensors[entry.key]
        for dimension, axis in enumerate(entry.axes):
            index = axis.index(self._extent(axis, entry.key))
            if len(index) != tensor.shape[dimension] or not _is_range(index):
                tensor = tensor.index_select(dimension, index)
        return tensor

    def _extent(self, axis: AxisSlice, key: str) -> int:
        extent = self.extents.get(axis.group, 0)
        if axis.group.isdigit():  # an axis that is never sliced
            return axis.extent
        if axis.extent > extent:
            raise ConfigError(
                f"the supernet has {extent} channels for {key}, the variant needs {axis.extent}; "
                "it was made for another space: train it anew"
            )
        return extent

    def _make(self, config: ModelConfig, entries: Mapping[str, Share]) -> None:
        """Make the tensors that a variant is the first to need."""
        with torch.random.fork_rng(devices=[]):
            network = ProxyNetwork(config)
        initialise(network, self.seed)
        parameters = dict(network.named_parameters())
        for name, entry in entries.items():
            if entry.key in self.tensors:  # two parameters of this variant share it
                continue
            like = parameters[name].detach()
            sizes = [axis.size(self._extent(axis, entry.key)) for axis in entry.axes]
            # What is not drawn is constant: ones of norms, zeros of biases and tokens.
            tensor = like.flatten()[0].expand(sizes).clone()
            if is_drawn(name, like):
                draw(entry.key.partition("@")[0], tensor, self.seed)
            self.tensors[entry.key] = nn.Parameter(tensor)


def _is_range(index: Tensor) -> bool:
    return torch.equal(index, torch.arange(len(index)))


class _NoInitialisation(TorchFunctionMode):
    """Skips what fills tensors: on the meta device that does nothing, but takes a second."""

    _FILLS = frozenset({"uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_"})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if getattr(func, "__name__", "") in self._FILLS:
            return args[0]
        return func(*args, **kwargs)


@functools.lru_cache(maxsize=SKELETONS)
def skeleton(config: ModelConfig) -> ProxyNetwork:
    """Build the network of a scaled variant without weights, to be called with slices.

    Batch norms use a batch's own statistics and collect none.
    """
    with _NoInitialisation(), torch.device("meta"):
        network = ProxyNetwork(config)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return network.train()


def widen(extents: dict[str, int], config: ModelConfig) -> dict[str, int]:
    """Make the extents of groups of axes as wide as a scaled variant needs.

    Returns:
        What the extents of those groups were that have become wider; 0 of new ones.
    """
    before: dict[str, int] = {}
    for entry in shares(config).values():
        for axis in entry.axes:
            known = extents.get(axis.group, 0)
            if axis.extent > known:
                before.setdefault(axis.group, known)
                extents[axis.group] = axis.extent
    return before


@functools.lru_cache(maxsize=SKELETONS)
def shares(config: ModelConfig) -> dict[str, Share]:
    """What each parameter of a scaled variant is of the shared weights, by its name."""
    parameters = skeleton(config).named_parameters()
    return {name: share(name, tuple(tensor.shape), config) for name, tensor in parameters}
