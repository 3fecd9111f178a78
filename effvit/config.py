"""The configuration every network is made from: frozen, validated once, free of torch."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

Resolution = tuple[int, int]
"""Height and width of an image in pixels."""

MIN_RESOLUTION = 32
MAX_RESOLUTION = 16384

ConfigT = TypeVar("ConfigT", bound="ModelConfig")


class ConfigError(ValueError):
    """A configuration breaks a rule; the message names the rule, the value and a valid choice."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not in a table.

    Args:
        kind: What the name should have been, e.g. ``"model"``.
        name: The unknown name.
        known: All known names.

    Returns:
        An error whose message offers the nearest name and lists the rest.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


def parse_resolution(value: int | Sequence[int] | str) -> Resolution:
    """Read a resolution given as ``224``, ``(512, 2048)``, ``"224"`` or ``"512x2048"``.

    Args:
        value: Side of a square image, or height and width, in pixels.

    Returns:
        ``(height, width)``.

    Raises:
        ConfigError: The text is no resolution, or a side is outside 32..16384 pixels.
    """
    try:
        if isinstance(value, str):
            sides = tuple(int(part) for part in value.lower().split("x"))
        elif isinstance(value, Sequence):
            sides = tuple(int(part) for part in value)
        else:
            sides = (int(value),)
    except (TypeError, ValueError):
        sides = ()
    if len(sides) not in (1, 2):
        raise ConfigError(
            f"resolution must be like 224 or 512x2048 (height x width), got {value!r}"
        )
    height, width = sides[0], sides[-1]
    for side in (height, width):
        if not MIN_RESOLUTION <= side <= MAX_RESOLUTION:
            nearest = min(max(side, MIN_RESOLUTION), MAX_RESOLUTION)
            raise ConfigError(
                f"resolution sides must be {MIN_RESOLUTION} to {MAX_RESOLUTION} pixels, "
                f"got {side} (nearest valid: {nearest})"
            )
    return height, width


def resolution_text(resolution: Resolution) -> str:
    """Write a resolution as :func:`parse_resolution` reads it, such as ``512x2048``."""
    return "x".join(map(str, resolution))


def _freeze(value: Any) -> Any:  # noqa: ANN401 - JSON values of any shape
    """Turn the lists that JSON has into the tuples that configurations have."""
    return tuple(_freeze(item) for item in value) if isinstance(value, list | tuple) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a network is, completely. Families derive their own fields from it.

    Attributes:
        image_size: Design resolution ``(height, width)`` in pixels. Networks run at any input
            size; what depends on the size (learned tokens, which blocks have several windows) is
            laid out for this one.
        in_channels: Channels of the input image.
        num_classes: Outputs of the classifier; 0 leaves the pooled features.
        drop_rate: Dropout before the classifier, training only.
        drop_path_rate: Stochastic depth of the last block, rising linearly from 0; training only.
    """

    family: ClassVar[str]
    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = ("drop_rate", "drop_path_rate")

    image_size: Resolution = (224, 224)
    in_channels: int = 3
    num_classes: int = 1000
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size.__class__ is not tuple or len(self.image_size) != 2:
            raise ConfigError(f"image_size must be (height, width), got {self.image_size!r}")
        parse_resolution(self.image_size)
        if self.in_channels < 1:
            raise ConfigError(f"in_channels must be at least 1, got {self.in_channels}")
        if self.num_classes < 0:
            raise ConfigError(f"num_classes must be at least 0, got {self.num_classes}")
        for name in ("drop_rate", "drop_path_rate"):
            rate = getattr(self, name)
            if not 0.0 <= rate < 1.0:
                raise ConfigError(f"{name} must be in [0, 1), got {rate!r}")

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of all fields, in order of definition."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def replace(self: ConfigT, **changes: Any) -> ConfigT:  # noqa: ANN401 - typed by the fields
        """Return a copy with some fields changed, validated again.

        Raises:
            ConfigError: A name is not a field, or the result breaks a rule.
        """
        for name in changes:
            if name not in self.field_names():
                raise unknown_name(f"{self.family} option", name, self.field_names())
        return dataclasses.replace(self, **{k: _freeze(v) for k, v in changes.items()})

    def canonical(self: ConfigT) -> ConfigT:
        """Return the representative of all configurations that build this same network.

        Choices without effect are set to one agreed value, so that two configurations build the
        same network exactly when their canonical forms are equal.
        """
        return self

    @property
    def variant_id(self) -> str:
        """Short name of the network, equal for all configurations that build the same one.

        What acts in training only (:attr:`TRAINING_FIELDS`) does not enter.
        """
        return _variant_id(self.canonical())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, led by the family's name."""
        fields = {name: getattr(self, name) for name in self.field_names()}
        return {"family": self.family, **fields}

    def to_json(self) -> str:
        """Return the configuration as one line of JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
        """Rebuild a configuration from :meth:`to_dict`.

        Raises:
            ConfigError: Another family's values, an unknown field, or a broken rule.
        """
        fields = dict(values)
        family = fields.pop("family", cls.family)
        if family != cls.family:
            raise ConfigError(f"expected a {cls.family} configuration, got family {family!r}")
        for name in fields:
            if name not in cls.field_names():
                raise unknown_name(f"{cls.family} option", name, cls.field_names())
        return cls(**{name: _freeze(value) for name, value in fields.items()})


@functools.lru_cache(maxsize=65536)
def _variant_id(config: ModelConfig) -> str:
    fields = {k: v for k, v in config.to_dict().items() if k not in config.TRAINING_FIELDS}
    text = json.dumps(fields, sort_keys=True)
    return f"{config.family}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
