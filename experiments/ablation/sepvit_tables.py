"""Ablations of SepViT: the paper's tables (arXiv 2203.15380v3) and what it does not give."""

from __future__ import annotations

from collections.abc import Iterator

from effvit import ModelConfig
from effvit.config import ConfigError
from effvit.designs.hybrid import HybridConfig
from effvit.designs.pvtv2 import PVTv2Config
from effvit.designs.sepvit import VARIANTS, SepViTConfig
from effvit.designs.swin import VARIANTS as SWIN
from effvit.designs.twins import VARIANTS as TWINS
from experiments.ablation.definition import (
    ALL_MEASURES,
    OFF,
    ON,
    Ablation,
    Change,
    Factor,
    Row,
    becomes,
    switch,
)
from experiments.ablation.designs import (
    FractionalFactorial,
    FullFactorial,
    LeaveOneOut,
    OneFactor,
    Path,
)
from experiments.ablation.published import Published
from experiments.ablation.subjects import Blocks, Network, TimmNetwork

PAPER = "Li et al., SepViT, arXiv 2203.15380v3"
TOP1 = "published top-1, ImageNet-1K (%)"
GPU_SPEED = "images a second in PyTorch on a GPU that the paper does not name; here on a CPU"

LITE, TINY = VARIANTS["sepvit_lite"], VARIANTS["sepvit_tiny"]
GROUPED = ((7,), (7, 14), (7, 14), (7,))
"""Window sides of DSSA and GSA in turns in stages 2 and 3."""

UNGROUPED = ((7,),) * 4

SWIN_LIKE = HybridConfig(
    depths=SWIN["swin_tiny"].depths,
    attention=(("window", "shifted_window"),) * 4,
    overlapping_patch_embedding=False,
)
"""Swin-T with CPVT in SepViT's macro-architecture: other norms around its patch embeddings."""

DSSA_ALONE = TINY.replace(
    windows=UNGROUPED, window_representation="zero", overlapping_patch_embedding=False
)
"""SepViT-T with patches that do not overlap, without GSA, its window tokens fixed to zero."""


COMPONENTS = Ablation(
    question="What does each component of SepViT-T cost and contribute? (Table 6)",
    base=SWIN["swin_tiny_cpvt"],
    base_label="Swin-T + CPVT",
    factors=(
        Factor("DSSA", {OFF: {}, ON: becomes(DSSA_ALONE)}),
        switch("overlapping embedding", overlapping_patch_embedding=True),
        switch("GSA", windows=GROUPED),
        switch("learned token", window_representation="learned"),
    ),
    design=Path(),
    measures=ALL_MEASURES,
    stand_ins={"Swin-T + CPVT": SWIN_LIKE},
    reference="sepvit_tiny",
    published=Published(
        "ablation_published_sepvit_components.csv", f"{PAPER}, Table 6", TOP1, GPU_SPEED
    ),
    notes=(
        "All rows are built at the size of the paper; the proxy trains them scaled down.",
        "Rows before the learned token have window tokens fixed to zero.",
        "Swin's stand-in differs from it in the norms around patch embeddings.",
    ),
)

WINDOW_TOKENS = Ablation(
    question="How should a window be represented among windows in SepViT-T? (Table 7)",
    base=TINY,
    factors=(
        Factor(
            "window representation",
            {
                "learned token": {},
                "zero token": {"window_representation": "zero"},
                "average pooling": {"window_representation": "average"},
                "depthwise convolution": {"window_representation": "depthwise"},
            },
        ),
    ),
    design=OneFactor(),
    measures=ALL_MEASURES,
    reference="sepvit_tiny",
    published=Published(
        "ablation_published_sepvit_window_tokens.csv", f"{PAPER}, Tables 6 and 7", TOP1, GPU_SPEED
    ),
)


BLOCK_PATTERNS = {
    "two Swin blocks": (SWIN["swin_tiny"], (0, 1)),
    "two Twins blocks": (TWINS["twins_svt_base"], (0, 1)),
    "one SepViT block": (TINY.replace(pointwise_attention="always"), (0,)),
}
"""What exchanges information within and among windows, all at SepViT-T's widths."""


def _block_rows() -> Iterator[Row]:
    for stage in range(4):
        group = f"stage {stage + 1}"
        for name, (network, blocks) in BLOCK_PATTERNS.items():
            yield Row(f"{group}: {name}", Blocks(network, stage, blocks), group=group)


BLOCKS = Ablation(
    question="What does one SepViT block cost beside two blocks of Swin and of Twins? (figure)",
    given=tuple(_block_rows()),
    measures=frozenset({"latency"}),
    reference="sepvit_tiny",
    published=Published(
        "ablation_published_sepvit_blocks.csv", f"{PAPER}, bar chart of block complexity"
    ),
    notes=(
        "The paper draws bars; their heights are read off to about 0.004 G.",
        "It annotates reductions of 1.9, 2.0, 2.0, 2.0 times, from Swin's pair to SepViT's block.",
        "SepViT's stage 4 has pointwise attention, as in the paper's formula but not its code.",
        "Of Twins' bars no count is known that gives their height: the plain formula gives less.",
    ),
)

LITE_PEERS = Ablation(
    question="What does SepViT-Lite cost beside other small networks? (Table 8)",
    given=(
        Row("SepViT-Lite", Network(LITE)),
        Row("MobileNetV2", TimmNetwork("mobilenetv2_100")),
        Row("ResNet18", TimmNetwork("resnet18")),
        Row("PVTv2-B0", Network(PVTv2Config(widths=(32, 64, 160, 256), depths=(2, 2, 2, 2)))),
    ),
    measures=frozenset({"latency"}),
    published=Published("ablation_published_sepvit_lite.csv", f"{PAPER}, Table 8", TOP1),
    notes=("Networks of other families have no proxy accuracy: the columns are costs only.",),
)


FACTORIAL = Ablation(
    question="DSSA, GSA and the learned token in all combinations: main effects and interactions?",
    base=LITE.replace(windows=UNGROUPED, window_representation="zero", pointwise_attention="off"),
    base_label="window attention only",
    factors=(
        switch("DSSA", pointwise_attention="multi_window"),
        switch("GSA", windows=GROUPED),
        switch("learned token", window_representation="learned"),
    ),
    design=FullFactorial(),
    measures=ALL_MEASURES,
    order=3,
    notes=(
        "Without DSSA nothing reads the token: rows that differ in it alone are one network there.",
        "Hence the token's effect equals its interaction with DSSA.",
        "The paper gives single steps only (Table 6), no interactions.",
    ),
)

LEAVE_ONE_OUT = Ablation(
    question="What does SepViT-Lite lose without each of its components?",
    base=LITE,
    base_label="SepViT-Lite",
    factors=(
        Factor("overlapping embedding", {OFF: {"overlapping_patch_embedding": False}, ON: {}}),
        Factor("position encoding", {OFF: {"conditional_position_encoding": False}, ON: {}}),
        Factor("inner shortcuts", {OFF: {"inner_shortcuts": False}, ON: {}}),
        Factor("GSA", {OFF: {"windows": UNGROUPED}, ON: {}}),
        Factor("learned token", {OFF: {"window_representation": "zero"}, ON: {}}),
        Factor("pointwise attention", {OFF: {"pointwise_attention": "off"}, ON: {}}),
    ),
    design=LeaveOneOut(),
    measures=ALL_MEASURES,
)

SWITCHES = Ablation(
    question="Five switches of SepViT-Lite in a quarter of all combinations: main effects?",
    base=LITE.replace(
        overlapping_patch_embedding=False,
        conditional_position_encoding=False,
        inner_shortcuts=False,
        windows=UNGROUPED,
        window_representation="zero",
    ),
    factors=(
        switch("GSA", windows=GROUPED),
        switch("learned token", window_representation="learned"),
        switch("inner shortcuts", inner_shortcuts=True),
        switch("overlapping embedding", overlapping_patch_embedding=True),
        switch("position encoding", conditional_position_encoding=True),
    ),
    design=FractionalFactorial(
        {
            "overlapping embedding": ("GSA", "learned token"),
            "position encoding": ("GSA", "inner shortcuts"),
        }
    ),
    notes=("8 of 32 combinations: main effects are read as if interactions of two were small.",),
)


# --- sweeps -------------------------------------------------------------------------------------


def _sides(side: int) -> Change:
    """Windows of a side, GSA over twice the side."""
    return {"windows": ((side,), (side, 2 * side), (side, 2 * side), (side,))}


def _groups(count: int) -> Change:
    """GSA over groups of ``count`` x ``count`` windows of side 7."""
    return {"windows": ((7,), (7, 7 * count), (7, 7 * count), (7,))}


def _head_width(width: int) -> Change:
    """As many heads as give each so many channels."""

    def change(config: ModelConfig) -> ModelConfig:
        if not isinstance(config, SepViTConfig):
            raise ConfigError(f"heads of a SepViT are changed, got family {config.family!r}")
        return config.replace(heads=tuple(channels // width for channels in config.widths))

    return change


def _depth(blocks: int) -> Change:
    """So many blocks in stage 3, DSSA and GSA in turns."""
    return {"depths": (*LITE.depths[:2], blocks, LITE.depths[3])}


def _width(width: int) -> Change:
    """Channels of the first stage, doubled in each next; heads of 32 channels."""
    widths = tuple(width << stage for stage in range(4))
    return {"widths": widths, "heads": tuple(channels // 32 for channels in widths)}


def _sweep(question: str, name: str, levels: dict[str, Change]) -> Ablation:
    return Ablation(
        question=question,
        base=LITE,
        factors=(Factor(name, levels),),
        design=OneFactor(),
        measures=ALL_MEASURES,
    )


ABLATIONS: dict[str, Ablation] = {
    "sepvit_components": COMPONENTS,
    "sepvit_window_tokens": WINDOW_TOKENS,
    "sepvit_blocks": BLOCKS,
    "sepvit_lite_peers": LITE_PEERS,
    "sepvit_factorial": FACTORIAL,
    "sepvit_leave_one_out": LEAVE_ONE_OUT,
    "sepvit_switches": SWITCHES,
    "sepvit_depth": _sweep(
        "How many blocks should stage 3 of SepViT-Lite have?",
        "blocks in stage 3",
        {str(LITE.depths[2]): {}, **{str(blocks): _depth(blocks) for blocks in (2, 4, 10)}},
    ),
    "sepvit_width": _sweep(
        "How wide should SepViT-Lite be?",
        "channels of stage 1",
        {str(LITE.widths[0]): {}, **{str(width): _width(width) for width in (64, 96)}},
    ),
    "sepvit_window_side": _sweep(
        "How large should the windows of SepViT-Lite be?",
        "window side",
        {"7": {}, "4": _sides(4), "14": _sides(14)},
    ),
    "sepvit_group": _sweep(
        "Over how many windows should GSA attend in SepViT-Lite?",
        "group of windows",
        {"2 x 2": {}, "1 x 1": _groups(1), "4 x 4": _groups(4)},
    ),
    "sepvit_mlp_ratio": _sweep(
        "How wide should the MLP of SepViT-Lite be?",
        "MLP ratio",
        {"4": {}, **{str(ratio): {"mlp_ratio": float(ratio)} for ratio in (1, 2, 3)}},
    ),
    "sepvit_head_width": _sweep(
        "How many channels should a head of SepViT-Lite have?",
        "head width",
        {"32": {}, "16": _head_width(16), "8": _head_width(8)},
    ),
}
