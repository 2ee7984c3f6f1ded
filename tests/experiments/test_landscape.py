"""Figures 1 and 2: the landscape's gradients, the batched optimizer, verdicts, files and pictures."""

import json
import math

import numpy as np
import pytest
import torch

from experiments.landscape import figure_1, figure_2, task
from experiments.run import EXIT_FAULT

OPTIONS = {"learning_rate": 0.001, "betas": [0.9, 0.999], "epsilon": 1e-8}
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
    second = 25 * torch.log(torch.clamp((0.5 * theta[0] - torch.tanh(theta[1]) + 2).abs(), min=0.000005))
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
    for point, value, gradient in zip(points, task.losses(points), task.gradients(points), strict=True):
        theta = point.clone().requires_grad_()
        for i, loss in enumerate(by_hand(theta)):
            (expected,) = torch.autograd.grad(loss, theta, retain_graph=True)
            torch.testing.assert_close(value[i], loss.detach(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(gradient[i], expected, rtol=1e-9, atol=1e-12)
            floors += int(not expected.any())
    assert floors == 6


@pytest.mark.parametrize("variant", task.VARIANTS)
def test_batch_equals_one_run_with_autograd_and_literal_surgery(variant):
    """Each start alone, gradients by autograd, Algorithm 1 for two tasks written out, torch's Adam: 300 updates."""
    result = task.optimize(STARTS, updates=300, stored_points=301, **OPTIONS)
    assert result["update"].tolist() == list(range(301))
    found = result["theta"][:, task.VARIANTS.index(variant)]
    conflicts = 0
    for s, start in enumerate(STARTS):
        theta = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=0.001, betas=(0.9, 0.999), eps=1e-8)
        for update in range(1, 301):
            g1, g2 = (torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in by_hand(theta))
            product = g1 @ g2
            theta.grad = g1 + g2
            if product < 0 and variant == "adam_pcgrad":
                conflicts += 1
                theta.grad = (g1 - product / (g2 @ g2) * g2) + (g2 - product / (g1 @ g1) * g1)
            optimizer.step()
            torch.testing.assert_close(found[update, s], theta.detach(), rtol=0, atol=1e-6)  # an update is 1e-3
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
    """Between the floors the differences equal the integrals of dᵀ∇²L d / ‖d‖² with weights 2 (1 − a) and 1."""
    before = torch.tensor([0.5, -1.0], dtype=torch.float64)
    theta = before + torch.tensor([0.01, -0.02], dtype=torch.float64)
    measured = task.measure(theta, before)
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
    assert summary["claim"]["as_claimed"] == (summary["claim"]["found"] == summary["claim"]["claimed"])
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
        figure_1.write(*data, png=str(tmp_path / f"1{attempt}.png"), pdf=str(tmp_path / f"1{attempt}.pdf"))
        figure_2.write(
            str(written / "vectors.json"), png=str(tmp_path / f"2{attempt}.png"), pdf=str(tmp_path / f"2{attempt}.pdf")
        )
    for number in "12":
        first, second = (tmp_path / f"{number}{attempt}.png" for attempt in "ab")
        assert first.read_bytes() == second.read_bytes()
        assert (tmp_path / f"{number}a.pdf").stat().st_size > 5000


def test_figure_1_says_where_the_paths_end(written):
    summary = json.loads((written / "summary.json").read_text())
    with np.load(written / "surface.npz") as surface, np.load(written / "trajectories.npz") as paths:
        figure = figure_1.landscape(dict(surface), dict(paths), summary)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    for variant in task.VARIANTS:
        assert any(summary["runs"][variant][0]["verdict"] in title for title in titles)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"updates": None}, "has no updates"),
        ({"updates": 0}, "updates must be a whole number"),
        ({"starts": []}, "starts must be a list of points"),
        ({"starts": [[1.0, 2.0, 3.0]]}, "starts must be a list of points"),
        ({"starts": [[1.0, float("nan")]]}, "starts must be a list of points"),
        ({"learning_rate": -1.0}, "learning rate"),
        ({"learning_rate": 1e308}, "not finite"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(tmp_path, capsys, changes, said):
    assert task.main(["--config", config(**changes), "--out", str(tmp_path / "out")]) == EXIT_FAULT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
