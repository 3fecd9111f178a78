"""How many bytes of activations a forward pass really keeps alive at its worst moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Follows every storage that operators return, until it is freed.

    What kernels allocate and free inside is not seen.

    Attributes:
        peak: Most bytes alive at once so far.
    """

    def __init__(self, weights: Iterable[Tensor], inputs: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self._follow([inputs])

    def _follow(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._weights:
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {key: item for key, item in self._live.items() if not item[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        self._follow(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out


def peak_bytes(model: nn.Module, images: Tensor) -> int:
    """Peak bytes of activations in a forward pass without gradients, the images included."""
    memory = LiveMemory(model.parameters(), images)
    with torch.no_grad(), memory:
        model(images)
    return memory.peak
