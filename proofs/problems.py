"""Random problems on which the statements are tested, thousands at a time.

Task i of T has the loss L_i(theta) = s_i F(A_i theta + b_i) with shared theta, and every problem
starts at theta = 0 (a translation, absorbed into b). F(z) = sum_k w_k F_k(z_k) with the functions
of `outer.py`, or log sum e^z_k:

| family                | Lipschitz constant of grad L used as L
|
|-----------------------|------------------------------------------------------------------------------------|
| all but log_sum_exp   | lambda_max(sum_i s_i A_i' diag(abs w) A_i) max abs F''; exact for squares
|
| log_sum_exp           | sum_i s_i max_kl ||a_k - a_l||^2 / 4 (a variance is at most a quarter of
range^2)  |

CONVEX families are convex in every task, NONCONVEX are not. L is an upper bound of the true
constant by construction, which scipy confirms (`lipschitz.py`).
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
NODES = 128  # of the quadrature: steps may be long against the width of a softplus
ORDERS = pcgrad.fixed_orders(2)  # two tasks: each meets the other, there is nothing to draw


@dataclass(frozen=True)
class Problems:
    """N problems of one family; dimensions below D fill up with zero columns of A, on which no loss
    depends.
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
        """theta = 0, [N, D]."""
        return self.A.new_zeros(len(self), self.A.shape[-1])

    def along(self, direction: Tensor) -> Tensor:
        """A_i direction for every task: [N, D] -> [N, T, m]."""
        return (self.A @ direction[:, None, :, None]).squeeze(-1)

    def z(self, theta: Tensor) -> Tensor:
        """A_i theta + b_i: [N, D] -> [N, T, m]."""
        return self.along(theta) + self.b

    def losses(self, theta: Tensor) -> Tensor:
        """L_1 ... L_T: [N, D] -> [N, T]."""
        z = self.z(theta)
        return self.s * (
            z.logsumexp(-1)
            if self.family == "log_sum_exp"
            else (self.w * OUTER[self.family].value(z)).sum(-1)
        )

    def loss(self, theta: Tensor) -> Tensor:
        """L = sum_i L_i: [N, D] -> [N]."""
        return self.losses(theta).sum(-1)

    def slopes(self, z: Tensor) -> Tensor:
        """s_i dF/dz, [N, T, m]."""
        slope = (
            z.softmax(-1) if self.family == "log_sum_exp" else self.w * OUTER[self.family].slope(z)
        )
        return self.s.unsqueeze(-1) * slope

    def gradients(self, theta: Tensor) -> Tensor:
        """g_1 ... g_T: [N, D] -> [N, T, D]."""
        return (self.slopes(self.z(theta)).unsqueeze(-2) @ self.A).squeeze(-2)

    def bend(self, z: Tensor, v: Tensor) -> Tensor:
        """s_i (d^2F/dz^2) v, [N, T, m]: the Hessian of the outer functions times a vector."""
        if self.family == "log_sum_exp":
            p = z.softmax(-1)
            bent = p * (v - (p * v).sum(-1, keepdim=True))
        else:
            bent = self.w * OUTER[self.family].curvature(z) * v
        return self.s.unsqueeze(-1) * bent

    def hessian(self, theta: Tensor) -> Tensor:
        """Hessian of L: [N, D] -> [N, D, D]."""
        z = self.z(theta)
        if self.family == "log_sum_exp":
            p = z.softmax(-1)
            mean = (p.unsqueeze(-2) @ self.A).squeeze(-2)
            weights, less = (
                self.s.unsqueeze(-1) * p,
                torch.einsum("ni,nid,nie->nde", self.s, mean, mean),
            )
        else:
            weights, less = self.bend(z, torch.ones_like(z)), torch.zeros(())
        rows = (weights.unsqueeze(-1) * self.A).flatten(1, 2)
        return rows.mT @ self.A.flatten(1, 2) - less

    def lipschitz(self) -> Tensor:
        """L of the table above, [N]."""
        return self._lipschitz

    @cached_property
    def _lipschitz(self) -> Tensor:
        if self.family == "log_sum_exp":
            distances = torch.cdist(self.A, self.A, compute_mode="donot_use_mm_for_euclid_dist")
            return (self.s * distances.amax((-1, -2)) ** 2).sum(-1) / 4
        rows = ((self.s.unsqueeze(-1) * self.w.abs()).unsqueeze(-1) * self.A).flatten(1, 2)
        return (
            torch.linalg.eigvalsh(rows.mT @ self.A.flatten(1, 2))[:, -1]
            * OUTER[self.family].largest
        )

    def curvature(
        self, theta: Tensor, theta_next: Tensor, direction: Tensor, weighting: str
    ) -> Tensor:
        """H(L; theta, theta') along `direction` (Definition 3, or its (1-a)-weighted form), [N].

        By the core's quadrature, in z: d' grad^2 L d = (A d)' grad^2 F (A d). Huber's curvature
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
            weighting=weighting,
            nodes=NODES,
        )

    def _jumps(self, z: Tensor, change: Tensor, along: Tensor, weighting: str) -> Tensor:
        """sum_k w_k (A d)_k^2 times the weight of {a in [0, 1]: |z_k + a change_k| <= 1}."""
        ends = torch.stack([(-1 - z) / change, (1 - z) / change])
        still = torch.stack(
            [torch.zeros_like(z), (z.abs() <= 1).to(z.dtype)]
        )  # all of the segment, or nothing
        ends = torch.where(change == 0, still, ends)
        low, high = ends.amin(0).clamp(0, 1), ends.amax(0).clamp(0, 1)
        share = high - low if weighting == "uniform" else high * (2 - high) - low * (2 - low)
        return (self.s.unsqueeze(-1) * self.w * share * along**2).sum((-1, -2))


class Point(NamedTuple):
    """What both methods see at one theta: the update directions g and g^PC, and the geometry of the
    gradients.
    """

    gradients: Tensor  # [N, T, D]
    gramian: Tensor  # [N, T, T]
    g: Tensor  # [N, D]
    g_pc: Tensor  # [N, D]

    @property
    def cos(self) -> Tensor:
        """cos phi_12, [N]; nan where a gradient is zero."""
        return pcgrad.cosine(self.gramian)[:, 0, 1]

    @property
    def conflict(self) -> Tensor:
        """Whether g_1 . g_2 < 0, bool [N]."""
        return pcgrad.conflicting(self.gramian)[:, 0, 1] & self.cos.isfinite()


def look(problems: Problems, theta: Tensor, orders: Tensor = ORDERS) -> Point:
    """Gradients at theta, and PCGrad's update by the core; `orders` [..., T, T-1] for more than two
    tasks.
    """
    gradients = problems.gradients(theta)
    gramian = gradients @ gradients.mT
    weights = pcgrad.surgery_coefficients(gramian, orders).sum(-2)
    g_pc = (weights.unsqueeze(-2) @ gradients).squeeze(-2)
    return Point(gradients, gramian, gradients.sum(-2), g_pc)


def rounding(problems: Problems, start: Tensor, ends: tuple[Tensor, ...], step: Tensor) -> Tensor:
    """Bound of what float64 can make of a difference of losses at `start` and `ends`, [N].

    128 epsilon (more than rows + columns + elementary functions add up to) times the sum of
    absolute values: the losses, the change of the losses by rounding A theta + b, and t (sum_i ||
    |A_i|' |s_i F'| ||)^2, which bounds t times any product of two gradients.
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
    """Turn and scale every task about the start so that there its gradient is `targets` [N, T, D].

    L_i'(theta) = s L_i(R_i theta) with R_i a reflection: convexity and the spectrum stay.
    """
    g = problems.gradients(problems.start())
    norms, lengths = g.norm(dim=-1, keepdim=True), targets.norm(dim=-1, keepdim=True)
    mirror = g / norms - targets / lengths
    length = (mirror**2).sum(-1, keepdim=True)
    mirror = torch.where(length > 0, mirror * (2 / length).sqrt(), 0)  # R = 1 - mirror mirror'
    turned = problems.A - (problems.A @ mirror.unsqueeze(-1)) * mirror.unsqueeze(-2)
    return replace(problems, A=turned, s=problems.s * (lengths / norms).squeeze(-1))


def aim(problems: Problems, cos: Tensor, ratio: Tensor, sideways: Tensor) -> Problems:
    """Turn and scale task 2 about the start so that there cos phi_12 = `cos` and ||g_1|| / ||g_2||
    = `ratio`.

    `sideways` [N, D] gives the plane of the two gradients; in one dimension there is none and cos
    is -1 or 1."""
    g_1 = problems.gradients(problems.start())[:, 0]
    length = g_1.norm(dim=-1, keepdim=True)
    one = g_1 / length
    side = sideways - (sideways * one).sum(-1, keepdim=True) * one
    line = (problems.dimension == 1).unsqueeze(-1)
    side = torch.where(line, 0, side / side.norm(dim=-1, keepdim=True))
    cos = torch.where(line, cos.sign().unsqueeze(-1), cos.unsqueeze(-1))
    two = (cos * one + ((1 - cos) * (1 + cos)).sqrt() * side) * length / ratio.unsqueeze(-1)
    return aim_at(problems, torch.stack([g_1, two], 1))


def near_minimizers(
    problems: Problems, direction: Tensor, distance: Tensor, rounds: int = 15
) -> Problems:
    """Start task i near its own minimizer, at the distance max |A_i u_i| = `distance` along u_i =
    M_i `direction`.

    `direction` [N, D], `distance` [N]. M_i is an upper bound of task i's Hessian, A' diag(w) A
    times the largest curvature of F; steps M_i^-1 g_i never raise L_i. Where a task has no
    minimizer, the start is merely far down. There g_i is about M_i u_i: small, and along directions
    of large curvature."""
    largest = 0.5 if problems.family == "log_sum_exp" else OUTER[problems.family].largest
    rows = (problems.s.unsqueeze(-1) * problems.w).unsqueeze(-1) * problems.A
    bounds = largest * (rows.mT @ problems.A)  # [N, T, D, D]
    largest_entry = bounds.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    lift = 1e-3 * largest_entry * torch.eye(bounds.shape[-1], dtype=bounds.dtype)
    inverse, b = torch.linalg.inv(bounds + lift), problems.b
    for _ in range(rounds):
        g = (problems.slopes(b).unsqueeze(-2) @ problems.A).mT
        b = b - (problems.A @ (inverse @ g)).squeeze(-1)
    change = (problems.A @ ((bounds + lift) @ direction[:, None, :, None])).squeeze(-1)
    return replace(
        problems, b=b + change * (distance[:, None] / change.abs().amax(-1)).unsqueeze(-1)
    )
