"""AutoFormer. The design: configuration, cost, published variants.

Paper: Chen, Peng, Fu, Ling, "AutoFormer: Searching Transformers for Visual Recognition", arXiv
2107.00651, ICCV 2021. The network itself is in :mod:`effvit.networks.autoformer`.

A plain vision transformer (patches of 16 x 16 pixels, a class token, learned absolute positions,
pre-norm blocks) whose layers differ: each has its own number of heads and its own hidden width. A
head is always 64 channels wide, so that heads say how wide queries, keys and values are. Keys and
values carry learned relative positions: a vector for each vertical and one for each horizontal
distance, cut at 14, and one in each table for the class token:

    score(i, j) = q_i (k_j + r^K_ij) / sqrt(d),    out_i = sum_j a_ij (v_j + r^V_ij)

The classifier reads the average over the patches, as released.

Cost of a layer on N tokens of C channels, with attention A channels wide in all heads, F hidden
channels and 2 R rows of relative positions, in multiply-accumulates:

    N (4 C A + 2 C F) + 2 N^2 A + 4 N R A

Scores of relative positions are computed once for each row of a table and then looked up, and
weights are summed for each row before they are multiplied: that is the last term. The released code
multiplies every pair of tokens instead (another 2 N^2 A in its place); the outputs are the same.

Any size: images are zero-padded to multiples of 16, absolute positions are resampled.

The architectures of ViT-Bench-101 (Wei et al., "Auto-Prox", AAAI 2024) are built here too: its code
splits C itself into the heads and has no relative positions, ``head_width=None`` and
``relative_reach=0``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from effvit.config import ConfigError, ModelConfig, Resolution
from effvit.cost import (
    ArrayLedger,
    Columns,
    Cost,
    CostArrays,
    Count,
    IntArray,
    Ledger,
    LedgerFactory,
    OperationLedger,
    Operator,
    add_convolution,
    add_layer_norm,
    add_linear,
    add_matmul,
    ceil_div,
    in_chunks,
    shared_settings,
)
from effvit.designs.blocks import Shape
from effvit.designs.rules import check_count, check_entries, checked_ratio
from effvit.designs.tokens import add_attention_products, add_mlp_branch

PATCH = 16
CLASS_TOKENS = 1
PLACE = "stages.0"
"""All layers are one stage."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoFormerConfig(ModelConfig):
    """An AutoFormer, published or not. Defaults are AutoFormer-T.

    Attributes:
        width: Channels C of the tokens.
        heads: Attention heads of each layer; as many layers as entries.
        mlp_ratios: Hidden width of each layer's MLP over C.
        head_width: Channels of a head; None splits C into the heads.
        relative_reach: Largest distance, in patches, with relative positions of its own; 0 is
            without relative positions.
    """

    family: ClassVar[str] = "autoformer"

    width: int = 192
    heads: tuple[int, ...] = (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3)
    mlp_ratios: tuple[float, ...] = (3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5)
    head_width: int | None = 64
    relative_reach: int = 14

    def __post_init__(self) -> None:
        super().__post_init__()
        check_entries("heads", self.heads, max(1, len(self.heads)), "at least one layer")
        check_count("mlp_ratios", self.mlp_ratios, len(self.heads), "each layer, as heads has")
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, got {self.width}")
        if self.head_width is None:
            self._check_split()
        elif self.head_width < 1:
            raise ConfigError(f"head_width must be at least 1 or None, got {self.head_width}")
        if self.relative_reach < 0:
            raise ConfigError(f"relative_reach must be at least 0, got {self.relative_reach}")
        ratios = tuple(checked_ratio("mlp_ratios", r, (self.width,)) for r in self.mlp_ratios)
        object.__setattr__(self, "mlp_ratios", ratios)

    def _check_split(self) -> None:
        for heads in self.heads:
            if self.width % heads:
                raise ConfigError(
                    "width must be divisible by heads where head_width is None, got "
                    f"{self.width} and {heads} "
                    f"(nearest valid width: {max(1, round(self.width / heads)) * heads})"
                )

    @property
    def depth(self) -> int:
        """Layers."""
        return len(self.heads)

    @property
    def head_widths(self) -> tuple[int, ...]:
        """Channels of a head in each layer."""
        return tuple(self.head_width or self.width // heads for heads in self.heads)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Hidden width of the MLP in each layer."""
        return tuple(int(self.width * ratio) for ratio in self.mlp_ratios)

    @property
    def relative_rows(self) -> int:
        """Rows R of a table of relative positions: a class token's, and one for each distance."""
        return 2 * self.relative_reach + 1 + CLASS_TOKENS if self.relative_reach else 0

    def canonical(self) -> AutoFormerConfig:
        """Name the width of heads where C split into them gives all layers the same one."""
        widths = set(self.head_widths)
        return self.replace(head_width=widths.pop()) if len(widths) == 1 else self


def patch_grid(resolution: Resolution) -> Resolution:
    """Rows and columns of patches, rounded up."""
    return ceil_div(resolution[0], PATCH), ceil_div(resolution[1], PATCH)


# --- cost ---------------------------------------------------------------------------------------


def cost(config: AutoFormerConfig, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1.
    """
    ledger = OperationLedger()
    size = resolution or config.image_size
    grids = patch_grid(config.image_size), patch_grid(size)
    image = config.in_channels * size[0] * size[1]
    _embedding_cost(ledger, config.in_channels, config.width, grids, image)
    layers = zip(config.heads, config.head_widths, config.hidden_widths, strict=True)
    for layer, (heads, head_width, hidden) in enumerate(layers):
        _block_cost(
            ledger,
            f"{PLACE}.blocks.{layer}",
            tokens=_tokens(grids[1]),
            channels=config.width,
            heads=heads,
            head_width=head_width,
            hidden=hidden,
            rows=config.relative_rows,
            image=image,
            fused=not config.relative_rows,
        )
    _head_cost(ledger, config.width, grids[1], config.num_classes)
    return ledger.total()


def _tokens(grid: Shape) -> Count:
    return CLASS_TOKENS + grid[0] * grid[1]


def _embedding_cost(
    ledger: Ledger, inputs: int, width: Count, grids: tuple[Resolution, Resolution], image: int
) -> None:
    """Patches projected, the class token, and positions; ``grids`` are the design's and this."""
    designed, grid = grids
    patches = grid[0] * grid[1]
    add_convolution(
        ledger, "stem.proj", inputs=inputs, outputs=width, kernel=PATCH**2, pixels=patches
    )
    ledger.add(f"{PLACE}.class_token", Operator.PARAMETER, params=CLASS_TOKENS * width)
    ledger.add(f"{PLACE}.position", Operator.PARAMETER, params=_tokens(designed) * width)
    resampled = int(designed != grid)
    elements = patches * width
    ledger.add(f"{PLACE}.positions", Operator.RESAMPLE, elements=elements, repeat=resampled)
    # Patches, tokens, and their sum with positions, which are a copy where they are resampled.
    ledger.live(image + (3 + 2 * resampled) * _tokens(grid) * width)


def _block_cost(
    ledger: Ledger,
    name: str,
    *,
    tokens: Count,
    channels: Count,
    heads: Count,
    head_width: Count,
    hidden: Count,
    rows: Count,
    image: int,
    fused: bool = False,
    repeat: Count = 1,
) -> None:
    """One layer, with relative positions where ``rows`` is not 0; ``repeat`` is 0 or 1."""
    held = image + (2 * tokens - CLASS_TOKENS) * channels  # the patches and the layer's input
    attention, width = f"{name}.attention", heads * head_width
    related = repeat * (rows > 0)
    add_layer_norm(ledger, f"{name}.norm1", channels=channels, rows=tokens, repeat=repeat)
    add_linear(
        ledger, f"{attention}.qkv", inputs=channels, outputs=3 * width, rows=tokens, repeat=repeat
    )
    for part in ("keys", "values"):
        ledger.add(
            f"{attention}.relative_{part}",
            Operator.PARAMETER,
            params=2 * rows * head_width,
            repeat=related,
        )
    add_attention_products(
        ledger,
        attention,
        batch=1,
        heads=heads,
        queries=tokens,
        keys=tokens,
        channels=width,
        fused=fused,
        repeat=repeat,
    )
    for place, inner, columns in (
        ("distances", head_width, 2 * rows),
        ("positions", 2 * rows, head_width),
    ):
        add_matmul(
            ledger,
            f"{attention}.{place}",
            batch=heads,
            rows=tokens,
            inner=inner,
            columns=columns,
            repeat=related,
        )
    add_linear(
        ledger, f"{attention}.proj", inputs=width, outputs=channels, rows=tokens, repeat=repeat
    )
    # The normed tokens, query, key and value, attended values before and after projection.
    ledger.live(held + tokens * (2 * channels + 4 * width), repeat)
    # With relative positions also scaled queries, rows' indices of 8 bytes for both directions, and
    table, pairs = heads * tokens * 2 * rows, tokens**2
    related_held = held + tokens * (channels + 4 * width) + 4 * pairs
    # scores, those of distances, and their sum; or, at the end, scores, weights and three outputs.
    ledger.live(related_held + table + 3 * heads * pairs, related)
    ledger.live(related_held + 2 * table + 2 * heads * pairs + 3 * tokens * width, related)
    add_mlp_branch(
        ledger, name, channels=channels, hidden=hidden, rows=tokens, held=held, repeat=repeat
    )


def _head_cost(ledger: Ledger, channels: Count, grid: Shape, classes: int) -> None:
    """Final norm of the patches, their average, classifier."""
    add_layer_norm(ledger, "norm", channels=channels, rows=grid[0] * grid[1])
    ledger.add("pool", Operator.POOL, elements=channels)
    if classes:
        add_linear(ledger, "head", inputs=channels, outputs=classes, rows=1)


# --- many networks at once ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoFormerColumns(Columns):
    """Many configurations as columns: ``n`` networks of one design resolution.

    Attributes:
        width: (n,). relative_rows: (n,), rows of a table of relative positions.
        heads: (n, L), of each of L layers; 0 where a network has fewer.
        head_widths: (n, L). hidden: (n, L), width of the MLP's hidden layer.
    """

    width: IntArray
    relative_rows: IntArray
    heads: IntArray
    head_widths: IntArray
    hidden: IntArray

    @classmethod
    def from_configs(cls, configs: Sequence[AutoFormerConfig]) -> AutoFormerColumns:
        """Stack configurations that share image size, channels and classes.

        Raises:
            ConfigError: They do not share them.
        """
        deepest = max(config.depth for config in configs)

        def by_layer(rows: Sequence[Sequence[int]]) -> IntArray:
            return np.array([[*row, *(0,) * (deepest - len(row))] for row in rows], np.int64)

        return cls(
            width=np.array([c.width for c in configs], np.int64),
            relative_rows=np.array([c.relative_rows for c in configs], np.int64),
            heads=by_layer([c.heads for c in configs]),
            head_widths=by_layer([c.head_widths for c in configs]),
            hidden=by_layer([c.hidden_widths for c in configs]),
            **shared_settings(configs),
        )


@in_chunks
def cost_arrays(
    columns: AutoFormerColumns,
    resolution: Resolution | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Cost many networks at once with the formulas of :func:`cost`.

    Args:
        columns: The networks.
        resolution: Height and width of the input; the design resolution if not given.
        ledgers: What makes the ledger to write to.

    Returns:
        One entry a network, equal to what :func:`cost` says of it.
    """
    ledger = ledgers(len(columns))
    size = resolution or columns.image_size
    grids = patch_grid(columns.image_size), patch_grid(size)
    image = columns.in_channels * size[0] * size[1]
    _embedding_cost(ledger, columns.in_channels, columns.width, grids, image)
    for layer in range(columns.heads.shape[1]):
        heads = columns.heads[:, layer]
        _block_cost(
            ledger,
            "",
            tokens=_tokens(grids[1]),
            channels=columns.width,
            heads=np.maximum(heads, 1),
            head_width=columns.head_widths[:, layer],
            hidden=columns.hidden[:, layer],
            rows=columns.relative_rows,
            image=image,
            repeat=1 * (heads > 0),
        )
    _head_cost(ledger, columns.width, grids[1], columns.num_classes)
    return ledger.total()


# --- published variants -------------------------------------------------------------------------


VARIANTS: dict[str, AutoFormerConfig] = {
    "autoformer_tiny": AutoFormerConfig(drop_path_rate=0.1),
    "autoformer_small": AutoFormerConfig(
        width=384,
        heads=(6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7),
        mlp_ratios=(3, 3.5, 3, 3.5, 4, 4, 4, 4, 4, 4, 4, 3.5, 4),
        drop_path_rate=0.1,
    ),
    "autoformer_base": AutoFormerConfig(
        width=576,
        heads=(9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10),
        mlp_ratios=(3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5),
        drop_path_rate=0.1,
    ),
}
"""The architectures that the paper's search found, as released with its code."""
