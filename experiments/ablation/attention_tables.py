"""Attention types against each other in one network: SepViT's macro-architecture at Lite's size."""

from __future__ import annotations

from effvit import ModelConfig
from effvit.config import ConfigError
from effvit.designs.hybrid import HybridConfig
from effvit.designs.sepvit import VARIANTS
from experiments.ablation.definition import ALL_MEASURES, Ablation, Change, Factor
from experiments.ablation.designs import FullFactorial, OneFactor

LITE = VARIANTS["sepvit_lite"]
BASE = HybridConfig(widths=LITE.widths, depths=LITE.depths, heads=(2, 4, 8, 16))
"""SepViT-Lite as a hybrid, with heads of 16 channels: cross-shaped windows need an even number."""

HEADS = "Heads have 16 channels instead of 32: cross-shaped windows need an even number of them."

CONVOLUTIONS_FIRST = BASE.replace(
    attention=(("convolution",), ("convolution",), ("full",), ("full",))
)
"""Attention in the last two stages only, as EfficientViT and MobileViTv2 have it."""

PATTERNS: dict[str, tuple[str, ...]] = {
    "shifted windows": ("window", "shifted_window"),
    "Twins' pair": ("twins",),
    "cross-shaped windows": ("cross_window",),
    "separable": ("separable",),
    "ReLU linear": ("relu_linear",),
    "multi-scale ReLU linear": ("multi_scale_relu_linear",),
    "Linformer": ("linformer",),
    "full": ("full",),
}
"""Attention types beside DSSA and GSA."""

PER_STAGE = ("shifted windows", "Twins' pair", "multi-scale ReLU linear", "separable")
RESOLUTIONS = (224, 512, 1024, 2048)


def _in_stages(pattern: tuple[str, ...], *stages: int) -> Change:
    """Put an attention type into some stages, counted from 0."""

    def change(config: ModelConfig) -> ModelConfig:
        if not isinstance(config, HybridConfig):
            raise ConfigError(f"attention of a hybrid is changed, got family {config.family!r}")
        attention = [pattern if s in stages else kept for s, kept in enumerate(config.attention)]
        return config.replace(attention=tuple(attention))

    return change


def _stage(stage: int) -> Factor:
    levels: dict[str, Change] = {"DSSA and GSA": {}}
    levels |= {name: _in_stages(PATTERNS[name], stage) for name in PER_STAGE}
    return Factor(f"stage {stage + 1}:", levels)


ABLATIONS: dict[str, Ablation] = {
    "attention_types": Ablation(
        question="DSSA and GSA against other attention types in all stages of SepViT-Lite?",
        base=BASE,
        factors=(
            Factor(
                "attention:",
                {"DSSA and GSA": {}}
                | {name: _in_stages(pattern, 0, 1, 2, 3) for name, pattern in PATTERNS.items()},
            ),
        ),
        design=OneFactor(),
        measures=ALL_MEASURES,
        notes=(
            "Widths and depths stay those of SepViT-Lite: types differ in cost as well.",
            HEADS,
        ),
    ),
    "attention_stages": Ablation(
        question="Which attention type in which stage of SepViT-Lite?",
        base=BASE,
        base_label="SepViT-Lite",
        factors=tuple(_stage(stage) for stage in range(4)),
        design=OneFactor(),
        notes=(HEADS,),
    ),
    "attention_resolution": Ablation(
        question="Softmax against ReLU linear attention as the resolution grows from 224 to 2048?",
        base=CONVOLUTIONS_FIRST,
        factors=(
            Factor("resolution", {f"{side}": {"image_size": (side, side)} for side in RESOLUTIONS}),
            Factor(
                "attention:", {"softmax": {}, "ReLU linear": _in_stages(("relu_linear",), 2, 3)}
            ),
        ),
        design=FullFactorial(),
        grouped_by="resolution",
        measures=frozenset({"latency"}),
        notes=(
            "After EfficientViT's comparison; here in one network, attention at strides 16 and 32.",
            "Speed is relative to softmax attention at the same resolution.",
        ),
    ),
    "attention_mobilevitv2": Ablation(
        question="MobileViTv2's separable attention against full multi-head and Linformer?",
        base=CONVOLUTIONS_FIRST,
        factors=(
            Factor(
                "attention:",
                {
                    "full": {},
                    "Linformer": _in_stages(("linformer",), 2, 3),
                    "separable": _in_stages(("separable",), 2, 3),
                },
            ),
        ),
        design=OneFactor(),
        notes=("Inside one network of SepViT's macro-architecture; MobileViTv2's units differ.",),
    ),
}
