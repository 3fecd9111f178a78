"""CSWin: the authors' outputs, the published counts, the paper's formula, any size and variant."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from fvcore.nn import ActivationCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import effvit
from effvit import ConfigError
from effvit.cost import Cost, Operator
from effvit.counters import COUNTERS, compare, count_torch
from effvit.designs.cswin import CSWinConfig
from effvit.networks.checkpoints import renamed
from effvit.networks.cswin import CrossShapedAttention, CSWin, StripeAttention, official_modules
from effvit.networks.layers import explicit_attention
from tests.effvit.live_memory import peak_bytes
from tests.effvit.peers import (
    SIZES,
    assert_arrays_agree,
    assert_logits_are_the_authors,
    authors_weights,
    declared_params,
    golden,
    params_by_module,
    randomised,
)

# Parameters; MACs and fvcore's total at 224 x 224, of the authors' code.
PUBLISHED = {
    "cswin_tiny": (22_320_552, 4_324_203_008, 4_341_011_968),
    "cswin_small": (34_643_304, 6_800_714_752, 6_827_308_032),
    "cswin_base": (77_382_184, 14_955_348_480, 14_995_238_400),
}
# Stem, then embedding and blocks of each stage: parameters, MACs in M, in M those of products.
PARTS = {
    "cswin_tiny": (
        (9_600, 29.50, 0.00),
        (50_624, 178.43, 22.48),
        (74_112, 57.80, 0.00),
        (399_104, 332.57, 22.48),
        (295_680, 57.80, 0.00),
        (16_638_720, 3452.96, 206.52),
        (1_181_184, 57.80, 0.00),
        (3_157_504, 156.83, 2.46),
    ),
    "cswin_small": (
        (9_600, 29.50, 0.00),
        (101_248, 356.85, 44.96),
        (74_112, 57.80, 0.00),
        (798_208, 665.13, 44.96),
        (295_680, 57.80, 0.00),
        (25_354_240, 5261.66, 314.70),
        (1_181_184, 57.80, 0.00),
        (6_315_008, 313.65, 4.92),
    ),
    "cswin_base": (
        (14_400, 44.26, 0.00),
        (225_600, 766.49, 67.44),
        (166_464, 130.06, 0.00),
        (1_787_136, 1460.12, 67.44),
        (664_704, 130.06, 0.00),
        (56_905_728, 11591.86, 472.06),
        (2_656_512, 130.06, 0.00),
        (14_191_104, 701.69, 7.38),
    ),
}
AUTHORS_PARTS = (
    "stage1_conv_embed",
    "stage1",
    "merge1",
    "stage2",
    "merge2",
    "stage3",
    "merge3",
    "stage4",
)
SMALL = CSWinConfig(
    image_size=(64, 96),
    num_classes=5,
    widths=(8, 16, 24, 32),
    depths=(1, 2, 2, 1),
    heads=(2, 2, 4, 4),
    splits=(1, 2, 3),
)


@st.composite
def configs(draw: st.DrawFn) -> CSWinConfig:
    """A CSWin with every option free."""
    heads = tuple(2 * draw(st.integers(1, 2)) for _ in range(4))
    return CSWinConfig(
        image_size=draw(SIZES),
        in_channels=draw(st.integers(1, 4)),
        num_classes=draw(st.sampled_from((0, 5))),
        widths=tuple(count * draw(st.sampled_from((4, 8))) for count in heads),
        depths=tuple(draw(st.integers(1, 2)) for _ in range(4)),
        heads=heads,
        splits=tuple(draw(st.integers(1, 12)) for _ in range(3)),
        mlp_ratio=draw(st.sampled_from((0.5, 1.0, 2.0, 4.0))),
    )


# --- outputs ------------------------------------------------------------------------------------


def test_logits_of_the_authors_code() -> None:
    assert_logits_are_the_authors("cswin_tiny", "cswin_tiny", {224: ""})


def test_names_shapes_and_counts_are_the_authors() -> None:
    with torch.device("meta"):
        model = CSWin(CSWinConfig())
    expected = golden("cswin_tiny")
    table = official_modules(model.config)
    ours = {renamed(n, table): list(tensor.shape) for n, tensor in model.state_dict().items()}
    assert ours == dict(expected["state_dict"])
    assert sum(p.numel() for p in model.parameters()) == expected["params"]
    assert expected["buffers"] == len(list(model.buffers())) == 0


def test_a_checkpoint_that_does_not_fit_is_refused() -> None:
    weights = authors_weights("cswin_tiny")
    model = effvit.create_model("cswin_tiny", depths=(1, 2, 21, 2))
    with pytest.raises(ConfigError, match=r"missing names \['stage4\.1\.norm1\.weight'"):
        effvit.load_official_state_dict(model, weights)
    model = effvit.create_model("cswin_tiny", image_size=(384, 384))  # stage 4 has one branch
    effvit.load_official_state_dict(model, weights)


# --- stripes ------------------------------------------------------------------------------------


def attend_in_stripe(branch: StripeAttention, qkv: Tensor) -> Tensor:
    """Paper section 3.2 and 3.3 for one image and one stripe, (S_h, S_w, 3, C) -> (S_h, S_w, C)."""
    query, key, value = qkv.flatten(0, 1).unbind(1)
    channels = query.shape[1] // branch.heads
    heads = []
    for q, k, v in zip(*(x.split(channels, 1) for x in (query, key, value)), strict=True):
        heads.append((q @ k.T / channels**0.5).softmax(1) @ v)
    lepe: Tensor = branch.lepe(qkv[:, :, 2].permute(2, 0, 1)[None])
    return torch.cat(heads, 1).view(*qkv.shape[:2], -1) + lepe[0].permute(1, 2, 0)


@pytest.mark.parametrize("split", [1, 2, 3, 4, 5, 6, 9])
@torch.no_grad()
def test_stripes_one_by_one(split: int) -> None:
    """On a map of 6 x 8 pixels; where the split does not divide it the last stripe is narrower."""
    attention = CrossShapedAttention(8, 4, split)
    x = torch.randn(2, 6, 8, 8)
    expected = []
    for image in x:
        vertical, horizontal = attention.branches
        assert isinstance(vertical, StripeAttention)
        assert isinstance(horizontal, StripeAttention)
        qkv = attention.qkv(image).view(6, 8, 3, 2, 4)
        columns = [attend_in_stripe(vertical, part) for part in qkv[..., 0, :].split(split, 1)]
        rows = [attend_in_stripe(horizontal, part) for part in qkv[..., 1, :].split(split, 0)]
        expected.append(attention.proj(torch.cat((torch.cat(columns, 1), torch.cat(rows, 0)), -1)))
    torch.testing.assert_close(attention(x), torch.stack(expected), rtol=0, atol=1e-6)
    with explicit_attention(attention):
        torch.testing.assert_close(attention(x), torch.stack(expected), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_pixel_is_seen_in_a_cross() -> None:
    """With sw = 2 pixel (3, 5) is in rows 2 and 3, columns 4 and 5."""
    attention = randomised(CrossShapedAttention(8, 2, 2))
    x = torch.randn(1, 6, 10, 8)
    changed = x.clone()
    changed[0, 3, 5] += 1
    seen = (attention(x) != attention(changed)).any(-1)[0]
    expected = torch.zeros(6, 10, dtype=torch.bool)
    expected[2:4] = expected[:, 4:6] = True
    assert torch.equal(seen, expected)


def test_one_branch_where_stripes_are_as_wide_as_the_map() -> None:
    """Stage 3 of 224 x 224 maps 14 x 14; stage 4 is always whole."""
    assert CSWinConfig().branches == (2, 2, 2, 1)
    assert CSWinConfig(splits=(1, 2, 14)).branches == (2, 2, 1, 1)
    assert CSWinConfig(splits=(1, 2, 14), image_size=(224, 256)).branches == (2, 2, 2, 1)
    assert CSWinConfig(splits=(99, 99, 99)).branches == (1, 1, 1, 1)


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (61, 131), (97, 66)])
@torch.no_grad()
def test_maps_of_any_size(size: tuple[int, int]) -> None:
    """The stem's padding of 2 gives sides of (side + 1) // 4; then sides halve, rounded up."""
    model = randomised(CSWin(SMALL))
    assert isinstance(model, CSWin)
    images = torch.randn(2, 3, *size)
    sides = [tuple((side + 1) // 4 for side in size)]
    for _ in range(3):
        sides.append(tuple(-(-side // 2) for side in sides[-1]))
    maps = model.forward_stages(images)
    assert [tuple(y.shape) for y in maps] == [
        (2, *shape, width) for shape, width in zip(sides, SMALL.widths, strict=True)
    ]
    assert all(y.isfinite().all() for y in maps)
    torch.testing.assert_close(model(images)[1:], model(images[1:]), rtol=0, atol=1e-5)


# --- counts -------------------------------------------------------------------------------------


def fvcore_total(cost: Cost) -> int:
    return cost.macs + sum(term.macs for term in COUNTERS["fvcore"].terms(cost))


def parts(cost: Cost) -> list[tuple[int, int, int]]:
    """Parameters, MACs and those of products: stem, then embedding and blocks of each stage."""
    sums = [[0, 0, 0] for _ in AUTHORS_PARTS]
    for op in cost.operations:
        place = op.module.split(".")
        if place[0] == "stem":
            row = sums[0]
        elif place[0] == "stages":
            stage, block = int(place[1]), int(place[3])
            row = sums[2 * stage + (block > 0 or stage == 0)]
        else:
            continue
        products = op.macs * (op.operator is Operator.MATMUL)
        for index, count in enumerate((op.params, op.macs, products)):
            row[index] += count
    return [(p, m, products) for p, m, products in sums]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    cost = effvit.model_cost(name)
    assert (cost.params, cost.macs, fvcore_total(cost)) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_of_each_part(name: str) -> None:
    found = parts(effvit.model_cost(name))
    rounded = tuple((p, round(m / 1e6, 2), round(x / 1e6, 2)) for p, m, x in found)
    assert rounded == PARTS[name]


def test_each_part_of_cswin_t_to_the_integer() -> None:
    expected = golden("cswin_tiny")
    params, macs = expected["params_by_part"], expected["core_macs_by_part"]
    assert parts(effvit.model_cost("cswin_tiny")) == [
        (params[part], macs[part]["core"], macs[part]["matmul"]) for part in AUTHORS_PARTS
    ]
    groups = effvit.model_cost("cswin_tiny").by_module(1)
    for place in ("norm", "head"):
        assert groups[place][:2] == (params[place], macs[place]["core"])


@pytest.mark.parametrize(("stage", "split"), [(0, 1), (1, 2), (2, 7)])
@pytest.mark.parametrize("size", [(224, 224), (224, 448)])
def test_attention_of_a_block_from_the_papers_formula(
    stage: int, split: int, size: tuple[int, int]
) -> None:
    height, width = (side // (4 << stage) for side in size)
    c = 64 << stage
    pixels = height * width
    expected = pixels * c * (4 * c + split * height + split * width) + 9 * pixels * c
    place = f"stages.{stage}.blocks.1." if stage else "stages.0.blocks.0."
    operations = effvit.model_cost("cswin_tiny", size).operations
    found = [op.macs for op in operations if op.module.startswith(f"{place}attention")]
    assert sum(found) == expected


def test_padded_stripes_cost_their_padding() -> None:
    """At 256 x 256 stage 3 maps 16 x 16: three stripes of 7 pixels, on 16 x 21."""
    cost = effvit.model_cost("cswin_tiny", 256)
    stripes, tokens, c = 3, 16 * 7, 256
    products = 2 * stripes * tokens**2 * c  # scores and values of both branches
    place = "stages.2.blocks.9.attention.branches"
    found = sum(
        op.macs
        for op in cost.operations
        if op.module.startswith(place) and op.operator is Operator.MATMUL
    )
    assert found == products


@pytest.mark.parametrize("size", [(64, 96), (75, 139)])
def test_no_counter_has_an_unexplained_difference(size: tuple[int, int]) -> None:
    results = compare(CSWin(SMALL), effvit.model_cost(SMALL, size), size)
    assert [result.unexplained for result in results] == [0] * 5


@settings(max_examples=20)
@given(configs(), st.none() | SIZES)
def test_closed_form_is_the_built_network(
    config: CSWinConfig, other_size: tuple[int, int] | None
) -> None:
    cost = effvit.model_cost(config, other_size)
    model = effvit.create_model(config).eval()
    images = torch.zeros(1, config.in_channels, *(other_size or config.image_size))
    with torch.no_grad(), explicit_attention(model):
        assert cost.macs == count_torch(model, images)
    assert declared_params(cost) == params_by_module(model)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=3)
@given(configs(), SIZES)
def test_activations_are_what_fvcore_counts(config: CSWinConfig, size: tuple[int, int]) -> None:
    model = effvit.create_model(config).eval()
    analysis = ActivationCountAnalysis(model, torch.zeros(1, config.in_channels, *size))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with explicit_attention(model):
        assert effvit.model_cost(config, size).activations == analysis.total()


@settings(max_examples=15)
@given(st.lists(configs(), min_size=1, max_size=6), st.none() | SIZES)
def test_arrays_cost_what_scalars_cost(
    several: list[CSWinConfig], other_size: tuple[int, int] | None
) -> None:
    shared = {name: getattr(several[0], name) for name in ("image_size", "in_channels")}
    alike = [config.replace(**shared, num_classes=7) for config in several]
    assert_arrays_agree([*alike], other_size)


# Each moves the worst moment elsewhere: MLP, vertical stripes, the whole map, the image.
CHANGES: dict[str, dict[str, Any]] = {
    "published": {},
    "narrow MLP": {"mlp_ratio": 1},
    "wide stripes": {"mlp_ratio": 0.5, "splits": (9, 9, 9)},
    "whole map": {"mlp_ratio": 1, "splits": (999, 999, 999)},
    "growing width": {"mlp_ratio": 0.5, "widths": (16, 64, 256, 1024)},
    "many channels": {"in_channels": 16},
}


@pytest.mark.parametrize("size", [(128, 128), (75, 131)])
@pytest.mark.parametrize("change", CHANGES)
def test_peak_memory(size: tuple[int, int], change: str) -> None:
    config = CSWinConfig(depths=(1, 2, 2, 1), **CHANGES[change])
    model = effvit.create_model(config).eval()
    measured = peak_bytes(model, torch.zeros(1, config.in_channels, *size))
    assert effvit.model_cost(config, size).peak_bytes() == pytest.approx(measured, rel=0.03)


# --- conventions --------------------------------------------------------------------------------


def test_every_parameter_gets_a_gradient() -> None:
    model = CSWin(SMALL.replace(drop_path_rate=0.1)).train()
    model(torch.randn(2, 3, 75, 131)).square().sum().backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not lacking


@torch.no_grad()
def test_intermediates_and_pruning() -> None:
    model, images = CSWin(SMALL).eval(), torch.randn(2, 3, 64, 96)
    maps = model.forward_stages(images)
    last, found = model.forward_intermediates(images)
    assert torch.equal(model.forward_head(last), model(images))
    assert all(torch.equal(a.permute(0, 2, 3, 1), b) for a, b in zip(found, maps, strict=True))
    assert model.prune_intermediate_layers([0, 1], prune_norm=True) == [0, 1]
    torch.testing.assert_close(model(images), maps[1].mean((1, 2)))


def test_checkpointing_does_not_change_gradients() -> None:
    images = torch.randn(2, 3, 64, 96)
    gradients = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = CSWin(SMALL.replace(drop_path_rate=0.2)).train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        model(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed, rtol=1e-3, atol=1e-5)


def test_drop_path_rises_to_the_rate_over_blocks() -> None:
    model = CSWin(SMALL.replace(drop_path_rate=0.5))
    rates = [getattr(module, "drop_path_rate", None) for module in model.modules()]
    steps = sum(SMALL.depths) - 1
    expected = [0.5 * step / steps for step in range(steps + 1)]
    assert [rate for rate in rates if rate is not None] == pytest.approx(expected)


# --- configurations -----------------------------------------------------------------------------


@settings(max_examples=25)
@given(configs())
def test_json_round_trip_and_canonical_form(config: CSWinConfig) -> None:
    assert effvit.as_config(json.loads(config.to_json())) == config
    canonical = config.canonical()
    assert canonical.canonical() == canonical
    assert canonical.variant_id == config.variant_id
    assert effvit.model_cost(canonical, (75, 90)) == effvit.model_cost(config, (75, 90))


def test_stripes_wider_than_the_map_are_one_network() -> None:
    one, other = CSWinConfig(splits=(1, 2, 14)), CSWinConfig(splits=(1, 2, 20))
    assert one.variant_id == other.variant_id != CSWinConfig().variant_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (8, 8, 16)}, "widths needs one entry for each of 4 stages"),
        ({"splits": (1, 2, 7, 7)}, "splits needs one entry for each of the first 3 stages"),
        ({"splits": (1, 0, 7)}, "splits must be at least 1"),
        ({"heads": (1, 2, 4, 4)}, r"heads must be even .* got 1 \(nearest valid: 2\)"),
        ({"widths": (9, 16, 24, 32)}, r"got 9 and 2 \(nearest valid width: 8\)"),
        ({"mlp_ratio": 0}, "mlp_ratio must be positive"),
        ({"mlp_ratio": 0.3}, "width times mlp_ratio must be an integer"),
        ({"split": 1}, "unknown cswin option 'split'; did you mean 'splits'"),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.replace(**change)
