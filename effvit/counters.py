"""Other counters beside the closed form, each difference explained term by term, as integers.

The counters run the built network with attention as explicit matrix products, since most of them
do not see inside a fused kernel; the last row shows what fvcore misses of that one.

What ptflops counts also depends on how a network is written, not only on what it computes. Its
back end ``pytorch`` knows modules by their exact class: it passes over a subclass of a norm, and
has a rule of its own for timm's ``Attention``. Its back end ``aten`` sees the bias of a linear
layer where torch runs the layer as one operation; where the input lies scattered in memory it is
two, and the bias goes unseen. Both are looked up in the network, see :class:`Observed`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from fvcore.nn import FlopCountAnalysis
from ptflops import get_model_complexity_info
from ptflops.pytorch_ops import MODULES_MAPPING
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from effvit.config import Resolution
from effvit.cost import COUNTED, Cost, Operation, Operator
from effvit.networks.layers import explicit_attention


@dataclasses.dataclass(frozen=True)
class Term:
    """A reason why a counter differs from ``macs``, and by how much."""

    reason: str
    macs: int


@dataclasses.dataclass(frozen=True)
class Observed:
    """How a network is written, as far as counters depend on it.

    Attributes:
        modules: Modules by name. For a name that is not there torch's own class is assumed, and for
            a softmax a call that is no module.
        scattered: Names of linear layers whose input is not contiguous.
    """

    modules: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict)
    scattered: frozenset[str] = frozenset()

    def module(self, operation: Operation) -> nn.Module | None:
        """The module that does the operation, where it is one of its own."""
        return self.modules.get(operation.module)

    def known(self, operation: Operation) -> bool:
        """Whether ptflops knows the class of the operation's module."""
        module = self.module(operation)
        return module is None or type(module) in MODULES_MAPPING

    def attended(self, operation: Operation) -> bool:
        """Whether the operation is part of an attention that ptflops has a rule for."""
        parent = self.modules.get(operation.module.rpartition(".")[0])
        return type(parent) in MODULES_MAPPING

    def pools(self, operation: Operation) -> bool:
        """Whether the operation's module leaves adaptive pooling to a module of torch."""
        module = self.module(operation)
        parts = [] if module is None else module.modules()
        return any(isinstance(part, nn.AdaptiveAvgPool2d) for part in parts)


def observe(model: nn.Module, images: torch.Tensor) -> Observed:
    """Look at a network: its modules, and during a pass how the inputs of linear layers lie."""
    modules = dict(model.named_modules())
    scattered = set()
    hooks = []
    for name, module in modules.items():
        if isinstance(module, nn.Linear):

            def note(_: nn.Module, inputs: tuple[torch.Tensor], name: str = name) -> None:
                if not inputs[0].is_contiguous():
                    scattered.add(name)

            hooks.append(module.register_forward_pre_hook(note))
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return Observed(modules, frozenset(scattered))


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


NOTHING = Observed()


class Terms(Protocol):
    """Why a counter differs from ``macs``."""

    def __call__(self, cost: Cost, observed: Observed = NOTHING) -> tuple[Term, ...]:
        """Say why, for a network of this cost that is written so."""


def _terms_torch(cost: Cost, observed: Observed = NOTHING) -> tuple[Term, ...]:  # noqa: ARG001
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


def _terms_fvcore(cost: Cost, observed: Observed = NOTHING) -> tuple[Term, ...]:  # noqa: ARG001
    return (*_weighted(cost, FVCORE_WEIGHTS), _pooled(cost))


def _bias(cost: Cost) -> Term:
    return Term("bias additions, 1 an element", sum(op.bias_elements for op in cost.operations))


def _terms_ptflops_aten(cost: Cost, observed: Observed = NOTHING) -> tuple[Term, ...]:
    apart = sum(op.bias_elements for op in cost.operations if op.module in observed.scattered)
    return (_bias(cost), Term("biases of linear layers on scattered inputs, not seen", -apart))


PTFLOPS_WEIGHTS = {
    Operator.LAYER_NORM: ("layer norms", 1),
    Operator.GROUP_NORM: ("group norms", 2),
    Operator.BATCH_NORM: ("batch norms", 2),
    Operator.GELU: ("GELU, as module and as function", 2),
    Operator.SILU: ("SiLU", 1),
    Operator.RESAMPLE: ("resampling", 1),
}
"""Of the back end that sees modules and functions."""

NORMS = (Operator.LAYER_NORM, Operator.GROUP_NORM, Operator.BATCH_NORM)


def _terms_ptflops_pytorch(cost: Cost, observed: Observed = NOTHING) -> tuple[Term, ...]:
    ruled = [op for op in cost.operations if observed.attended(op)]
    free = [op for op in cost.operations if not observed.attended(op)]
    products = sum(op.macs for op in free if op.operator is Operator.MATMUL)
    softmaxes = sum(op.elements for op in free if isinstance(observed.module(op), nn.Softmax))
    subclasses = sum(
        PTFLOPS_WEIGHTS[op.operator][1] * op.elements
        for op in free
        if op.operator in NORMS and not observed.known(op)
    )
    repooled = sum(op.reads for op in free if observed.pools(op))
    return (
        Term("matrix products written @, not seen", -products),
        _bias(cost),
        *_weighted(cost, PTFLOPS_WEIGHTS),
        Term("softmax as a module, 1 an element", softmaxes),
        Term("norms of subclasses, not seen", -subclasses),
        *_terms_of_ruled_attention(ruled),
        _pooled(cost),
        Term("adaptive pooling again, as a module and as a function", repooled),
    )


def _terms_of_ruled_attention(operations: Sequence[Operation]) -> tuple[Term, ...]:
    """What ptflops makes of timm's ``Attention``: its rule, and then none of the module's parts."""
    linear = [op for op in operations if op.operator is Operator.LINEAR]
    parts = sum(op.macs + op.bias_elements for op in linear)
    # One third of what the layer for query, key and value writes.
    queries = sum(op.elements // 3 for op in linear if op.module.endswith(".qkv"))
    softmaxes = sum(op.elements for op in operations if op.operator is Operator.SOFTMAX)
    return (
        Term("linear layers in timm's Attention, not seen", -parts),
        Term("softmax in timm's Attention, 1 an element", softmaxes),
        Term("scaled queries in timm's Attention, 1 an element", queries),
    )


def _terms_fused(cost: Cost, observed: Observed = NOTHING) -> tuple[Term, ...]:
    hidden = sum(op.macs for op in cost.operations if op.fused and op.operator in COUNTED)
    unseen = Term("products inside fused attention, not seen", -hidden)
    return (*_terms_fvcore(cost, observed), unseen)


@dataclasses.dataclass(frozen=True)
class Counter:
    """A counter: how it counts, and which terms set it apart from ``macs``."""

    count: Callable[[nn.Module, torch.Tensor], int]
    terms: Terms
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
    with torch.no_grad(), explicit_attention(model):
        observed = observe(model, images)
    results = []
    fuses = any(op.fused for op in cost.operations)
    for name, counter in COUNTERS.items():
        if counter.fused and not fuses:
            continue
        explicit = contextlib.nullcontext() if counter.fused else explicit_attention(model)
        with torch.no_grad(), explicit:
            counted = counter.count(model, images)
        terms = tuple(term for term in counter.terms(cost, observed) if term.macs)
        results.append(Comparison(name, counted, cost.macs, terms))
    return results
