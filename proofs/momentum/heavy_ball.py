"""The heavy ball of Theorem 4 with PCGrad's update, on N pairs of strongly convex losses at once.

    θₖ₊₁ = θₖ − αₖ g^PC + βₖ(θₖ − θₖ₋₁),
    μₖ = w₁ μ₁ + w₂ μ₂,  Lₖ = w₁ L₁ + w₂ L₂,  g^PC = w₁ g₁ + w₂ g₂,
    βₖ = max{|1 − √(αₖ μₖ)|, |1 − √(αₖ Lₖ)|}².

In conflict w₁ = 1 − c/R and w₂ = 1 − cR. The printed μₖ and Lₖ are written for conflict only;
without conflict g^PC = g, and the weights are 1 here. Both are the core's weights, so that
w₁ ∇²L₁ + w₂ ∇²L₂ has its spectrum in [μₖ, Lₖ] in either case. RULES defines αₖ.

Task i of a pair has the loss Lᵢ(θ) = ridge_i ‖θ‖²/2 + Σₖ F((Aᵢ θ)ₖ) with Aᵢ = diag(√λᵢ) Mᵢ, where
Mᵢ is a product of three reflections. F is even, so that 0 is the minimizer of both tasks, and
0 ≤ F'' ≤ F''(0) = 1. So ∇²Lᵢ(0) has the eigenvalues ridge_i + λᵢ, and ∇²Lᵢ is nowhere larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from proofs.problems import Point

# (μₖ, Lₖ) → αₖ
RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "printed": lambda mu, top: 4 / (top.sqrt() + mu.sqrt()),
    "corrected": lambda mu, top: 4 / (top.sqrt() + mu.sqrt()) ** 2,
    "gradient": lambda mu, top: 2 / (top + mu),  # the repair: βₖ = 0
}
# F'
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "quadratic": lambda z: z,
    "log_cosh": torch.tanh,  # log cosh z = softplus(2z) − z − log 2
    "huber": lambda z: z.clamp(-1, 1),
}
MIRRORS = 3


@dataclass(frozen=True)
class Pairs:
    """N pairs of losses, stored as one batch.

    A pair with fewer than D dimensions has zero columns, on which no loss depends.
    """

    shape: str
    roots: Tensor  # [N, 2, D]: √λᵢ
    mirrors: Tensor  # [N, 2, K, D]: unit normals, or zero for no reflection
    ridge: Tensor  # [N, 2]
    mu: Tensor  # [N, 2]: μ₁, μ₂
    top: Tensor  # [N, 2]: L₁, L₂
    dimension: Tensor  # [N]

    def __len__(self) -> int:
        return len(self.mu)

    def __getitem__(self, rows: Tensor) -> Pairs:
        names = [field.name for field in fields(self) if field.name != "shape"]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def gradients(self, theta: Tensor, shape: str | None = None) -> Tensor:
        """g₁, g₂: [N, D] → [N, 2, D]."""
        x = theta.unsqueeze(1)
        normals = list(self.mirrors.unbind(2))
        slope = SLOPES[shape or self.shape](self.roots * self._reflect(x, normals))
        return self._reflect(self.roots * slope, normals[::-1]) + self.ridge.unsqueeze(-1) * x

    def hessians(self) -> Tensor:
        """∇²Lᵢ(0), the largest Hessians of either task, [N, 2, D, D]."""
        width = self.roots.shape[-1]
        basis = torch.eye(width, dtype=self.mu.dtype)
        columns = [self.gradients(e.expand(len(self), width), "quadratic") for e in basis]
        return torch.stack(columns, -1)

    def _reflect(self, x: Tensor, normals: list[Tensor]) -> Tensor:
        for normal in normals:
            x = x - 2 * (x * normal).sum(-1, keepdim=True) * normal
        return x


class Seen(NamedTuple):
    """The quantities that the method uses at one θ."""

    point: Point
    mu: Tensor  # [N]: μₖ
    top: Tensor  # [N]: Lₖ


def look(gradients: Tensor, mu: Tensor, top: Tensor) -> Seen:
    """Compute PCGrad's update of g₁ and g₂ [N, 2, D], μₖ and Lₖ; `mu` and `top` are [N, 2]."""
    point = Point.of(gradients)
    return Seen(point, (point.weights * mu).sum(-1), (point.weights * top).sum(-1))


def rates(seen: Seen, rule: str) -> tuple[Tensor, Tensor]:
    """Return αₖ and βₖ, each [N]."""
    alpha = RULES[rule](seen.mu, seen.top)
    if rule == "gradient":
        return alpha, torch.zeros_like(alpha)
    ends = torch.stack([1 - (alpha * seen.mu).sqrt(), 1 - (alpha * seen.top).sqrt()])
    return alpha, ends.abs().amax(0) ** 2


def move(seen: Seen, theta: Tensor, previous: Tensor, rule: str) -> Tensor:
    """Return θₖ₊₁, [N, D]."""
    alpha, beta = rates(seen, rule)
    return theta - alpha.unsqueeze(-1) * seen.point.g_pc + beta.unsqueeze(-1) * (theta - previous)


def draw(
    shape: str,
    count: int,
    rng: np.random.Generator,
    dimensions: tuple[int, int] = (2, 20),
    decades: tuple[float, float] = (1.0, 2.0),
) -> Pairs:
    """Draw pairs with one minimizer at 0 and condition numbers 10^U(decades).

    In about half of the tasks all λ are extreme. μᵢ and Lᵢ are the extreme eigenvalues
    (quadratic), or the ridge and the ridge plus the largest λ (other shapes).
    """
    low, high = dimensions
    dimension = rng.integers(low, high + 1, count)
    inside = np.arange(high) < dimension[:, None]
    # The ridge equals the smallest λ, which halves the condition number; log10 2 makes up for it.
    spread = rng.uniform(*decades, (count, 2, 1)) + (shape != "quadratic") * np.log10(2)
    place = rng.random((count, 2, high))
    place = np.where(rng.random((count, 2, 1)) < 0.5, place, place.round())
    # The largest eigenvalue is the scale, and the smallest is 10^(−spread) of it.
    place[..., 0] = 0
    place[np.arange(count), :, dimension - 1] = np.where(dimension[:, None] > 1, 1, 0)
    scale = 10 ** np.concatenate([np.zeros((count, 1)), rng.uniform(-1.5, 1.5, (count, 1))], 1)
    values = scale[..., None] * 10 ** (-spread * place) * inside[:, None]
    mirrors = rng.normal(size=(count, 2, MIRRORS, high)) * inside[:, None, None]
    mirrors /= np.linalg.norm(mirrors, axis=-1, keepdims=True)
    # Of quadratics the smallest λ is μ; elsewhere F'' may vanish, and the ridge is μ.
    mu = np.where(inside[:, None], values, np.inf).min(-1)
    ridge = np.zeros((count, 2)) if shape == "quadratic" else mu
    top = ridge + values.max(-1)
    parts = (np.sqrt(values), mirrors, ridge, mu, top, dimension.astype(float))
    return Pairs(shape, *(torch.from_numpy(part) for part in parts))


def commuting(pairs: Pairs) -> Pairs:
    """Give the tasks common eigenvectors and keep the spectra.

    Then g₁·g₂ > 0 everywhere, so that the weights stay 1.
    """
    return replace(pairs, mirrors=pairs.mirrors[:, :1].expand_as(pairs.mirrors))


def opposed(pairs: Pairs) -> Tensor:
    """Return the direction of smallest g₁·g₂/‖θ‖² if both tasks were quadratic, [N, D].

    It is the eigenvector of H₁ H₂ + H₂ H₁ with the smallest eigenvalue, computed by Lanczos
    where D³ is too much.
    """
    width = pairs.roots.shape[-1]
    if width <= 20:
        one, two = pairs.hessians().unbind(1)
        both = one @ two
        outside = torch.arange(width) >= pairs.dimension.unsqueeze(-1)
        # Lifts the unused columns above the spectrum, so that none of them is chosen.
        lift = 2 * (pairs.top + pairs.ridge).prod(-1).unsqueeze(-1) * outside
        return torch.linalg.eigh(both + both.mT + torch.diag_embed(lift))[1][..., 0]
    return torch.stack([_lanczos(pairs[torch.tensor([k])]) for k in range(len(pairs))])


def _lanczos(pair: Pairs) -> Tensor:
    """`opposed` for one pair, without forming its matrices."""
    width = pair.roots.shape[-1]
    operator = scipy.sparse.linalg.LinearOperator(
        (width, width),
        matvec=lambda x: _both(pair, torch.from_numpy(x.ravel())).numpy(),
        dtype=float,
    )
    begin = np.random.default_rng(0).normal(size=width)
    vectors = scipy.sparse.linalg.eigsh(operator, 1, which="SA", tol=1e-2, v0=begin)[1]
    return torch.from_numpy(vectors[:, 0])


def _both(pair: Pairs, x: Tensor) -> Tensor:
    """(H₁ H₂ + H₂ H₁) x."""
    first = pair.gradients(x[None], "quadratic")[0]  # H₁ x, H₂ x
    second = pair.gradients(first[1][None], "quadratic")[0, 0]  # H₁ H₂ x
    return second + pair.gradients(first[0][None], "quadratic")[0, 1]


def begin(pairs: Pairs, rng: np.random.Generator) -> Tensor:
    """Draw starts [N, D]: `opposed`, disturbed as much as conflict allows."""
    inside = torch.arange(pairs.roots.shape[-1]) < pairs.dimension.unsqueeze(-1)
    best = opposed(pairs)
    noise = torch.from_numpy(rng.normal(size=best.shape)) * inside
    noise = noise / noise.norm(dim=-1, keepdim=True)
    # Below this length every loss is nearly quadratic.
    unit = 1 / pairs.top.amax(-1, keepdim=True).sqrt()
    length = unit * torch.from_numpy(10 ** rng.uniform(-1, 1, (len(pairs), 1)))
    start = 0.01 * unit * best
    for share in (0.0, 0.05, 0.2, 0.5, 1.0):
        other = length * (best + share * noise)
        g = pairs.gradients(other)
        conflict = (g[:, 0] * g[:, 1]).sum(-1, keepdim=True) < 0
        start = torch.where(conflict, other, start)
    return start
