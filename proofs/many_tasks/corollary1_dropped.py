"""Corollary 1 without each of its hypotheses once: explicit instances, exact.

cos(g, g^PC) >= 1/2 and t <= 1 / L are idle in the repaired step, where t <= g . g^PC / (L
||g^PC||^2) takes their place; convexity is idle in every form of the step (`corollary1.idle`
samples all three)."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import torch

from proofs import exact
from proofs.tally import BrokenError


def ascending() -> dict[str, Any]:
    """Without cos(g, g^PC) >= 1/2: three gradients in the plane with g . g^PC < 0, so that every
    small step ascends.

    The first such triple of whole numbers in [-3, 3], cyclic orders; L_i = ||theta||^2 / 6 + g_i .
    theta, L = 1."""
    orders, plane = exact.cyclic_orders(3), [v for v in product(range(-3, 4), repeat=2) if any(v)]
    for triple in sorted(
        product(plane, repeat=3), key=lambda rows: sum(abs(x) for row in rows for x in row)
    ):
        if not any(map(sum, zip(*triple, strict=True))):
            continue
        gradients = exact.rationals(triple)
        g, g_pc = exact.add(*gradients), exact.update(gradients, orders)
        inner, square = exact.dot(g, g_pc), exact.dot(g_pc, g_pc)
        if inner < 0:
            rises = {
                f"t = {t}": -t * inner + t**2 * square / 2 for t in (Fraction(1), Fraction(1, 1000))
            }
            return {
                "gradients": [[str(x) for x in row] for row in gradients],
                "g": [str(x) for x in g],
                "g_pc": [str(x) for x in g_pc],
                "g_dot_g_pc": str(inner),
                "loss_after_minus_before": {name: str(rise) for name, rise in rises.items()},
                "claim_fails": all(rise > 0 for rise in rises.values()),
            }
    raise BrokenError("corollary1: no small gradients with g . g^PC < 0")


def too_long() -> dict[str, Any]:
    """Without t <= 1 / L: three times the same task theta^2 / 6 from theta = 1, no conflict, t = 3
    / L.
    """
    theta, step = Fraction(1), Fraction(3)
    gradients = [(theta / 3,)] * 3
    after = theta - step * exact.update(gradients, exact.cyclic_orders(3))[0]
    return {
        "t_times_L": str(step),
        "theta": [str(theta), str(after)],
        "loss": [str(theta**2 / 2), str(after**2 / 2)],
        "claim_fails": after**2 > theta**2,
    }


def hollow(updates: int = 10) -> dict[str, Any]:
    """Without convexity: three times (x^2 - y^2) / 6 from (1, 0), t = 1 / L = 1. One step ends at
    the saddle and stays.

    There the loss is 0 and the infimum is -infinity: the limit fails; the step itself holds.
    """
    x, y, losses = Fraction(1), Fraction(0), []
    for _ in range(updates):
        gradients = [(x / 3, -y / 3)] * 3
        move = exact.update(gradients, exact.cyclic_orders(3))
        losses.append((x**2 - y**2) / 2)
        x, y = x - move[0], y - move[1]
    end, lower = (x**2 - y**2) / 2, Fraction(-1, 2)
    return {
        "theta": [str(x), str(y)],
        "loss": str(end),
        "loss_at_0_1": str(lower),
        "step_holds": losses == sorted(losses, reverse=True),
        "claim_fails": end > lower,
    }


def rough() -> dict[str, Any]:
    """Without a Lipschitz gradient: three times 2 abs(x)^(3/2) / 9; from t^2 / 16 any t overshoots.

    x+ = t^2 / 16 - t^2 / 4 = -3 x, and the loss grows by 3^(3/2): no step is short enough for all
    of the line."""
    rows = {}
    for step in (Fraction(1), Fraction(1, 100), Fraction(1, 10_000)):
        root = step / 4  # sqrt x
        move = exact.update([(root / 3,)] * 3, exact.cyclic_orders(3))[0]
        rows[str(step)] = str((root**2 - step * move) / root**2)
    return {
        "x_after_over_x_before": rows,
        "claim_fails": all(abs(Fraction(x)) > 1 for x in rows.values()),
    }


def opposite() -> dict[str, Any]:
    """cos = -1 for all pairs: a Gramian has no negative eigenvalue, this one has 2 - n."""
    rows = {}
    for n in range(2, 11):
        gram = torch.full((n, n), -1.0, dtype=torch.float64).fill_diagonal_(1.0)
        rows[str(n)] = float(torch.linalg.eigvalsh(gram)[0])
    return {
        "smallest_eigenvalue_of_all_cos_minus_1": rows,
        "possible": [n for n, x in rows.items() if x > -1e-9],
    }


def examples() -> dict[str, Any]:
    """All of the above, by the hypothesis that each of them leaves out."""
    return {
        "cos(g, g^PC) >= 1/2": ascending(),
        "t <= 1 / L": too_long(),
        "convex": hollow(),
        "Lipschitz gradient": rough(),
    }
