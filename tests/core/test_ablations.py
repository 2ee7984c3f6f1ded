"""Direction alone and magnitude alone, against vectors."""

from __future__ import annotations

import pytest
import torch

import pcgrad

from .oracle import CATALOGUE


@pytest.mark.parametrize(
    "name", ["normal 2x9", "normal 3x3", "normal 5x40", "crowded 10x4", "magnitude gap"]
)
def test_direction_and_length_are_those_that_are_meant(name: str) -> None:
    g = CATALOGUE[name]
    gramian = g @ g.T
    weights = pcgrad.surgery(gramian, pcgrad.fixed_orders(len(g))).weights
    update, plain = weights @ g, g.sum(0)
    direction = pcgrad.direction_only(gramian, weights) @ g
    assert torch.allclose(direction / direction.norm(), update / update.norm(), rtol=0, atol=1e-9)
    assert torch.allclose(direction.norm(), plain.norm(), rtol=1e-9)
    magnitude = pcgrad.magnitude_only(gramian, weights) @ g
    assert torch.allclose(magnitude / magnitude.norm(), plain / plain.norm(), rtol=0, atol=1e-9)
    assert torch.allclose(magnitude.norm(), update.norm(), rtol=1e-9)


def test_without_conflict_both_are_the_plain_sum() -> None:
    gramian = torch.eye(3)
    weights = pcgrad.surgery(gramian, pcgrad.fixed_orders(3)).weights
    assert torch.allclose(
        pcgrad.direction_only(gramian, weights), torch.ones(3, dtype=torch.float64)
    )
    assert torch.allclose(
        pcgrad.magnitude_only(gramian, weights), torch.ones(3, dtype=torch.float64)
    )


def test_no_direction_is_no_step() -> None:
    gramian = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # g_1 = -g_2: both sums are zero
    weights = pcgrad.surgery(gramian, pcgrad.fixed_orders(2)).weights
    assert pcgrad.direction_only(gramian, weights).tolist() == [0.0, 0.0]
    assert pcgrad.magnitude_only(gramian, weights).tolist() == [0.0, 0.0]


def test_what_is_not_finite_stays_so() -> None:
    gramian = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    for ablation in (pcgrad.direction_only, pcgrad.magnitude_only):
        assert ablation(gramian, torch.ones(2)).isnan().all()


def test_batches() -> None:
    g = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gramian = g @ g.mT
    weights = pcgrad.surgery(gramian, pcgrad.fixed_orders(3)).weights
    for ablation in (pcgrad.direction_only, pcgrad.magnitude_only):
        assert torch.allclose(
            ablation(gramian, weights)[4], ablation(gramian[4], weights[4]), rtol=1e-12
        )
