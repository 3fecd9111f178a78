"""Scores of attention matrices: how spread and how varied the rows are.

Read are all matrices whose rows say how much a token takes from which others: softmax attention of
any kind, and the normalised products ReLU(q) . ReLU(k) of EfficientViT's linear attention, which
that never forms. Matrices of one key are left out, and of each layer the first :data:`IMAGES`
images are read. A network without attention has score 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from effvit.networks.efficientvit import MultiScaleLinearAttention
from effvit.networks.mobilevitv2 import SeparableSelfAttention
from search.scores.common import Batch, private_copy

IMAGES = 4

SOFTMAX = (torch.softmax, torch.Tensor.softmax, F.softmax)


def attention_entropy(model: nn.Module, batch: Batch) -> float:
    """Mean over layers of the mean entropy of attention rows, relative to that of even attention.

    From 0 (every token attends to one other) to 1. Zhai et al., "Stabilizing Transformer Training
    by Preventing Attention Entropy Collapse" (ICML 2023, arXiv 2303.06296) find that training fails
    where the entropy collapses. No paper ranks untrained networks by it; larger is taken for
    better. Padded keys, of weight 0, do not count as keys.
    """
    return _mean([_entropy(matrix) for matrix in attention_matrices(model, batch)])


def attention_rank(model: nn.Module, batch: Batch) -> float:
    """Mean over layers of the effective rank of attention matrices, relative to the full rank.

    The effective rank is the exponential of the entropy of the normalised singular values (Roy,
    Vetterli, EUSIPCO 2007). Dong, Cordonnier, Loukas, "Attention is not all you need: pure
    attention loses rank doubly exponentially with depth" (ICML 2021, arXiv 2103.03404) say why rank
    matters. No paper ranks untrained networks by it; larger is taken for better. Where one row
    serves all tokens (MobileViTv2), the matrix is that row again and again, of rank 1.
    """
    return _mean([_relative_rank(matrix) for matrix in attention_matrices(model, batch)])


def attention_matrices(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Run the network and return its attention matrices (..., queries, keys) in float64.

    One row that serves all tokens is a matrix of one query.
    """
    with private_copy(model) as twin, torch.no_grad():
        recorder = _Softmaxes()
        for module in twin.modules():
            if isinstance(module, MultiScaleLinearAttention):
                recorder.watch(module)
            elif isinstance(module, SeparableSelfAttention):
                module.register_forward_pre_hook(recorder.one_row)
                module.register_forward_hook(recorder.own_rows)
        with recorder:
            twin(batch.images[:IMAGES])
    return [matrix for matrix in recorder.matrices if matrix.shape[-1] > 1]


class _Softmaxes(TorchFunctionMode):
    """Keeps what softmaxes over the last axis return."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices: list[Tensor] = []
        self._one_row = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        given = dict(kwargs or {})
        result = func(*args, **given)
        if func in SOFTMAX:
            axis = given.get("dim", args[1] if len(args) > 1 else None)
            if axis in (-1, result.ndim - 1):
                matrix = result.double()
                self.matrices.append(matrix.unsqueeze(-2) if self._one_row else matrix)
        return result

    def one_row(self, _module: nn.Module, _inputs: object) -> None:
        """Take each row from now on for that of all tokens."""
        self._one_row = True

    def own_rows(self, _module: nn.Module, _inputs: object, _output: object) -> None:
        """Take rows for those of one token each, as they are in general."""
        self._one_row = False

    def watch(self, module: MultiScaleLinearAttention) -> None:
        """Keep the matrices that a linear attention stands for, whenever it attends."""
        attend = module.attend

        def watched(tokens: Tensor) -> Tensor:
            query, key, _ = tokens.double().relu().chunk(3, dim=2)
            weights = query.transpose(-2, -1) @ key
            self.matrices.append(weights / (weights.sum(-1, keepdim=True) + module.eps))
            return attend(tokens)

        module.attend = watched  # type: ignore[method-assign]  # of a copy that is ours


def _entropy(matrix: Tensor) -> float:
    """Mean relative entropy of rows, for a matrix (..., queries, keys)."""
    keys = (matrix > 0).sum(-1).clamp_min(2)
    return float((torch.special.entr(matrix).sum(-1) / keys.log()).mean())


def _relative_rank(matrix: Tensor) -> float:
    """Mean effective rank of matrices (..., queries, keys), relative to the largest possible.

    One query stands for as many as there are keys.
    """
    values = torch.linalg.svdvals(matrix)
    shares = values / values.sum(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    ranks = torch.special.entr(shares).sum(-1).exp()
    queries, keys = matrix.shape[-2:]
    return float(ranks.mean()) / (keys if queries == 1 else min(queries, keys))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
