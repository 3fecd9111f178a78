"""The attention types: one contract for all, and each against its paper's formula."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.metaformer import SepConv
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.twins import GlobalSubSampleAttn, LocallyGroupedAttn
from torch import Tensor, nn

from effvit.cost import Cost, OperationLedger, Operator
from effvit.counters import count_torch
from effvit.designs.attention.design import AttentionDesign, Site
from effvit.designs.attention.types import ATTENTION_TYPES
from effvit.designs.macro import POINTWISE, REPRESENTATIONS
from effvit.networks import cswin
from effvit.networks.attention.block import Block, build_attention, build_block
from effvit.networks.attention.linformer import LinformerAttention
from effvit.networks.efficientvit import MultiScaleLinearAttention
from effvit.networks.layers import explicit_attention, initialise
from tests.effvit.hybrids import NAMES, SCALES, designs_of, site
from tests.effvit.peers import randomised

HIDDEN = 4
SHAPES = st.tuples(st.integers(1, 15), st.integers(1, 15))


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """A stage with every option free."""
    heads = 2 * draw(st.integers(1, 2))
    sides = st.integers(1, 9)
    return site(
        draw(SHAPES),
        heads * draw(st.sampled_from((2, 4))),
        heads,
        window=draw(sides),
        group=draw(st.integers(1, 3)),
        stripe=draw(sides),
        sub_sampling=draw(st.integers(1, 4)),
        length=draw(st.integers(1, 30)),
        scales=draw(st.sampled_from(SCALES)),
        representation=draw(st.integers(0, len(REPRESENTATIONS) - 1)),
        pointwise=draw(st.integers(0, len(POINTWISE) - 1)),
        shortcuts=draw(st.integers(0, 1)),
    )


def block(design: AttentionDesign) -> Any:  # noqa: ANN401 - its parts depend on the type
    """A block whose weights all matter."""
    built = build_block(design, HIDDEN)
    return randomised(built.apply(initialise))


def attention(design: AttentionDesign) -> Any:  # noqa: ANN401 - as above
    """The attention alone, of a normed map; not of DSSA, which is its block's."""
    return randomised(build_attention(design))


def attention_cost(design: AttentionDesign, shape: tuple[int, int]) -> Cost:
    """The cost of norm and attention."""
    ledger = OperationLedger()
    design.add_cost(ledger, "", shape=shape, held=0)
    return ledger.total()


def counted(design: AttentionDesign, shape: tuple[int, int]) -> int:
    """What torch counts in a block, without the MLP."""
    model = block(design)
    with torch.no_grad(), explicit_attention(model):
        macs = count_torch(model, torch.zeros(1, *shape, design.channels))
    channels: int = design.channels
    return macs - 2 * shape[0] * shape[1] * channels * HIDDEN


# --- what every type promises -------------------------------------------------------------------


def test_names_that_users_type() -> None:
    assert {
        "dssa",
        "gsa",
        "window",
        "shifted_window",
        "twins",
        "cross_window",
        "separable",
        "relu_linear",
        "multi_scale_relu_linear",
        "linformer",
        "full",
        "convolution",
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8)
@given(where=sites(), shape=SHAPES)
def test_closed_form_is_what_torch_counts(name: str, where: Site, shape: tuple[int, int]) -> None:
    for design in designs_of(name, where):
        cost = attention_cost(design, shape)
        assert cost.macs == counted(design, shape)
        declared: Counter[str] = Counter()
        for op in cost.operations:
            declared[op.module.split(".")[1]] += op.params
        built: Counter[str] = Counter()
        for place, parameter in block(design).named_parameters():
            built[place.split(".")[0]] += parameter.numel()
        assert +declared == built - Counter({part: built[part] for part in ("norm2", "mlp")})


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6)
@given(where=sites(), shape=SHAPES)
@torch.no_grad()
def test_maps_of_any_size(name: str, where: Site, shape: tuple[int, int]) -> None:
    """Finite, fused or not, and images of a batch do not meet."""
    for design in designs_of(name, where):
        model = block(design)
        x = torch.randn(2, *shape, where.channels)
        y = model(x)
        assert y.shape == x.shape
        assert y.isfinite().all()
        torch.testing.assert_close(model(x[1:]), y[1:], rtol=1e-4, atol=1e-4)
        with explicit_attention(model):
            torch.testing.assert_close(model(x), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(8, 12), (7, 13)])
def test_every_parameter_gets_a_gradient(name: str, shape: tuple[int, int]) -> None:
    for design in designs_of(name, site()):
        model = block(design).train()
        x = torch.randn(2, *shape, design.channels, requires_grad=True)
        (model(x) * torch.randn(2, *shape, design.channels)).sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters()}
        assert not [n for n, g in gradients.items() if g is None or not g.isfinite().all()]
        assert not [n for n, g in gradients.items() if g is not None and not g.any()]


@pytest.mark.parametrize("name", ["dssa", "gsa", "window", "shifted_window"])
@pytest.mark.parametrize("shape", [(7, 13), (2, 3), (9, 8)])
@torch.no_grad()
def test_what_the_padding_holds_does_not_matter(
    name: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types that pad the normed map; the others' padding is that of a convolution, zeros."""
    (design,) = designs_of(name, site())
    model = block(design)
    x = torch.randn(2, *shape, design.channels)
    expected = model(x)
    calls = []
    pad = F.pad

    def pad_with_noise(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
        calls.append(amounts)
        real = pad(torch.ones_like(x), amounts)
        return pad(x, amounts) + (1 - real) * 1e3 * torch.randn_like(real)

    monkeypatch.setattr(F, "pad", pad_with_noise)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-4)
    assert calls


EXPORTED = [
    pytest.param(name, marks=[] if name == "shifted_window" else pytest.mark.slow) for name in NAMES
]


@pytest.mark.parametrize("name", EXPORTED)
@torch.no_grad()
def test_torch_export(name: str) -> None:
    """At another size than the design's, for any batch size."""
    batch = torch.export.Dim("batch", min=1, max=64)
    for design in designs_of(name, site()):
        model = block(design)
        example = torch.randn(2, 7, 13, design.channels)
        exported = torch.export.export(model, (example,), dynamic_shapes=({0: batch},)).module()
        for count in (1, 3):
            x = torch.randn(count, 7, 13, design.channels)
            # Convolutions are exported as such, and run here as matrix products: rounding differs.
            torch.testing.assert_close(exported(x), model(x), rtol=2e-6, atol=2e-6)


@pytest.mark.slow
@torch.no_grad()
def test_dead_queries_are_zeros_in_onnxruntime_too() -> None:
    """The exporter drops the addition of eps = 1e-15; with heads of 4 many queries are dead."""
    pytest.importorskip("onnxscript")
    ort = pytest.importorskip("onnxruntime")
    model = block(designs_of("relu_linear", site())[0])
    x = torch.randn(1, 7, 13, C)
    program = torch.onnx.export(model, (x,), dynamo=True, input_names=["x"], verbose=False)
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=0, atol=1e-5)


# --- cost by the papers' formulas ---------------------------------------------------------------

H, W, C, HEADS, M, SW, S, K = 8, 12, 8, 2, 4, 2, 2, 6
HW, N, GROUPS, D = H * W, H * W // M**2, H * W // (2 * M) ** 2, C // HEADS


def test_the_letters_are_the_sites() -> None:
    where = site()
    assert (where.shape, where.channels, where.heads) == ((H, W), C, HEADS)
    assert (where.window, where.stripe, where.sub_sampling, where.length) == (M, SW, S, K)


def linear_attention(scales: tuple[int, ...]) -> int:
    branches = 1 + len(scales)
    projections = HW * (3 * C**2 + branches * C**2)
    aggregation = sum(3 * HW * C * (s**2 + D) for s in scales)
    return projections + 2 * branches * HW * C * (D + 1) + aggregation


WINDOW = 4 * HW * C**2 + 2 * M**2 * HW * C
FORMULAS = {
    "dssa": 3 * HW * C**2
    + 3 * N * C**2
    + 2 * N * (M**2 + 1) ** 2 * C
    + (HW * C**2 + 2 * N * C**2 + N**2 * C + N * HW * C),
    "window": WINDOW,
    "shifted_window": WINDOW,
    "sub_sampled": 2 * HW * C**2 + 2 * HW * C**2 // S**2 + HW * C**2 + 2 * HW**2 * C // S**2,
    "cross_window": HW * C * (4 * C + SW * H + SW * W) + 9 * HW * C,
    "separable": HW * C * (1 + 2 * C) + HW * C**2,
    "relu_linear": linear_attention(()),
    "multi_scale_relu_linear": linear_attention((3, 5)),
    "linformer": 4 * HW * C**2 + 2 * HW * K * C + 2 * HW * K * C,
    "full": 4 * HW * C**2 + 2 * HW**2 * C,
    "convolution": 2 * 2 * HW * C**2 + 2 * 7**2 * HW * C,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_attention_from_the_papers_formula(name: str) -> None:
    (design,) = designs_of(name, site())
    assert attention_cost(design, (H, W)).macs == FORMULAS[name]


def test_gsa_from_the_papers_formula() -> None:
    """DSSA over groups of 2 x 2 windows, on a map that these divide."""
    pixels, groups, side = 16 * 8, 2, 2 * M
    (design,) = designs_of("gsa", site((16, 8)))
    assert attention_cost(design, (16, 8)).macs == (
        3 * pixels * C**2
        + 3 * groups * C**2
        + 2 * groups * (side**2 + 1) ** 2 * C
        + (pixels * C**2 + 2 * groups * C**2 + groups**2 * C + groups * pixels * C)
    )


def test_twins_products_are_the_papers() -> None:
    """O(M^2 HW C + (HW)^2 C / s^2) of local and global attention together, paper section 3.2."""
    products = sum(
        op.macs
        for design in designs_of("twins", site())
        for op in attention_cost(design, (H, W)).operations
        if op.operator is Operator.MATMUL
    )
    assert products == 2 * M**2 * HW * C + 2 * HW**2 * C // S**2


# What twice the side costs beyond four times as much: 12 times a term quadratic in the pixels,
# 4 times one that grows with the side's third power, nothing where all terms are linear.
BEYOND_LINEAR = {
    "dssa": 12 * (N**2 * C + N * HW * C),
    "window": 0,
    "shifted_window": 0,
    "sub_sampled": 12 * 2 * HW**2 * C // S**2,
    "cross_window": 4 * HW * C * SW * (H + W),
    "separable": 0,
    "relu_linear": 0,
    "multi_scale_relu_linear": 0,
    "linformer": 0,
    "full": 12 * 2 * HW**2 * C,
    "convolution": 0,
}


@pytest.mark.parametrize("name", BEYOND_LINEAR)
def test_growth_with_the_pixels(name: str) -> None:
    (design,) = designs_of(name, site())
    once, twice = counted(design, (H, W)), counted(design, (2 * H, 2 * W))
    assert twice - 4 * once == BEYOND_LINEAR[name]


# --- functions ----------------------------------------------------------------------------------


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Head by head, (L, C), (S, C), (S, C) -> (L, C)."""
    width = query.shape[1] // heads
    mixed = []
    for q, k, v in zip(*(x.split(width, 1) for x in (query, key, value)), strict=True):
        mixed.append((q @ k.T / math.sqrt(width)).softmax(1) @ v)
    return torch.cat(mixed, 1)


def segments(length: int, window: int, shift: int) -> list[range]:
    """What windows cut an axis into: a first piece of ``shift`` pixels, then whole windows."""
    edges = sorted({0, *range(shift, length, window), length})
    return [range(a, b) for a, b in pairwise(edges)]


@pytest.mark.parametrize("name", ["window", "shifted_window", "full"])
@pytest.mark.parametrize("shape", [(8, 12), (7, 13), (9, 9), (2, 3), (4, 5), (1, 1)])
@torch.no_grad()
def test_attention_piece_by_piece(name: str, shape: tuple[int, int]) -> None:
    """Each piece of the map on its own; also of maps that are smaller than a window."""
    (design,) = designs_of(name, site())
    model = attention(design)
    x = torch.randn(2, *shape, C)
    window = 99 if name == "full" else M
    shift = M // 2 if name == "shifted_window" else 0
    expected = torch.empty_like(x)
    for image, out in zip(x, expected, strict=True):
        for rows in segments(shape[0], window, min(shift, shape[0])):
            for columns in segments(shape[1], window, min(shift, shape[1])):
                place = (slice(rows.start, rows.stop), slice(columns.start, columns.stop))
                query, key, value = model.qkv(image[place].flatten(0, 1)).chunk(3, 1)
                mixed = model.proj(softmax_attention(query, key, value, HEADS))
                out[place] = mixed.unflatten(0, (len(rows), len(columns)))
    for fused in (True, False):
        model.fused = fused
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_shifted_windows_are_swins() -> None:
    """timm's, without bias for relative positions, where windows divide the map."""
    (design,) = designs_of("shifted_window", site())
    ours = attention(design)
    theirs = SwinTransformerBlock(C, (H, W), HEADS, window_size=M, shift_size=M // 2).eval()
    missing, unexpected = theirs.attn.load_state_dict(ours.state_dict(), strict=False)
    assert (missing, unexpected) == (["relative_position_bias_table"], [])
    theirs.attn.relative_position_bias_table.zero_()
    x = torch.randn(2, H, W, C)
    torch.testing.assert_close(ours(x), theirs._attn(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_pair_is_twins() -> None:
    """timm's, where windows and stride divide the map."""
    x = torch.randn(2, H, W, C)
    for design, theirs in zip(
        designs_of("twins", site()),
        (LocallyGroupedAttn(C, HEADS, ws=M), GlobalSubSampleAttn(C, HEADS, sr_ratio=S)),
        strict=True,
    ):
        ours = attention(design)
        theirs.eval().load_state_dict(ours.state_dict())
        expected = theirs(x.flatten(1, 2), (H, W)).view_as(x)
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_sub_sampling_loses_no_pixel() -> None:
    """The last row and column of a map that the stride does not divide are keys too."""
    design = designs_of("sub_sampled", site())[0]
    model = attention(design)
    x = torch.randn(1, 5, 7, C)
    changed = x.clone()
    changed[0, 4, 6] += 1
    assert (model(x) != model(changed)).any(-1).all()
    grown = F.pad(x, (0, 0, 0, 1, 0, 1))  # zeros in the map are what the padding holds
    torch.testing.assert_close(model(grown)[:, :5, :7], model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("stripe", [1, 2, 5, 12])
@torch.no_grad()
def test_cross_shaped_windows_are_cswins(stripe: int) -> None:
    """The whole block, norm and MLP included; 12 pixels are the whole map."""
    (design,) = designs_of("cross_window", site(stripe=stripe))
    ours = block(design)
    theirs = cswin.Block(C, HEADS, None if stripe == 12 else stripe, HIDDEN, 0.0).eval()
    theirs.load_state_dict(ours.state_dict())
    for norm in (theirs.norm1, theirs.norm2):
        norm.eps = ours.norm1.eps
    for shape in ((H, W), (7, 13)):
        x = torch.randn(2, *shape, C)
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_separable_attention_by_its_formula() -> None:
    (design,) = designs_of("separable", site())
    model = attention(design)
    x = torch.randn(2, 5, 7, C)
    tokens = x.flatten(1, 2)
    qkv = F.linear(tokens, model.qkv.weight[:, :, 0, 0], model.qkv.bias)
    scores, key, value = qkv.split((1, C, C), 2)
    context = (scores.softmax(1) * key).sum(1, keepdim=True)
    out = F.linear(value.relu() * context, model.proj.weight[:, :, 0, 0], model.proj.bias)
    torch.testing.assert_close(model(x), out.view_as(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_relu_linear_attention_by_its_quadratic_form() -> None:
    (design,) = designs_of("relu_linear", site())
    model = attention(design)
    x = torch.randn(2, 5, 7, C)
    qkv = F.linear(x.flatten(1, 2), model.qkv.weight[:, :, 0, 0])
    mixed = []
    for head in qkv.split(3 * D, 2):
        query, key, value = head.split(D, 2)
        weights = query.relu() @ key.relu().transpose(1, 2)
        mixed.append(weights @ value / (weights.sum(2, keepdim=True) + 1e-15))
    maps = torch.cat(mixed, 2).transpose(1, 2).unflatten(2, (5, 7))
    expected = model.proj(maps).permute(0, 2, 3, 1)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


CHANNELS_FIRST: dict[str, Callable[[], nn.Module]] = {
    "multi_scale_relu_linear": lambda: MultiScaleLinearAttention(
        C, D, (3, 5), attention_eps=1e-15, norm_eps=1e-5
    ),
    "convolution": lambda: SepConv(C, act1_layer=nn.GELU),
}
"""Modules of other networks, whose maps are (B, C, H, W)."""


@pytest.mark.parametrize("name", CHANNELS_FIRST)
@torch.no_grad()
def test_modules_of_other_layouts(name: str) -> None:
    (design,) = designs_of(name, site())
    ours, theirs = attention(design), CHANNELS_FIRST[name]().eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 7, C)
    expected = theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_linformer_by_its_formula() -> None:
    (design,) = designs_of("linformer", site())
    model = attention(design)
    x = torch.randn(2, H, W, C)
    for image, out in zip(x, model(x), strict=True):
        query, key, value = model.qkv(image.flatten(0, 1)).chunk(3, 1)
        assert model.keys.shape == model.values.shape == (K, HW)
        mixed = softmax_attention(query, model.keys @ key, model.values @ value, HEADS)
        torch.testing.assert_close(out, model.proj(mixed).view_as(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_linformers_projections_follow_the_picture() -> None:
    """A map of twice the side, of which every pixel is there four times, projects to the same."""
    (design,) = designs_of("linformer", site())
    model = build_attention(design)
    assert isinstance(model, LinformerAttention)
    smooth = torch.linspace(0, 1, HW).expand(K, HW)
    tokens = torch.randn(1, H, W, C)
    doubled = tokens.repeat_interleave(2, 1).repeat_interleave(2, 2)
    small = model._project(smooth, tokens.flatten(1, 2), (H, W))
    large = model._project(smooth, doubled.flatten(1, 2), (2 * H, 2 * W))
    torch.testing.assert_close(large, small, rtol=0.05, atol=0.05 * float(small.abs().max()))
    constant = torch.ones(K, HW)
    torch.testing.assert_close(
        model._project(constant, doubled.flatten(1, 2), (2 * H, 2 * W)),
        tokens.sum((1, 2)).expand(1, K, C),
        rtol=1e-4,
        atol=1e-4,
    )


def test_heads_and_channels_of_columns_are_not_mixed_up() -> None:
    """Every design's fields are its own: a type built twice is equal, at another site it is not."""
    sites_: list[Callable[[], Site]] = [site, lambda: site(channels=16)]
    for turns in ATTENTION_TYPES.values():
        for design in turns:
            assert design(sites_[0]()) == design(sites_[0]())
            assert design(sites_[0]()) != design(sites_[1]())


def test_a_block_drops_whole_paths_in_training_only() -> None:
    (design,) = designs_of("full", site())
    model = Block(design, HIDDEN, drop_path=0.9)
    x = torch.randn(8, H, W, C)
    assert torch.equal(model.eval()(x), model(x))
    same = (model.train()(x) == x).flatten(1).all(1)
    assert same.any()
