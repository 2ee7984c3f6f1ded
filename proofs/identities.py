"""Proves all certificates, tests them by mutation, and compares them with the core's numbers.

Figure 2 is checked as a statement of its own: a conflicting gradient is projected onto the normal
plane of the other, and a pair without conflict is left unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import pcgrad
from proofs import certificates
from proofs.algebra import mutation
from proofs.algebra.mutation import Matrix
from proofs.certificates import GOALS, IDENTITIES, certified
from proofs.judgement import Check, Judgement, judge
from proofs.problems import EPSILON, ORDERS, Point
from proofs.sampling import chunks, edges, stream
from proofs.settings import Theory
from proofs.tally import BrokenError

ALL_MUTANTS = 1000  # with at least so many instances every mutant is tried


@dataclass(frozen=True)
class Certificate:
    """One identity or goal."""

    kind: str  # "proof" for an identity, "z3" for a goal
    name: str
    says: str
    latex: str  # empty for goals
    hypotheses: list[str]  # empty for identities


@dataclass(frozen=True)
class Pairs:
    """The errors of the identities on the core's numbers."""

    pairs: int
    largest_relative_error: dict[str, float]


@dataclass(frozen=True)
class Figure2:
    """What Figure 2 draws, measured on the core's numbers."""

    pairs: int
    largest_product_after: float  # |gᵢ^PC · gⱼ| in conflict, relative to the lengths
    unchanged: int  # pairs without conflict
    changed: int  # of those, pairs of which at least one gradient moved


@dataclass(frozen=True)
class Report:
    """The results of checking the certificates."""

    judgements: list[Judgement]
    certificates: list[Certificate]
    identities_killed: Matrix
    goals_killed: Matrix
    pairs: Pairs
    figure2: Figure2


def drawn(size: int, rng: np.random.Generator, sign: float) -> torch.Tensor:
    """Draw pairs of gradients in the plane, in conflict (sign 1) or not (sign −1), [N, 2, 2]."""
    cos, ratio = (x.numpy() for x in edges(size, rng))
    plane = np.stack([sign * cos, np.sqrt((1 - cos) * (1 + cos))], -1)
    return torch.from_numpy(np.stack([ratio[:, None] * np.array([1.0, 0.0]), plane], 1))


def numeric(total: int, seed: int) -> Pairs:
    """Return the largest error of each identity over random pairs in conflict.

    Errors are relative to (‖g₁‖ + ‖g₂‖)².

    Raises:
        BrokenError: An error exceeds 1000 ε.
    """
    worst: dict[str, float] = {}
    for chunk, count in enumerate(chunks(total)):
        pair = drawn(count, stream(seed, "identities", "pairs", chunk), 1.0)
        point = Point.of(pair)
        gram, g, g_pc = point.gramian, point.g, point.g_pc
        s1, s2, p = gram[:, 0, 0], gram[:, 1, 1], gram[:, 0, 1]
        c = pcgrad.cosine(gram)[:, 0, 1]
        xi = pcgrad.curvature_bounding_measure(gram)[:, 0, 1]
        phi = pcgrad.magnitude_similarity(gram)[:, 0, 1]
        square, sine2 = s1 + s2 + 2 * p, (1 - c) * (1 + c)
        length2, inner = (g_pc**2).sum(-1), (g * g_pc).sum(-1)
        unit = (s1.sqrt() + s2.sqrt()) ** 2
        formula = torch.stack([1 - p / s1, 1 - p / s2], -1).unsqueeze(-2) @ pair
        errors = {
            "coefficients": (g_pc - formula.squeeze(-2)).norm(dim=-1) * unit.sqrt(),
            "length": length2 - sine2 * (s1 + s2 - 2 * p),
            # ξ divides by ‖g‖², which cancels for nearly opposite gradients of equal length.
            "bounding_measure": torch.where(square > 1e-6 * unit, xi * square - length2, 0),
            "product": inner - sine2 * (s1 + s2),
            "condition_a": square - inner - c * (s1 + s2) * (c + phi),
        }
        for name, error in errors.items():
            worst[name] = max(worst.get(name, 0.0), float((error.abs() / unit).max()))
    if max(worst.values()) > 1e3 * EPSILON:
        raise BrokenError(f"the core misses an identity: largest relative errors {worst}")
    return Pairs(total, worst)


def figure2(total: int, seed: int) -> Figure2:
    """Measure both panels of Figure 2 on random pairs."""
    rng, half = stream(seed, "identities", "figure 2", 0), max(1, total // 2)
    bent, plain = drawn(half, rng, 1.0), drawn(half, rng, -1.0)
    gram = bent @ bent.mT
    projected = pcgrad.surgery_coefficients(gram, ORDERS) @ gram  # gᵢ^PC · gⱼ
    lengths = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    product = torch.stack([projected[:, 0, 1], projected[:, 1, 0]], -1).abs()
    relative = product / (lengths.prod(-1, keepdim=True))
    kept = pcgrad.surgery_coefficients(plain @ plain.mT, ORDERS)
    moved = (kept != torch.eye(2, dtype=torch.float64)).any(-1).any(-1)
    return Figure2(half, float(relative.max()), half, int(moved.sum()))


def all_certificates() -> list[Certificate]:
    """Prove every identity and every goal."""
    identities = [
        Certificate("proof", name, certificates.says(f), certificates.identity(name).latex, [])
        for name, f in IDENTITIES.items()
    ]
    found = [
        Certificate("z3", name, certificates.says(f), "", list(certificates.goal(name).hypotheses))
        for name, f in GOALS.items()
    ]
    return identities + found


def killed(name: str, matrix: Matrix) -> Check:
    """Report a kill matrix as a check: at least 99% killed, and a reason for every survivor."""
    told = all(matrix.survivors.values())
    says = f"{matrix.killed:,} of {matrix.mutants - len(matrix.weaker):,} mutants killed"
    if matrix.survivors:
        says += f"; {len(matrix.survivors)} survive with a reason"
    if matrix.weaker:
        says += f"; {len(matrix.weaker)} more follow from the original"
    return Check("samples", name, matrix.share >= 0.99 and told, says)


def check(settings: Theory) -> Report:
    """Prove the certificates, kill their mutants, test identities and Figure 2 on the core."""
    listed = all_certificates()
    # Small runs, such as tests, try every twentieth mutant only.
    stride = 1 if settings["instances"] >= ALL_MUTANTS else 20
    matrices = (
        mutation.kill_matrix(IDENTITIES.values(), stride),
        mutation.kill_matrix(GOALS.values(), stride),
    )
    numbers = numeric(settings["instances"], settings["seed"])
    drawn_pairs = figure2(settings["instances"], settings["seed"])
    worst = max(numbers.largest_relative_error.values())
    names = [f"z3:{row.name}" if row.kind == "z3" else row.name for row in listed]
    faithful = drawn_pairs.largest_product_after < 1e-9 and drawn_pairs.changed == 0
    found = [
        judge(
            "identities",
            "Appendix A",
            f"The {len(IDENTITIES)} identities and {len(GOALS)} inequalities that the proofs use",
            [*certified(*names), killed("mutated identities", matrices[0]),
             killed("mutated goals", matrices[1]),
             Check("samples", "pairs", True,
                   f"{numbers.pairs:,} pairs through the core, "
                   f"largest relative error {worst:.1e}")],
            sentence="Every one is proved by sympy or z3, and no longer provable once it is "
            "changed.",
        ),
        judge(
            "figure2",
            "Figure 2",
            "A conflicting gradient is projected onto the normal plane of the other; a pair "
            "without conflict is unchanged",
            [*certified("normal_plane", "coefficients"),
             Check("samples", "pairs", faithful,
                   f"{drawn_pairs.pairs:,} pairs in conflict, |g_i^PC · g_j| at most "
                   f"{drawn_pairs.largest_product_after:.0e} of the lengths; "
                   f"of {drawn_pairs.unchanged:,} without, {drawn_pairs.changed} changed")],
            sentence="g_i^PC · g_j = 0 after the projection, and g_i^PC = g_i where g_i · g_j ≥ 0.",
        ),
    ]  # fmt: skip
    return Report(found, listed, *matrices, numbers, drawn_pairs)
