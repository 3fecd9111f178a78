"""Several processes that train one network together, or one that trains alone."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from search.environment import available_cores, checked_device


@dataclasses.dataclass(frozen=True)
class Group:
    """The processes of a training.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's batch statistics."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def own_cores() -> int:
    """Processors that this process may use, those of the machine's shared evenly."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextlib.contextmanager
def process_group(device: str | None) -> Iterator[Group]:
    """Join the processes that ``torchrun`` started, or be alone.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``; a GPU if there is one, if None. Of several
            processes each takes the GPU of its local number.

    Raises:
        ConfigError: There is no such device, or fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")), size)
    if size == 1:
        yield Group(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(rank, size, chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str | None, local: int, size: int) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(checked_device(name))
    if device.type == "cpu":
        return device
    index = local if size > 1 else device.index or 0
    return torch.device(checked_device(f"cuda:{index}"))
