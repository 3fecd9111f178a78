"""What all networks have in common: stages, a head, and timm's conventions for backbones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from effvit.config import ConfigError, ConfigT
from effvit.networks.layers import eager_on_cpu, initialise

Layout = Literal["NCHW", "NHWC"]
"""Order of a map's axes: images, channels, height and width."""

LayerGroups = dict[str, str | list[tuple[str, tuple[int, ...] | None]]]
"""timm's patterns of parameter names, with numbers that it appends to those that they match."""

CHANNELS_LAST = (0, 2, 3, 1)
CHANNELS_FIRST = (0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks one after the other.

    Args:
        blocks: The blocks.
        embed: What shrinks the map before them, where that is no block; it is never recomputed.
    """

    def __init__(self, blocks: Iterable[nn.Module], embed: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks."""
        if self.embed is not None:
            x = self.embed(x)
        for block in self.blocks:
            x = self.run(block, x)
        return x

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run a block, keeping or recomputing its activations for the backward pass."""
        return checkpoint(block, x, use_reentrant=False) if self.grad_checkpointing else block(x)


PIECE_ELEMENTS = 1 << 20
"""Elements of a stage's input that are run at once on a CPU."""


def in_pieces(part: nn.Module, x: Tensor) -> Tensor:
    """Run a part of a network, without gradients on a CPU a few images at a time.

    What a stage computes in between is several times as large as its input. In pieces it stays in
    the caches, and memory is used again that the operating system has handed out already.
    """
    if part.training or torch.is_grad_enabled() or not eager_on_cpu(x):
        return part(x)
    images = max(1, PIECE_ELEMENTS // x[0].numel())
    if len(x) <= images:
        return part(x)
    return torch.cat([part(piece) for piece in x.split(images)])


class GlobalAverage(nn.Module):
    """Average over positions, a map of the given layout -> (B, C)."""

    def __init__(self, layout: Layout = "NCHW") -> None:
        super().__init__()
        self.positions = (layout.index("H"), layout.index("W"))

    def forward(self, x: Tensor) -> Tensor:
        """Average."""
        return x.mean(self.positions)


class Backbone(nn.Module, Generic[ConfigT]):
    """A network of stages: ``stem``, ``stages``, ``norm``, ``neck``, ``head``.

    Calling it gives logits (B, num_classes), from images (B, in_channels, H, W) of any size from 32
    pixels. ``neck`` turns the last map into a vector, ``head`` classifies it. Derived classes build
    the parts and then call :meth:`finish`.

    Attributes:
        layout: Order of the axes of the maps that stages take and return.
        config: What was built.
        stage_widths: Channels of the stages' maps.
        num_features: Channels of the last map.
        head_hidden_size: Inputs of the classifier.
        feature_info: Channels, stride and name of each stage, as timm has it.
    """

    layout: ClassVar[Layout] = "NCHW"

    stem: nn.Module
    stages: nn.ModuleList

    def __init__(
        self, config: ConfigT, widths: Sequence[int], strides: Sequence[int], head_inputs: int
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.stage_widths = tuple(widths)
        self.num_features = widths[-1]
        self.head_hidden_size = head_inputs
        self.feature_info = [
            {"num_chs": width, "reduction": stride, "module": f"stages.{index}"}
            for index, (width, stride) in enumerate(zip(widths, strides, strict=True))
        ]

    def finish(
        self,
        stem: nn.Module,
        stages: Iterable[nn.Module],
        neck: nn.Module,
        norm: nn.Module | None = None,
    ) -> None:
        """Take the parts, add the classifier, and initialise all."""
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.norm: nn.Module = norm or nn.Identity()
        self.neck = neck
        self.head_drop = nn.Dropout(self.config.drop_rate)
        self.head = self._classifier()
        self.apply(initialise)
        # Kernels in this order need not be reordered at every call, and make maps in this order.
        self.to(memory_format=torch.channels_last)

    def _classifier(self) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        return nn.Linear(self.head_hidden_size, self.num_classes)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Maps of all stages, before the final norm, in the network's :attr:`layout`.

        Args:
            x: (B, in_channels, H, W).
        """
        maps = []
        x = in_pieces(self.stem, x)
        for stage in self.stages:
            x = in_pieces(stage, x)
            maps.append(x)
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Last map after the final norm; earlier maps are not kept."""
        x = in_pieces(self.stem, x)
        for stage in self.stages:
            x = in_pieces(stage, x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the last map; with ``pre_logits`` return what the classifier reads."""
        x = self.head_drop(self.neck(x))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps of chosen stages, as timm's feature extraction asks for them.

        Args:
            x: (B, in_channels, H, W).
            indices: Stages; the last n for an integer n; all if not given.
            norm: Apply the final norm to the last stage's map.
            stop_early: Do not run stages after the last chosen one (needs ``intermediates_only``).
            output_fmt: ``NCHW`` or ``NHWC``.
            intermediates_only: Return only the maps.

        Returns:
            The maps, or the normed last map in the network's :attr:`layout` and the maps.

        Raises:
            ConfigError: Another format, or no such stage.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ConfigError(f"output_fmt must be NCHW or NHWC, got {output_fmt!r}")
        chosen = self._chosen(indices)
        last = len(self.stages) - 1
        maps: list[Tensor] = []
        x = in_pieces(self.stem, x)
        for index, stage in enumerate(self.stages):
            if stop_early and intermediates_only and index > max(chosen):
                break
            x = in_pieces(stage, x)
            if index in chosen:
                out = self.norm(x) if norm and index == last else x
                maps.append(self._in_layout(out, output_fmt))
        return maps if intermediates_only else (self.norm(x), maps)

    def _in_layout(self, x: Tensor, layout: str) -> Tensor:
        if layout == self.layout:
            return x
        return x.permute(CHANNELS_FIRST if layout == "NCHW" else CHANNELS_LAST)

    def _chosen(self, indices: int | list[int] | None) -> list[int]:
        count = len(self.stages)
        if indices is None:
            indices = count
        if isinstance(indices, int):
            indices = list(range(-indices, 0))
        if not indices or not all(-count <= index < count for index in indices):
            raise ConfigError(
                f"indices must choose from {count} stages, 0 to {count - 1}, got {indices!r}"
            )
        return [index % count for index in indices]

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the maps of the chosen stages; return their indices."""
        chosen = self._chosen(indices)
        self.stages = self.stages[: max(chosen) + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.neck = GlobalAverage(self.layout)
            self.num_features = self.head_hidden_size = self.stage_widths[max(chosen)]
            self.reset_classifier(0)
        return chosen

    def get_classifier(self) -> nn.Module:
        """The classifier."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; ``global_pool`` can only be the average."""
        if global_pool not in (None, "avg"):
            raise ConfigError(f"global_pool must be avg, got {global_pool!r}")
        self.config = self.config.replace(num_classes=num_classes)
        self.num_classes = num_classes
        self.head = self._classifier()
        self.head.apply(initialise)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass instead of keeping their activations."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, beside norms and biases, which timm knows by shape."""
        return set()

    def group_matcher(self, coarse: bool = False) -> LayerGroups:
        """Parameter groups for layer-wise learning rates: stem, then blocks in order."""
        blocks = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.blocks\.(\d+)"
        return {"stem": r"^stem", "blocks": blocks}
