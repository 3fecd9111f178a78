"""Networks as command lines name them: published models, and JSON files with variants."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effvit import ConfigError, ModelConfig, as_config


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """A network with the name it is shown by."""

    name: str
    config: ModelConfig


def read_models(texts: Sequence[str]) -> list[NamedModel]:
    """Read what stands on a command line.

    Args:
        texts: Each a published model's name, a JSON file with one configuration, a run's
            ``pareto.json`` (all of its front), or ``pareto.json:17`` (its trial 17).

    Returns:
        The networks, in order; a file may give several.

    Raises:
        ConfigError: An unknown name, or a file that is missing or holds something else.
    """
    return [model for text in texts for model in _read(text)]


def _read(text: str) -> list[NamedModel]:
    path, colon, trial = text.rpartition(":")
    if text.endswith(".json"):
        path, trial = text, ""
    elif not (colon and path.endswith(".json")):
        return [NamedModel(text, as_config(text))]
    entries = _entries(Path(path))
    if trial:
        chosen = [entry for entry in entries if str(entry.get("number")) == trial]
        if not chosen:
            known = ", ".join(str(entry["number"]) for entry in entries if "number" in entry)
            raise ConfigError(f"{path} has no trial {trial} (known: {known or 'none'})")
        entries = chosen
    return [_named(entry, path) for entry in entries]


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON file: {error}") from error
    entries = values if isinstance(values, list) else [values]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{path} must hold a configuration or a list of them")
    return entries


def _named(entry: dict[str, Any], path: str) -> NamedModel:
    try:
        config = as_config(entry)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} holds no variant: {error}") from error
    return NamedModel(entry.get("published") or config.variant_id, config)
