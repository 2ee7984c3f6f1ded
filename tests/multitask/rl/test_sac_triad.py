"""The measures of Figure 4: curvature along an update, conflict shares, and their theorem."""

import pytest
import torch
from sac_helpers import double

from multitask.rl.triad import conflict_statistics, curvature, settle_ties
from pcgrad import (
    condition_a,
    curvature_bounding_measure,
    fixed_orders,
    multitask_curvature,
    surgery,
)


def gram(g1, g2):
    g = torch.tensor([g1, g2], dtype=torch.float64)
    return (g @ g.T).unsqueeze(0)


def weights_one(gramians):
    return torch.ones(gramians.shape[:2], dtype=torch.float64)


def test_curvature_of_a_quadratic_is_its_hessian_along_the_step():
    a, b = double(2, 5, 5), double(2, 5, seed=1)
    hessian = a @ a.mT
    theta, step = double(2, 5, seed=2), double(2, 5, seed=3)

    def losses(parameters):
        (x,) = parameters
        return 0.5 * torch.einsum("ni,nij,nj->n", x, hessian, x) + (b * x).sum(1)

    expected = torch.einsum("ni,nij,nj->n", step, hessian, step)
    remainder, definition3 = curvature(losses, [theta], [theta + step])
    torch.testing.assert_close(remainder, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(definition3, expected, rtol=1e-10, atol=1e-10)


def test_both_forms_equal_the_cores_quadrature_where_they_differ():
    theta, step = double(1, 4, seed=2), double(1, 4, seed=3)

    def loss(x):
        return (x.exp() + x**4).sum(-1)

    remainder, definition3 = curvature(lambda p: loss(p[0]), [theta], [theta + step])
    quadrature = {
        w: multitask_curvature(loss, theta, theta + step, step, weighting=w)
        for w in ("remainder", "uniform")
    }
    torch.testing.assert_close(remainder, quadrature["remainder"], rtol=1e-9, atol=0)
    torch.testing.assert_close(definition3, quadrature["uniform"], rtol=1e-9, atol=0)
    assert (remainder - definition3).abs() > 1e-3 * definition3.abs()


def test_members_keep_their_curvature_apart():
    """A step of one member leaves the other's curvature at zero."""
    theta = double(2, 3)
    step = torch.zeros(2, 3, dtype=torch.float64)
    step[1] = 0.1
    remainder, definition3 = curvature(lambda p: (p[0] ** 4).sum(1), [theta], [theta + step])
    assert remainder[0] == definition3[0] == 0
    assert remainder[1] > 0
    assert definition3[1] > 0


def test_shares_by_hand():
    gramians = torch.cat(
        [
            gram([1.0, 0.0], [1.0, 1.0]),  # cos > 0
            gram([1.0, 0.0], [-1.0, 1.0]),  # cos −.71, Φ .94: neither
            gram([1.0, 0.0], [-10.0, 1.0]),  # cos −.995, Φ .2: (a), ξ = .0149
            gram([1.0, 0.0], [-2.0, 2.0]),  # cos −.71 = Φ .63: (a) only, ξ = 1.3
            gram([0.0, 0.0], [-2.0, 2.0]),  # undefined
        ]
    )
    found = conflict_statistics(gramians, weights_one(gramians))
    assert (found["pairs"], found["undefined"], found["conflicts"]) == (5, 1, 3)
    assert found["cosine_positive_share"] == pytest.approx(1 / 4)
    assert found["condition_a_share"] == pytest.approx(2 / 3)
    assert found["xi_le_1_share"] == pytest.approx(1 / 3)
    assert found["xi_median"] == pytest.approx(1.3)
    assert found["length_ratio"] == 1.0


def test_length_ratio_of_surgery_squared_is_xi_in_conflict():
    gramians = gram([1.0, 0.0], [-1.0, 1.0])
    weights = surgery(gramians, fixed_orders(2)).weights
    found = conflict_statistics(gramians, weights)
    assert found["length_ratio"] ** 2 == pytest.approx(found["xi_median"], rel=1e-12)


def test_nothing_defined_leaves_the_shares_out():
    gramians = torch.zeros(3, 2, 2, dtype=torch.float64)
    assert conflict_statistics(gramians, weights_one(gramians)) == {
        "pairs": 3,
        "undefined": 3,
        "conflicts": 0,
    }


def test_one_task_has_no_pairs():
    found = conflict_statistics(
        torch.ones(3, 1, 1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    )
    assert (found["pairs"], found["conflicts"], found["length_ratio"]) == (0, 0, 1.0)


@pytest.mark.parametrize("spread", [1e-12, 1e-6, 1e-3, 1.0])
def test_xi_share_never_exceeds_share_a(spread):
    """Around g₂ = −r g₁, where rounding decides, and with the float32 products of the loop."""
    ratio = 10 ** (2 * double(4000, 1, seed=5))
    g1 = double(4000, 6, seed=6)
    g2 = -ratio * (g1 + spread * double(4000, 6, seed=7))
    for dtype in (torch.float64, torch.float32):
        g = torch.stack([g1, g2], 1).to(dtype)
        gramians = (g @ g.mT).double()
        found = conflict_statistics(gramians, weights_one(gramians))
        assert found["conflicts"] > 3000
        assert found["xi_le_1_share"] <= found["condition_a_share"]


def test_a_contradiction_between_the_measures_is_raised():
    gramians = gram([1.0, 0.0], [-1.0, 1.0])
    xi_le_1, a = curvature_bounding_measure(gramians) <= 1, condition_a(gramians)
    assert not a[0, 0, 1]
    with pytest.raises(RuntimeError, match="impossible"):
        settle_ties(gramians, xi_le_1=~xi_le_1, a=a)


def test_a_tie_counts_as_condition_a():
    """Despite rounding the shares agree where cos φ = −Φ exactly and ξ = 1.

    There g₂ = −g₁/2, scaled along the bound.
    """
    gramians = gram([1.0, 0.0], [-1.0, 0.0])
    settled = settle_ties(
        gramians,
        xi_le_1=torch.ones(1, 2, 2, dtype=torch.bool),
        a=torch.zeros(1, 2, 2, dtype=torch.bool),
    )
    assert settled[0, 0, 1]
