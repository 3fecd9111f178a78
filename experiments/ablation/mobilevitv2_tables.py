"""Ablations of MobileViTv2 (Mehta and Rastegari, arXiv 2206.02680)."""

from __future__ import annotations

from effvit.designs.mobilevitv2 import VARIANTS, scaled_attention_widths, scaled_widths
from experiments.ablation.definition import Ablation, Change, Factor
from experiments.ablation.designs import OneFactor
from experiments.ablation.published import Published

MULTIPLIERS = (1.0, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0)


def _widths(multiplier: float) -> Change:
    return {
        "widths": scaled_widths(multiplier),
        "attention_widths": scaled_attention_widths(multiplier),
    }


ABLATIONS: dict[str, Ablation] = {
    "mobilevitv2_width": Ablation(
        question="What does the width of MobileViTv2 cost and give?",
        base=VARIANTS["mobilevitv2_100"],
        factors=(Factor("width", {f"{m:g}": _widths(m) for m in MULTIPLIERS}),),
        design=OneFactor(),
        reference="mobilevitv2_100",
        published=Published(
            "ablation_published_mobilevitv2_width.csv",
            "Mehta and Rastegari, MobileViTv2, arXiv 2206.02680v1, Table 6 (256 pixels)",
            "published top-1, ImageNet-1K (%)",
        ),
    ),
}
