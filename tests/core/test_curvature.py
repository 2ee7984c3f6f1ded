"""Definition 3 and its (1 − a)-weighted form, against closed forms and Taylor's exact remainder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pcgrad


def point(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quartic(theta: Tensor) -> Tensor:
    return (theta**4).sum(-1) + theta[..., 0] * theta[..., 1]


THETA, NEXT, D = point(0, 5, 3), point(1, 5, 3), point(2, 5, 3)


def test_both_forms_in_closed_form() -> None:
    """L = x³ in one dimension: H = 6x, so that the integrals are 6d²(x + s/2) and 6d²(x + s/3)."""
    x, s, d = 1.5, -4.0, 2.0
    theta, theta_next, direction = (torch.tensor([v], dtype=torch.float64) for v in (x, x + s, d))
    for weighting, share in (("uniform", 1 / 2), ("remainder", 1 / 3)):
        found = pcgrad.multitask_curvature(
            lambda t: (t**3).sum(-1), theta, theta_next, direction, weighting=weighting
        )
        assert found.shape == ()
        assert found.item() == pytest.approx(6 * d * d * (x + s * share), rel=1e-12)


def test_uniform_is_the_difference_of_directional_gradients() -> None:
    """With d = theta' - theta, Definition 3's integral is d . (grad L(theta') - grad L(theta))."""
    found = pcgrad.multitask_curvature(quartic, THETA, NEXT, NEXT - THETA)
    gradient = torch.func.grad(lambda t: quartic(t).sum())
    assert torch.allclose(
        found, ((NEXT - THETA) * (gradient(NEXT) - gradient(THETA))).sum(-1), rtol=1e-12
    )


def test_remainder_is_the_estimator_of_section_5_3() -> None:
    found = pcgrad.multitask_curvature(quartic, THETA, NEXT, NEXT - THETA, weighting="remainder")
    slope = (torch.func.grad(lambda t: quartic(t).sum())(THETA) * (NEXT - THETA)).sum(-1)
    expected = pcgrad.curvature_estimate(quartic(THETA), quartic(NEXT), slope)
    assert torch.allclose(found, expected, rtol=1e-11)
    assert not torch.allclose(
        found, pcgrad.multitask_curvature(quartic, THETA, NEXT, NEXT - THETA), rtol=0.1
    )


def test_a_hessian_vector_product_does_as_well() -> None:
    def hvp(theta: Tensor, direction: Tensor) -> Tensor:
        cross = torch.zeros_like(theta)
        cross[..., 0], cross[..., 1] = direction[..., 1], direction[..., 0]
        return 12 * theta**2 * direction + cross

    for weighting in ("uniform", "remainder"):
        a, b = (
            pcgrad.multitask_curvature(f, THETA, NEXT, D, weighting=weighting)
            for f in (quartic, hvp)
        )
        assert torch.allclose(a, b, rtol=1e-12)
        assert a.shape == (5,)


def test_both_agree_on_quadratics_and_vanish_on_linear_losses() -> None:
    matrix = point(3, 3, 3)
    matrix = matrix @ matrix.T
    for weighting in ("uniform", "remainder"):
        found = pcgrad.multitask_curvature(
            lambda t: 0.5 * ((t @ matrix) * t).sum(-1), THETA, NEXT, D, weighting=weighting, nodes=1
        )
        assert torch.allclose(found, ((D @ matrix) * D).sum(-1), rtol=1e-12)
        linear = pcgrad.multitask_curvature(
            lambda t: (t @ matrix).sum(-1), THETA, NEXT, D, weighting=weighting
        )
        assert (linear == 0).all()


def test_nodes_buy_accuracy() -> None:
    def wave(theta: Tensor) -> Tensor:
        return torch.sin(4 * theta).sum(-1)

    gradient = torch.func.grad(lambda t: wave(t).sum())
    exact = ((NEXT - THETA) * (gradient(NEXT) - gradient(THETA))).sum(-1)
    few, many = (
        pcgrad.multitask_curvature(wave, THETA, NEXT, NEXT - THETA, nodes=n) for n in (2, 24)
    )
    assert (few - exact).abs().max() > 1e-2
    assert torch.allclose(many, exact, rtol=1e-10, atol=1e-10)


def test_result_is_detached_and_inputs_stay() -> None:
    theta = THETA.clone().requires_grad_()
    with torch.no_grad():
        found = pcgrad.multitask_curvature(quartic, theta, NEXT, D)
    assert not found.requires_grad
    assert theta.grad is None


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="unknown weighting 'linear'"):
        pcgrad.multitask_curvature(quartic, THETA, NEXT, D, weighting="linear")
    with pytest.raises(ValueError, match=r"one shape \[..., P\], got .*\[5, 3\].*\[5, 3\].*\[3\]"):
        pcgrad.multitask_curvature(quartic, THETA, NEXT, D[0])
    with pytest.raises(ValueError, match="nodes must be positive"):
        pcgrad.multitask_curvature(quartic, THETA, NEXT, D, nodes=0)
