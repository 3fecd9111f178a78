"""The network that the proxy trains: a scaled variant (:mod:`search.proxy.scaling`) and a head.

The head is additive and linear on purpose: logits are a sum of one linear reading of each stage.
With any nonlinearity after the sum, the last stage, which in nearly all variants relates all its
positions, would hand the cue to every cell, and no variant would need to relate cells earlier.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from effvit import create_model
from effvit.config import ModelConfig
from effvit.networks.backbone import CHANNELS_LAST, Backbone
from effvit.networks.efficientvit import MultiScaleLinearAttention
from effvit.networks.layers import ConvBlock
from search.proxy.digits import CLASSES, GRID

_RESIDUAL_SCALE = 0.3
_RESIDUAL_ENDS = (".proj.weight", ".fc2.weight", ".ffn.project.weight", ".pwconv2.weight")


class ProxyNetwork(nn.Module):
    """A scaled variant and its additive head: canvases (B, 3, 96, 96) -> logits (B, 36, 11)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        body = create_model(config)
        assert isinstance(body, Backbone)
        body.norm = body.neck = nn.Identity()  # only the stages' maps are read
        self.body = body
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in body.stage_widths)
        self.readings = nn.ModuleList(nn.Linear(width, CLASSES) for width in body.stage_widths)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 96, 96) -> (B, 36, 11)."""
        maps = self.body.forward_stages(images)
        if self.body.layout == "NCHW":
            maps = [x.permute(CHANNELS_LAST) for x in maps]
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
    kernels are normal, cut at two deviations of 1 / sqrt(fan-in); biases are zero; norms and window
    tokens are as the network has them. What ends a residual branch, a matrix or the scale of a
    norm, is times 0.3: short runs then learn faster, and those with batch norms find the relation
    more often.
    """
    for name, tensor in network.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(tensor)
        elif is_drawn(name, tensor):
            draw(name, tensor, seed)
    for norm in _norms_at_residual_ends(network):
        nn.init.constant_(norm, _RESIDUAL_SCALE)


def is_drawn(name: str, tensor: Tensor) -> bool:
    """Whether :func:`initialise` draws a parameter: matrices and kernels, not window tokens."""
    return tensor.ndim > 1 and not name.endswith(".token")


def draw(name: str, tensor: Tensor, seed: int) -> None:
    """Fill a matrix or a kernel (outputs, ...) with the numbers of its name, as said there."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    deviation = tensor[0].numel() ** -0.5
    if name.endswith(_RESIDUAL_ENDS):
        deviation *= _RESIDUAL_SCALE
    nn.init.trunc_normal_(
        tensor, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
    )


def _norms_at_residual_ends(network: nn.Module) -> Iterator[Tensor]:
    """Scales of the norms after which a branch is added to its shortcut."""
    for module in network.modules():
        if isinstance(module, ConvBlock) and module.shortcut:
            yield module[-1].get_parameter("norm.weight")
        elif isinstance(module, MultiScaleLinearAttention):
            yield module.proj.get_parameter("norm.weight")
