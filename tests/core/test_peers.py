"""Against other implementations, where their algorithm is ours.

torchjd draws, for every task, a permutation of all tasks with the global generator and skips the
task itself: Algorithm 1 with other random numbers, so its permutations are replayed. conflictfree
visits by rising index: our fixed orders.
"""

from __future__ import annotations

import pytest
import torch
from conflictfree.grad_operator import PCGradOperator
from torch import Tensor
from torchjd import aggregation as torchjd

import pcgrad

from .oracle import CATALOGUE, total_norm

GUARDED = [
    name for name, matrix in CATALOGUE.items() if (matrix.norm(dim=1) > 0).all()
]  # both divide 0 by 0 otherwise


def replayed(tasks: int, seed: int) -> Tensor:
    """The orders that torchjd will draw after ``torch.manual_seed(seed)``."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(tasks, generator=generator) for _ in range(tasks)]
    return torch.stack([row[row != i] for i, row in enumerate(rows)])


@pytest.mark.parametrize("name", CATALOGUE)
def test_torchjd(name: str) -> None:
    g = CATALOGUE[name]
    for seed in range(5):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            expected = torchjd.PCGradWeighting()(g @ g.T)
        found = pcgrad.surgery(g @ g.T, replayed(len(g), seed)).weights
        assert ((found - expected) @ g).norm() <= 1e-12 * total_norm(g)
        if name.startswith("normal"):
            assert torch.allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", GUARDED)
def test_conflictfree(name: str) -> None:
    g = CATALOGUE[name]
    expected = PCGradOperator().calculate_gradient(g.clone())
    found = pcgrad.project_conflicting(g, pcgrad.fixed_orders(len(g))).sum(0)
    assert (found - expected).norm() <= 1e-12 * total_norm(g)


@pytest.mark.parametrize("weighting", ["MGDAWeighting", "PCGradWeighting", "MeanWeighting"])
def test_torchjd_weightings_are_weightings(weighting: str) -> None:
    """Any Gramian -> weights function takes surgery's place between gramian and apply_weights."""
    g = CATALOGUE["normal 3x3"]
    parameter = torch.zeros(3, dtype=torch.float64)
    rule: pcgrad.Weighting = getattr(torchjd, weighting)()
    with torch.random.fork_rng():
        weights = rule(pcgrad.gramian([g]))
    pcgrad.apply_weights([parameter], [g], weights)
    assert parameter.grad is not None
    assert torch.allclose(parameter.grad, weights @ g)
