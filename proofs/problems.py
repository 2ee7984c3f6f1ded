"""Random problems on which the statements are tested, thousands at a time.

Task i of T has the loss Lᵢ(θ) = sᵢ F(Aᵢ θ + bᵢ) with shared θ. Every problem starts at θ = 0,
since a translation is absorbed into b. F(z) = Σₖ wₖ Fₖ(zₖ) with the functions of `outer.py`,
or F(z) = log Σₖ exp zₖ.

CONVEX families are convex in every task, NONCONVEX families are not. The Lipschitz constant L of ∇L
is an upper bound by construction, which `tests/proofs/lipschitz.py` confirms with scipy.

Shapes: N problems, T tasks, m rows per task, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

import pcgrad
from proofs.outer import OUTER

CONVEX = ("least_squares", "quadratic", "logistic", "softplus", "huber", "log_sum_exp")
NONCONVEX = ("cauchy", "welsch", "wave", "sigmoid", "indefinite")
CONSTANT_HESSIAN = ("least_squares", "quadratic")
EPSILON = torch.finfo(torch.float64).eps
# Quadrature nodes: a step may be long compared with the width of a softplus.
NODES = 128
# With two tasks each visits the other, so that there is no order to draw.
ORDERS = pcgrad.fixed_orders(2)


@dataclass(frozen=True)
class Problems:
    """N problems of one family, stored as one batch.

    A problem with fewer than D dimensions has zero columns in A, on which no loss depends.
    """

    family: str
    A: Tensor  # [N, T, m, D]
    b: Tensor  # [N, T, m]: z at the start
    w: Tensor  # [N, T, m]: weights of the rows, 0 where a row is absent
    s: Tensor  # [N, T]: scale of each task
    dimension: Tensor  # [N]

    def __len__(self) -> int:
        return len(self.A)

    def __getitem__(self, rows: Tensor) -> Problems:
        return Problems(
            self.family, *(t[rows] for t in (self.A, self.b, self.w, self.s, self.dimension))
        )

    def start(self) -> Tensor:
        """θ = 0, [N, D]."""
        return self.A.new_zeros(len(self), self.A.shape[-1])

    def along(self, direction: Tensor) -> Tensor:
        """Aᵢ times a direction for every task: [N, D] → [N, T, m]."""
        return (self.A @ direction[:, None, :, None]).squeeze(-1)

    def z(self, theta: Tensor) -> Tensor:
        """Aᵢ θ + bᵢ: [N, D] → [N, T, m]."""
        return self.along(theta) + self.b

    def losses(self, theta: Tensor) -> Tensor:
        """L₁ … L_T: [N, D] → [N, T]."""
        z = self.z(theta)
        return self.s * (
            z.logsumexp(-1)
            if self.family == "log_sum_exp"
            else (self.w * OUTER[self.family].value(z)).sum(-1)
        )

    def loss(self, theta: Tensor) -> Tensor:
        """L = Σᵢ Lᵢ: [N, D] → [N]."""
        return self.losses(theta).sum(-1)

    def slopes(self, z: Tensor) -> Tensor:
        """sᵢ ∂F/∂z, [N, T, m]."""
        slope = (
            z.softmax(-1) if self.family == "log_sum_exp" else self.w * OUTER[self.family].slope(z)
        )
        return self.s.unsqueeze(-1) * slope

    def gradients(self, theta: Tensor) -> Tensor:
        """g₁ … g_T: [N, D] → [N, T, D]."""
        return (self.slopes(self.z(theta)).unsqueeze(-2) @ self.A).squeeze(-2)

    def bend(self, z: Tensor, v: Tensor) -> Tensor:
        """sᵢ (∂²F/∂z²) v, [N, T, m]: the Hessian of the outer function times a vector."""
        if self.family == "log_sum_exp":
            p = z.softmax(-1)
            bent = p * (v - (p * v).sum(-1, keepdim=True))
        else:
            bent = self.w * OUTER[self.family].curvature(z) * v
        return self.s.unsqueeze(-1) * bent

    def hessian(self, theta: Tensor) -> Tensor:
        """∇²L: [N, D] → [N, D, D]."""
        z = self.z(theta)
        if self.family == "log_sum_exp":
            # The Hessian of log-sum-exp in z is diag(p) − p pᵀ; `less` is the second term.
            p = z.softmax(-1)
            mean = (p.unsqueeze(-2) @ self.A).squeeze(-2)
            weights = self.s.unsqueeze(-1) * p
            less = torch.einsum("ni,nid,nie->nde", self.s, mean, mean)
        else:
            weights, less = self.bend(z, torch.ones_like(z)), torch.zeros(())
        rows = (weights.unsqueeze(-1) * self.A).flatten(1, 2)
        return rows.mT @ self.A.flatten(1, 2) - less

    def lipschitz(self) -> Tensor:
        """L, [N]: λ_max(Σᵢ sᵢ Aᵢᵀ diag(abs wᵢ) Aᵢ) · max abs F'', which is exact for squares.

        For log_sum_exp it is Σᵢ sᵢ max_kl ‖aₖ − a_l‖²/4, as a variance is at most range²/4.
        """
        return self._lipschitz

    @cached_property
    def _lipschitz(self) -> Tensor:
        if self.family == "log_sum_exp":
            # The fast way of `cdist` subtracts squares, which cancels for rows that are close.
            distances = torch.cdist(self.A, self.A, compute_mode="donot_use_mm_for_euclid_dist")
            return (self.s * distances.amax((-1, -2)) ** 2).sum(-1) / 4
        rows = ((self.s.unsqueeze(-1) * self.w.abs()).unsqueeze(-1) * self.A).flatten(1, 2)
        values = torch.linalg.eigvalsh(rows.mT @ self.A.flatten(1, 2))
        return values[:, -1] * OUTER[self.family].largest

    def curvature(
        self, theta: Tensor, theta_next: Tensor, direction: Tensor, weighting: str
    ) -> Tensor:
        """H(L; θ, θ') along `direction` (Definition 3, or its (1 − a)-weighted form), [N].

        The core's quadrature is applied in z, since dᵀ∇²L d = (A d)ᵀ∇²F(A d). Huber's curvature
        jumps, so it is integrated in closed form.
        """
        z, along = self.z(theta), self.along(direction)
        if self.family == "huber":
            return self._jumps(z, self.z(theta_next) - z, along, weighting)
        shape = z.shape
        ends = (t.flatten(1) for t in (z, self.z(theta_next), along))
        return pcgrad.multitask_curvature(
            lambda y, v: self.bend(y.view(shape), v.view(shape)).flatten(1),
            *ends,
            weighting="uniform" if weighting == "uniform" else "remainder",
            nodes=NODES,
        )

    def _jumps(self, z: Tensor, change: Tensor, along: Tensor, weighting: str) -> Tensor:
        """Σₖ wₖ (A d)ₖ² times the weight of {a ∈ [0, 1]: |zₖ + a change_k| ≤ 1}, [N]."""
        ends = torch.stack([(-1 - z) / change, (1 - z) / change])
        # Where z does not change, the segment is inside with its whole length, or not at all.
        still = torch.stack([torch.zeros_like(z), (z.abs() <= 1).to(z.dtype)])
        ends = torch.where(change == 0, still, ends)
        low, high = ends.amin(0).clamp(0, 1), ends.amax(0).clamp(0, 1)
        share = high - low if weighting == "uniform" else high * (2 - high) - low * (2 - low)
        return (self.s.unsqueeze(-1) * self.w * share * along**2).sum((-1, -2))


def quadratics(a: Tensor, b: Tensor, scale: float = 1.0) -> Problems:
    """Return problems of the losses `scale` ‖Aᵢθ + bᵢ‖²/2 with A [N, T, m, D] and b [N, T, m]."""
    width = torch.full((len(b),), float(a.shape[-1]), dtype=b.dtype)
    scales = torch.full(b.shape[:2], scale, dtype=b.dtype)
    return Problems("quadratic", a, b, torch.ones_like(b), scales, width)


class Point(NamedTuple):
    """The gradients at one θ, their Gramian, and the updates g and g^PC = Σⱼ wⱼ gⱼ."""

    gradients: Tensor  # [N, T, D]
    gramian: Tensor  # [N, T, T]
    g: Tensor  # [N, D]
    g_pc: Tensor  # [N, D]
    weights: Tensor  # [N, T]: wⱼ

    @classmethod
    def of(cls, gradients: Tensor, orders: Tensor = ORDERS) -> Point:
        """Compute PCGrad's update of gradients [N, T, D] with the core.

        The default orders [..., T, T−1] serve two tasks.
        """
        gramian = gradients @ gradients.mT
        weights = pcgrad.surgery_coefficients(gramian, orders).sum(-2)
        g_pc = (weights.unsqueeze(-2) @ gradients).squeeze(-2)
        return cls(gradients, gramian, gradients.sum(-2), g_pc, weights)

    @property
    def cos(self) -> Tensor:
        """cos φ₁₂, [N]; nan where a gradient is zero."""
        return pcgrad.cosine(self.gramian)[:, 0, 1]

    @property
    def conflict(self) -> Tensor:
        """Whether g₁·g₂ < 0, bool [N]."""
        return pcgrad.conflicting(self.gramian)[:, 0, 1] & self.cos.isfinite()

    @property
    def square(self) -> Tensor:
        """‖g‖², [N]."""
        return (self.g**2).sum(-1)

    @property
    def inner(self) -> Tensor:
        """g·g^PC, [N]."""
        return (self.g * self.g_pc).sum(-1)

    @property
    def sigma(self) -> Tensor:
        """σ = 1 − cos²φ₁₂ in conflict, 1 otherwise, [N]."""
        # A product, because 1 − cos² would cancel near cos = ±1.
        return torch.where(self.conflict, (1 - self.cos) * (1 + self.cos), 1.0)


def look(problems: Problems, theta: Tensor, orders: Tensor = ORDERS) -> Point:
    """Compute the gradients at θ [N, D], and PCGrad's update."""
    return Point.of(problems.gradients(theta), orders)


def rounding(problems: Problems, start: Tensor, ends: tuple[Tensor, ...], step: Tensor) -> Tensor:
    """Bound the float64 rounding error of a difference of losses at `start` and `ends`, [N].

    The bound is 128 ε times the sum of absolute values, where 128 exceeds the number of rounded
    operations (rows, columns, elementary functions). The sum contains

    - the losses,
    - the change of the losses when A θ + b is rounded, and
    - t (Σᵢ ‖|Aᵢ|ᵀ |sᵢ F'|‖)², which bounds t times any product of two gradients.
    """
    scale = torch.zeros_like(step)
    for theta in (start, *ends):
        size = (problems.A.abs() @ theta.abs()[:, None, :, None]).squeeze(-1) + problems.b.abs()
        scale += problems.losses(theta).abs().sum(-1) + (
            problems.slopes(problems.z(theta)).abs() * size
        ).sum((-1, -2))
    rows = (problems.slopes(problems.z(start)).abs().unsqueeze(-2) @ problems.A.abs()).squeeze(-2)
    return 128 * EPSILON * (scale + step * rows.norm(dim=-1).sum(-1) ** 2)


def aim_at(problems: Problems, targets: Tensor) -> Problems:
    """Turn and scale every task about the start so that its gradient there is `targets` [N, T, D].

    The new task is s Lᵢ(Rᵢ θ) with a reflection Rᵢ, which keeps convexity and the spectrum.
    """
    g = problems.gradients(problems.start())
    norms, lengths = g.norm(dim=-1, keepdim=True), targets.norm(dim=-1, keepdim=True)
    mirror = g / norms - targets / lengths
    length = (mirror**2).sum(-1, keepdim=True)
    # R = 1 − mirror mirrorᵀ (Householder); R = 1 where the gradient already has the direction.
    mirror = torch.where(length > 0, mirror * (2 / length).sqrt(), 0)
    turned = problems.A - (problems.A @ mirror.unsqueeze(-1)) * mirror.unsqueeze(-2)
    return replace(problems, A=turned, s=problems.s * (lengths / norms).squeeze(-1))


def aim(problems: Problems, cos: Tensor, ratio: Tensor, sideways: Tensor) -> Problems:
    """Turn and scale task 2 about the start so that cos φ₁₂ = `cos` and ‖g₁‖/‖g₂‖ = `ratio` there.

    `cos` and `ratio` are [N]; in one dimension only the sign of `cos` counts. `sideways` [N, D]
    spans the plane of the two gradients with g₁.
    """
    g_1 = problems.gradients(problems.start())[:, 0]
    length = g_1.norm(dim=-1, keepdim=True)
    one = g_1 / length
    side = sideways - (sideways * one).sum(-1, keepdim=True) * one
    line = (problems.dimension == 1).unsqueeze(-1)
    side = torch.where(line, 0, side / side.norm(dim=-1, keepdim=True))
    cos = torch.where(line, cos.sign().unsqueeze(-1), cos.unsqueeze(-1))
    two = (cos * one + ((1 - cos) * (1 + cos)).sqrt() * side) * length / ratio.unsqueeze(-1)
    return aim_at(problems, torch.stack([g_1, two], 1))


def near_minimizers(problems: Problems, direction: Tensor, distance: Tensor) -> Problems:
    """Move the start of every task near the task's own minimizer, or lower where it has none.

    The displacement from the minimizer is uᵢ = Mᵢ `direction` [N, D], scaled so that max |Aᵢ uᵢ| is
    `distance` [N]. Mᵢ = Aᵢᵀ diag(wᵢ) Aᵢ times the largest curvature of F is an upper bound of task
    i's Hessian, so that a step Mᵢ⁻¹ gᵢ never raises Lᵢ, of which 15 are made. At the new start
    gᵢ ≈ Mᵢ uᵢ, which is small and points along directions of large curvature.
    """
    largest = 0.5 if problems.family == "log_sum_exp" else OUTER[problems.family].largest
    rows = (problems.s.unsqueeze(-1) * problems.w).unsqueeze(-1) * problems.A
    bounds = largest * (rows.mT @ problems.A)  # [N, T, D, D]
    # The lift makes Mᵢ invertible where a task does not depend on some direction.
    largest_entry = bounds.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    lift = 1e-3 * largest_entry * torch.eye(bounds.shape[-1], dtype=bounds.dtype)
    inverse, b = torch.linalg.inv(bounds + lift), problems.b
    for _ in range(15):
        g = (problems.slopes(b).unsqueeze(-2) @ problems.A).mT
        b = b - (problems.A @ (inverse @ g)).squeeze(-1)
    change = (problems.A @ ((bounds + lift) @ direction[:, None, :, None])).squeeze(-1)
    return replace(
        problems, b=b + change * (distance[:, None] / change.abs().amax(-1)).unsqueeze(-1)
    )
