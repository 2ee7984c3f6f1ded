"""Figures 1 and 2: the landscape's gradients, batched optimizer, verdicts, files and pictures."""

import json
import math

import numpy as np
import pytest
import torch

from experiments.landscape import figure_1, figure_2
from experiments.landscape import run as task
from experiments.run import EXIT_FAULT
from multitask.runs.provenance import ROOT

OPTIONS = {"learning_rate": 0.001, "betas": [0.9, 0.999], "epsilon": 1e-8}
GOLDEN = ROOT / "tests/golden/landscape.json"
STARTS = torch.tensor([[0.5, -3.0], [-5.0, 0.0], [3.0, 3.0]], dtype=torch.float64)


def config(**changes):
    block = {**OPTIONS, "updates": 40, "stored_points": 10, "starts": STARTS.tolist(), **changes}
    block = {key: value for key, value in block.items() if value is not None}
    shared = {"scale": "tiny", "data_root": "data", "torch_threads": 1, "device": "cpu"}
    return json.dumps({**shared, "experiments": {"landscape": block}})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("landscape")
    assert task.main(["--config", config(), "--out", str(out)]) == 0
    return out


def by_hand(theta):
    """Appendix D's formulas, for autograd."""
    first = 20 * torch.log(torch.clamp((0.5 * theta[0] + torch.tanh(theta[1])).abs(), min=0.000005))
    second = 25 * torch.log(
        torch.clamp((0.5 * theta[0] - torch.tanh(theta[1]) + 2).abs(), min=0.000005)
    )
    return first, second


def test_losses_and_gradients_equal_autograd_also_on_the_floors():
    generator = torch.Generator().manual_seed(0)
    points = 6 * torch.rand(200, 2, generator=generator, dtype=torch.float64) - 3
    # Points within the floor of task 1's valley, of task 2's, and of both.
    height = torch.tensor([0.3, -1.2], dtype=torch.float64)
    on_first = torch.stack((-2 * height.tanh() + 2e-6, height), dim=-1)
    on_second = torch.stack((2 * height.tanh() - 4 + 2e-6, height), dim=-1)
    both = torch.tensor([[-2.0, 8.0]], dtype=torch.float64)
    points = torch.cat((points, on_first, on_second, both))
    floors = 0
    for point, value, gradient in zip(
        points, task.losses(points), task.gradients(points), strict=True
    ):
        theta = point.clone().requires_grad_()
        for i, loss in enumerate(by_hand(theta)):
            (expected,) = torch.autograd.grad(loss, theta, retain_graph=True)
            torch.testing.assert_close(value[i], loss.detach(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(gradient[i], expected, rtol=1e-9, atol=1e-12)
            floors += int(not expected.any())
    assert floors == 6


@pytest.mark.parametrize("variant", task.VARIANTS)
def test_batch_equals_one_run_with_autograd_and_literal_surgery(variant):
    """Each start alone, gradients by autograd, Algorithm 1 for two tasks written out, torch's Adam:
    300 updates.
    """
    result = task.optimize(STARTS, updates=300, stored_points=301, **OPTIONS)
    assert result["update"].tolist() == list(range(301))
    found = result["theta"][:, task.VARIANTS.index(variant)]
    conflicts = 0
    for s, start in enumerate(STARTS):
        theta = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=0.001, betas=(0.9, 0.999), eps=1e-8)
        for update in range(1, 301):
            g1, g2 = (
                torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in by_hand(theta)
            )
            product = g1 @ g2
            theta.grad = g1 + g2
            if product < 0 and variant == "adam_pcgrad":
                conflicts += 1
                theta.grad = (g1 - product / (g2 @ g2) * g2) + (g2 - product / (g1 @ g1) * g1)
            optimizer.step()
            torch.testing.assert_close(
                found[update, s], theta.detach(), rtol=0, atol=1e-6
            )  # an update is 1e-3
    assert variant == "adam" or conflicts > 50


def test_before_is_one_update_earlier_whatever_is_kept():
    all_kept = task.optimize(STARTS, updates=60, stored_points=61, **OPTIONS)
    thinned = task.optimize(STARTS, updates=60, stored_points=7, **OPTIONS)
    assert thinned["update"].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert torch.equal(thinned["theta"], all_kept["theta"][::10])
    assert torch.equal(thinned["before"][1:], all_kept["theta"][9::10])


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        ((-2.0, 7.0), "joint optimum"),
        ((-2.0, 3.0), "joint optimum"),
        ((-2 * math.tanh(-1.5), -1.5), "task 1's valley"),
        ((2 * math.tanh(-1.5) - 4, -1.5), "task 2's valley"),
        ((0.5, -3.0), "elsewhere"),
        ((-1.92, 7.0), "joint optimum"),  # u1 = u2 = 0.04
        ((-1.88, 7.0), "elsewhere"),  # u1 = u2 = 0.06
    ],
)
def test_verdicts(theta, expected):
    assert task.verdict(torch.tensor(theta, dtype=torch.float64)) == expected


def test_distance_is_to_the_set_of_optima():
    assert task.distance_to_optimum(torch.tensor([-2.0, 20.0])) == 0
    assert task.distance_to_optimum(torch.tensor([1.0, 6.449])) == pytest.approx(3, abs=1e-3)
    assert task.distance_to_optimum(torch.tensor([-2.0, 0.0])) == pytest.approx(task.JOINT_THETA[1])
    best = task.losses(torch.tensor([task.JOINT_THETA], dtype=torch.float64)).sum()
    assert best.item() == pytest.approx(45 * math.log(5e-6), rel=1e-9)


def test_curvature_forms_are_the_two_integrals():
    """Between the floors the differences equal the integrals of dᵀ∇²L d / ‖d‖² with weights 2 (1 −
    a) and 1.
    """
    before = torch.tensor([0.5, -1.0], dtype=torch.float64)
    theta = before + torch.tensor([0.01, -0.02], dtype=torch.float64)
    measured = task.measure(theta, before, 0.001)
    step = theta - before
    nodes, weights = np.polynomial.legendre.leggauss(20)
    uniform = remainder = 0.0
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        hessian = torch.autograd.functional.hessian(lambda x: sum(by_hand(x)), before + node * step)
        along = (step @ hessian @ step / step.square().sum()).item()
        uniform += weight * along
        remainder += weight * 2 * (1 - node) * along
    assert measured["curvature_definition3"].item() == pytest.approx(uniform, rel=1e-6)
    assert measured["curvature_remainder"].item() == pytest.approx(remainder, rel=1e-6)
    assert abs(uniform - remainder) > 1e-4 * abs(uniform)


def test_curvature_of_the_plain_step_is_theorem_2s():
    """½ t² H ‖g‖² = L(θ^MT) − L(θ) + t ‖g‖²; beside a valley the step overshoots: H > 0 where
    log|u| is concave.
    """
    theta = torch.tensor([-2 * math.tanh(-1.5) + 0.01, -1.5], dtype=torch.float64)
    point = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(sum(by_hand(point)), point)
    rise = (
        sum(by_hand(theta - 0.001 * g)) - sum(by_hand(theta))
    ).item() + 0.001 * g.square().sum().item()
    measured = task.measure(theta, theta - 1e-6, 0.001)
    along = measured["plain_step_curvature_remainder"].item()
    assert 0.5 * 0.001**2 * g.square().sum().item() * along == pytest.approx(rise, rel=1e-9)
    assert along > 0 > measured["curvature_remainder"].item()


def test_summary_of_a_trajectory_made_by_hand():
    """100 updates: 80 in task 1's valley, then 20 at the joint optimum, of which the last tenth
    looks at 10.
    """
    valley = [-2 * math.tanh(-1.5) + 0.01, -1.5]
    theta = torch.tensor(
        [[0.5, -3.0]] + 80 * [valley] + 20 * [[-2.0 + 0.02, 7.0]], dtype=torch.float64
    )
    run = task.summarize_run(torch.arange(101), theta, theta - 1e-4, 0.001)
    assert run["verdict"] == "joint optimum"
    assert run["at_joint_optimum_since_update"] == 81
    late = run["last_tenth"]
    assert late["points"] == 10
    assert late["conflict_share"] == 0
    assert late["moved"] == [0, 0]
    assert late["median_norm_ratio"] == pytest.approx(20 / 25, rel=1e-3)
    stuck = task.summarize_run(torch.arange(81), theta[:81], theta[:81] - 1e-4, 0.001)
    assert stuck["verdict"] == "task 1's valley"
    assert stuck["at_joint_optimum_since_update"] is None
    assert stuck["last_tenth"]["median_norm_ratio"] > 100  # the magnitude gap
    assert stuck["last_tenth"]["conflict_share"] in (0, 1)
    other_side = theta[:81].clone()
    other_side[1:, 0] -= 0.02
    shares = {task.summarize_run(torch.arange(81), x, x - 1e-4, 0.001)
              ["last_tenth"]["conflict_share"] for x in (theta[:81], other_side)}  # fmt: skip
    assert shares == {0, 1}  # the tasks conflict on one side of the valley and agree on the other


def trace():
    """Every tenth of 50 updates of both variants from three starts."""
    return task.optimize(STARTS, updates=50, stored_points=6, **OPTIONS)["theta"].tolist()


def test_golden_trace():
    """A number that changed means that published figures are superseded: say so in the CHANGELOG,
    then regenerate.

    `PYTHONPATH=src:. python tests/experiments/test_landscape.py`
    """
    golden = torch.tensor(json.loads(GOLDEN.read_text(encoding="utf-8")), dtype=torch.float64)
    torch.testing.assert_close(
        torch.tensor(trace(), dtype=torch.float64), golden, rtol=1e-9, atol=1e-12
    )


def test_summary_tells_the_end_of_every_run(written):
    summary = json.loads((written / "summary.json").read_text())
    with np.load(written / "trajectories.npz") as paths:
        theta, variants = paths["theta"], paths["variants"].tolist()
        assert theta.shape == (10, 2, 3, 2)
        assert paths["update"][[0, -1]].tolist() == [0, 40]
    assert set(summary["runs"]) == set(variants)
    for v, variant in enumerate(variants):
        for s, run in enumerate(summary["runs"][variant]):
            assert run["end"] == theta[-1, v, s].tolist()
            assert run["start"] == STARTS[s].tolist()
            assert run["L1"] + run["L2"] == pytest.approx(run["L"])
    assert summary["claim"]["as_claimed"] == (
        summary["claim"]["found"] == summary["claim"]["claimed"]
    )
    assert summary["reached_joint_optimum"]["starts"] == 3


def test_vectors_are_projected_by_the_core(written):
    vectors = json.loads((written / "vectors.json").read_text())
    pair, free = vectors["conflicting"], vectors["not_conflicting"]
    assert np.dot(pair["g_i"], pair["g_j"]) < 0
    assert np.dot(pair["g_i_pc"], pair["g_j"]) == pytest.approx(0, abs=1e-12)
    assert np.dot(pair["g_j_pc"], pair["g_i"]) == pytest.approx(0, abs=1e-12)
    assert np.dot(free["g_i"], free["g_j"]) > 0
    assert (free["g_i"], free["g_j"]) == (free["g_i_pc"], free["g_j_pc"])


def test_figures_are_written_and_their_bytes_do_not_change(written, tmp_path):
    data = [str(written / name) for name in ("surface.npz", "trajectories.npz", "summary.json")]
    for attempt in ("a", "b"):
        figure_1.write(
            *data, png=str(tmp_path / f"1{attempt}.png"), pdf=str(tmp_path / f"1{attempt}.pdf")
        )
        figure_2.write(
            str(written / "vectors.json"),
            png=str(tmp_path / f"2{attempt}.png"),
            pdf=str(tmp_path / f"2{attempt}.pdf"),
        )
    for number in "12":
        first, second = (tmp_path / f"{number}{attempt}.png" for attempt in "ab")
        assert first.read_bytes() == second.read_bytes()
        assert (tmp_path / f"{number}a.pdf").stat().st_size > 5000


def test_figure_1_says_where_the_paths_end(written):
    summary = json.loads((written / "summary.json").read_text())
    with (
        np.load(written / "surface.npz") as surface,
        np.load(written / "trajectories.npz") as paths,
    ):
        figure = figure_1.landscape(dict(surface), dict(paths), summary)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    for variant in task.VARIANTS:
        assert any(summary["runs"][variant][0]["verdict"] in title for title in titles)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"updates": 0}, "landscape.updates: 0 is less"),
        ({"starts": []}, "landscape.starts: [] "),
        ({"starts": [[1.0, 2.0, 3.0]]}, "landscape.starts.0: "),
        ({"starts": [[1.0, float("nan")]]}, "NaN is no number"),
        ({"learning_rate": -1.0}, "landscape.learning_rate: -1.0 is less"),
        ({"learning_rate": 1e308}, "1e+308 is too large"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(tmp_path, capsys, changes, said):
    assert task.main(["--config", config(**changes), "--out", str(tmp_path / "out")]) == EXIT_FAULT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not [*(tmp_path / "out").glob("*")]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(trace()) + "\n", encoding="utf-8")
