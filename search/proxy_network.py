"""The network that the proxy trains: a variant scaled down to a canvas, with an additive head.

The scaling rule, from a variant at its design resolution to canvases of 96 x 96 pixels:

- Maps shrink with the image; at 224 pixels from 56, 28, 14, 7 to 24, 12, 6, 3.
- A block's window gets the side that keeps the number of windows nearest to the original's (in
  ratio), of those the one that pads least, of those the one nearest to the original in proportion.
  At 224 pixels this takes 7 to 3 and 14 to 6 with exactly the original's window counts; a single
  window stays one and several stay several, so a block mixes windows exactly if the original does.
  At other design resolutions (256, 384, 512 x 2048, ...) the same rule applies to the number of
  windows on the whole map; counts above what windows of 2 x 2 give are cut to that.
- Widths follow a power law around half of SepViT-Lite: in stage s, of C channels remain
  ``16 * 2^s * (C / (32 * 2^s)) ^ WIDTH_EXPONENT``, rounded to a multiple of the heads and kept
  above 12 * 2^s where the heads allow. It is monotone, and makes wide variants affordable.
- Depths, attention pattern, heads, MLP ratio, representation and all switches stay. What acts in
  training only (dropout, stochastic depth) is off: a short run does not overfit.

The head is additive and linear on purpose: logits are a sum of one linear reading of each stage.
With any nonlinearity after the sum, the last stage, a single window in nearly all variants, would
hand the cue to every cell, and no variant would need to mix windows earlier.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn

from effvit import create_model
from effvit.config import ConfigError, ModelConfig, Resolution
from effvit.cost import ceil_div
from effvit.designs.sepvit import SepViTConfig, stage_maps
from effvit.networks.sepvit import SepViT
from search.digits import CANVAS, CLASSES, GRID

WIDTH_EXPONENT = 1 / 3
_REFERENCE_WIDTH = 32  # SepViT-Lite's first stage, and what it becomes
_REFERENCE_TARGET = 16
_WIDTH_FLOOR = 12  # below, whether the relation is found depends on the seed
_SMALLEST_WINDOW = 2
_RESIDUAL_SCALE = 0.3


def proxy_config(config: ModelConfig) -> SepViTConfig:
    """Scale a variant down to what the proxy trains, by the rule of this module.

    Raises:
        ConfigError: A family whose scaling rule does not exist.
    """
    if not isinstance(config, SepViTConfig):
        raise ConfigError(f"the proxy scales family sepvit, got family {config.family!r}")
    small = stage_maps((CANVAS, CANVAS))
    windows = tuple(
        tuple(_window(side, shape, small[stage][0]) for side in config.block_windows(stage))
        for stage, shape in enumerate(stage_maps(config.image_size))
    )
    widths = tuple(
        _width(width, heads, stage)
        for stage, (width, heads) in enumerate(zip(config.widths, config.heads, strict=True))
    )
    return config.replace(
        image_size=(CANVAS, CANVAS),
        in_channels=3,
        widths=widths,
        windows=windows,
        mlp_ratio=_mlp_ratio(config.mlp_ratio, widths),
        num_classes=0,
        drop_rate=0.0,
        drop_path_rate=0.0,
    )


def _window(side: int, shape: Resolution, small: int) -> int:
    """Window side on a square map of side ``small`` for one on a map of ``shape``."""
    count = ceil_div(shape[0], min(side, shape[0])) * ceil_div(shape[1], min(side, shape[1]))
    if count == 1:
        return small
    proportional = side * small / math.sqrt(shape[0] * shape[1])

    def distance(candidate: int) -> tuple[float, int, float]:
        across = ceil_div(small, candidate)
        return (
            abs(math.log(across**2 / count)),
            across * candidate - small,
            abs(candidate - proportional),
        )

    return min(range(_SMALLEST_WINDOW, small), key=distance)


def _width(width: int, heads: int, stage: int) -> int:
    """Channels that remain of ``width``, a multiple of ``heads``."""
    relative = width / (_REFERENCE_WIDTH * (1 << stage))
    target = _REFERENCE_TARGET * (1 << stage) * math.pow(relative, WIDTH_EXPONENT)
    target = max(target, _WIDTH_FLOOR * (1 << stage))
    return max(1, round(target / heads)) * heads


def _mlp_ratio(ratio: float, widths: tuple[int, ...]) -> float:
    """Keep the ratio, or the nearest whole one where hidden widths would not be integers."""
    whole = all((width * ratio).is_integer() for width in widths)
    return ratio if whole else float(max(1, round(ratio)))


def mixes_windows(config: SepViTConfig) -> bool:
    """Whether distant cells can meet before the last stage: a block with PSA, or one window."""
    return any(
        block.representation != "none" or block.grid == (1, 1)
        for stage in config.plan()[:-1]
        for block in stage.blocks
    )


class ProxyNetwork(nn.Module):
    """A scaled variant and its additive head: canvases (B, 3, 96, 96) -> logits (B, 36, 11)."""

    def __init__(self, config: SepViTConfig) -> None:
        super().__init__()
        body = create_model(config)
        assert isinstance(body, SepViT)
        body.norm = nn.Identity()  # only the stages' maps are read
        self.body = body
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in config.widths)
        self.readings = nn.ModuleList(nn.Linear(width, CLASSES) for width in config.widths)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 96, 96) -> (B, 36, 11)."""
        maps = self.body.forward_stages(images)
        logits = [
            _on_cells(norm(x), reading)
            for x, norm, reading in zip(maps, self.norms, self.readings, strict=True)
        ]
        return torch.stack(logits).sum(0).flatten(1, 2)


def _on_cells(x: Tensor, reading: nn.Module) -> Tensor:
    """Read a map (B, H, H, C) cell by cell: (B, 6, 6, 11).

    Averaging and the linear reading commute; the smaller of the two maps is read.
    """
    side = x.shape[1]
    if side > GRID:
        step = side // GRID
        x = x.unflatten(1, (GRID, step)).unflatten(3, (GRID, step)).mean((2, 4))
    logits: Tensor = reading(x)
    if side < GRID:
        repeat = GRID // side
        logits = logits.repeat_interleave(repeat, 1).repeat_interleave(repeat, 2)
    return logits


def initialise(network: ProxyNetwork, seed: int) -> None:
    """Initialise every tensor by its name: variants share what they have in common.

    These are common random numbers, which take noise out of comparisons of variants. Matrices and
    kernels are normal, cut at two deviations of 1 / sqrt(fan-in), times 0.3 where they end a
    residual branch, which lets short runs learn faster; norms, biases and window tokens are as the
    network has them.
    """
    for name, tensor in network.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(tensor)
        elif tensor.ndim > 1 and not name.endswith(".token"):
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            deviation = tensor[0].numel() ** -0.5
            if name.endswith((".proj.weight", ".fc2.weight")):
                deviation *= _RESIDUAL_SCALE
            nn.init.trunc_normal_(
                tensor, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
            )
