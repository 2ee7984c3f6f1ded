"""Random two-task problems on which the statements are tested, thousands at a time.

Task i has the loss L_i(theta) = s_i F(A_i theta + b_i), i = 1, 2, with shared theta, and every problem starts at
theta = 0 (a translation, absorbed into b). The outer functions F(z):

| family        | F(z)                     | curvature of F   | Lipschitz constant of grad L used as L        |
|---------------|--------------------------|------------------|-----------------------------------------------|
| least_squares | sum w_k z_k^2 / 2        | w_k              | lambda_max(sum_i s_i A_i' diag(w) A_i): exact |
| quadratic     | the same, A'A prescribed | w_k              | the same: exact                               |
| logistic      | sum w_k log(1 + e^z_k)   | in (0, w_k / 4]  | lambda_max(sum_i s_i A_i' diag(w) A_i) / 4    |
| softplus      | the same                 | in (0, w_k / 4]  | the same                                      |
| huber         | sum w_k huber(z_k)       | w_k or 0         | as for least squares                          |
| log_sum_exp   | log sum e^z_k            | Var_p, p=softmax | sum_i s_i max_kl ||a_k - a_l||^2 / 4          |

(log_sum_exp: a variance is at most a quarter of the squared range.)

All are convex; L is an upper bound of the true constant by construction, which scipy confirms (`lipschitz.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

import pcgrad

FAMILIES = ("least_squares", "quadratic", "logistic", "softplus", "huber", "log_sum_exp")
CONSTANT_HESSIAN = ("least_squares", "quadratic")
EPSILON = torch.finfo(torch.float64).eps
NODES = 128  # of the quadrature: steps may be long against the width of a softplus
ORDERS = pcgrad.fixed_orders(2)  # two tasks: each meets the other, there is nothing to draw


@dataclass(frozen=True)
class Problems:
    """N problems of one family; dimensions below D fill up with zero columns of A, on which no loss depends."""

    family: str
    A: Tensor  # [N, 2, m, D]
    b: Tensor  # [N, 2, m]: z at the start
    w: Tensor  # [N, 2, m]: weights of the rows, 0 where a row is absent
    s: Tensor  # [N, 2]: scale of each task
    dimension: Tensor  # [N]

    def __len__(self) -> int:
        return len(self.A)

    def __getitem__(self, rows: Tensor) -> Problems:
        return Problems(self.family, *(t[rows] for t in (self.A, self.b, self.w, self.s, self.dimension)))

    def start(self) -> Tensor:
        """theta = 0, [N, D]."""
        return self.A.new_zeros(len(self), self.A.shape[-1])

    def along(self, direction: Tensor) -> Tensor:
        """A_i direction for both tasks: [N, D] -> [N, 2, m]."""
        return (self.A @ direction[:, None, :, None]).squeeze(-1)

    def z(self, theta: Tensor) -> Tensor:
        """A_i theta + b_i: [N, D] -> [N, 2, m]."""
        return self.along(theta) + self.b

    def losses(self, theta: Tensor) -> Tensor:
        """L_1 and L_2: [N, D] -> [N, 2]."""
        z = self.z(theta)
        return self.s * (z.logsumexp(-1) if self.family == "log_sum_exp" else (self.w * self._psi(z)).sum(-1))

    def loss(self, theta: Tensor) -> Tensor:
        """L = L_1 + L_2: [N, D] -> [N]."""
        return self.losses(theta).sum(-1)

    def slopes(self, z: Tensor) -> Tensor:
        """s_i dF/dz, [N, 2, m]."""
        if self.family == "log_sum_exp":
            slope = z.softmax(-1)
        elif self.family in CONSTANT_HESSIAN:
            slope = self.w * z
        else:
            slope = self.w * (z.clamp(-1, 1) if self.family == "huber" else z.sigmoid())
        return self.s.unsqueeze(-1) * slope

    def gradients(self, theta: Tensor) -> Tensor:
        """g_1 and g_2: [N, D] -> [N, 2, D]."""
        return (self.slopes(self.z(theta)).unsqueeze(-2) @ self.A).squeeze(-2)

    def bend(self, z: Tensor, v: Tensor) -> Tensor:
        """s_i (d^2F/dz^2) v, [N, 2, m]: the Hessian of the outer functions times a vector."""
        if self.family == "log_sum_exp":
            p = z.softmax(-1)
            bent = p * (v - (p * v).sum(-1, keepdim=True))
        elif self.family in CONSTANT_HESSIAN:
            bent = self.w * v
        elif self.family == "huber":
            bent = self.w * (z.abs() <= 1) * v
        else:
            bent = self.w * z.sigmoid() * (-z).sigmoid() * v
        return self.s.unsqueeze(-1) * bent

    def hessian(self, theta: Tensor) -> Tensor:
        """Hessian of L: [N, D] -> [N, D, D]."""
        z = self.z(theta)
        if self.family == "log_sum_exp":
            p = z.softmax(-1)
            mean = (p.unsqueeze(-2) @ self.A).squeeze(-2)
            weights, less = self.s.unsqueeze(-1) * p, torch.einsum("ni,nid,nie->nde", self.s, mean, mean)
        else:
            weights, less = self.bend(z, torch.ones_like(z)), torch.zeros(())
        rows = (weights.unsqueeze(-1) * self.A).flatten(1, 2)
        return rows.mT @ self.A.flatten(1, 2) - less

    def lipschitz(self) -> Tensor:
        """L of the table above, [N]."""
        if self.family == "log_sum_exp":
            distances = torch.cdist(self.A, self.A, compute_mode="donot_use_mm_for_euclid_dist")
            return (self.s * distances.amax((-1, -2)) ** 2).sum(-1) / 4
        rows = ((self.s.unsqueeze(-1) * self.w).unsqueeze(-1) * self.A).flatten(1, 2)
        largest = torch.linalg.eigvalsh(rows.mT @ self.A.flatten(1, 2))[:, -1]
        return largest / 4 if self.family in ("logistic", "softplus") else largest

    def curvature(self, theta: Tensor, theta_next: Tensor, direction: Tensor, weighting: str) -> Tensor:
        """H(L; theta, theta') along `direction` (Definition 3, or its (1-a)-weighted form), [N].

        By the core's quadrature, in z: d' grad^2 L d = (A d)' grad^2 F (A d). Huber's curvature jumps, so it is
        integrated in closed form.
        """
        z, along = self.z(theta), self.along(direction)
        if self.family == "huber":
            return self._jumps(z, self.z(theta_next) - z, along, weighting)
        shape = z.shape
        ends = (t.flatten(1) for t in (z, self.z(theta_next), along))
        return pcgrad.multitask_curvature(
            lambda y, v: self.bend(y.view(shape), v.view(shape)).flatten(1), *ends, weighting=weighting, nodes=NODES
        )

    def _jumps(self, z: Tensor, change: Tensor, along: Tensor, weighting: str) -> Tensor:
        """sum_k w_k (A d)_k^2 times the weight of {a in [0, 1]: |z_k + a change_k| <= 1}."""
        ends = torch.stack([(-1 - z) / change, (1 - z) / change])
        still = torch.stack([torch.zeros_like(z), (z.abs() <= 1).to(z.dtype)])  # all of the segment, or nothing
        ends = torch.where(change == 0, still, ends)
        low, high = ends.amin(0).clamp(0, 1), ends.amax(0).clamp(0, 1)
        share = high - low if weighting == "uniform" else high * (2 - high) - low * (2 - low)
        return (self.s.unsqueeze(-1) * self.w * share * along**2).sum((-1, -2))

    def _psi(self, z: Tensor) -> Tensor:
        if self.family in CONSTANT_HESSIAN:
            return z**2 / 2
        if self.family == "huber":
            return torch.where(z.abs() <= 1, z**2 / 2, z.abs() - 0.5)
        return softplus(z, threshold=50)


class Point(NamedTuple):
    """What both methods see at one theta: the update directions g and g^PC, and the geometry of the pair."""

    gradients: Tensor  # [N, 2, D]
    gramian: Tensor  # [N, 2, 2]
    g: Tensor  # [N, D]
    g_pc: Tensor  # [N, D]
    cos: Tensor  # [N], nan where a gradient is zero

    @property
    def conflict(self) -> Tensor:
        return pcgrad.conflicting(self.gramian)[:, 0, 1] & self.cos.isfinite()


def look(problems: Problems, theta: Tensor) -> Point:
    """Gradients at theta, and PCGrad's update by the core."""
    gradients = problems.gradients(theta)
    gramian = gradients @ gradients.mT
    weights = pcgrad.surgery_coefficients(gramian, ORDERS).sum(-2)
    g_pc = (weights.unsqueeze(-2) @ gradients).squeeze(-2)
    return Point(gradients, gramian, gradients.sum(-2), g_pc, pcgrad.cosine(gramian)[:, 0, 1])


def rounding(problems: Problems, start: Tensor, ends: tuple[Tensor, ...], step: Tensor) -> Tensor:
    """Bound of what float64 can make of a difference of losses at `start` and `ends`, [N].

    128 epsilon (more than rows + columns + elementary functions add up to) times the sum of absolute values: the
    losses, the change of the losses by rounding A theta + b, and t (sum_i || |A_i|' |s_i F'| ||)^2, which bounds
    t times any product of two gradients.
    """
    scale = torch.zeros_like(step)
    for theta in (start, *ends):
        size = (problems.A.abs() @ theta.abs()[:, None, :, None]).squeeze(-1) + problems.b.abs()
        scale += problems.losses(theta).abs().sum(-1) + (problems.slopes(problems.z(theta)).abs() * size).sum((-1, -2))
    rows = (problems.slopes(problems.z(start)).abs().unsqueeze(-2) @ problems.A.abs()).squeeze(-2)
    return 128 * EPSILON * (scale + step * rows.norm(dim=-1).sum(-1) ** 2)


def aim(problems: Problems, cos: Tensor, ratio: Tensor, sideways: Tensor) -> Problems:
    """Turn and scale task 2 about the start so that there cos phi_12 = `cos` and ||g_1|| / ||g_2|| = `ratio`.

    L_2'(theta) = s L_2(R theta) with R a reflection: convexity and the spectrum stay. `sideways` [N, D] gives the plane
    of the two gradients; in one dimension there is none and cos is -1 or 1.
    """
    g = problems.gradients(problems.start())
    one, two = (v / v.norm(dim=-1, keepdim=True) for v in g.unbind(-2))
    side = sideways - (sideways * one).sum(-1, keepdim=True) * one
    line = (problems.dimension == 1).unsqueeze(-1)
    side = torch.where(line, 0, side / side.norm(dim=-1, keepdim=True))
    cos = torch.where(line, cos.sign().unsqueeze(-1), cos.unsqueeze(-1))
    mirror = two - (cos * one + ((1 - cos) * (1 + cos)).sqrt() * side)
    length = (mirror**2).sum(-1, keepdim=True)
    mirror = torch.where(length > 0, mirror * (2 / length).sqrt(), 0)  # R = 1 - mirror mirror'
    a_1, a_2 = problems.A.unbind(1)
    a_2 = a_2 - (a_2 @ mirror.unsqueeze(-1)) * mirror.unsqueeze(-2)
    norms = g.norm(dim=-1)
    scale = torch.stack([problems.s[:, 0], problems.s[:, 1] * norms[:, 0] / (ratio * norms[:, 1])], -1)
    return replace(problems, A=torch.stack([a_1, a_2], 1), s=scale)


def near_minimizers(problems: Problems, direction: Tensor, distance: Tensor, rounds: int = 15) -> Problems:
    """Start task i near its own minimizer, at the distance max |A_i u_i| = `distance` along u_i = M_i `direction`.

    `direction` [N, D], `distance` [N]. M_i is an upper bound of task i's Hessian, A' diag(w) A times the largest
    curvature of F; steps M_i^-1 g_i never raise L_i. Where a task has no minimizer, the start is merely far down.
    There g_i is about M_i u_i: small, and along directions of large curvature.
    """
    largest = {"logistic": 0.25, "softplus": 0.25, "log_sum_exp": 0.5}.get(problems.family, 1.0)
    rows = (problems.s.unsqueeze(-1) * problems.w).unsqueeze(-1) * problems.A
    bounds = largest * (rows.mT @ problems.A)  # [N, 2, D, D]
    largest_entry = bounds.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    lift = 1e-3 * largest_entry * torch.eye(bounds.shape[-1], dtype=bounds.dtype)
    inverse, b = torch.linalg.inv(bounds + lift), problems.b
    for _ in range(rounds):
        g = (problems.slopes(b).unsqueeze(-2) @ problems.A).mT
        b = b - (problems.A @ (inverse @ g)).squeeze(-1)
    change = (problems.A @ ((bounds + lift) @ direction[:, None, :, None])).squeeze(-1)
    return replace(problems, b=b + change * (distance[:, None] / change.abs().amax(-1)).unsqueeze(-1))
