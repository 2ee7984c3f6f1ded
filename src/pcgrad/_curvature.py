"""The multi-task curvature of Definition 3, and the weighted form in the proof of Theorem 2."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.functional import hvp

from pcgrad._parameters import check_option, integers, shown


def multitask_curvature(
    loss_or_hvp: Callable[..., Tensor],
    theta: Tensor,
    theta_next: Tensor,
    direction: Tensor,
    *,
    weighting: Literal["uniform", "remainder"] = "uniform",
    nodes: int = 32,
) -> Tensor:
    """Return the average curvature along a direction over the segment from theta to theta'.

    With d = ``direction`` and H the Hessian, Gauss-Legendre quadrature computes

    - ``"uniform"`` (Definition 3): int_0^1 d^T H(theta + a (theta' - theta)) d da;
    - ``"remainder"``: 2 int_0^1 (1 - a) d^T H(theta + a (theta' - theta)) d da.

    For d = theta' - theta the latter is the exact Taylor remainder, :func:`curvature_estimate`. The
    two forms agree if the Hessian is constant on the segment.

    Args:
        loss_or_hvp: a loss ``theta -> [...]`` that autograd can differentiate twice, or the
            Hessian-vector product ``(theta, d) -> [..., P]``, a function of two parameters.
        theta: ``[..., P]``, as theta' and direction; leading dimensions are independent instances.
        nodes: the number of quadrature nodes. The result is exact if the Hessian is a polynomial in
            a of degree below 2 ``nodes`` - 1.

    Returns:
        ``[...]``, in the dtype of theta.

    Raises:
        ValueError: if the weighting is unknown, the shapes differ, or ``nodes`` is not positive.
    """
    check_option("weighting", weighting, ("uniform", "remainder"))
    if not callable(loss_or_hvp):
        raise TypeError(f"loss_or_hvp must be a function of theta, got {shown(loss_or_hvp)}")
    vectors = theta, theta_next, direction
    if not all(isinstance(v, Tensor) and v.is_floating_point() and v.dim() for v in vectors) or (
        not theta.shape == theta_next.shape == direction.shape
    ):
        raise ValueError(
            "theta, theta_next and direction must be floating-point, of one shape [..., P], got "
            + ", ".join(map(shown, vectors))
        )
    theta, theta_next, direction = theta.detach(), theta_next.detach(), direction.detach()
    given = _takes_direction(loss_or_hvp)
    total = torch.zeros(theta.shape[:-1], dtype=theta.dtype, device=theta.device)
    for a, w in _gauss_legendre(nodes):
        weight = w if weighting == "uniform" else 2 * (1 - a) * w
        point = theta + a * (theta_next - theta)
        if given:
            product = loss_or_hvp(point, direction).detach()
        else:
            product = hvp(lambda t: loss_or_hvp(t).sum(), point, direction)[1]
        total += weight * (product * direction).sum(-1)
    return total


def curvature_estimate(loss: Tensor, loss_next: Tensor, gradient_dot_step: Tensor) -> Tensor:
    """Return the estimator of Section 5.3 for the curvature along a step, elementwise.

    It is 2 [L(theta') - L(theta) - grad L(theta) . (theta' - theta)], and equals the
    ``"remainder"`` form of :func:`multitask_curvature` along theta' - theta.

    Arguments are L(theta), L(theta') and grad L(theta) . (theta' - theta).
    """
    return 2 * (loss_next - loss - gradient_dot_step)


def _gauss_legendre(nodes: int) -> list[tuple[float, float]]:
    """Return the quadrature's nodes and weights on [0, 1], as Golub and Welsch 1969."""
    if not integers([nodes]) or nodes < 1:
        raise ValueError(f"nodes must be positive and an integer, got {shown(nodes)}")
    # Recurrence coefficients of the Legendre polynomials on [-1, 1], mapped to [0, 1] at the end.
    k = torch.arange(1, nodes, dtype=torch.float64, device="cpu")
    off = k / (4 * k**2 - 1).sqrt()
    points, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return list(zip(((points + 1) / 2).tolist(), (vectors[0] ** 2).tolist(), strict=True))


def _takes_direction(function: Callable[..., Tensor]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # built-in functions, such as torch.sum, show no parameters: a loss
        return False
    required = [p for p in parameters if p.default is p.empty]
    return len([p for p in required if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]) == 2
