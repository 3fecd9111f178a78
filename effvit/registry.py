"""All families and published models in one visible place, and the doors that users call."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from effvit.config import ConfigError, ModelConfig, Resolution, parse_resolution, unknown_name
from effvit.cost import ArrayLedger, Columns, Cost, CostArrays, LedgerFactory
from effvit.designs import (
    autoformer,
    cswin,
    efficientvit,
    hybrid,
    mobilevit,
    mobilevitv2,
    pit,
    pvtv2,
    sepvit,
    swin,
    twins,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        config: Its configuration class.
        variants: Its published models by name.
        cost: Closed-form cost of one network.
        cost_many: Closed-form cost of many networks that share a design resolution, written to a
            ledger that the third argument makes.
        network: Where its module class is, as ``"package.module:Class"``: torch is loaded only when
            a network is built.
    """

    config: type[ModelConfig]
    variants: Mapping[str, ModelConfig]
    cost: Callable[[Any, Resolution | None], Cost]
    cost_many: Callable[[Sequence[Any], Resolution | None, LedgerFactory], CostArrays]
    network: str


def _by_columns(
    stack: Callable[[Sequence[Any]], Columns], cost_arrays: Callable[..., CostArrays]
) -> Callable[[Sequence[Any], Resolution | None, LedgerFactory], CostArrays]:
    """Cost many networks by stacking them first."""
    return lambda configs, resolution, ledgers: cost_arrays(stack(configs), resolution, ledgers)


FAMILIES: dict[str, Family] = {
    "sepvit": Family(
        config=sepvit.SepViTConfig,
        variants=sepvit.VARIANTS,
        cost=sepvit.cost,
        cost_many=_by_columns(sepvit.SepViTColumns.from_configs, sepvit.cost_arrays),
        network="effvit.networks.sepvit:SepViT",
    ),
    "mobilevitv2": Family(
        config=mobilevitv2.MobileViTv2Config,
        variants=mobilevitv2.VARIANTS,
        cost=mobilevitv2.cost,
        cost_many=_by_columns(mobilevitv2.MobileViTv2Columns.from_configs, mobilevitv2.cost_arrays),
        network="effvit.networks.mobilevitv2:MobileViTv2",
    ),
    "efficientvit": Family(
        config=efficientvit.EfficientViTConfig,
        variants=efficientvit.VARIANTS,
        cost=efficientvit.cost,
        cost_many=_by_columns(
            efficientvit.EfficientViTColumns.from_configs, efficientvit.cost_arrays
        ),
        network="effvit.networks.efficientvit:EfficientViT",
    ),
    "hybrid": Family(
        config=hybrid.HybridConfig,
        variants=hybrid.VARIANTS,
        cost=hybrid.cost,
        cost_many=_by_columns(hybrid.HybridColumns.from_configs, hybrid.cost_arrays),
        network="effvit.networks.hybrid:Hybrid",
    ),
    "cswin": Family(
        config=cswin.CSWinConfig,
        variants=cswin.VARIANTS,
        cost=cswin.cost,
        cost_many=_by_columns(cswin.CSWinColumns.from_configs, cswin.cost_arrays),
        network="effvit.networks.cswin:CSWin",
    ),
    "swin": Family(
        config=swin.SwinConfig,
        variants=swin.VARIANTS,
        cost=swin.cost,
        cost_many=swin.cost_many,
        network="effvit.networks.timm_peers:Swin",
    ),
    "twins_svt": Family(
        config=twins.TwinsSVTConfig,
        variants=twins.VARIANTS,
        cost=twins.cost,
        cost_many=twins.cost_many,
        network="effvit.networks.timm_peers:TwinsSVT",
    ),
    "pvt_v2": Family(
        config=pvtv2.PVTv2Config,
        variants=pvtv2.VARIANTS,
        cost=pvtv2.cost,
        cost_many=pvtv2.cost_many,
        network="effvit.networks.timm_peers:PVTv2",
    ),
    "mobilevit": Family(
        config=mobilevit.MobileViTConfig,
        variants=mobilevit.VARIANTS,
        cost=mobilevit.cost,
        cost_many=mobilevit.cost_many,
        network="effvit.networks.timm_peers:MobileViT",
    ),
    "autoformer": Family(
        config=autoformer.AutoFormerConfig,
        variants=autoformer.VARIANTS,
        cost=autoformer.cost,
        cost_many=_by_columns(autoformer.AutoFormerColumns.from_configs, autoformer.cost_arrays),
        network="effvit.networks.autoformer:AutoFormer",
    ),
    "pit": Family(
        config=pit.PiTConfig,
        variants=pit.VARIANTS,
        cost=pit.cost,
        cost_many=_by_columns(pit.PiTColumns.from_configs, pit.cost_arrays),
        network="effvit.networks.pit:PiT",
    ),
}

ModelLike = str | ModelConfig | Mapping[str, Any]
"""A published model's name, a configuration, the same as :meth:`ModelConfig.to_dict` has it, or an
entry of a run's ``pareto.json``, which holds such a dictionary as ``config``."""


def list_models() -> list[str]:
    """Names of all published models, family by family, small to large."""
    return [name for family in FAMILIES.values() for name in family.variants]


def model_config(name: str) -> ModelConfig:
    """Configuration of a published model.

    Raises:
        ConfigError: No such model; the message lists the known names.
    """
    for family in FAMILIES.values():
        if name in family.variants:
            return family.variants[name]
    raise unknown_name("model", name, list_models())


def as_config(model: ModelLike) -> ModelConfig:
    """Resolve a name, a configuration or its dictionary to a configuration.

    Raises:
        ConfigError: Unknown name or family, or values that break a rule.
    """
    if isinstance(model, ModelConfig):
        return model
    if isinstance(model, str):
        return model_config(model)
    if isinstance(model, Mapping):
        values: Mapping[str, Any] = model.get("config", model)
        family = values.get("family")
        if family not in FAMILIES:
            raise unknown_name("family", family, FAMILIES)
        return FAMILIES[family].config.from_dict(values)
    raise ConfigError(f"expected a model name, configuration or dictionary, got {model!r}")


def create_model(model: ModelLike, **overrides: Any) -> nn.Module:  # noqa: ANN401 - config fields
    """Build a network.

    Args:
        model: A name from :func:`list_models`, a configuration, or a configuration as a dictionary
            (an entry of a run's ``pareto.json``).
        overrides: Fields of the configuration to change, such as ``num_classes=10`` or
            ``image_size=(512, 2048)``.

    Returns:
        The module, freshly initialised; its ``config`` attribute says what was built.

    Raises:
        ConfigError: Unknown name, unknown field, or a broken rule.
    """
    config = as_config(model).replace(**overrides)
    network: type[nn.Module] = pkgutil.resolve_name(FAMILIES[config.family].network)
    return network(config)


def model_cost(
    model: ModelLike, resolution: int | Sequence[int] | str | None = None, **overrides: Any  # noqa: ANN401
) -> Cost:  # fmt: skip
    """Cost of a network in closed form, without building it.

    Args:
        model: As for :func:`create_model`.
        resolution: Input size, such as 224 or (512, 2048); the design resolution if not given.
        overrides: As for :func:`create_model`.

    Returns:
        Parameters, MACs, activations and their breakdown, as exact integers for batch 1.
    """
    config = as_config(model).replace(**overrides)
    size = None if resolution is None else parse_resolution(resolution)
    return FAMILIES[config.family].cost(config, size)


def model_costs(
    configs: Sequence[ModelConfig],
    resolution: int | Sequence[int] | str | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Cost many networks of one family and design resolution at once.

    Args:
        configs: The networks.
        resolution: As for :func:`model_cost`.
        ledgers: What makes the ledger, or one for each 8192 networks, that costs are written to.

    Raises:
        ConfigError: They mix families or design resolutions, or there is none.
    """
    families = {config.family for config in configs}
    if len(families) != 1:
        raise ConfigError(f"expected networks of one family, got {sorted(families)}")
    size = None if resolution is None else parse_resolution(resolution)
    return FAMILIES[families.pop()].cost_many(configs, size, ledgers)


def load_official_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights under the names of the authors' released code.

    Learned window tokens are resampled where the model's design resolution is another one.

    Args:
        model: A network from :func:`create_model`.
        state_dict: The authors' ``state_dict``.

    Raises:
        ConfigError: Names are unknown or missing, or shapes differ; the message lists them.
    """
    _load_named(model, state_dict, "official")


def load_timm_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights under the names that timm gives the same network.

    timm's EfficientViT computes with another ``attention_eps`` (1e-5) than the released code
    (1e-15); build the model with timm's to get timm's outputs.

    Args:
        model: A network from :func:`create_model`, of a family that timm has.
        state_dict: timm's ``state_dict``.

    Raises:
        ConfigError: Names are unknown or missing, or shapes differ; the message lists them.
    """
    _load_named(model, state_dict, "timm")


def _load_named(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    load = getattr(model, f"load_{source}_state_dict", None)
    if load is None:
        raise ConfigError(f"{type(model).__name__} has no {source} checkpoint names")
    load(state_dict)
