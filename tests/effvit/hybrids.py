"""Random hybrids and attention types, small enough to build in milliseconds."""

from __future__ import annotations

from hypothesis import strategies as st

from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.attention.types import ATTENTION_TYPES
from effvit.designs.hybrid import HybridConfig
from effvit.designs.macro import POINTWISE, REPRESENTATIONS
from tests.effvit.strategies import SIZES

NAMES = tuple(ATTENTION_TYPES)
SCALES = ((), (3,), (5,), (1, 7), (3, 5))


def site(
    shape: tuple[int, int] = (8, 12), channels: int = 8, heads: int = 2, **changes: object
) -> Site:
    """A stage as attention types read it."""
    values: dict[str, object] = {
        "window": 4,
        "group": 2,
        "stripe": 2,
        "sub_sampling": 2,
        "length": 6,
        "scales": (3, 5),
        "representation": REPRESENTATIONS.index("learned"),
        "pointwise": POINTWISE.index("multi_window"),
        "shortcuts": 1,
    }
    return Site(shape=shape, channels=channels, heads=heads, **{**values, **changes})  # type: ignore[arg-type]


def designs_of(name: str, where: Site) -> list[AttentionDesign]:
    """The normal forms of a type's designs at a site: one, or those that take turns."""
    return [design(where).normal() for design in ATTENTION_TYPES[name]]


@st.composite
def hybrid_configs(draw: st.DrawFn) -> HybridConfig:
    """A hybrid with every option free."""
    stages = range(4)
    heads = tuple(2 * draw(st.integers(1, 2)) for _ in stages)
    sides = st.integers(1, 12)
    return HybridConfig(
        image_size=draw(SIZES),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from((0, 5))),
        drop_path_rate=draw(st.sampled_from((0.0, 0.3))),
        widths=tuple(count * draw(st.sampled_from((2, 4))) for count in heads),
        depths=tuple(draw(st.integers(1, 3)) for _ in stages),
        heads=heads,
        attention=tuple(
            tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))) for _ in stages
        ),
        windows=tuple(draw(sides) for _ in stages),
        groups=tuple(draw(st.integers(1, 3)) for _ in stages),
        stripes=tuple(draw(sides) for _ in stages),
        sub_sampling=tuple(draw(st.integers(1, 4)) for _ in stages),
        linformer_lengths=tuple(draw(st.integers(1, 40)) for _ in stages),
        scales=draw(st.sampled_from(SCALES)),
        mlp_ratio=draw(st.sampled_from((0.5, 1.0, 2.0, 4.0))),
        overlapping_patch_embedding=draw(st.booleans()),
        conditional_position_encoding=draw(st.booleans()),
        inner_shortcuts=draw(st.booleans()),
    ).replace(
        window_representation=draw(st.sampled_from(REPRESENTATIONS)),
        pointwise_attention=draw(st.sampled_from(POINTWISE)),
    )
