"""Which images: what the user says about a data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from effvit.config import ConfigError

EMBEDDED = "digits"
"""The data set that needs no files: scikit-learn's scanned digits."""

TEST_SPLIT = "validation"
"""Usual name of what papers report on, among the splits of timm's schemes."""

VALIDATION_SHARE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """A data set and which part of it counts.

    Attributes:
        source: :data:`EMBEDDED`; a folder; a tar file; or a scheme of timm and a name, such as
            ``hfds/uoft-cs/cifar10`` or ``torch/fashion_mnist``.
        root: Folder of a scheme's files, where it needs one.
        classes: Use so many classes, the first by name; all if None. Data sets that do not tell
            their classes need it.
        subset: Use so many training images: a share up to 1, a number above. Every class keeps its
            share, and a smaller subset is a part of a larger one.
        validation: Share of the training images that become the validation part, where the data set
            brings none.
        train_part, validation_part, test_part: Names of the parts (folders, or splits of a scheme)
            where they are not the usual ones.
    """

    source: str = EMBEDDED
    root: str | None = None
    classes: int | None = None
    subset: float = 1.0
    validation: float = VALIDATION_SHARE
    train_part: str | None = None
    validation_part: str | None = None
    test_part: str | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 2:
            raise ConfigError(f"classes must be at least 2, got {self.classes}")
        if not self.subset > 0 or (self.subset > 1 and not float(self.subset).is_integer()):
            raise ConfigError(
                f"subset must be a share up to 1 or a whole number of images, got {self.subset}"
            )
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation must be in [0, 1), got {self.validation}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; a folder by its whole path."""
        fields = dataclasses.asdict(self)
        if self.source != EMBEDDED and Path(self.source).exists():
            fields["source"] = str(Path(self.source).resolve())
        return fields
