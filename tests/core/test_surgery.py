"""Surgery on the Gramian against the literal algorithm on vectors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pcgrad

from .oracle import CATALOGUE, SCALES, algorithm_1, total_norm

MATRICES = pytest.mark.parametrize("name", CATALOGUE)


def orders_of(tasks: int, seed: int = 0) -> Tensor:
    return pcgrad.random_orders(tasks, torch.Generator().manual_seed(seed))


@MATRICES
@pytest.mark.parametrize("scale", [1e-100, *SCALES, 1e100])
def test_equals_algorithm_1_in_float64(name: str, scale: float) -> None:
    gradients = CATALOGUE[name] * scale
    for seed in range(3):
        orders = orders_of(len(gradients), seed)
        expected = algorithm_1(gradients, orders)
        tolerance = 1e-12 * total_norm(gradients)
        projected = pcgrad.project_conflicting(gradients, orders)
        assert (projected - expected).abs().max() <= tolerance
        result = pcgrad.surgery(gradients @ gradients.T, orders)
        assert (result.coefficients @ gradients - expected).abs().max() <= tolerance
        assert (result.weights @ gradients - expected.sum(0)).abs().max() <= tolerance


@MATRICES
@pytest.mark.parametrize("scale", SCALES)
def test_float32_is_as_exact_as_the_literal_algorithm(name: str, scale: float) -> None:
    """Error of the update against a float64 oracle: at most 1e-4 of the norms, and 10 times the
    literal float32 one (or a few units in the last place, where the literal one happens to be
    exact)."""
    gradients = (CATALOGUE[name] * scale).float()
    for seed in range(3):
        orders = orders_of(len(gradients), seed)
        exact = algorithm_1(gradients.double(), orders).sum(0)
        literal = (algorithm_1(gradients, orders).sum(0) - exact).norm()
        error = (pcgrad.project_conflicting(gradients, orders).sum(0) - exact).norm()
        weights = pcgrad.surgery(pcgrad.gramian([gradients]), orders).weights
        error_of_weights = (weights.float() @ gradients - exact).norm()
        norms = total_norm(gradients)
        for found in (error, error_of_weights):
            assert found <= 1e-4 * norms
            assert found <= max(10 * literal, 4 * torch.finfo(torch.float32).eps * norms)


def test_norms_from_both_ends_meet_in_float32() -> None:
    g = CATALOGUE["normal 5x40"]
    gradients = (
        g / g.norm(dim=1, keepdim=True) * torch.tensor([[1e15], [1e-15], [1.0], [1e15], [1e-15]])
    ).float()
    for seed in range(10):
        orders = orders_of(5, seed)
        exact = algorithm_1(gradients.double(), orders)
        coefficients = pcgrad.surgery(pcgrad.gramian([gradients]), orders).coefficients
        errors = (coefficients @ gradients.double() - exact).norm(dim=1)
        assert (
            errors <= 1e-6 * gradients.double().norm(dim=1)
        ).all()  # of every task, not only of the largest


@MATRICES
def test_scaling_all_gradients_scales_the_update_exactly(name: str) -> None:
    """A power of two changes no digit, so an absolute epsilon anywhere shows."""
    gradients = CATALOGUE[name].float()
    orders = orders_of(len(gradients))
    expected = pcgrad.surgery(pcgrad.gramian([gradients]), orders).coefficients
    for exponent in (-44, 44):
        scaled = pcgrad.surgery(pcgrad.gramian([gradients * 2.0**exponent]), orders).coefficients
        assert torch.equal(scaled, expected)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Small integers, for which products and the first conflict tests are exact.

    Ties and zeros are common.
    """
    tasks, size = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    numbers = draw(st.lists(st.integers(-3, 3), min_size=tasks * size, max_size=tasks * size))
    rows = [draw(st.permutations([j for j in range(tasks) if j != i])) for i in range(tasks)]
    orders = torch.tensor(rows, dtype=torch.int64).reshape(tasks, tasks - 1)
    return torch.tensor(numbers, dtype=torch.float64).reshape(tasks, size), orders


@settings(max_examples=200, deadline=None, derandomize=True)
@given(problems())
def test_equals_algorithm_1_on_anything(problem: tuple[Tensor, Tensor]) -> None:
    gradients, orders = problem
    expected = algorithm_1(gradients, orders)
    projected = pcgrad.project_conflicting(gradients, orders)
    assert torch.allclose(projected, expected, rtol=0, atol=1e-12 * max(total_norm(gradients), 1))
    norms, limits = projected.norm(dim=1), gradients.norm(dim=1)
    assert (norms <= limits * (1 + 1e-12)).all()  # a projection never lengthens
    for i in range(len(gradients)):
        if len(gradients) > 1:  # and leaves no conflict with the task visited last
            assert projected[i] @ gradients[orders[i, -1]] >= -1e-11


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 10])
def test_numbers_and_tensors_agree(tasks: int) -> None:
    """Few tasks go through Python's numbers where they are alone, through tensors in a batch."""
    random = torch.Generator().manual_seed(tasks)
    gramians = (g := torch.randn(20, tasks, 4, generator=random, dtype=torch.float64)) @ g.mT
    gramians[1, 0], gramians[1, :, 0] = 0, 0  # a zero gradient
    gramians[2, -1, -1] = 0  # one so short that its square has underflowed, its products have not
    gramians[3, 0, -1] = gramians[3, -1, 0] = torch.nan
    gramians[4, -1, -1] = torch.inf
    orders = pcgrad.random_orders(tasks, random, batch=(20,))
    together = pcgrad.surgery_coefficients(gramians, orders)
    alone = torch.stack(
        [pcgrad.surgery_coefficients(*pair) for pair in zip(gramians, orders, strict=True)]
    )
    torch.testing.assert_close(alone, together, rtol=1e-13, atol=1e-15, equal_nan=True)
    assert alone[:3].isfinite().all()
    assert alone[3].isnan().any() == (tasks > 1)


def test_two_tasks_by_hand() -> None:
    """g_1 = (1, 0), g_2 = (-1, 1): each is projected on the other's normal plane."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    result = pcgrad.surgery(gradients @ gradients.T, pcgrad.fixed_orders(2))
    assert result.coefficients.tolist() == [[1.0, 0.5], [1.0, 1.0]]
    assert result.weights.tolist() == [2.0, 1.5]
    assert (result.weights.float() @ gradients).tolist() == [0.5, 1.5]


def test_gradients_without_conflict_are_left_alone() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert torch.equal(pcgrad.project_conflicting(gradients, orders_of(3)), gradients)


def test_reduction_is_a_sum() -> None:
    gradients = CATALOGUE["normal 5x40"]
    product, orders = gradients @ gradients.T, orders_of(5)
    total = pcgrad.surgery(product, orders)
    assert torch.equal(total.weights, total.coefficients.sum(0))
    assert torch.allclose(
        pcgrad.surgery(product, orders, reduction="mean").weights, total.weights / 5
    )
    with pytest.raises(ValueError, match="unknown reduction 'average'"):
        pcgrad.surgery(product, orders, reduction="average")


def test_the_order_matters_row_by_row() -> None:
    """Changing the order of one task changes that task's row and no other."""
    gradients = CATALOGUE["crowded 6x3"]
    orders = pcgrad.fixed_orders(6)
    changed = orders.clone()
    changed[2] = orders[2].flip(0)
    a, b = (pcgrad.surgery_coefficients(gradients @ gradients.T, o) for o in (orders, changed))
    different = (a - b).abs().amax(1) > 1e-6
    assert different.tolist() == [False, False, True, False, False, False]


def test_batch_dimensions_broadcast() -> None:
    random = torch.Generator().manual_seed(5)
    gradients = torch.randn(3, 4, 5, 6, generator=random, dtype=torch.float64)
    orders = pcgrad.random_orders(5, random, batch=(3, 4))
    projected = pcgrad.project_conflicting(gradients, orders)
    result = pcgrad.surgery(gradients @ gradients.mT, orders)
    assert result.coefficients.shape == (3, 4, 5, 5)
    assert result.weights.shape == (3, 4, 5)
    for a in range(3):
        for b in range(4):
            expected = algorithm_1(gradients[a, b], orders[a, b])
            assert torch.allclose(projected[a, b], expected, rtol=0, atol=1e-12)
    one_order = pcgrad.project_conflicting(gradients, orders[0, 0])
    assert torch.allclose(
        one_order[2, 3], algorithm_1(gradients[2, 3], orders[0, 0]), rtol=0, atol=1e-12
    )
    many_orders = pcgrad.surgery_coefficients(gradients[0, 0] @ gradients[0, 0].T, orders)
    assert many_orders.shape == (3, 4, 5, 5)
    assert torch.allclose(
        many_orders[1, 2] @ gradients[0, 0], algorithm_1(gradients[0, 0], orders[1, 2]), atol=1e-12
    )


def test_half_precision_is_computed_in_float32() -> None:
    gradients = CATALOGUE["crowded 6x3"]
    for dtype in (torch.bfloat16, torch.float16):
        half = gradients.to(dtype)
        projected = pcgrad.project_conflicting(half, pcgrad.fixed_orders(6))
        assert projected.dtype == dtype
        assert torch.equal(
            projected, pcgrad.project_conflicting(half.float(), pcgrad.fixed_orders(6)).to(dtype)
        )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_never_hidden(value: float) -> None:
    gradients = CATALOGUE["normal 5x40"].clone()
    gradients[3, 7] = value
    result = pcgrad.surgery(gradients @ gradients.T, orders_of(5))
    assert result.gramian.diagonal().isfinite().tolist() == [True, True, True, False, True]
    assert not (result.weights @ gradients).isfinite().any()
    if value != value:
        assert not pcgrad.project_conflicting(gradients, orders_of(5)).isfinite().any()


def test_surgery_is_detached_and_small() -> None:
    gradients = torch.randn(3, 50, requires_grad=True)
    result = pcgrad.surgery(gradients @ gradients.T, orders_of(3))
    for tensor in (result.gramian, result.coefficients, result.weights):
        assert not tensor.requires_grad
        assert tensor.dtype == torch.float64
        assert tensor.numel() <= 9


def test_inputs_stay_as_they_are() -> None:
    gradients = CATALOGUE["crowded 6x3"].clone()
    product, orders = gradients @ gradients.T, orders_of(6)
    copies = gradients.clone(), product.clone(), orders.clone()
    pcgrad.project_conflicting(gradients, orders)
    pcgrad.surgery(product, orders)
    assert all(torch.equal(a, b) for a, b in zip((gradients, product, orders), copies, strict=True))


def test_bad_input_is_named() -> None:
    product = torch.eye(3)
    with pytest.raises(ValueError, match="there are no tasks"):
        pcgrad.surgery_coefficients(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"Gramian is a floating-point \[..., T, T\]"):
        pcgrad.surgery_coefficients(torch.zeros(3, 2), pcgrad.fixed_orders(3))
    with pytest.raises(ValueError, match=r"must have shape \[..., 3, 2\], got \[2, 1\]"):
        pcgrad.surgery_coefficients(product, pcgrad.fixed_orders(2))
    with pytest.raises(
        ValueError, match=r"\[2, 3, 2\] do not broadcast against a Gramian \[4, 3, 3\]"
    ):
        pcgrad.surgery(torch.zeros(4, 3, 3), pcgrad.random_orders(3, batch=(2,)))
    with pytest.raises(TypeError, match="LongTensor"):
        pcgrad.surgery_coefficients(product, pcgrad.fixed_orders(3).float())
    for bad in ([[0, 1], [0, 2], [0, 1]], [[1, 1], [0, 2], [0, 1]], [[1, 3], [0, 2], [0, 1]]):
        with pytest.raises(ValueError, match="permutation of the other tasks, without i itself"):
            pcgrad.surgery_coefficients(product, torch.tensor(bad))
    with pytest.raises(ValueError, match="floating-point"):
        pcgrad.project_conflicting(torch.ones(2, 3, dtype=torch.int64), pcgrad.fixed_orders(2))
