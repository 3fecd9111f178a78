"""SepViT's names in timm's registry: the one registry filled by a side effect, as timm expects."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from effvit.config import ModelConfig, parse_resolution, unknown_name
from effvit.designs.sepvit import VARIANTS
from effvit.registry import create_model

TIMM_OPTIONS = {
    "num_classes": "num_classes",
    "in_chans": "in_channels",
    "img_size": "image_size",
    "drop_rate": "drop_rate",
    "drop_path_rate": "drop_path_rate",
}
"""Options of ``timm.create_model`` and the fields of the configuration that they set."""

default_cfgs = generate_default_cfgs(
    {
        name: {
            "url": "",  # no weights have been released
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "fixed_input_size": False,
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "stages.0.embed.conv",
            "classifier": "head",
            "paper_ids": "arXiv:2203.15380",
            "paper_name": "SepViT: Separable Vision Transformer",
        }
        for name in VARIANTS
    }
)


def _build(cfg: ModelConfig, **options: Any) -> nn.Module:  # noqa: ANN401 - timm's options
    """Build from timm's options; names of configuration fields are taken as well."""
    fields = {}
    for name, value in options.items():
        if name == "global_pool" and value == "avg":
            continue
        if name not in TIMM_OPTIONS and name not in cfg.field_names():
            raise unknown_name("option", name, (*TIMM_OPTIONS, *cfg.field_names()))
        fields[TIMM_OPTIONS.get(name, name)] = (
            parse_resolution(value) if name == "img_size" else value
        )
    return create_model(cfg, **fields)


def _entry(name: str) -> Callable[..., nn.Module]:
    def entry(pretrained: bool = False, **options: Any) -> nn.Module:  # noqa: ANN401
        model: nn.Module = build_model_with_cfg(
            _build,
            name,
            pretrained,
            model_cfg=VARIANTS[name],
            feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"},
            **options,
        )
        return model

    entry.__name__ = entry.__qualname__ = name
    entry.__module__ = __name__
    entry.__doc__ = f"{name} of arXiv 2203.15380, Table 1."
    return entry


def register(_timm: ModuleType) -> None:
    """Add the published variants to timm's registry."""
    for name in VARIANTS:
        register_model(_entry(name))
