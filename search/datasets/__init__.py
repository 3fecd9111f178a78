"""Images to train and search on: the embedded digits, folders, CIFAR, ImageNet, timm's data sets.

Three parts are kept apart. Training learns from ``train``; a search may look at ``validation``;
``test`` is for one final report. :func:`load_data` returns the first two; of the third it sees at
most that there are folders of classes. To open it takes :func:`held_out_images`, which only final
reports call.
"""

from search.datasets.sets import (
    BrokenImage,
    ImageData,
    ImageSet,
    ImageSource,
    ImageStream,
    held_out_images,
    load_data,
)
from search.datasets.settings import EMBEDDED, DataSettings

__all__ = [
    "EMBEDDED",
    "BrokenImage",
    "DataSettings",
    "ImageData",
    "ImageSet",
    "ImageSource",
    "ImageStream",
    "held_out_images",
    "load_data",
]
