"""Values of the scores on networks small enough to compute them by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.scores.attention import attention_matrices
from search.scores.common import Batch, by_image
from search.scores.expressivity import JACOBIAN_EPS
from search.scores.gradient import ZICO_PARTS
from search.scores.table import compute
from tests.search.scores.networks import FAMILIES, Chain, built, images_and_classes

DOUBLE = torch.float64


def vectors(*rows: list[float]) -> Tensor:
    """Images of one channel and one row of pixels."""
    return torch.tensor(rows, dtype=DOUBLE)[:, None, None]


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def softmax_gradient(matrix: Tensor, x: Tensor, target: int) -> Tensor:
    """Gradient of the cross entropy of ``matrix @ x`` by the matrix: (p - onehot) x^T."""
    error = (matrix @ x).softmax(0)
    error[target] -= 1
    return torch.outer(error, x)


def test_snip_and_grad_norm_of_one_layer() -> None:
    matrix, x = random_matrix(3, 4), torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=DOUBLE)
    batch = Batch(vectors(x.tolist()), torch.tensor([1]))
    gradient = softmax_gradient(matrix, x, 1)
    model = Chain(matrix)
    assert compute("snip", model, batch) == pytest.approx(float((matrix * gradient).abs().sum()))
    assert compute("grad_norm", model, batch) == pytest.approx(float(gradient.norm()))
    ratio = math.log(float(gradient.norm() / matrix.norm()))
    assert compute("grad_ratio", model, batch) == pytest.approx(ratio)
    assert compute("grad_balance", model, batch) == 0.0  # of one layer


def test_grad_balance_is_minus_the_spread_of_log_ratios() -> None:
    first, second, x = random_matrix(3, 4), random_matrix(2, 3, 1), torch.ones(4, dtype=DOUBLE)
    model, batch = Chain(first, second), Batch(vectors([1.0] * 4), torch.tensor([0]))
    inner = softmax_gradient(second, first @ x, 0)
    outer = softmax_gradient(second @ first, x, 0)  # = second^T times the first's gradient
    error = outer[:, 0]
    ratios = [
        float(torch.outer(second.T @ error, x).norm() / first.norm()),
        float(inner.norm() / second.norm()),
    ]
    expected = -float(np.std(np.log(ratios)))
    assert compute("grad_balance", model, batch) == pytest.approx(expected)
    assert compute("grad_ratio", model, batch) == pytest.approx(float(np.mean(np.log(ratios))))


def test_grasp_is_minus_theta_times_the_hessian_times_the_gradient() -> None:
    matrix, x = random_matrix(3, 4), torch.tensor([0.3, -0.2, 0.5, 1.0], dtype=DOUBLE)

    def loss(flat: Tensor) -> Tensor:
        return F.cross_entropy((flat.view(3, 4) @ x)[None], torch.tensor([2]))

    theta = matrix.flatten()
    hessian = torch.autograd.functional.hessian(loss, theta)
    gradient = torch.autograd.functional.jacobian(loss, theta)
    expected = -float(theta @ (hessian @ gradient))
    batch = Batch(vectors(x.tolist()), torch.tensor([2]))
    assert compute("grasp", Chain(matrix), batch) == pytest.approx(expected)


def test_fisher_is_half_the_mean_square_of_activation_times_gradient() -> None:
    matrix = random_matrix(3, 2)
    inputs = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=DOUBLE)
    batch = Batch(vectors(*inputs.tolist()), torch.tensor([0, 2]))
    outputs = inputs @ matrix.T
    gradients = outputs.softmax(1)
    gradients[0, 0] -= 1
    gradients[1, 2] -= 1
    products = outputs * gradients / 2  # the loss is a mean over two images
    expected = float(products.square().mean(0).sum()) / 2
    assert compute("fisher", Chain(matrix), batch) == pytest.approx(expected)


def test_synflow_of_a_chain_is_conserved_from_layer_to_layer() -> None:
    """Each of n layers has saliency R, the sum of the products of absolute weights."""
    matrices = [random_matrix(3, 4), random_matrix(5, 3, 1), random_matrix(2, 5, 2)]
    flow = torch.ones(4, dtype=DOUBLE)
    for matrix in matrices:
        flow = matrix.abs() @ flow
    batch = Batch(torch.zeros(1, 1, 1, 4, dtype=DOUBLE))
    expected = math.log(3 * float(flow.sum()))
    assert compute("synflow", Chain(*matrices), batch) == pytest.approx(expected)


def test_synflow_does_not_overflow_where_float32_does() -> None:
    matrices = [torch.full((64, 64), 100.0, dtype=torch.float32) for _ in range(20)]
    value = compute("synflow", Chain(*matrices), Batch(torch.zeros(1, 1, 8, 8)))
    # R = 64 ones, each layer multiplies by 6400.
    assert value == pytest.approx(math.log(20 * 64) + 20 * math.log(6400))
    assert value > math.log(torch.finfo(torch.float32).max)


class Attending(nn.Module):
    """A network with attention's weights and others, of linear layers without biases."""

    def __init__(self, inner: Tensor, outer: Tensor) -> None:
        super().__init__()
        self.attention = Chain(inner)
        self.mlp = Chain(outer)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.mlp(self.attention(images))
        return result


def test_dss_takes_nuclear_norms_of_attention_and_saliency_of_the_rest() -> None:
    inner, outer = random_matrix(3, 4), random_matrix(2, 3, 1)
    ones = torch.ones(4, dtype=DOUBLE)
    flow = outer.abs() @ inner.abs() @ ones
    gradient = torch.outer(outer.abs().sum(0), ones)
    diversity = float(
        torch.linalg.svdvals(inner.abs()).sum() * torch.linalg.svdvals(gradient).sum()
    )
    saliency = float(flow.sum())
    model, batch = Attending(inner, outer), Batch(torch.zeros(1, 1, 1, 4))
    assert compute("synaptic_diversity", model, batch) == pytest.approx(math.log(diversity))
    assert compute("synaptic_saliency", model, batch) == pytest.approx(math.log(saliency))
    assert compute("dss", model, batch) == pytest.approx(math.log(diversity + saliency))


def test_jacobians_of_a_linear_network_are_all_the_same() -> None:
    """Correlation 1 everywhere: one eigenvalue B, all others 0."""
    count, k = 4, JACOBIAN_EPS
    images = torch.randn(count, 1, 1, 6, dtype=DOUBLE)
    expected = -(math.log(count + k) + 1 / (count + k) + (count - 1) * (math.log(k) + 1 / k))
    value = compute("jacob_cov", Chain(random_matrix(3, 6)), Batch(images))
    assert value == pytest.approx(expected, rel=1e-3)  # zeros are about 1e-16


class Rectified(nn.Module):
    """ReLU of the pixels, times weights."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.act(images.flatten(1)) * self.scale
        return result


def test_naswot_is_the_log_determinant_of_agreements() -> None:
    images = vectors([1, -1, 1, -1], [1, 1, 1, -1], [-1, 1, -1, 1]).float()
    # Units that agree: 4 on the diagonal (and 1 added), then 3 of 4, 0 of 4, 1 of 4.
    kernel = np.array([[5, 3, 0], [3, 5, 1], [0, 1, 5]])
    expected = math.log(np.linalg.det(kernel))
    assert compute("naswot", Rectified(), Batch(images)) == pytest.approx(expected)


def test_naswot_of_equal_images_is_finite() -> None:
    value = compute("naswot", Rectified(), Batch(torch.ones(2, 1, 1, 4)))
    assert value == pytest.approx(math.log(5 * 5 - 4 * 4))


def test_zen_of_one_layer_is_the_mean_size_of_its_answers_to_small_changes() -> None:
    model = Chain(torch.zeros(3, 4))
    generator = torch.Generator().manual_seed(7)
    matrix, images, change = (
        torch.randn(shape, generator=generator) for shape in ((3, 4), (5, 1, 1, 4), (5, 1, 1, 4))
    )
    difference = (0.01 * change.flatten(1)) @ matrix.T
    expected = math.log(float(difference.norm(dim=1).mean()))
    assert compute("zen", model, Batch(torch.zeros_like(images)), seed=7) == pytest.approx(
        expected, rel=1e-4
    )


class Normed(nn.Module):
    """A convolution, and a batch norm behind it or not."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, bias=False)
        self.norm = nn.BatchNorm2d(64) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.norm(self.conv(images))
        return result


def test_zen_undoes_the_scaling_of_batch_norms() -> None:
    batch = Batch(torch.zeros(16, 3, 16, 16))
    plain, normed = (compute("zen", Normed(norm), batch) for norm in (False, True))
    # Variances of 64 channels differ; what is undone is their mean.
    assert normed == pytest.approx(plain, abs=0.05)


def test_zico_is_the_log_of_summed_means_over_deviations() -> None:
    matrix = random_matrix(3, 2)
    inputs = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.2, -1.0], [2.0, 1.0]], dtype=DOUBLE)
    targets = [0, 2, 1, 1]
    assert len(inputs) == ZICO_PARTS
    sizes = np.abs(
        [
            softmax_gradient(matrix, x, target).numpy()
            for x, target in zip(inputs, targets, strict=True)
        ]
    )
    expected = math.log((sizes.mean(0) / sizes.std(0)).sum())
    batch = Batch(vectors(*inputs.tolist()), torch.tensor(targets))
    assert compute("zico", Chain(matrix), batch) == pytest.approx(expected)


class SoftAttention(nn.Module):
    """Softmax of the image itself, a matrix of scores."""

    def forward(self, images: Tensor) -> Tensor:
        return images.softmax(-1).sum((1, 2, 3))


def test_even_attention_has_full_entropy_and_rank_one() -> None:
    batch = Batch(torch.zeros(2, 1, 4, 4))
    assert compute("attention_entropy", SoftAttention(), batch) == pytest.approx(1.0)
    assert compute("attention_rank", SoftAttention(), batch) == pytest.approx(1 / 4)


def test_one_to_one_attention_has_no_entropy_and_full_rank() -> None:
    scores = torch.eye(4).mul(1000)[None, None]
    assert compute("attention_entropy", SoftAttention(), Batch(scores)) == pytest.approx(0.0)
    assert compute("attention_rank", SoftAttention(), Batch(scores)) == pytest.approx(1.0)


def test_one_row_for_all_tokens_has_rank_one() -> None:
    """MobileViTv2: at 32 pixels its map of 4 x 4 has 4 tokens in each of 4 groups."""
    matrices = attention_matrices(built(FAMILIES["mobilevitv2"]), images_and_classes())
    assert {matrix.shape[-2] for matrix in matrices} == {1}
    keys = [matrix.shape[-1] for matrix in matrices]
    assert max(keys) == 4
    expected = sum(1 / count for count in keys) / len(keys)
    value = compute("attention_rank", built(FAMILIES["mobilevitv2"]), images_and_classes())
    assert value == pytest.approx(expected)


def test_padded_keys_do_not_count() -> None:
    scores = torch.zeros(1, 1, 4, 4)
    scores[..., 3] = float("-inf")
    assert compute("attention_entropy", SoftAttention(), Batch(scores)) == pytest.approx(1.0)


def test_a_network_without_attention_has_attention_scores_of_zero() -> None:
    batch = Batch(torch.zeros(2, 1, 1, 4))
    for name in ("attention_entropy", "attention_rank"):
        assert compute(name, Rectified(), batch) == 0.0


@pytest.mark.parametrize("family", list(FAMILIES))
def test_attention_matrices_are_found_and_their_rows_sum_to_one(family: str) -> None:
    model, batch = built(FAMILIES[family]), images_and_classes()
    matrices = attention_matrices(model, batch)
    # Weights are small at first; a row of ReLU products may be zero altogether.
    sums = torch.cat([matrix.sum(-1).flatten() for matrix in matrices])
    assert matrices
    assert float(sums.max()) == pytest.approx(1.0, abs=1e-5)
    assert all(float(matrix.min()) >= 0 for matrix in matrices)


def test_rows_of_an_image_are_kept_together() -> None:
    rows = torch.arange(6)
    assert by_image(rows, 2).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert by_image(rows, 4).tolist() == [[0, 1, 2, 3, 4, 5]]  # belong to no image
