"""Data sets that are read from the start to the end: too large, or too remote, for an index."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from effvit.config import ConfigError
from search.datasets.schemes import STREAMS, TimmStream
from search.datasets.settings import DataSettings
from search.datasets.transforms import Transform
from search.randomness import derived_seed, seeded


class ImageStream(IterableDataset[tuple[Tensor, int]]):
    """Images of one part, one after the other, transformed as they come.

    Args:
        stream: Where they come from.
        transform: From an RGB image to the tensor that a network reads.
        epoch: Which epoch it gives.
        seed: Of the transform's random numbers; none are drawn from it if None.
    """

    def __init__(
        self,
        stream: TimmStream,
        transform: Transform | None = None,
        epoch: int = 0,
        seed: int | None = None,
    ) -> None:
        self._stream = stream
        self._transform = transform
        self._epoch = epoch
        self._seed = seed

    def transformed(self, transform: Transform) -> ImageStream:
        """Return the same images under a transform."""
        return ImageStream(self._stream, transform, self._epoch, self._seed)

    def of_epoch(self, epoch: int, seed: int, workers: int) -> ImageStream:
        """Return an epoch's images, transformed with random numbers of its own.

        Args:
            epoch: Its number.
            seed: Of the training.
            workers: Processes that load; timm has to know.
        """
        self._stream.expect_workers(workers)
        return ImageStream(self._stream, self._transform, epoch, seed)

    def __len__(self) -> int:
        """Images of an epoch in this process, as timm estimates them."""
        return len(self._stream)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """Read and transform.

        Raises:
            ConfigError: There is no transform.
        """
        if self._transform is None:
            raise ConfigError("images need a transform: use ImageStream.transformed")
        info = get_worker_info()
        worker = 0 if info is None else info.id
        for place, (image, label) in enumerate(self._stream.epoch(self._epoch)):
            if self._seed is None:
                yield self._transform(image), label
                continue
            with seeded(derived_seed(self._seed, self._epoch, worker, place)):
                transformed = self._transform(image)
            yield transformed, label


def is_stream(settings: DataSettings) -> bool:
    """Whether a data set can only be read as a stream."""
    scheme, slash, _ = settings.source.partition("/")
    return bool(slash) and scheme.lower() in STREAMS


def open_stream(settings: DataSettings, part: str, *, shuffled: bool = False) -> ImageStream:
    """Open a part of a data set as a stream.

    Raises:
        ConfigError: There is no such part, or something is asked for that needs an index.
    """
    if settings.classes is None:
        raise ConfigError(f"data {settings.source} is a stream: say how many classes it has")
    if settings.subset != 1:
        raise ConfigError(f"data {settings.source} is a stream, which has no subset; leave it at 1")
    return ImageStream(TimmStream(settings.source, settings.root, part, shuffled=shuffled))
