"""Ablations of EfficientViT (Cai et al., arXiv 2205.14756)."""

from __future__ import annotations

from effvit import ModelConfig
from effvit.designs.efficientvit import VARIANTS, EfficientViTConfig
from experiments.ablation.definition import OFF, ON, Ablation, Factor, NotBuilt, switch
from experiments.ablation.designs import FullFactorial, OneFactor
from experiments.ablation.published import Published

POSTER = "Cai et al., EfficientViT, poster of the released code's first commit (April 2023)"
B0, B1 = VARIANTS["efficientvit_b0"], VARIANTS["efficientvit_b1"]
CONVOLUTIONS = ("mbconv", "mbconv", "mbconv_few_norms", "mbconv_few_norms")


def _multi_scale(config: ModelConfig) -> ModelConfig:
    """Aggregate tokens with a 5 x 5 convolution, as released."""
    assert isinstance(config, EfficientViTConfig)
    if "attention" not in config.kinds:
        raise NotBuilt(
            "aggregation makes tokens for attention, here there is none to make them for"
        )
    return config.replace(scales=(5,))


ABLATIONS: dict[str, Ablation] = {
    "efficientvit_attention": Ablation(
        question="What do multi-scale tokens and global attention give in EfficientViT-B0?",
        base=B0.replace(kinds=CONVOLUTIONS, scales=()),
        base_label="neither",
        factors=(
            switch("global attention", kinds=B0.kinds),
            Factor("multi-scale tokens", {OFF: {}, ON: _multi_scale}),
        ),
        design=FullFactorial(),
        reference="efficientvit_b0",
        published=Published(
            "ablation_published_efficientvit_attention.csv",
            f"{POSTER}, ablation on Cityscapes",
            "published mIoU, Cityscapes (%)",
        ),
        notes=(
            "The poster's rows segment at 1024 x 2048, widened until all cost 0.7 M and 4.4 G.",
            "Here widths are fixed: costs are not compared with those.",
        ),
    ),
    "efficientvit_scales": Ablation(
        question="What does each scale of EfficientViT-B1's attention cost and give?",
        base=B1,
        factors=(
            Factor("scales", {"(5)": {}, "()": {"scales": ()}, "(3, 5)": {"scales": (3, 5)}}),
        ),
        design=OneFactor(),
        reference="efficientvit_b1",
        notes=(
            "Released code and checkpoints have (5); arXiv v2 has none, the poster draws (3, 5).",
        ),
    ),
}
