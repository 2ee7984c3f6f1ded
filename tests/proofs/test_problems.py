import dataclasses

import lipschitz
import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import make

import pcgrad
from proofs import sampling, theorem1
from proofs.comparison import two_steps
from proofs.momentum import heavy_ball
from proofs.problems import CONVEX, NONCONVEX, Problems, aim, aim_at, look
from proofs.tally import BrokenError


def _somewhere(problems: Problems) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(problems.start().shape, generator=generator, dtype=torch.float64)
    return theta * (torch.arange(theta.shape[-1]) < problems.dimension.unsqueeze(-1))


def test_gradients_and_hessians_are_those_of_the_losses(problems: Problems) -> None:
    theta = _somewhere(problems).requires_grad_()
    losses = problems.losses(theta)
    for task in range(2):
        (expected,) = torch.autograd.grad(losses[:, task].sum(), theta, retain_graph=True)
        assert torch.allclose(problems.gradients(theta)[:, task], expected, rtol=1e-10, atol=1e-12)
    point = theta.detach()
    column = torch.zeros_like(point)
    column[:, 0] = 1e-6
    change = problems.gradients(point + column) - problems.gradients(point - column)
    difference = change.sum(1) / 2e-6
    size = problems.lipschitz().unsqueeze(-1)
    assert ((problems.hessian(point)[..., 0] - difference).abs() / size).max() < 1e-5


@pytest.mark.parametrize("family", [*CONVEX, *NONCONVEX])
def test_any_number_of_tasks_has_the_gradients_of_its_losses(family: str) -> None:
    problems = sampling.draw(family, 12, sampling.stream(1, "tests", family, 1), tasks=4)
    theta = _somewhere(problems).requires_grad_()
    losses = problems.losses(theta)
    assert losses.shape == (12, 4)
    for task in range(4):
        (expected,) = torch.autograd.grad(losses[:, task].sum(), theta, retain_graph=True)
        assert torch.allclose(problems.gradients(theta)[:, task], expected, rtol=1e-9, atol=1e-12)
    lipschitz.compare(problems, 0)


@pytest.mark.parametrize("family", NONCONVEX)
def test_non_convex_families_are_not_convex_and_their_gradient_is_lipschitz(family: str) -> None:
    problems = sampling.draw(family, 60, sampling.stream(1, "tests", family, 2))
    theta, other = _somewhere(problems), 2 * _somewhere(problems).roll(1, 0)
    other = other * (theta != 0)
    smallest = torch.linalg.eigvalsh(problems.hessian(theta))[:, 0] / problems.lipschitz()
    assert (smallest < -0.01).sum() > 10
    change = (problems.gradients(theta) - problems.gradients(other)).sum(1).norm(dim=-1)
    assert (change <= problems.lipschitz() * (theta - other).norm(dim=-1) * (1 + 1e-12)).all()


@pytest.mark.parametrize("dimension", [100, 300])
def test_high_dimensions_have_their_prescribed_spectrum(dimension: int) -> None:
    problems = sampling.draw(
        "quadratic", 6, sampling.stream(0, "tests", "large", 0), (dimension, dimension)
    )
    squares = torch.linalg.svdvals(problems.A) ** 2
    assert torch.allclose(squares[..., 0], torch.ones(6, 2, dtype=torch.float64), rtol=0.25)
    assert squares[..., -1].min() < 1e-2
    assert (problems.A[:, 0].abs() > 0).all(-1).any(-1).all()  # rotated, not diagonal
    assert sum(sampling.chunks(20, dimension)) == 20


def test_aim_at_gives_every_task_its_gradient() -> None:
    problems = sampling.draw("logistic", 20, sampling.stream(1, "tests", "aim", 0), (6, 6), tasks=5)
    targets = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 5, 6)))
    turned = aim_at(problems, targets)
    assert torch.allclose(turned.gradients(turned.start()), targets, rtol=1e-9, atol=1e-12)


def test_losses_are_convex_and_the_gradient_is_lipschitz(problems: Problems) -> None:
    one = _somewhere(problems)
    other = 3 * one.flip(0) * (one != 0)
    middle = problems.losses((one + other) / 2)
    ends = (problems.losses(one) + problems.losses(other)) / 2
    assert (middle <= ends + 1e-12 * ends.abs()).all()
    change = (problems.gradients(one) - problems.gradients(other)).sum(1).norm(dim=-1)
    assert (change <= problems.lipschitz() * (one - other).norm(dim=-1) * (1 + 1e-12)).all()


def test_scipy_agrees_on_l_and_notices_a_wrong_one(problems: Problems) -> None:
    assert lipschitz.compare(problems, 0) > 0.3

    class TooSmall(Problems):
        def lipschitz(self) -> torch.Tensor:
            return 0.999 * super().lipschitz()

    fields = {field.name: getattr(problems, field.name) for field in dataclasses.fields(problems)}
    with pytest.raises(BrokenError, match=problems.family):
        lipschitz.compare(TooSmall(**fields), 0)


def test_aim_reaches_the_asked_geometry(problems: Problems) -> None:
    count = len(problems)
    cos = torch.linspace(-0.99, 0.9, count, dtype=torch.float64)
    ratio = torch.logspace(-2, 2, count, dtype=torch.float64)
    turned = aim(problems, cos, ratio, sampling.sideways(problems, np.random.default_rng(0)))
    point, line = look(turned, turned.start()), problems.dimension == 1
    assert torch.allclose(point.cos[~line], cos[~line], atol=1e-9)
    assert torch.allclose(point.cos[line], cos.sign()[line])
    norms = point.gradients.norm(dim=-1)
    assert torch.allclose(norms[:, 0] / norms[:, 1], ratio, rtol=1e-9)


@pytest.mark.parametrize("weighting", ["uniform", "remainder"])
def test_the_quadrature_finds_the_curvature_that_the_losses_show(
    problems: Problems, weighting: str
) -> None:
    point, step = look(problems, problems.start()), 3 / problems.lipschitz()
    after = problems.start() - step.unsqueeze(-1) * point.g
    square = (point.g**2).sum(-1)
    found = problems.curvature(problems.start(), after, point.g, weighting) / square
    expected = two_steps.curvature_by_losses(problems, point, step, weighting)
    # Elsewhere the differences of losses drown in rounding.
    clear = square > 1e-6 * point.gradients.square().sum((-1, -2))
    assert ((found - expected).abs() / problems.lipschitz())[clear].max() < 1e-6


@pytest.mark.parametrize("family", CONVEX)
def test_samplers_reach_conflict_edges_and_dimensions_and_repeat(family: str) -> None:
    first, again = make(family, 300), make(family, 300)
    assert torch.equal(first.A, again.A)
    assert torch.equal(first.b, again.b)
    point = look(first, first.start())
    assert point.conflict.all()
    similarity = pcgrad.magnitude_similarity(point.gramian)[:, 0, 1]
    assert point.cos.min() < -1 + 1e-6
    assert point.cos.max() > -1e-4
    assert similarity.min() < 0.05
    assert similarity.max() > 1 - 1e-9
    assert set(first.dimension.tolist()) == set(range(1, 21))


def test_step_lengths_cover_one_over_l() -> None:
    problems, step = theorem1.instances("logistic", 100, sampling.stream(0, "t", "logistic", 0))
    share = step * problems.lipschitz()
    assert torch.allclose(share[::2], torch.ones(50, dtype=torch.float64))
    assert share.max() <= 1 + 1e-15
    assert share.min() < 0.1


@pytest.mark.parametrize("shape", heavy_ball.SLOPES)
def test_scipys_eigenvalues_are_the_extremes_that_theorem_4_uses(shape: str) -> None:
    rng = sampling.stream(0, "tests", shape, 0)
    pairs = heavy_ball.draw(shape, 6, rng, (1, 20), (1.0, 3.0))
    for k, width in enumerate(pairs.dimension.int().tolist()):
        for i, hessian in enumerate(pairs.hessians()[k, :, :width, :width].numpy()):
            values = scipy.linalg.eigvalsh(hessian)
            assert values[-1] == pytest.approx(float(pairs.top[k, i]), rel=1e-9)
            # Outside the quadratics μ is the ridge, a lower bound.
            assert values[0] >= float(pairs.mu[k, i]) * (1 - 1e-9)
            if shape == "quadratic":
                assert values[0] == pytest.approx(float(pairs.mu[k, i]), rel=1e-9)
