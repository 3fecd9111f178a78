"""Other counters beside the closed form, each difference explained term by term, as integers.

The counters run the built network with attention as explicit matrix products, since most of them
do not see inside a fused kernel; the last row shows what fvcore misses of that one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable, Mapping

import torch
from fvcore.nn import FlopCountAnalysis
from ptflops import get_model_complexity_info
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from effvit.config import Resolution
from effvit.cost import COUNTED, Cost, Operator
from effvit.networks.layers import explicit_attention


@dataclasses.dataclass(frozen=True)
class Term:
    """A reason why a counter differs from ``macs``, and by how much."""

    reason: str
    macs: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a counter says of a network, beside the closed form.

    Attributes:
        counter: Its name.
        counted: What it counts, in multiply-accumulates.
        macs: The closed form.
        terms: Why it differs.
    """

    counter: str
    counted: int
    macs: int
    terms: tuple[Term, ...]

    @property
    def unexplained(self) -> int:
        """What is left of the difference after all terms; 0 where the count is understood."""
        return self.counted - self.macs - sum(term.macs for term in self.terms)


def count_torch(model: nn.Module, images: torch.Tensor) -> int:
    """torch's ``FlopCounterMode``, which counts two operations a multiply-accumulate."""
    counter = FlopCounterMode(display=False)
    with counter:
        model(images)
    return int(counter.get_total_flops()) // 2


def count_fvcore(model: nn.Module, images: torch.Tensor) -> int:
    """fvcore's ``FlopCountAnalysis``."""
    analysis = FlopCountAnalysis(model, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(analysis.total())


def _count_ptflops(model: nn.Module, images: torch.Tensor, backend: str) -> int:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not know
        macs, _ = get_model_complexity_info(
            model,
            tuple(images.shape[1:]),
            as_strings=False,
            backend=backend,
            print_per_layer_stat=False,
            verbose=False,
        )
    return int(macs)


def count_ptflops_aten(model: nn.Module, images: torch.Tensor) -> int:
    """ptflops with its back end that sees torch's operators."""
    return _count_ptflops(model, images, "aten")


def count_ptflops_pytorch(model: nn.Module, images: torch.Tensor) -> int:
    """ptflops with its back end that sees modules and functions."""
    return _count_ptflops(model, images, "pytorch")


def _terms_torch(_cost: Cost) -> tuple[Term, ...]:
    return ()


def _weighted(cost: Cost, weights: Mapping[Operator, tuple[str, int]]) -> tuple[Term, ...]:
    """Terms of operators that a counter charges by the element written."""
    return tuple(
        Term(f"{name}, {weight} an element", weight * cost.elements(operator))
        for operator, (name, weight) in weights.items()
    )


def _pooled(cost: Cost) -> Term:
    return Term("adaptive pooling, 1 an element read", sum(op.reads for op in cost.operations))


FVCORE_WEIGHTS = {
    Operator.LAYER_NORM: ("layer norms", 5),
    Operator.GROUP_NORM: ("group norms", 5),
    Operator.BATCH_NORM: ("batch norms", 2),
    Operator.RESAMPLE: ("bilinear resampling", 4),
}


def _terms_fvcore(cost: Cost) -> tuple[Term, ...]:
    return (*_weighted(cost, FVCORE_WEIGHTS), _pooled(cost))


def _bias(cost: Cost) -> Term:
    return Term("bias additions, 1 an element", sum(op.bias_elements for op in cost.operations))


def _terms_ptflops_aten(cost: Cost) -> tuple[Term, ...]:
    return (_bias(cost),)


PTFLOPS_WEIGHTS = {
    Operator.LAYER_NORM: ("layer norms", 1),
    Operator.GROUP_NORM: ("group norms", 2),
    Operator.BATCH_NORM: ("batch norms", 2),
    Operator.GELU: ("GELU, as module and as function", 2),
    Operator.SILU: ("SiLU", 1),
    Operator.RESAMPLE: ("resampling", 1),
}
"""Of the back end that sees modules and functions."""


def _terms_ptflops_pytorch(cost: Cost) -> tuple[Term, ...]:
    products = sum(op.macs for op in cost.operations if op.operator is Operator.MATMUL)
    return (
        Term("matrix products written @, not seen", -products),
        _bias(cost),
        *_weighted(cost, PTFLOPS_WEIGHTS),
        _pooled(cost),
    )


def _terms_fused(cost: Cost) -> tuple[Term, ...]:
    hidden = sum(op.macs for op in cost.operations if op.fused and op.operator in COUNTED)
    return (*_terms_fvcore(cost), Term("products inside fused attention, not seen", -hidden))


@dataclasses.dataclass(frozen=True)
class Counter:
    """A counter: how it counts, and which terms set it apart from ``macs``."""

    count: Callable[[nn.Module, torch.Tensor], int]
    terms: Callable[[Cost], tuple[Term, ...]]
    fused: bool = False


COUNTERS: dict[str, Counter] = {
    "torch FlopCounterMode / 2": Counter(count_torch, _terms_torch),
    "fvcore": Counter(count_fvcore, _terms_fvcore),
    "ptflops (aten)": Counter(count_ptflops_aten, _terms_ptflops_aten),
    "ptflops (pytorch)": Counter(count_ptflops_pytorch, _terms_ptflops_pytorch),
    "fvcore, attention fused": Counter(count_fvcore, _terms_fused, fused=True),
}


def compare(
    model: nn.Module, cost: Cost, resolution: Resolution, in_channels: int = 3
) -> list[Comparison]:
    """Run every counter on a network.

    Args:
        model: The network, on any device.
        cost: Its closed-form cost at ``resolution``.
        resolution: Height and width of the input.
        in_channels: Channels of the input.

    Returns:
        One comparison a counter, terms of 0 left out; that of fused attention only if there is any.
    """
    model = model.eval()
    weight = next(model.parameters())
    images = torch.zeros(1, in_channels, *resolution, device=weight.device, dtype=weight.dtype)
    results = []
    fuses = any(op.fused for op in cost.operations)
    for name, counter in COUNTERS.items():
        if counter.fused and not fuses:
            continue
        explicit = contextlib.nullcontext() if counter.fused else explicit_attention(model)
        with torch.no_grad(), explicit:
            counted = counter.count(model, images)
        terms = tuple(term for term in counter.terms(cost) if term.macs)
        results.append(Comparison(name, counted, cost.macs, terms))
    return results
