"""Theorem 2 (Yu et al. 2020, Section 2.5, Appendix A.2): one step of PCGrad against one step on the sum of the losses.

Problem class: L = L_1 + L_2, grad L Lipschitz with constant L > 0; theta^MT = theta - t g, theta^PC = theta - t g^PC.
Hypotheses:    H(L; theta, theta^MT) >= l ||g||^2 for some l <= L, and
               (a) cos phi_12 <= -Phi(g_1, g_2),   (b) l >= xi(g_1, g_2) L,   (c) t >= 2 / (l - xi L).
Guarantee:     L(theta^PC) <= L(theta^MT).

H has two readings, named by the weight in the integral:
- `uniform`, Definition 3 as printed: int_0^1 g' grad^2 L(theta - a t g) g da. **False as stated**: the proof needs the
  remainder of Taylor's formula, which carries 2 (1 - a) (`counterexample.py`).
- `remainder`, the repair: 2 int_0^1 (1 - a) g' grad^2 L(theta - a t g) g da. The two agree where the Hessian is
  constant on the segment, so for quadratics the printed theorem is right.

(a) is idle: (b) implies it (`identities.b_implies_a`), and the bound does not use it (`identities.theorem2_bound`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import pcgrad
from proofs import counterexample
from proofs.problems import CONSTANT_HESSIAN, CONVEX, Point, Problems, aim, look, near_minimizers, rounding
from proofs.sampling import chunks, draw, power, sideways, stream
from proofs.tally import BrokenError, Tally, Trial, sample, total, verdict

WEIGHTINGS = ("uniform", "remainder")
GRID = np.geomspace(1, 64, 31)  # steps tried, in units of 2 / L, below which (c) cannot hold
SHORTER = (1.0, 0.9, 0.75, 0.5, 0.25)  # parts of (c)'s step, for dropping (c)


class Conditions(NamedTuple):
    """The hypotheses of an instance at a step t, each [N]."""

    curvature: Tensor  # l, the largest that H >= l ||g||^2 allows
    a: Tensor
    b: Tensor
    c: Tensor

    @property
    def all(self) -> Tensor:
        return self.a & self.b & self.c


def hypotheses(problems: Problems, theta: Tensor, step: Tensor, weighting: str) -> Conditions:
    """Conditions (a), (b), (c) with l = H / ||g||^2, H by quadrature in the given form (`Problems.curvature`)."""
    point, constant = look(problems, theta), problems.lipschitz()
    after = theta - step.unsqueeze(-1) * point.g
    curvature = problems.curvature(theta, after, point.g, weighting) / (point.g**2).sum(-1)
    curvature = torch.minimum(curvature, constant)  # l <= L, which only rounding can break
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    excess = curvature - xi * constant
    a = pcgrad.condition_a(point.gramian)[:, 0, 1]
    return Conditions(curvature, a, excess >= 0, (excess > 0) & (step * excess >= 2))


def losses(problems: Problems, theta: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """(measured, bound): L(theta^PC) and L(theta^MT), each [N]."""
    point = look(problems, theta)
    return tuple(problems.loss(theta - step.unsqueeze(-1) * d) for d in (point.g_pc, point.g))  # type: ignore[return-value]


def curvature_by_losses(problems: Problems, point: Point, step: Tensor, weighting: str) -> Tensor:
    """H / ||g||^2 without Hessians, by the fundamental theorem of calculus: the fast way, and the quadrature's check.

    uniform: g . (grad L(theta) - grad L(theta^MT)) / (t ||g||^2);
    remainder: 2 (L(theta^MT) - L(theta) + t ||g||^2) / (t^2 ||g||^2).
    """
    theta, square = problems.start(), (point.g**2).sum(-1)
    after = theta - step.unsqueeze(-1) * point.g
    if weighting == "uniform":
        return (point.g * (point.g - problems.gradients(after).sum(-2))).sum(-1) / (step * square)
    return 2 * (problems.loss(after) - problems.loss(theta) + step * square) / (step**2 * square)


def instances(
    family: str, count: int, rng: np.random.Generator, weighting: str, dimensions: tuple[int, int] = (1, 20)
) -> tuple[Problems, Tensor]:
    """Problems and steps for which (a), (b) and (c) hold by construction, up to the few that no step satisfies.

    Each task starts near its own minimizer; task 2 is turned against task 1 until xi L is a drawn share of the
    curvature along g; then the shortest step that satisfies (c) is found (every second instance), or a longer one.
    """
    problems = draw(family, count, rng, dimensions)
    distance = torch.from_numpy(power(rng, -2, 0.5, count))
    problems = near_minimizers(problems, sideways(problems, rng), distance)
    side = sideways(problems, rng)
    ratio = torch.from_numpy(10 ** (rng.choice([-1, 1], count) * rng.uniform(0.1, 2, count)))
    turned = aim(problems, torch.full((count,), -1.0, dtype=torch.float64), ratio, side)
    point, constant = look(turned, turned.start()), turned.lipschitz()
    ahead = curvature_by_losses(turned, point, 2 / constant, "remainder") / constant
    share = np.where(rng.random(count) < 0.2, power(rng, -8, -1, count), 0.6 * rng.random(count))
    problems = aim(problems, opposing(ratio, torch.from_numpy(share) * ahead), ratio, side)
    return problems, _step(problems, weighting, rng)


def opposing(ratio: Tensor, xi: Tensor) -> Tensor:
    """The cosine in [-1, -Phi] at which xi(g_1, g_2) has the given value, by bisection: xi rises from 0 to over 1."""
    both = ratio + 1 / ratio
    low, high = torch.full_like(ratio, -1.0), -2 / both
    for _ in range(60):
        cos = (low + high) / 2
        above = (1 - cos) * (1 + cos) * (both - 2 * cos) > xi * (both + 2 * cos)
        low, high = torch.where(above, low, cos), torch.where(above, cos, high)
    return low


def _step(problems: Problems, weighting: str, rng: np.random.Generator) -> Tensor:
    """The shortest step that satisfies (c), refined by bisection, or any other of the grid; nan where there is none."""
    point, constant = look(problems, problems.start()), problems.lipschitz()
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]

    def enough(step: Tensor) -> Tensor:
        return step * (curvature_by_losses(problems, point, step, weighting) - xi * constant) >= 2

    grid = torch.from_numpy(GRID)[:, None] * (2 / constant) * (1 + 1e-9)
    fits = torch.stack([enough(step) for step in grid])
    first = fits.int().argmax(0)
    low, high = grid.gather(0, (first - 1).clamp(min=0)[None])[0], grid.gather(0, first[None])[0]
    for _ in range(20):
        middle = (low + high) / 2
        good = enough(middle)
        low, high = torch.where(good, low, middle), torch.where(good, middle, high)
    chosen = (fits * torch.from_numpy(rng.random((len(grid), len(first))))).argmax(0)
    longer = grid.gather(0, chosen[None])[0]
    step = torch.where(torch.arange(len(first)) % 2 == 0, high * (1 + 1e-9), longer)
    return torch.where(fits.any(0), step, torch.nan)


def trial(problems: Problems, step: Tensor, weighting: str) -> Trial:
    """Put instances to the guarantee, with H in the given form. The margin's unit is t ||g||^2."""
    theta, point, constant = problems.start(), look(problems, problems.start()), problems.lipschitz()
    conditions = hypotheses(problems, theta, step, weighting)
    measured, bound = losses(problems, theta, step)
    ends = (theta - step.unsqueeze(-1) * point.g, theta - step.unsqueeze(-1) * point.g_pc)
    xi, ell = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1], conditions.curvature / constant
    details = {"dimension": problems.dimension, "cos": point.cos, "xi": xi}
    details |= {"l_over_L": ell, "t_times_L": step * constant}
    return Trial(
        accepted=conditions.all,
        slack=ell - xi - 2 / (step * constant),  # (c); implies (b), which implies (a)
        margin=bound - measured,
        unit=step * (point.g**2).sum(-1),
        noise=rounding(problems, theta, ends, step),
        details=details,
    )


def one_step(family: str, trials: int, seed: int, weighting: str, dimensions: tuple[int, int] = (1, 20)) -> Tally:
    """Test the guarantee on fresh instances of one family."""

    def put(count: int, rng: np.random.Generator) -> Trial:
        return trial(*instances(family, count, rng, weighting, dimensions), weighting)

    return sample(f"theorem2/{weighting}", family, trials, seed, put, dimensions[1])


def without_c(trials: int, seed: int) -> list[dict[str, float]]:
    """Drop (c): how often the guarantee fails at a part of the shortest step that (c) allows, on quadratics."""
    problems, _ = instances("quadratic", trials, stream(seed, "theorem2/without c", "quadratic", 0), "remainder")
    theta, point, constant = problems.start(), look(problems, problems.start()), problems.lipschitz()
    xi = pcgrad.curvature_bounding_measure(point.gramian)[:, 0, 1]
    ell = curvature_by_losses(problems, point, 1 / constant, "uniform")
    shortest = 2 / (ell - xi * constant)
    square, inner = (point.g**2).sum(-1), (point.g * point.g_pc).sum(-1)
    needed = (2 * (square - inner) / (square * (ell - xi * constant))) / shortest  # identities.tight_step
    rows = []
    for part in SHORTER:
        step = part * shortest
        measured, bound = losses(problems, theta, step)
        ends = tuple(theta - step.unsqueeze(-1) * d for d in (point.g, point.g_pc))
        fails = measured - bound > rounding(problems, theta, ends, step)
        shares = {
            "guarantee_fails": fails.double().mean().item(),
            "bound_asks_for_more": (needed > part * (1 + 1e-9)).double().mean().item(),
        }
        rows.append({"part_of_step": part, "instances": len(problems), **shares})
    return rows


def without_b(trials: int, seed: int) -> list[dict[str, float]]:
    """Drop (b), keep (a): quadratics with -1 < cos <= -Phi and xi L > l, where (c) has no meaning.

    Counted at t = 2 / L, 8 / L and 32 / L: once xi L > l, PCGrad's step is the one that the bound lets overshoot.
    """
    rng = stream(seed, "theorem2/without b", "quadratic", 0)
    problems = draw("quadratic", trials, rng)
    problems = near_minimizers(problems, sideways(problems, rng), torch.ones(trials, dtype=torch.float64))
    ratio, above = torch.from_numpy(10 ** rng.uniform(0.1, 2, trials)), torch.from_numpy(1 + rng.random(trials))
    problems = aim(problems, opposing(ratio, above), ratio, sideways(problems, rng))
    theta, constant = problems.start(), problems.lipschitz()
    rows: list[dict[str, float]] = []
    for factor in (2.0, 8.0, 32.0):
        step = factor / constant
        conditions, point = hypotheses(problems, theta, step, "remainder"), look(problems, theta)
        measured, bound = losses(problems, theta, step)
        ends = tuple(theta - step.unsqueeze(-1) * d for d in (point.g, point.g_pc))
        fails = measured - bound > rounding(problems, theta, ends, step)
        which = conditions.a & ~conditions.b & point.conflict
        share = fails[which].double().mean().item()
        rows.append({"t_times_L": factor, "instances": int(which.sum()), "guarantee_fails": share})
    return rows


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Everything about Theorem 2: both forms on sampled instances, the counterexamples, dropped hypotheses."""
    count, seed = settings["instances"], settings["seed"]
    forms = {form: {family: one_step(family, count, seed, form).report() for family in CONVEX} for form in WEIGHTINGS}
    examples = counterexample.check()
    refuted = sum(example["exact"]["refutes"]["uniform"] for example in examples.values())
    again = sum(example["exact"]["refutes"]["remainder"] for example in examples.values())
    constant = sum(forms["uniform"][family]["violations"] for family in CONSTANT_HESSIAN)
    return {
        "verdicts": {
            "theorem2": verdict(total(forms["uniform"])["violations"] + refuted),
            "theorem2_quadratic": verdict(constant),
            "theorem2_repaired": verdict(total(forms["remainder"])["violations"] + again, repaired=True),
        },
        "printed": {**total(forms["uniform"]), "families": forms["uniform"]},
        "repaired": {**total(forms["remainder"]), "families": forms["remainder"]},
        "counterexamples": {**examples, "sampled": worst_sampled(forms["uniform"], count, seed)},
        "quadrature": {family: quadrature(family, min(count, 200), seed) for family in CONVEX},
        "without_b": without_b(count, seed),
        "without_c": without_c(count, seed),
    }


def worst_sampled(reports: dict[str, dict[str, Any]], count: int, seed: int) -> dict[str, Any] | None:
    """The sampled logistic or softplus instance with the worst margin, again in 50 digits; None where none violates."""
    family = min(("logistic", "softplus"), key=lambda name: reports[name]["smallest_margin"] or 0.0)
    found = reports[family]
    if not found["violations"]:
        return None
    place = found["instance"]
    rng = stream(seed, "theorem2/uniform", family, place["chunk"])
    problems, step = instances(family, chunks(count)[place["chunk"]], rng, "uniform")
    return counterexample.sampled(problems, place["index"], float(step[place["index"]]))


def quadrature(family: str, count: int, seed: int) -> float:
    """Largest difference of the two ways to H / ||g||^2, over L; BrokenError above 1e-8."""
    worst = 0.0
    for form in WEIGHTINGS:
        problems, step = instances(family, count, stream(seed, "theorem2/quadrature", family, 0), form)
        found, point = step.isfinite(), look(problems, problems.start())
        by_losses = curvature_by_losses(problems, point, step, form)
        difference = (hypotheses(problems, problems.start(), step, form).curvature - by_losses).abs()
        worst = max(worst, float((difference / problems.lipschitz())[found].max()))
    if worst > 1e-8:
        raise BrokenError(f"theorem2: quadrature misses the curvature of {family} by {worst:.1e} L")
    return worst
