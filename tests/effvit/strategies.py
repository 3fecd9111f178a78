"""Random configurations and sizes, small enough to build in milliseconds."""

from __future__ import annotations

from hypothesis import strategies as st

from effvit.designs.macro import POINTWISE, REPRESENTATIONS
from effvit.designs.sepvit import SepViTConfig

SIZES = st.tuples(st.integers(32, 110), st.integers(32, 110))
"""Height and width: odd, not square, and seldom what windows divide."""

PATTERNS = st.lists(st.integers(1, 15), min_size=1, max_size=3).map(tuple)


@st.composite
def sepvit_configs(draw: st.DrawFn) -> SepViTConfig:
    """A SepViT with every option free."""
    stages = range(4)
    heads = tuple(draw(st.integers(1, 3)) for _ in stages)
    return SepViTConfig(
        image_size=draw(SIZES),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from((0, 5))),
        drop_path_rate=draw(st.sampled_from((0.0, 0.3))),
        widths=tuple(count * draw(st.sampled_from((4, 8))) for count in heads),
        depths=tuple(draw(st.integers(1, 3)) for _ in stages),
        heads=heads,
        windows=tuple(draw(PATTERNS) for _ in stages),
        mlp_ratio=draw(st.sampled_from((0.5, 1.0, 2.0, 4.0))),
        overlapping_patch_embedding=draw(st.booleans()),
        conditional_position_encoding=draw(st.booleans()),
        inner_shortcuts=draw(st.booleans()),
    ).replace(
        window_representation=draw(st.sampled_from(REPRESENTATIONS)),
        pointwise_attention=draw(st.sampled_from(POINTWISE)),
    )
