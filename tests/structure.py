"""What Algorithm 1 guarantees for any gradients and orders, by the core and in exact rationals.

- C_ii = 1 and C_ij >= 0: a task is never projected on itself, and a projection adds a positive
  coefficient;
- after its last visit g_i^PC · g_last >= 0;
- a task in conflict with none stays as it is;
- gradients scaled by a power of two have the same C to the last bit: no absolute epsilon."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs import exact
from proofs.many_tasks.corollary1_gradients import draw_orders
from proofs.problems import EPSILON
from proofs.sampling import stream
from proofs.tally import BrokenError

SHAPES = tuple((tasks, dimension) for tasks in (3, 4, 5, 6) for dimension in (1, 2, 3))
SCALES = (2.0**-40, 2.0**40)
TOLERANCE = 1e3 * EPSILON  # relative to the sum of the gradients' lengths


def structure(total: int, seed: int) -> dict[str, Any]:
    """Compare the core with Algorithm 1 in rationals, on gradients of small whole numbers.

    Raises:
        BrokenError: The core is wrong.
    """
    worst = {
        "exact": 0.0,
        "diagonal": 0.0,
        "negative_coefficient": 0.0,
        "conflict_with_last": 0.0,
        "unchanged": 0.0,
    }
    worst["scale"] = 0.0
    bent, compared = 0, 0
    for number, (tasks, dimension) in enumerate(SHAPES):
        rng = stream(seed, "corollary1/structure", f"{tasks} tasks", number)
        count = max(2, total // len(SHAPES))
        whole = rng.integers(-4, 5, (count, tasks, dimension))
        orders = draw_orders(tasks, count, rng)
        gradients = torch.from_numpy(whole.astype(float))
        coefficients = pcgrad.surgery_coefficients(gradients @ gradients.mT, orders)
        for name, error in _facts(gradients, orders, coefficients).items():
            worst[name] = max(worst[name], error)
        literal = np.array([exact.projected(exact.rationals(rows.tolist()), order)
                            for rows, order in zip(whole, orders.tolist(), strict=True)],
                           dtype=float)  # fmt: skip
        unit = gradients.norm(dim=-1).sum(-1)[:, None, None].clamp(min=1)
        differences = (coefficients @ gradients - torch.from_numpy(literal)).abs() / unit
        worst["exact"] = max(worst["exact"], float(differences.max()))
        bent += int((torch.from_numpy(literal) * gradients).sum(-1).lt(0).sum())
        compared += count
    missed = [name for name, error in worst.items() if not error <= TOLERANCE]
    if missed:
        raise BrokenError(
            f"corollary1: the core misses Algorithm 1: {', '.join(missed)}; largest errors {worst}"
        )
    if bent == 0:
        raise BrokenError(
            "corollary1: no projected gradient is bent by more than a right angle; "
            "a self-test goes unseen"
        )
    return {"compared": compared, "largest_error": worst, "bent_beyond_a_right_angle": bent}


def _facts(gradients: Tensor, orders: Tensor, coefficients: Tensor) -> dict[str, float]:
    """How far each of the facts is missed, relative to the lengths; 0 where it holds."""
    gramian = gradients @ gradients.mT
    diagonal = coefficients.diagonal(dim1=-2, dim2=-1)
    last = orders[..., -1:]
    products = (coefficients @ gramian).gather(-1, last).squeeze(-1)
    unit = gradients.norm(dim=-1).sum(-1, keepdim=True).clamp(min=1) ** 2
    friendly = (gramian >= 0).all(-1)
    off = (coefficients - torch.eye(coefficients.shape[-1], dtype=torch.float64)).abs().amax(-1)
    scaled = [pcgrad.surgery_coefficients(gramian * size**2, orders) for size in SCALES]
    return {
        "diagonal": float((diagonal - 1).abs().max()),
        "negative_coefficient": float((-coefficients).clamp(min=0).max()),
        "conflict_with_last": float(((-products).clamp(min=0) / unit).max()),
        "unchanged": float(torch.where(friendly, off, 0.0).max()),
        "scale": max(float((other - coefficients).abs().max()) for other in scaled),
    }
