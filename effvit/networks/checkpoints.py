"""Weights under the names that other code gives to the same network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from effvit.config import ConfigError


def load_renamed(
    model: nn.Module, state_dict: Mapping[str, Tensor], modules: Mapping[str, str], source: str
) -> None:
    """Load a ``state_dict`` whose names differ from the model's by those of modules.

    Args:
        model: The network; nothing of it changes if the names or shapes do not fit.
        state_dict: The weights.
        modules: Dotted places of modules in our network, and their places in the other one.
        source: Whose names they are, for messages.

    Raises:
        ConfigError: Names are unknown or missing, or shapes differ; the message lists them.
    """
    expected = model.state_dict()
    theirs = {name: renamed(name, modules) for name in expected}
    known = set(theirs.values())
    unknown = [name for name in state_dict if name not in known]
    missing = [name for name in theirs.values() if name not in state_dict]
    if unknown or missing:
        raise ConfigError(
            f"{source} checkpoint does not fit this network: unknown names {unknown}, "
            f"missing names {missing}"
        )
    wrong = [
        f"{theirs[name]} {tuple(state_dict[theirs[name]].shape)} for {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if state_dict[theirs[name]].shape != tensor.shape
    ]
    if wrong:
        raise ConfigError(f"{source} checkpoint does not fit this network: shapes {wrong}")
    model.load_state_dict({name: state_dict[other] for name, other in theirs.items()})


def renamed(name: str, modules: Mapping[str, str]) -> str:
    """Replace the longest leading part of a name that is in the table."""
    place, rest = name, ""
    while place not in modules:
        place, dot, part = place.rpartition(".")
        if not dot:
            return name
        rest = f".{part}{rest}"
    return modules[place] + rest
