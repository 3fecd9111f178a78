"""What the papers say about latency, as data: what is compared with what, and the printed figures.

A published figure is how many times as fast the paper's own network is, as a quotient of what is
printed. Devices differ from paper to paper and from this machine, so a figure always carries what
was measured, and where it is printed. Accuracies are published top-1 on ImageNet-1K; nothing here
is the accuracy of a proxy.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from effvit import model_config
from effvit.config import parse_resolution, unknown_name
from effvit.cost import OperationLedger
from effvit.designs.attention.design import AttentionDesign
from effvit.designs.attention.full import FullAttention
from effvit.designs.attention.linear import ReLULinearAttention
from effvit.designs.efficientvit import EfficientViTConfig
from experiments.ablation.sepvit_tables import BLOCK_PATTERNS
from experiments.ablation.subjects import Blocks, Costs, Network, Subject, TimmNetwork
from experiments.published_rows import Row, read_rows

# --- what is compared ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class AttentionLayer:
    """One attention alone, on a square map.

    Attributes:
        design: The attention.
        side: Side of the map in pixels.
    """

    design: AttentionDesign
    side: int
    config: None = None
    absence: str = ""

    @property
    def key(self) -> str:
        """The attention's name, its channels and heads, and the map."""
        settings = "-".join(f"{key}{value}" for key, value in self.design.settings().items())
        return f"{self.design.name}-{self.design.channels}-{settings}-{self.side}x{self.side}"

    @property
    def image_size(self) -> tuple[int, int]:
        """Of the map that it is measured on."""
        return self.side, self.side

    @property
    def peak_bytes(self) -> int:
        """Memory of a pass over one map in float32, where attention maps are not written."""
        return self._ledger().total().peak_bytes()

    def costs(self) -> Costs:
        """Count in closed form."""
        cost = self._ledger().total()
        return Costs(cost.params, cost.macs)

    def _ledger(self) -> OperationLedger:
        ledger = OperationLedger()
        self.design.add_cost(ledger, "layer", shape=self.image_size, held=0)
        return ledger


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        label: How people call it.
        subject: What is measured.
        family: Family of networks; empty for parts of networks.
        top1: Published top-1 on ImageNet-1K in percent, None for parts of networks.
        source: Publication, version and table of that accuracy.
    """

    label: str
    subject: Subject
    family: str = ""
    top1: float | None = None
    source: str = ""


class Published(NamedTuple):
    """A published figure.

    Attributes:
        times: How many times as fast the paper's network is; below 1 it is slower.
        quantity: What was measured, and on what.
        source: Publication, version and table.
    """

    times: float | None
    quantity: str
    source: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two things whose times are compared.

    Attributes:
        group: What the comparison is about; see :data:`FRONT`.
        ours: The side that the paper is about.
        peer: What it is compared with.
        published: The paper's figure.
        batches: Images a call.
        quick: Part of the small version.
    """

    group: str
    ours: Side
    peer: Side
    published: Published
    batches: tuple[int, ...] = (1,)
    quick: bool = False

    @property
    def name(self) -> str:
        """Name that tells comparisons of a group apart."""
        return f"{self.ours.label} / {self.peer.label}"


# --- networks with a published accuracy ---------------------------------------------------------

DESIGN_SIZE = ""
"""Resolution of rows that do not name one."""

README, IMAGENET = "released code's readme", "ImageNet-1K"
V3, V4 = "SepViT, arXiv 2203.15380v3", "SepViT, released code's readme (arXiv v4)"


class Accuracies(NamedTuple):
    """Rows of a published table whose networks are measured.

    Attributes:
        family: Family of the networks.
        paper, table: Publication and table, as in the published rows of this package, where
            accuracies are looked up.
        rows: Names of the rows.
        sizes: Resolutions that the rows name.
    """

    family: str
    paper: str
    table: str
    rows: tuple[str, ...]
    sizes: tuple[str, ...] = (DESIGN_SIZE,)


ACCURACIES = (
    Accuracies("SepViT", V3, "Table 8, lite models", ("SepViT-Lite",)),
    Accuracies("SepViT", V4, "models", ("SepViT-T", "SepViT-S", "SepViT-B")),
    Accuracies("Swin", f"Swin Transformer, {README}", IMAGENET, ("Swin-T", "Swin-S", "Swin-B")),
    Accuracies(
        "Twins-SVT", f"Twins, {README}", IMAGENET, ("Twins-SVT-S", "Twins-SVT-B", "Twins-SVT-L")
    ),
    Accuracies(
        "CSWin",
        "CSWin Transformer, arXiv 2107.00652v3",
        "Table 1, variants",
        ("CSWin-T", "CSWin-S", "CSWin-B"),
    ),
    Accuracies("PVTv2", V3, "Table 2, ImageNet-1K", ("PVT-v2-B2",)),
    Accuracies(
        "MobileViT",
        "MobileViT, arXiv 2110.02178v2",
        "Table 4, architecture",
        ("MobileViT-XXS", "MobileViT-XS", "MobileViT-S"),
    ),
    Accuracies(
        "MobileViTv2",
        "MobileViTv2, released code's model zoo",
        IMAGENET,
        tuple(f"MobileViTv2-{width}" for width in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)),
    ),
    Accuracies(
        "EfficientViT",
        f"EfficientViT, {README}",
        IMAGENET,
        ("EfficientViT-B1", "EfficientViT-B2", "EfficientViT-B3"),
        ("224", "288"),
    ),
    Accuracies(
        "EfficientViT",
        f"EfficientViT, {README}",
        IMAGENET,
        ("EfficientViT-L1", "EfficientViT-L2"),
        ("224",),
    ),
)

EFFICIENTNET_PAPER = "EfficientNet, arXiv 1905.11946v5, Table 2"
EFFICIENTNET: Mapping[str, tuple[int, float]] = {
    "b0": (224, 77.1),
    "b1": (240, 79.1),
    "b2": (260, 80.1),
    "b3": (300, 81.6),
    "b4": (380, 82.9),
    "b5": (456, 83.6),
    "b6": (528, 84.0),
}
"""Resolution and published top-1; timm builds them."""


@functools.cache
def networks() -> Mapping[str, Side]:
    """All networks with a published accuracy, by label."""
    rows = {(row.paper, row.table, row.row, row.resolution): row for row in read_rows()}
    known: list[Side] = []
    for found in ACCURACIES:
        known += [
            _side(found.family, rows[found.paper, found.table, name, size])
            for size in found.sizes
            for name in found.rows
        ]
    for name, (side, top1) in EFFICIENTNET.items():
        subject = TimmNetwork(f"efficientnet_{name}", (side, side))
        label = f"EfficientNet-{name.upper()}"
        known.append(Side(label, subject, "EfficientNet", top1, EFFICIENTNET_PAPER))
    return {side.label: side for side in known}


def _side(family: str, row: Row) -> Side:
    config = model_config(row.model)
    if row.resolution:
        config = config.replace(image_size=parse_resolution(row.resolution))
    usual = config.image_size == model_config(row.model).image_size
    label = row.row if usual else f"{row.row} r{row.resolution}"
    return Side(label, Network(config), family, float(row.top1), f"{row.paper}, {row.table}")


def network(label: str) -> Side:
    """A network with a published accuracy.

    Raises:
        ConfigError: No such label; the nearest is offered.
    """
    if label not in networks():
        raise unknown_name("network with a published accuracy", label, networks())
    return networks()[label]


# --- the claims about networks ------------------------------------------------------------------

SEPVIT = f"{V3}, Table 2"
T4 = "latency, TensorRT on a T4, batch 8"
GPU = "images a second, PyTorch on a GPU that is not named"
PHONE_V2 = Published(3.2, "latency on a phone", "MobileViTv2, arXiv 2206.02680v1, abstract")
V2_FASTER = Published(None, "faster, without a figure", "MobileViTv2, arXiv 2206.02680v1")
SNAPDRAGON = Published(
    3.0,
    "latency on a Snapdragon 855 CPU; sizes are not named",
    "EfficientViT, arXiv 2205.14756v2, abstract",
)
POSTER = "EfficientViT, poster in the released code"
POSTER_B6 = Published(7.9, "latency on a Snapdragon 8 Gen 1 CPU", POSTER)

SEPVIT_SWIN = "SepViT against Swin, sizes of one cost"
SEPVIT_TWINS = "SepViT against Twins-SVT, sizes of one cost"
SEPVIT_CSWIN = "SepViT against CSWin, equal accuracy (abstract: 40 % lower latency)"
SEPVIT_EQUAL = "SepViT against the next larger Swin and Twins-SVT, equal accuracy"
MOBILE = "MobileViTv2 against MobileViT"
CONVOLUTIONS = "EfficientViT against EfficientNet, at no lower accuracy"

BOTH = (1, 16)

NETWORK_CLAIMS: tuple[tuple[str, str, str, Published, tuple[int, ...]], ...] = (
    (SEPVIT_CSWIN, "SepViT-T", "CSWin-T", Published(30.2 / 23.7, T4, SEPVIT), BOTH),
    (SEPVIT_SWIN, "SepViT-T", "Swin-T", Published(738 / 704, GPU, SEPVIT), BOTH),
    (SEPVIT_TWINS, "SepViT-T", "Twins-SVT-S", Published(18.8 / 23.7, T4, SEPVIT), BOTH),
    (SEPVIT_EQUAL, "SepViT-T", "Swin-S", Published(738 / 412, GPU, SEPVIT), (1,)),
    (SEPVIT_CSWIN, "SepViT-S", "CSWin-S", Published(52.0 / 34.5, T4, SEPVIT), (1,)),
    (SEPVIT_SWIN, "SepViT-S", "Swin-S", Published(476 / 412, GPU, SEPVIT), (1,)),
    (SEPVIT_TWINS, "SepViT-S", "Twins-SVT-B", Published(38.9 / 34.5, T4, SEPVIT), (1,)),
    (SEPVIT_EQUAL, "SepViT-S", "Swin-B", Published(476 / 255, GPU, SEPVIT), (1,)),
    (SEPVIT_EQUAL, "SepViT-S", "Twins-SVT-L", Published(48.3 / 34.5, T4, SEPVIT), (1,)),
    (SEPVIT_CSWIN, "SepViT-B", "CSWin-B", Published(76.1 / 46.0, T4, SEPVIT), (1,)),
    (SEPVIT_SWIN, "SepViT-B", "Swin-B", Published(308 / 255, GPU, SEPVIT), (1,)),
    (SEPVIT_TWINS, "SepViT-B", "Twins-SVT-L", Published(48.3 / 46.0, T4, SEPVIT), (1,)),
    (MOBILE, "MobileViTv2-0.5", "MobileViT-XXS", V2_FASTER, BOTH),
    (MOBILE, "MobileViTv2-0.75", "MobileViT-XS", PHONE_V2, BOTH),
    (MOBILE, "MobileViTv2-1.0", "MobileViT-S", V2_FASTER, BOTH),
    (CONVOLUTIONS, "EfficientViT-B1", "EfficientNet-B1", SNAPDRAGON, BOTH),
    (CONVOLUTIONS, "EfficientViT-B2", "EfficientNet-B3", SNAPDRAGON, (1,)),
    (CONVOLUTIONS, "EfficientViT-B3", "EfficientNet-B4", SNAPDRAGON, (1,)),
    (CONVOLUTIONS, "EfficientViT-B3 r288", "EfficientNet-B6", POSTER_B6, (1,)),
)
"""Group, the paper's network, its peer, the published figure, batch sizes."""

QUICK = ("SepViT-T / CSWin-T", "MobileViTv2-0.75 / MobileViT-XS")


def _network_claims() -> Iterator[Comparison]:
    for group, ours, peer, published, batches in NETWORK_CLAIMS:
        claim = Comparison(group, network(ours), network(peer), published, batches)
        yield dataclasses.replace(claim, quick=claim.name in QUICK)


# --- the claims about blocks and resolutions ----------------------------------------------------

BLOCKS = "One SepViT block against two blocks of Swin and of Twins, at SepViT-T's widths"
BAR_CHART = f"{V3}, bar chart of block complexity"
BLOCK_MACS = {
    "two Swin blocks": (1.9, 2.0, 2.0, 2.0),
    "two Twins blocks": (0.76 / 0.40, 0.712 / 0.367, 0.70 / 0.358, 0.694 / 0.354),
}
"""Published by stage: annotated reductions for Swin, heights of bars (to 0.004 G) for Twins."""


def _block_claims() -> Iterator[Comparison]:
    one = "one SepViT block"
    for peer, figures in BLOCK_MACS.items():
        for stage, times in enumerate(figures):
            ours, theirs = (
                Side(label, Blocks(design, stage, blocks))
                for label, (design, blocks) in (
                    (f"stage {stage + 1}: {one}", BLOCK_PATTERNS[one]),
                    (peer, BLOCK_PATTERNS[peer]),
                )
            )
            published = Published(times, "multiply-accumulates, no latency", BAR_CHART)
            yield Comparison(BLOCKS, ours, theirs, published, BOTH, quick=stage == 0)


ATTENTION = "ReLU linear attention against softmax attention, EfficientViT-B1's stage 3"
STRIDE = 16
"""Of the map that EfficientViT attends to first."""

RESOLUTIONS: Mapping[int, Published] = {
    224: Published(None, "linear in the pixels, without a figure", POSTER),
    384: Published(3.3, "latency on a mobile CPU, map of 24", POSTER),
    512: Published(103 / 20, "latency on a mobile CPU, map of 32, read off a plot", POSTER),
    640: Published(4.5, "latency on a mobile CPU, map of 40", POSTER),
    1024: Published(None, "linear in the pixels, without a figure", POSTER),
    2048: Published(None, "linear in the pixels, without a figure", POSTER),
}
"""Published figures by resolution; the poster does not name channels and heads."""


def _attention_claims() -> Iterator[Comparison]:
    config = model_config("efficientvit_b1")
    assert isinstance(config, EfficientViTConfig)
    channels = config.widths[3]
    sizes = {"channels": channels, "heads": channels // config.head_dim}
    for resolution, published in RESOLUTIONS.items():
        ours, peer = (
            Side(label, AttentionLayer(design, resolution // STRIDE))
            for label, design in (
                (f"{resolution}: ReLU linear", ReLULinearAttention(**sizes, scales=())),
                ("softmax", FullAttention(**sizes)),
            )
        )
        yield Comparison(ATTENTION, ours, peer, published, quick=resolution == min(RESOLUTIONS))


GROWTH = "EfficientViT-B1 against EfficientNet-B1 as resolution grows"
GROWN = Published(None, "faster, without a figure", "EfficientViT, arXiv 2205.14756v2, abstract")


def _growth_claims() -> Iterator[Comparison]:
    for side in (224, 512, 1024, 2048):
        size = (side, side)
        config = model_config("efficientvit_b1").replace(image_size=size)
        ours = Side(f"{side}: EfficientViT-B1", Network(config))
        peer = Side("EfficientNet-B1", TimmNetwork("efficientnet_b1", size))
        yield Comparison(GROWTH, ours, peer, GROWN)


# --- all of it ----------------------------------------------------------------------------------

FRONT = "Latency and published accuracy of all families"
"""Group of comparisons that no paper makes: every network with one reference."""

REFERENCE = "SepViT-Lite"


def _front() -> Iterator[Comparison]:
    nothing = Published(None, "", "")
    quick = (REFERENCE, "MobileViTv2-0.5", "EfficientViT-B1")
    for label, side in networks().items():
        yield Comparison(FRONT, side, network(REFERENCE), nothing, quick=label in quick)


def comparisons() -> tuple[Comparison, ...]:
    """All comparisons, in the order they are measured."""
    return (
        *_network_claims(),
        *_block_claims(),
        *_attention_claims(),
        *_growth_claims(),
        *_front(),
    )
