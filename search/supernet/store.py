"""A supernet on disk: weights as safetensors, with what they were trained for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from effvit.config import ConfigError
from search.proxy.scaling import proxy_config
from search.supernet.training import Paths, SupernetRecipe, Trained
from search.supernet.weights import SharedWeights
from spaces.space import Space

FORMAT = 1
"""Raised when the same identity would give other weights."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a supernet's weights follow from.

    Attributes:
        space: Name of the space, its resolution and the values of its axes.
        variants: Digest of the scaled variants from which the widest are found: it changes with the
            rule that scales them.
        recipe: How it is trained.
        seed: Of initial values, draws and canvases.
        max_macs: Budget of the variants that are trained.
    """

    space: str
    variants: str
    recipe: dict[str, Any]
    seed: int
    max_macs: float | None

    @classmethod
    def of(
        cls, space: Space, paths: Paths, recipe: SupernetRecipe, seed: int, max_macs: float | None
    ) -> Identity:
        """Say what the supernet of a space follows from."""
        scaled = map(proxy_config, (paths.smallest, paths.largest, *paths.start))
        digest = hashlib.sha256("\n".join(config.to_json() for config in scaled).encode())
        axes = {axis.name: list(axis.values) for axis in space.axes}
        return cls(
            space=json.dumps([space.name, list(space.resolution), axes]),
            variants=digest.hexdigest(),
            recipe=json.loads(json.dumps(recipe.to_dict())),
            seed=seed,
            max_macs=max_macs,
        )

    def to_json(self) -> str:
        """Return it as JSON, the same for equal identities."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, sort_keys=True)


def save(trained: Trained, identity: Identity, path: Path) -> None:
    """Write a supernet, whole or not at all."""
    weights = trained.weights
    begun = path.with_suffix(".begun")
    metadata = {
        "identity": identity.to_json(),
        "extents": json.dumps(weights.extents, sort_keys=True),
        "trained": json.dumps(sorted(trained.keys)),
    }
    tensors = {key: tensor.detach().contiguous() for key, tensor in weights.tensors.items()}
    save_file(tensors, begun, metadata)
    begun.replace(path)


def load(identity: Identity, path: Path) -> Trained:
    """Read a supernet.

    Raises:
        ConfigError: The file is unreadable, or holds a supernet of another identity.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check(metadata.get("identity", ""), identity, path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is no supernet: {error}; delete it to train anew") from error
    weights = SharedWeights.restored(json.loads(metadata["extents"]), tensors, identity.seed)
    return Trained(weights, frozenset(json.loads(metadata["trained"])))


def _check(written: str, identity: Identity, path: Path) -> None:
    if written == identity.to_json():
        return
    theirs = json.loads(written or "{}")
    ours = json.loads(identity.to_json())
    different = next(name for name in ours if theirs.get(name) != ours[name])
    raise ConfigError(
        f"{path} holds a supernet of another {different}: choose another folder, "
        "or delete it to train anew"
    )
