"""Efficient vision transformers: what they are, what they cost, and how they are built.

Importing this package does not load torch: configurations and costs work without it. Networks load
it when the first one is built. Names are registered with timm as soon as timm is imported.
"""

from wrapt import register_post_import_hook

from effvit.config import ConfigError, ModelConfig
from effvit.cost import Cost, CostArrays
from effvit.registry import (
    as_config,
    create_model,
    list_models,
    load_official_state_dict,
    load_timm_state_dict,
    model_config,
    model_cost,
    model_costs,
)

__all__ = [
    "ConfigError",
    "Cost",
    "CostArrays",
    "ModelConfig",
    "as_config",
    "create_model",
    "list_models",
    "load_official_state_dict",
    "load_timm_state_dict",
    "model_config",
    "model_cost",
    "model_costs",
]

register_post_import_hook("effvit.networks.timm_entries:register", "timm")
