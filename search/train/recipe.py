"""How networks are trained: the papers' recipes as data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

from effvit import ModelConfig, list_models, model_config, model_cost
from effvit.config import ConfigError, unknown_name

Loss = Literal["cross_entropy", "binary_cross_entropy"]
Interpolation = Literal["bilinear", "bicubic"]

SHARES = (
    *("mixup_share", "cutmix_share", "label_smoothing", "random_erasing", "flip", "drop_path"),
    "drop",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe: AdamW, linear warm-up, then a cosine down to the end of the training.

    Attributes:
        name: Name in records.
        source: Where it comes from.
        left_out: What its source does besides, and this code does not.
        epochs: Epochs in all, those of the warm-up included.
        batch: Images of a step, of all processes together.
        learning_rate: Peak, at ``rate_batch`` images a step; in proportion at others.
        rate_batch: See ``learning_rate``.
        final_rate: Learning rate at the end, scaled in the same way.
        warm_up: Epochs in which the rate rises from ``warm_up_rate``.
        warm_up_rate: Learning rate at the start, scaled in the same way.
        weight_decay: Of all but norms, biases and what the network's ``no_weight_decay`` names.
        betas, eps: AdamW's.
        clip: Largest norm of the gradient; None for any.
        loss: What is minimised.
        label_smoothing: Share of the target that all classes share.
        drop_path: Stochastic depth of the last block.
        drop: Dropout before the classifier.
        crop_scale: Areas of random crops, as shares of the image.
        flip: Probability of a horizontal flip.
        rand_augment: RandAugment as timm writes it, such as ``rand-m9-mstd0.5-inc1``, if any.
        colour_jitter: Strength of colour jitter where there is no RandAugment.
        random_erasing: Probability of erasing a rectangle, filled with noise.
        mixup, cutmix: Parameters of their Beta distributions, 0 for none.
        mixup_share: Share of the batches in which any of the two acts.
        cutmix_share: Share of these in which it is CutMix, if both are there.
        average: Decay of the moving average of the weights, None for none. It starts lower, as
            timm has it, so that short trainings have a use for it.
        test_crop: Share of the side that the central crop keeps when the network is measured.
        interpolation: How images are resized.
    """

    name: str
    source: str
    left_out: str = ""
    epochs: int
    batch: int
    learning_rate: float
    rate_batch: int
    final_rate: float = 0.0
    warm_up: int = 0
    warm_up_rate: float = 0.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = None
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.1
    drop_path: float = 0.0
    drop: float = 0.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    rand_augment: str | None = None
    colour_jitter: float = 0.4
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_share: float = 1.0
    cutmix_share: float = 0.5
    average: float | None = None
    test_crop: float = 0.875
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "rate_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warm_up < self.epochs:
            raise ConfigError(
                f"warm_up must be fewer epochs than the training's {self.epochs}, "
                f"got {self.warm_up} (nearest valid: {self.epochs - 1})"
            )
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.loss not in get_args(Loss):
            raise unknown_name("loss", self.loss, get_args(Loss))
        if self.mixes and self.batch % 2:
            raise ConfigError(
                f"batch must be even, as images are mixed in pairs, got {self.batch} "
                f"(nearest valid: {self.batch + 1})"
            )

    @property
    def mixes(self) -> bool:
        """Whether mixup or CutMix acts."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def rate_factor(self) -> float:
        """What all learning rates are multiplied by."""
        return self.batch / self.rate_batch

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        fields = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    def shortened(self, epochs: int) -> Recipe:
        """Return the recipe for another number of epochs, the warm-up in proportion."""
        warm_up = min(epochs - 1, round(self.warm_up * epochs / self.epochs))
        return dataclasses.replace(self, epochs=epochs, warm_up=max(0, warm_up))


# --- of the papers --------------------------------------------------------------------------------

SEPVIT = Recipe(
    name="sepvit_tiny",
    source="arXiv 2203.15380, section 4.1, and its released code's defaults (Swin's setting)",
    left_out="10 epochs of cool-down after the 300",
    epochs=300,
    batch=1024,
    learning_rate=1e-3,
    rate_batch=1024,
    final_rate=1e-5,
    warm_up=5,
    warm_up_rate=1e-6,
    weight_decay=0.05,
    clip=1.0,
    drop_path=0.2,
    rand_augment="rand-m9-mstd0.5-inc1",
    random_erasing=0.25,
    mixup=0.8,
    cutmix=1.0,
)

MOBILEVITV2 = Recipe(
    name="mobilevitv2_100",
    source="released configurations of arXiv 2206.02680, ImageNet-1k",
    left_out=(
        "RandAugment's strength is not given there, here two operations of magnitude 9; the "
        "warm-up of 20000 steps is 16 epochs of ImageNet"
    ),
    epochs=300,
    batch=1024,
    learning_rate=0.0075,
    rate_batch=1024,
    final_rate=0.00075,
    warm_up=16,
    warm_up_rate=1e-6,
    weight_decay=0.013,
    clip=10.0,
    rand_augment="rand-m9-n2",
    random_erasing=0.25,
    mixup=0.2,
    cutmix=1.0,
    average=1 - 5e-4,
    test_crop=256 / 288,
)

_MOBILEVITV2_RATES = {
    "mobilevitv2_050": (0.0090, 0.004),
    "mobilevitv2_075": (0.0090, 0.008),
    "mobilevitv2_100": (0.0075, 0.013),
    "mobilevitv2_125": (0.0049, 0.020),
    "mobilevitv2_150": (0.0035, 0.029),
    "mobilevitv2_175": (0.0026, 0.039),
    "mobilevitv2_200": (0.0020, 0.050),
}
"""Learning rate and weight decay by width; the final rate is a tenth."""

EFFICIENTVIT = Recipe(
    name="efficientvit_b1",
    source="released configurations of arXiv 2205.14756, ImageNet-1k",
    left_out=(
        "images of several sizes (128 to 224 pixels) in one training, MESA, and batch norms "
        "measured again on 16000 images at the end"
    ),
    epochs=320,
    batch=1024,
    learning_rate=2e-3,
    rate_batch=1024,
    warm_up=20,
    weight_decay=0.1,
    clip=2.0,
    loss="binary_cross_entropy",
    drop_path=0.05,
    rand_augment="rand-m3-n1",
    mixup=0.1,
    cutmix=0.1,
    average=0.9998,
    test_crop=0.95,
)


def _efficientvit(
    name: str,
    *,
    rand_augment: str = "rand-m3-n1",
    mix: float = 0.1,
    drop_path: float = 0.05,
    test_crop: float = 1.0,
) -> Recipe:
    return dataclasses.replace(
        EFFICIENTVIT,
        name=name,
        rand_augment=rand_augment,
        mixup=mix,
        cutmix=mix,
        drop_path=drop_path,
        test_crop=test_crop,
    )


def _efficientvit_large(name: str, rand_augment: str, mix: float) -> Recipe:
    base = _efficientvit(name, rand_augment=rand_augment, mix=mix, drop_path=0.1)
    return dataclasses.replace(base, learning_rate=1.2e-3, random_erasing=0.2)


SMALL = Recipe(
    name="small",
    source="this project's, for small images such as the embedded digits",
    epochs=20,
    batch=64,
    learning_rate=2e-3,
    rate_batch=64,
    final_rate=1e-5,
    warm_up=2,
    clip=1.0,
    crop_scale=(0.7, 1.0),
    flip=0.0,
    colour_jitter=0.2,
    test_crop=1.0,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        SMALL,
        SEPVIT,
        dataclasses.replace(SEPVIT, name="sepvit_small", drop_path=0.3),
        dataclasses.replace(
            SEPVIT, name="sepvit_base", drop_path=0.5, weight_decay=0.1, warm_up=20
        ),
        *(
            dataclasses.replace(
                MOBILEVITV2,
                name=name,
                learning_rate=rate,
                final_rate=rate / 10,
                weight_decay=decay,
            )
            for name, (rate, decay) in _MOBILEVITV2_RATES.items()
        ),
        _efficientvit("efficientvit_b0"),
        EFFICIENTVIT,
        _efficientvit("efficientvit_b2"),
        _efficientvit("efficientvit_b3", rand_augment="rand-m6-n2", mix=0.3, drop_path=0.1),
        _efficientvit_large("efficientvit_l1", "rand-m5-n2", 0.2),
        _efficientvit_large("efficientvit_l2", "rand-m5-n2", 0.4),
        _efficientvit_large("efficientvit_l3", "rand-m6-n2", 0.6),
    )
}
"""All recipes by name; those of papers have the name of the model that they are for."""


def named_recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        ConfigError: No such recipe; the nearest name is offered.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]


def recipe_for(config: ModelConfig) -> Recipe:
    """Recipe of the published model of the same family with the nearest number of parameters.

    Families whose papers' recipes are not here get SepViT-Tiny's, which is Swin's.
    """
    published = [name for name in list_models() if model_config(name).family == config.family]
    known = [name for name in published if name in RECIPES]
    if not known:
        return SEPVIT
    params = math.log(model_cost(config).params)
    return RECIPES[min(known, key=lambda name: abs(math.log(model_cost(name).params) - params))]
