"""Swin Transformer. The design: configuration, cost, published variants.

Paper: Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo, "Swin Transformer: Hierarchical Vision Transformer
using Shifted Windows", arXiv 2103.14030 (v2 August 2021), ICCV 2021. The network is timm's, see
:mod:`effvit.networks.timm_peers`.

Softmax attention within windows of M x M pixels, with a learned bias for every relative position;
every second block shifts the windows by M / 2. Cost on an H x W map of C channels (equation 2), in
multiply-accumulates:

    4 HW C^2 + 2 M^2 HW C

``position_encoding="conditional"`` is the form that Twins compares with (Chu et al., arXiv
2104.13840v4, section 4.1 and Table 1, "Swin-T + CPVT"), and SepViT starts its ablation from: no
relative bias, but in each stage after the first block a depthwise 3x3 convolution that is added to
the map (the position encoding generator of CPVT), which adds 9 HW C. No code of it was released;
where it sits and that it has no norm is said of Twins' own networks (section 3.1).

Any size, as timm does it: images are zero-padded to multiples of 4, maps to multiples of M before
every attention (without a mask: padded pixels are attended to) and to even sides between stages.
A window is cut to the map of the design resolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

from effvit.config import ConfigError, ModelConfig, Resolution, unknown_name
from effvit.cost import (
    ArrayLedger,
    Cost,
    CostArrays,
    Ledger,
    LedgerFactory,
    OperationLedger,
    Operator,
    add_convolution,
    add_layer_norm,
    add_linear,
    ceil_div,
)
from effvit.designs.rules import check_entries
from effvit.designs.tokens import add_attention_products, add_mlp, cost_each

PositionEncoding = Literal["relative", "conditional"]
"""A bias of attention learned for each relative position, or a convolution after the first block of
each stage."""

STAGES = 4
PATCH = 4
MLP_RATIO = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinConfig(ModelConfig):
    """A Swin Transformer. Defaults are Swin-T.

    Attributes:
        width: Channels C of the first stage; they double from stage to stage.
        depths: Blocks of each stage.
        heads: Attention heads of each stage; must divide the widths.
        window: Window side M in pixels of the map.
        position_encoding: See :data:`PositionEncoding`.
    """

    family: ClassVar[str] = "swin"

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    position_encoding: PositionEncoding = "relative"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("depths", "heads"):
            check_entries(name, getattr(self, name), STAGES, "each of 4 stages")
        for name in ("width", "window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ConfigError(f"heads must divide the width {width}, got {heads}")
        known = get_args(PositionEncoding)
        if self.position_encoding not in known:
            raise unknown_name("position_encoding", self.position_encoding, known)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width << stage for stage in range(STAGES))

    def canonical(self) -> SwinConfig:
        """Cut the window to the largest map of the design resolution."""
        return self.replace(window=min(self.window, max(stage_maps(self.image_size)[0])))


def stage_maps(resolution: Resolution) -> list[Resolution]:
    """Heights and widths of the four stages' maps: strides 4, 8, 16, 32, rounded up."""
    height, width = resolution
    return [(ceil_div(height, PATCH << i), ceil_div(width, PATCH << i)) for i in range(STAGES)]


def cost(config: SwinConfig, resolution: Resolution | None = None) -> Cost:
    """Cost of the network built from ``config`` when it runs at ``resolution``.

    Args:
        config: The network.
        resolution: Height and width of the input; the design resolution if not given.

    Returns:
        Totals and the breakdown, batch 1, under timm's names.
    """
    ledger = OperationLedger()
    size = resolution or config.image_size
    image = config.in_channels * size[0] * size[1]
    entered = 0
    designed = stage_maps(config.image_size)
    for stage, shape in enumerate(stage_maps(size)):
        width, pixels = config.widths[stage], shape[0] * shape[1]
        held = image + entered
        _embedding_cost(ledger, config, stage, pixels, held)
        window = (min(config.window, designed[stage][0]), min(config.window, designed[stage][1]))
        shifts = any(side > cut for side, cut in zip(designed[stage], window, strict=True))
        for block in range(config.depths[stage]):
            _block_cost(
                ledger,
                f"layers.{stage}.blocks.{block}",
                shape=shape,
                channels=width,
                heads=config.heads[stage],
                window=window,
                shifted=bool(block % 2 and shifts),
                biased=config.position_encoding == "relative",
                held=held + pixels * width * (block > 0),
            )
            if not block:
                _position_cost(ledger, config, stage, pixels)
        entered = pixels * width
    add_layer_norm(ledger, "norm", channels=config.widths[-1], rows=pixels)
    ledger.add("head.global_pool", Operator.POOL, elements=config.widths[-1])
    if config.num_classes:
        add_linear(ledger, "head.fc", inputs=config.widths[-1], outputs=config.num_classes, rows=1)
    return ledger.total()


def _embedding_cost(ledger: Ledger, config: SwinConfig, stage: int, pixels: int, held: int) -> None:
    """Patches of 4 x 4 pixels, or of 2 x 2 of the stage before, projected."""
    width = config.widths[stage]
    if not stage:
        add_convolution(
            ledger,
            "patch_embed.proj",
            inputs=config.in_channels,
            outputs=width,
            kernel=PATCH**2,
            pixels=pixels,
        )
        add_layer_norm(ledger, "patch_embed.norm", channels=width, rows=pixels)
        ledger.live(held + 2 * pixels * width)
        return
    name = f"layers.{stage}.downsample"
    add_layer_norm(ledger, f"{name}.norm", channels=2 * width, rows=pixels)
    add_linear(
        ledger, f"{name}.reduction", inputs=2 * width, outputs=width, rows=pixels, bias=False
    )
    # The padded map, its patches, the normed patches; each twice the width.
    ledger.live(held + 4 * pixels * width)


def _position_cost(ledger: Ledger, config: SwinConfig, stage: int, pixels: int) -> None:
    """The conditional position encoding, where it is one."""
    width = config.widths[stage]
    add_convolution(
        ledger,
        f"layers.{stage}.blocks.position.proj.0",
        inputs=width,
        outputs=width,
        kernel=9,
        pixels=pixels,
        groups=width,
        repeat=int(config.position_encoding == "conditional"),
    )


def _block_cost(
    ledger: Ledger,
    name: str,
    *,
    shape: Resolution,
    channels: int,
    heads: int,
    window: Resolution,
    shifted: bool,
    biased: bool,
    held: int,
) -> None:
    """Window attention and MLP; ``held`` is what is alive beside the block's own input.

    ``shifted`` and ``biased`` say whether attention has a mask and a bias for relative positions.
    """
    pixels, area = shape[0] * shape[1], window[0] * window[1]
    windows = ceil_div(shape[0], window[0]) * ceil_div(shape[1], window[1])
    tokens = windows * area
    add_layer_norm(ledger, f"{name}.norm1", channels=channels, rows=pixels)
    table = (2 * window[0] - 1) * (2 * window[1] - 1) * heads
    ledger.add(f"{name}.attn", Operator.PARAMETER, params=table, repeat=int(biased))
    add_linear(ledger, f"{name}.attn.qkv", inputs=channels, outputs=3 * channels, rows=tokens)
    add_attention_products(
        ledger,
        f"{name}.attn",
        batch=windows,
        heads=heads,
        queries=area,
        keys=area,
        channels=channels,
    )
    add_linear(ledger, f"{name}.attn.proj", inputs=channels, outputs=channels, rows=tokens)
    add_layer_norm(ledger, f"{name}.norm2", channels=channels, rows=pixels)
    hidden = MLP_RATIO * channels
    add_mlp(ledger, f"{name}.mlp", channels=channels, hidden=hidden, rows=pixels)
    attention = held + 2 * pixels * channels
    mask = windows * area**2 * shifted
    masks = heads * biased
    # Padded map, windows, query, key and value; a mask a head, before and after biases are added.
    ledger.live(attention + 5 * tokens * channels + mask * (1 + 2 * masks))
    # The same with one mask a head; attended values before and after projection.
    ledger.live(attention + 7 * tokens * channels + mask * (1 + masks))
    # The attention's sum, the normed map, GELU's input and output.
    ledger.live(held + 3 * pixels * channels + 2 * pixels * hidden)


def cost_many(
    configs: Sequence[SwinConfig],
    resolution: Resolution | None = None,
    ledgers: LedgerFactory = ArrayLedger,
) -> CostArrays:
    """Costs of several networks, one entry each, equal to what :func:`cost` says."""
    return cost_each(cost, configs, resolution, ledgers)


VARIANTS: dict[str, SwinConfig] = {
    "swin_tiny": SwinConfig(drop_path_rate=0.2),
    "swin_tiny_cpvt": SwinConfig(position_encoding="conditional", drop_path_rate=0.2),
    "swin_small": SwinConfig(depths=(2, 2, 18, 2), drop_path_rate=0.3),
    "swin_base": SwinConfig(
        width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), drop_path_rate=0.5
    ),
}
"""Paper section 3.3, equal to the released configurations (``swin_tiny_patch4_window7_224.yaml``
and its neighbours). Drop path: appendix A2.1 and the same files; with CPVT's encoding it is not
stated and taken to be Swin-T's."""
