"""Definitions 1, 2, 5 and condition (a) against vectors, and their identities with surgery."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import pcgrad

from .oracle import CATALOGUE


def product(*vectors: list[float]) -> Tensor:
    g = torch.tensor(vectors, dtype=torch.float64)
    return g @ g.T


@pytest.mark.parametrize(
    "name", ["normal 2x9", "normal 3x3", "normal 5x40", "crowded 10x4", "all pairs conflict"]
)
def test_definitions_on_vectors(name: str) -> None:
    g = CATALOGUE[name]
    gramian = g @ g.T
    found = {
        "cos": pcgrad.cosine(gramian),
        "phi": pcgrad.magnitude_similarity(gramian),
        "xi": pcgrad.curvature_bounding_measure(gramian),
    }
    for i in range(len(g)):
        for j in range(len(g)):
            a, b = g[i], g[j]
            cos = float(a @ b / a.norm() / b.norm())
            phi = float(2 * a.norm() * b.norm() / (a.norm() ** 2 + b.norm() ** 2))
            xi = float((1 - cos**2) * (a - b).norm() ** 2 / (a + b).norm() ** 2)
            for key, expected in {"cos": cos, "phi": phi, "xi": xi}.items():
                assert math.isclose(float(found[key][i, j]), expected, rel_tol=1e-9, abs_tol=1e-12)
            assert pcgrad.conflicting(gramian)[i, j] == (i != j and float(a @ b) < 0)
            assert pcgrad.condition_a(gramian)[i, j] == (cos <= -phi)


def test_by_hand() -> None:
    gramian = product([1.0, 0.0], [-1.0, 1.0], [0.0, 3.0])
    assert torch.allclose(
        pcgrad.cosine(gramian)[0, 1], torch.tensor(-(0.5**0.5), dtype=torch.float64)
    )
    assert pcgrad.cosine(gramian)[0, 2] == 0
    assert math.isclose(pcgrad.magnitude_similarity(gramian)[0, 2].item(), 0.6)
    assert math.isclose(pcgrad.magnitude_similarity(gramian)[0, 1].item(), 2 * 2**0.5 / 3)
    assert math.isclose(pcgrad.curvature_bounding_measure(gramian)[0, 1].item(), 0.5 * 5 / 1)
    assert pcgrad.condition_a(product([1.0], [-5.0]))[0, 1]
    assert not pcgrad.condition_a(gramian)[0, 1]


def test_zero_gradients_are_undefined() -> None:
    gramian = product([1.0, 2.0], [0.0, 0.0])
    for measure in (pcgrad.cosine, pcgrad.magnitude_similarity, pcgrad.curvature_bounding_measure):
        assert measure(gramian).isnan().tolist() == [[False, True], [True, True]]
    assert not pcgrad.condition_a(gramian)[:, 1].any()
    assert not pcgrad.conflicting(gramian).any()


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_opposite_gradients(scale: float) -> None:
    for g in (CATALOGUE["normal 2x9"][0], torch.tensor([1.0, 2.0, -0.3], dtype=torch.float64)):
        pair = torch.stack([g, -g]) * scale
        for gramian in (pair @ pair.T, pcgrad.gramian([pair.float()])):
            assert pcgrad.curvature_bounding_measure(gramian)[0, 1] == torch.inf
            assert -1 <= pcgrad.cosine(gramian)[0, 1] <= -1 + 1e-15
            assert pcgrad.condition_a(gramian)[0, 1]
            assert pcgrad.conflicting(gramian)[0, 1]


def pairs(count: int) -> Tensor:
    """Random pairs of gradients [count, 2, 3] with magnitude ratios from 1/100 to 100."""
    random = torch.Generator().manual_seed(0)
    g = torch.randn(count, 2, 3, generator=random, dtype=torch.float64)
    return g * 10 ** (4 * torch.rand(count, 2, 1, generator=random, dtype=torch.float64) - 2)


def test_identities_with_surgery() -> None:
    """In conflict: ξ = ‖g^PC‖²/‖g‖², and (a) iff g·g^PC ≤ ‖g‖²; ξ ≤ 1 implies (a)."""
    g = pairs(5000)
    gramian = g @ g.mT
    conflict = pcgrad.conflicting(gramian)[:, 0, 1]
    assert 2000 < conflict.sum() < 3000
    update = pcgrad.project_conflicting(g, pcgrad.fixed_orders(2)).sum(1)
    plain = g.sum(1)
    xi = pcgrad.curvature_bounding_measure(gramian)[:, 0, 1]
    ratio = update.norm(dim=1) ** 2 / plain.norm(dim=1) ** 2
    assert torch.allclose(xi[conflict], ratio[conflict], rtol=1e-7)
    holds = pcgrad.condition_a(gramian)[:, 0, 1]
    assert torch.equal(
        holds[conflict], ((plain * update).sum(1) <= plain.norm(dim=1) ** 2)[conflict]
    )
    assert 0.1 < holds[conflict].double().mean() < 0.9
    assert holds[conflict & (xi <= 1)].all()
    assert (conflict & holds & (xi > 1)).any()  # the converse is false


def test_batches_and_float32() -> None:
    g = pairs(7).reshape(7, 2, 3)
    gramian = (g @ g.mT).float()
    for measure in (pcgrad.cosine, pcgrad.magnitude_similarity, pcgrad.curvature_bounding_measure):
        found = measure(gramian)
        assert found.shape == (7, 2, 2)
        assert found.dtype == torch.float64
        assert torch.equal(found[3], measure(gramian[3]))


def test_what_is_not_finite_stays_so() -> None:
    gramian = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    for measure in (pcgrad.cosine, pcgrad.magnitude_similarity, pcgrad.curvature_bounding_measure):
        assert measure(gramian)[0, 1].isnan()
