"""Algorithm 1 of the paper, transcribed literally, and a catalogue of gradients to run it on."""

from __future__ import annotations

import torch
from torch import Tensor


def algorithm_1(gradients: Tensor, orders: Tensor) -> Tensor:
    """Plain vectors and loops: gradients [T, P], orders [T, T−1] → projected gradients [T, P]."""
    projected = []
    for i in range(len(gradients)):
        g = gradients[i].clone()
        for j in orders[i].tolist():
            product = torch.dot(g, gradients[j])
            if product < 0:
                g = g - product / torch.dot(gradients[j], gradients[j]) * gradients[j]
        projected.append(g)
    return torch.stack(projected)


def catalogue() -> dict[str, Tensor]:
    """Gradients [T, P] in float64 with norms from 1e-3 to 1e3.

    They are random in low and high dimension, and of every degenerate kind.
    """
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    found = {
        f"normal {t}x{p}": normal(t, p)
        for t, p in [(1, 4), (2, 2), (2, 9), (3, 2), (3, 3), (4, 2), (5, 40)]
    }
    found |= {f"crowded {t}x{p}": normal(t, p) for t, p in [(6, 3), (10, 4), (20, 5)]}
    g = normal(1, 6)
    simplex = torch.eye(5, dtype=torch.float64) - 1 / 5
    found["opposite"] = torch.cat([g, -g])
    found["nearly opposite"] = torch.cat([g, -g + 1e-7 * normal(1, 6)])
    found["opposite, third"] = torch.cat([g, -2 * g, normal(1, 6)])
    found["equal"] = g.repeat(3, 1)
    found["one line"] = g * torch.tensor([[1.0], [-0.5], [2.0], [-3.0]], dtype=torch.float64)
    found["orthogonal"] = torch.eye(4, dtype=torch.float64)
    found["all pairs conflict"] = simplex
    found["zero among others"] = torch.cat(
        [normal(2, 5), torch.zeros(1, 5, dtype=torch.float64), normal(2, 5)]
    )
    found["all zero"] = torch.zeros(3, 4, dtype=torch.float64)
    found["nearly parallel"] = g + 1e-4 * normal(4, 6)
    found["magnitude gap"] = normal(4, 6) * torch.tensor(
        [[1e-3], [1.0], [1e3], [1e-1]], dtype=torch.float64
    )
    found["sparse"] = normal(6, 8) * (torch.rand(6, 8, generator=random) < 0.4)
    return found


CATALOGUE = catalogue()
SCALES = (1e-15, 1e-8, 1.0, 1e8, 1e15)


def total_norm(gradients: Tensor) -> float:
    """Sum of the task gradients' norms: the yardstick of errors."""
    return float(gradients.double().norm(dim=-1).sum())
