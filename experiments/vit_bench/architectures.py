"""The two slices of ViT-Bench-101 as configurations of this project's families.

Wei et al., "Auto-Prox" (AAAI 2024, arXiv 2312.09059): 100 AutoFormer-T and 100 PiT architectures
and the accuracies that their authors trained. The files are in ``experiments/data``, with a notice
of their licence. Networks are as the benchmark's code builds them: AutoFormer's heads split the
width, without relative positions, and all classify 100 classes. (Flowers has 102; that adds two
rows to the classifier, to all alike.)
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping

import numpy as np

from effvit import ModelConfig, model_costs
from effvit.designs.autoformer import AutoFormerConfig
from effvit.designs.pit import STAGES, PiTConfig
from experiments.catalogue import DATA
from experiments.ranking import FloatArray

CLASSES = 100

TARGETS: Mapping[str, str] = {
    "c100_base_acc": "CIFAR-100, from scratch",
    "c100_kd_acc": "CIFAR-100, distilled",
    "flower_base_acc": "Flowers, from scratch",
    "flower_kd_acc": "Flowers, distilled",
}
"""What columns of the files hold; PiT's has the first two."""

SHARED_ENCODING = ("blocks", "mean_width", "mean_heads", "mean_ratio")
"""Columns of an encoding that both slices have."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One trained network of the benchmark.

    Attributes:
        name: Its slice and number, from 0.
        config: The network at its design resolution.
        accuracies: Published accuracies in percent, by :data:`TARGETS`.
        encoding: Numbers that describe it.
    """

    name: str
    config: ModelConfig
    accuracies: Mapping[str, float]
    encoding: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Slice:
    """A part of the benchmark.

    Attributes:
        title: What it is, for reports.
        file: Its file.
        config: Makes a network of a row.
        encode: Describes a network.
    """

    title: str
    file: str
    config: Callable[[Mapping[str, str]], ModelConfig]
    encode: Callable[[ModelConfig], dict[str, float]]

    def read(self, name: str) -> list[Architecture]:
        """All architectures, in the file's order; ``name`` is the slice's."""
        with (DATA / self.file).open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = []
        for number, row in enumerate(rows):
            config = self.config(row)
            accuracies = {target: float(row[target]) for target in TARGETS if target in row}
            found.append(Architecture(f"{name}_{number}", config, accuracies, self.encode(config)))
        return found


def _autoformer(row: Mapping[str, str]) -> AutoFormerConfig:
    return AutoFormerConfig(
        width=int(row["hidden_dim"]),
        heads=tuple(json.loads(row["num_heads"])),
        mlp_ratios=tuple(json.loads(row["mlp_ratio"])),
        head_width=None,
        relative_reach=0,
        num_classes=CLASSES,
    )


def _encode_autoformer(config: ModelConfig) -> dict[str, float]:
    assert isinstance(config, AutoFormerConfig)
    ratios, heads = np.array(config.mlp_ratios), np.array(config.heads)
    half = config.depth // 2
    return {
        "blocks": config.depth,
        "mean_width": config.width,
        "mean_heads": float(heads.mean()),
        "mean_ratio": float(ratios.mean()),
        "heads_late_minus_early": float(heads[half:].mean() - heads[:half].mean()),
        "ratio_late_minus_early": float(ratios[half:].mean() - ratios[:half].mean()),
    }


def _pit(row: Mapping[str, str]) -> PiTConfig:
    return PiTConfig(
        head_widths=(int(row["base_dim"]),) * STAGES,
        heads=tuple(json.loads(row["num_heads"])),
        depths=tuple(json.loads(row["depth"])),
        mlp_ratio=float(row["mlp_ratio"]),
        num_classes=CLASSES,
    )


def _encode_pit(config: ModelConfig) -> dict[str, float]:
    assert isinstance(config, PiTConfig)
    depths = np.array(config.depths)
    return {
        "blocks": float(depths.sum()),
        "mean_width": float((depths * config.widths).sum() / depths.sum()),
        "mean_heads": float((depths * config.heads).sum() / depths.sum()),
        "mean_ratio": config.mlp_ratio,
        "head_width": config.head_widths[0],
        **{f"log_heads_{n}": float(np.log2(heads)) for n, heads in enumerate(config.heads, 1)},
        **{f"depth_{n}": depth for n, depth in enumerate(config.depths, 1)},
    }


SLICES: Mapping[str, Slice] = {
    "autoformer": Slice(
        "AutoFormer-T", "vit_bench_101_autoformer.csv", _autoformer, _encode_autoformer
    ),
    "pit": Slice("PiT", "vit_bench_101_pit.csv", _pit, _encode_pit),
}


def costs(architectures: list[Architecture]) -> dict[str, FloatArray]:
    """Parameters, MACs and activations of networks of one slice, at 224 x 224 pixels."""
    found = model_costs([architecture.config for architecture in architectures])
    return {
        name: getattr(found, name).astype(np.float64) for name in ("params", "macs", "activations")
    }
