"""Theorem 1 (Yu et al. 2020, Section 2.5, Appendix A.1): PCGrad on two convex tasks.

Problem class: L = L_1 + L_2 with L_1, L_2 convex and differentiable, grad L Lipschitz with constant L > 0.
Method:        theta+ = theta - t g^PC, g^PC by Algorithm 1.
Hypothesis:    t <= 1 / L.
Guarantee:     PCGrad converges to a point with cos phi_12 = -1, or to the optimal value. The step that carries it:
                   in conflict      L(theta+) <= L(theta) - t (1 - cos^2 phi_12) ||g||^2 / 2,
                   without conflict L(theta+) <= L(theta) - t ||g||^2 / 2.

The step needs no convexity. It is attained: where the Hessian is L times the identity and t = 1 / L, both sides agree.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proofs.convergence import trajectories
from proofs.lipschitz import compare
from proofs.problems import CONVEX, Problems, aim, look, rounding
from proofs.sampling import draw, edges, sideways, stream
from proofs.tally import BrokenError, Tally, Trial, sample, total, verdict

STEPS = (0.5, 1.0, 1.1, 1.5, 2.0, 2.5, 3.0)  # t L, for what happens when t <= 1 / L is dropped


def hypotheses(problems: Problems, theta: Tensor, step: Tensor) -> Tensor:
    """Whether an instance is in the theorem's class, bool [N]: t <= 1 / L, both gradients nonzero.

    Convexity and the Lipschitz constant hold by construction of the families.
    """
    return (step * problems.lipschitz() <= 1 + 1e-15) & (step > 0) & look(problems, theta).cos.isfinite()


def descent(problems: Problems, theta: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """(measured, bound): L(theta+) and the right-hand side above, each [N]."""
    point = look(problems, theta)
    kept = torch.where(point.conflict, (1 - point.cos) * (1 + point.cos), 1.0)
    bound = problems.loss(theta) - step * kept * (point.g**2).sum(-1) / 2
    return problems.loss(theta - step.unsqueeze(-1) * point.g_pc), bound


def instances(
    family: str,
    count: int,
    rng: np.random.Generator,
    *,
    conflict: bool = True,
    dimensions: tuple[int, int] = (1, 20),
) -> tuple[Problems, Tensor]:
    """Problems in conflict (or not) at the start by construction; t is 1 / L in every second, below in the others."""
    problems = draw(family, count, rng, dimensions)
    cos, ratio = edges(count, rng)
    problems = aim(problems, cos if conflict else -cos, ratio, sideways(problems, rng))
    share = np.where(np.arange(count) % 2 == 0, 1.0, 1 - rng.random(count))
    return problems, torch.from_numpy(share) / problems.lipschitz()


def trial(problems: Problems, step: Tensor, *, conflict: bool = True) -> Trial:
    """Put instances to the descent step; one on the other side of conflict is not accepted."""
    theta = problems.start()
    point = look(problems, theta)
    measured, bound = descent(problems, theta, step)
    after = theta - step.unsqueeze(-1) * point.g_pc
    return Trial(
        accepted=hypotheses(problems, theta, step) & (point.conflict == conflict),
        slack=-point.cos if conflict else point.cos,
        margin=bound - measured,
        unit=problems.loss(theta) - bound,  # the guaranteed decrease
        noise=rounding(problems, theta, (after,), step),
        details={"dimension": problems.dimension, "cos": point.cos, "t_times_L": step * problems.lipschitz()},
    )


def one_step(
    family: str, trials: int, seed: int, *, conflict: bool = True, dimensions: tuple[int, int] = (1, 20)
) -> Tally:
    """Test the descent step on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        return trial(*instances(family, count, rng, conflict=conflict, dimensions=dimensions), conflict=conflict)

    return sample("theorem1" if conflict else "theorem1/no conflict", family, trials, seed, put, dimensions[1])


def without_step_bound(trials: int, seed: int) -> list[dict[str, float]]:
    """Drop t <= 1 / L: how often the descent step fails and the loss rises, on quadratics with equal eigenvalues.

    There L(theta+) - L(theta) = (1 - cos^2) t (L t ||g_1 - g_2||^2 / 2 - ||g_1||^2 - ||g_2||^2): the bound fails for
    every t > 1 / L, and the loss rises from t = 2 / (L (1 + Phi |cos|)) on, which is below 2 / L.
    """
    problems, step = instances("quadratic", trials, stream(seed, "theorem1/steps", "quadratic", 0))
    eigenvalues = torch.linalg.eigvalsh(problems.hessian(problems.start()))
    width, largest = eigenvalues.shape[-1], eigenvalues[:, -1:]
    inside = torch.arange(width) >= width - problems.dimension[:, None]  # the others belong to columns that fill up
    flat = ((eigenvalues - largest).abs() * inside <= 1e-9 * largest).all(-1) & (problems.dimension > 1)
    problems = problems[flat]
    theta, constant, point = problems.start(), problems.lipschitz(), look(problems, problems.start())
    rows = []
    for factor in STEPS:
        step = factor / constant
        measured, bound = descent(problems, theta, step)
        noise = rounding(problems, theta, (theta - step.unsqueeze(-1) * point.g_pc,), step)
        fails, rises = measured - bound > noise, measured - problems.loss(theta) > noise
        shares = {"bound_fails": fails.double().mean().item(), "loss_rises": rises.double().mean().item()}
        rows.append({"t_times_L": factor, "instances": len(problems), **shares})
    return rows


def rising_step() -> dict[str, str]:
    """Drop t <= 1 / L once, in exact rationals: L_i = ||theta - c_i||^2 / 2 in the plane, L = 2, t = 2 / L.

    c_1 = (-1, 1), c_2 = (2, 1), theta = 0: g_1 = (1, -1), g_2 = (-2, -1), g_1 . g_2 = -1.
    """
    c = ((Fraction(-1), Fraction(1)), (Fraction(2), Fraction(1)))

    def loss(x: Fraction, y: Fraction) -> Fraction:
        return sum((((x - a) ** 2 + (y - b) ** 2) / 2 for a, b in c), Fraction(0))

    (a1, b1), (a2, b2) = ((-a, -b) for a, b in c)  # gradients at 0
    product, s1, s2 = a1 * a2 + b1 * b2, a1**2 + b1**2, a2**2 + b2**2
    weights = (1 - product / s1, 1 - product / s2)
    g_pc = (weights[0] * a1 + weights[1] * a2, weights[0] * b1 + weights[1] * b2)
    kept = (1 - product**2 / (s1 * s2)) * ((a1 + a2) ** 2 + (b1 + b2) ** 2)
    zero = Fraction(0)
    rows = {"loss at start": loss(zero, zero)}
    for step in (Fraction(1, 2), Fraction(1)):
        rows[f"loss after t = {step}"] = loss(-step * g_pc[0], -step * g_pc[1])
        rows[f"bound at t = {step}"] = loss(zero, zero) - step * kept / 2
    return {name: str(value) for name, value in rows.items()}


def saddle() -> dict[str, float]:
    """Drop convexity once: L_1 = L_2 = (x^2 - y^2) / 2 from (1, 0), t = 1 / L = 1/2.

    One step ends at the saddle (0, 0) and stays: neither cos phi = -1 nor the optimal value (-infinity). The descent
    step itself holds, so that convexity is idle there and needed for the limit alone.
    """
    x, y, step = 1.0, 0.0, 0.5
    for _ in range(10):
        x, y = x - step * 2 * x, y + step * 2 * y
    return {"x": x, "y": y, "loss": x**2 - y**2, "loss_at_0_1": -1.0}


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Theorem 1: the step on fresh instances, trajectories to their ends, L by scipy, dropped hypotheses."""
    count, seed = settings["instances"], settings["seed"]
    descents = {family: one_step(family, count, seed).report() for family in CONVEX}
    plain = {family: one_step(family, max(1, count // 4), seed, conflict=False).report() for family in CONVEX}
    paths = {family: trajectories(family, settings["trajectories"], settings["updates"], seed) for family in CONVEX}
    constants = {}
    for family in CONVEX:
        problems, _ = instances(family, settings["lipschitz_instances"], stream(seed, "lipschitz", family, 0))
        constants[family] = compare(problems, seed)
        if paths[family]["conflict_share"] < 0.3:
            raise BrokenError(
                f"theorem1: only {paths[family]['conflict_share']:.0%} of {family}'s updates are in conflict"
            )
    ends = ("trajectories", "optimum", "opposite", "stalled", "unfinished", "violations")
    sums = {name: sum(row[name] for row in paths.values()) for name in ends}
    step = verdict(total(descents)["violations"] + total(plain)["violations"])
    return {
        "verdicts": {"theorem1_descent": step, "theorem1": verdict(sums["violations"]) if step == "holds" else step},
        "descent": {**total(descents), "families": descents},
        "descent_without_conflict": {**total(plain), "families": plain},
        "convergence": {**sums, "updates_allowed": settings["updates"], "families": paths},
        "lipschitz": constants,
        "without_step_bound": {"example": rising_step(), "sampled": without_step_bound(count, seed)},
        "without_convexity": saddle(),
    }
