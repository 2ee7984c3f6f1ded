"""The supervised loop: shared parts, methods, schedule, records, faults, resuming."""

import copy
import math

import pytest
import torch
from supervised_helpers import SETTINGS, TASKS, StopAfter, toy, unbroken

from multitask import supervised
from multitask.methods import METHODS as ROWS
from multitask.methods import DynamicAverage, Method, Uncertainty, pcgrad
from multitask.runs import devices
from multitask.runs.checkpoint import Stopped
from multitask.runs.devices import choose_device
from multitask.runs.errors import NonFiniteError, UserError
from multitask.runs.seeding import generator
from multitask.supervised import Fit, epoch_batches, epoch_orders, make_optimizer

METHODS = {
    **ROWS,
    "dwa": Method(losses=DynamicAverage),
    "uncertainty_pcgrad": Method(losses=Uncertainty, gradients=pcgrad),
}
OPPOSITE = [[1.0, -2.0, 0.5, 1.0], [-1.0, 2.0, -0.5, -1.0]]
EQUAL = [[1.0, -2.0, 0.5, 1.0], [1.0, -2.0, 0.5, 1.0]]


def fit(problem, method, seed, settings, session):
    return supervised.fit(problem, METHODS[method], seed, settings, session)


def one_update(method, problem, **changes):
    """The gradients after one update of `problem`, which stays where it is (rate 0), with the plain
    ones beside.
    """
    run = Fit(problem, METHODS[method], 0, {**SETTINGS, "learning_rate": 0.0, **changes})
    start = run.dropout.get_state()
    run.update(problem.train, epoch_orders("random", 2, 1, 0, 1)[0])
    found = [p.grad.clone() for p in problem.model.parameters()]
    again = torch.Generator()
    again.set_state(start)
    plain = [
        torch.autograd.grad(
            loss, list(problem.model.parameters()), retain_graph=True, allow_unused=True
        )
        for loss in problem.losses(problem.train, again)
    ]
    return found, plain, run


def flat(gradients, count):
    return torch.cat([g.flatten() for g in gradients[:count]])


def test_pcgrad_projects_the_trunk_and_leaves_the_heads_alone():
    problem = toy(targets=OPPOSITE)
    found, (left, right), _ = one_update("pcgrad", problem)
    g1, g2 = flat(left, 2), flat(right, 2)
    assert g1 @ g2 < 0, "the toy must conflict for this test to mean something"
    literal = g1 - (g1 @ g2) / (g2 @ g2) * g2 + g2 - (g1 @ g2) / (g1 @ g1) * g1
    torch.testing.assert_close(flat(found, 2), literal, rtol=1e-10, atol=1e-12)
    for k, plain in ((2, left), (3, left), (4, right), (5, right)):
        torch.testing.assert_close(found[k], plain[k], rtol=1e-12, atol=1e-14)


def test_mean_reduction_halves_the_trunk_only():
    by_sum, _, _ = one_update("pcgrad", toy(targets=OPPOSITE))
    by_mean, _, _ = one_update("pcgrad", toy(targets=OPPOSITE), reduction="mean")
    torch.testing.assert_close(flat(by_mean, 2), flat(by_sum, 2) / 2)
    torch.testing.assert_close(flat(by_mean[2:], 4), flat(by_sum[2:], 4))


def test_mgda_takes_the_shortest_convex_combination():
    found, (left, right), _ = one_update("mgda", toy(targets=OPPOSITE))
    g1, g2 = flat(left, 2), flat(right, 2)
    share = ((g2 - g1) @ g2 / (g1 - g2).square().sum()).clamp(0, 1)
    torch.testing.assert_close(flat(found, 2), share * g1 + (1 - share) * g2, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        found[2], left[2]
    )  # heads: Sener and Koltun's Algorithm 2 leaves them unweighted


def test_direction_only_has_the_sums_length_and_pcgrads_direction():
    found, (left, right), run = one_update("direction_only", toy(targets=OPPOSITE))
    projected, _, _ = one_update("pcgrad", toy(targets=OPPOSITE))
    plain, update, pc = flat(left, 2) + flat(right, 2), flat(found, 2), flat(projected, 2)
    torch.testing.assert_close(update.norm(), plain.norm())
    torch.testing.assert_close(update / update.norm(), pc / pc.norm())
    assert not torch.allclose(update, pc)
    run.averages.record(run.records, 1)
    assert run.records.last("all", "length_ratio") == pytest.approx(1, abs=1e-12)


def test_uncertainty_trains_its_log_variances():
    problem = toy()
    found, (left, right), run = one_update("uncertainty", problem)
    weight = 1 / (2 * torch.tensor(-0.5, dtype=torch.float64).exp())
    torch.testing.assert_close(flat(found, 2), weight * (flat(left, 2) + flat(right, 2)))
    unweighted = run.averages.parts["losses"] / len(problem.train[0])
    torch.testing.assert_close(run.weighting.log_variances.grad, 0.5 - weight * unweighted)


def trained(method, problem, tmp_path, **changes):
    fit(problem, method, 0, {**SETTINGS, **changes}, unbroken(tmp_path / "c.pt"))
    return torch.cat([p.detach().flatten() for p in problem.model.parameters()])


def test_without_conflict_pcgrad_and_direction_only_are_the_sum(tmp_path):
    plain = trained("sum", toy(targets=EQUAL, noise=0.0), tmp_path)
    for method in ("pcgrad", "direction_only"):
        torch.testing.assert_close(
            trained(method, toy(targets=EQUAL, noise=0.0), tmp_path), plain, rtol=0, atol=1e-12
        )
    opposed = trained("sum", toy(targets=OPPOSITE), tmp_path)
    assert (trained("pcgrad", toy(targets=OPPOSITE), tmp_path) - opposed).abs().max() > 1e-3


def test_every_method_sees_the_same_batches_and_dropout(tmp_path):
    seen = {}
    for method in METHODS:
        problem, log = toy(), []

        def losses(batch, draw, inner=problem.losses, log=log):
            log.append((batch[0].clone(), draw.get_state()))
            return inner(batch, draw)

        object.__setattr__(problem, "losses", losses)
        trained(method, problem, tmp_path)
        seen[method] = log
    first = seen["sum"]
    assert len(first) == 3 * 4
    assert not torch.equal(first[0][0], first[4][0]), "each epoch has its own order"
    for log in seen.values():
        assert len(log) == len(first)
        assert all(
            torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
            for a, b in zip(log, first, strict=True)
        )


def test_batches_cover_every_example_once():
    batches = epoch_batches(50, 16, seed=0, epoch=1)
    assert [len(batch) for batch in batches] == [16, 16, 16, 2]
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(50))
    assert not torch.equal(torch.cat(batches), torch.cat(epoch_batches(50, 16, seed=1, epoch=1)))


def test_orders():
    draws = epoch_orders("random", 4, 200, seed=0, epoch=1)
    assert draws.shape == (200, 4, 3)
    assert len({tuple(order.flatten().tolist()) for order in draws}) > 150
    assert torch.equal(draws, epoch_orders("random", 4, 200, seed=0, epoch=1))
    assert not torch.equal(draws, epoch_orders("random", 4, 200, seed=0, epoch=2))
    fixed = epoch_orders("fixed", 3, 5, seed=0, epoch=1)
    assert fixed.tolist() == [[[1, 2], [0, 2], [0, 1]]] * 5
    one = epoch_orders("shared", 4, 50, seed=0, epoch=1)
    assert all(
        [j for j in order[0].tolist() if j != 1] == [j for j in order[1].tolist() if j != 0]
        for order in one
    )


def test_the_rate_decays_before_epochs_2_4_and_so_on(tmp_path, monkeypatch):
    rates = []
    update = Fit.update

    def spy(self, batch, orders):
        rates.append(self.optimizer.param_groups[0]["lr"])
        update(self, batch, orders)

    monkeypatch.setattr(Fit, "update", spy)
    trained("sum", toy(), tmp_path, epochs=5)
    assert rates[::4] == pytest.approx([0.05, 0.025, 0.025, 0.0125, 0.0125])


def test_optimizers():
    weight = torch.nn.Parameter(torch.ones(1))
    sgd = make_optimizer([weight], SETTINGS)
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.9
    assert isinstance(make_optimizer([weight], {**SETTINGS, "optimizer": "adam"}), torch.optim.Adam)


def test_train_loss_is_the_mean_over_examples_and_step_0_is_untrained(tmp_path):
    problem = toy(noise=0.0)
    with torch.no_grad():
        expected = [loss.item() for loss in problem.losses(problem.train, None)]
        before = problem.evaluate(problem.evaluations["test"])
    records = fit(
        problem, "pcgrad", 0, {**SETTINGS, "learning_rate": 0.0}, unbroken(tmp_path / "c.pt")
    )
    assert [records.last(task, "train_loss") for task in TASKS] == pytest.approx(expected)
    assert (0, "left", "test_loss", before["left", "loss"]) in records.rows
    assert sorted({row[0] for row in records.rows}) == [0, 1, 2, 3]


def test_each_epoch_has_its_own_averages(tmp_path):
    problem, seen = toy(), []

    def losses(batch, draw, inner=problem.losses):
        found = inner(batch, draw)
        seen.append((len(batch[0]), found[0].item()))
        return found

    object.__setattr__(problem, "losses", losses)
    records = fit(problem, "pcgrad", 0, SETTINGS, unbroken(tmp_path / "c.pt"))
    steps = seen[-4:]  # the last epoch's
    expected = sum(count * loss for count, loss in steps) / 50
    assert records.last("left", "train_loss") == pytest.approx(expected, rel=1e-12)


def test_the_network_trains_in_training_mode_and_is_measured_in_evaluation_mode(tmp_path):
    problem, modes = toy(), {"losses": set(), "evaluate": set()}
    for name in modes:
        inner = getattr(problem, name)

        def spy(*arguments, inner=inner, seen=modes[name]):
            seen.add((problem.model.training, torch.is_grad_enabled()))
            return inner(*arguments)

        object.__setattr__(problem, name, spy)
    problem.model.eval()
    fit(problem, "sum", 0, SETTINGS, unbroken(tmp_path / "c.pt"))
    # The toy's `evaluate` goes through its own inner losses, not through the spy.
    assert modes == {"losses": {(True, True)}, "evaluate": {(False, False)}}


def test_learns_the_toy(tmp_path):
    for method in METHODS:
        records = fit(
            toy(noise=0.0),
            method,
            0,
            {**SETTINGS, "epochs": 40, "learning_rate": 0.005, "decay": 1.0},
            unbroken(tmp_path / "c.pt"),
        )
        first = [row[3] for row in records.rows if row[2] == "test_loss"][:2]
        assert records.last("left", "test_loss") + records.last("right", "test_loss") < 0.1 * sum(
            first
        ), method


def broken(problem, when, make):
    """The problem with the loss of the right task replaced by `make(loss)` from call number `when`
    on.
    """
    calls = []

    def losses(batch, draw, inner=problem.losses):
        left, right = inner(batch, draw)
        calls.append(1)
        return [left, make(right) if len(calls) >= when else right]

    changed = copy.copy(problem)
    object.__setattr__(changed, "losses", losses)
    return changed


@pytest.mark.parametrize("method", ["sum", "pcgrad", "mgda"])
def test_a_loss_that_is_not_finite_stops_the_run_by_the_tasks_name(tmp_path, method):
    path = tmp_path / "c.pt"
    problem = broken(toy(), 6, lambda loss: loss * torch.nan)
    with pytest.raises(UserError, match=r"right at epoch 2, step 3") as error:
        fit(problem, method, 0, SETTINGS, unbroken(path))
    assert "left" not in str(error.value)
    with pytest.raises(UserError, match="right"):  # a checkpoint due at that very step is refused
        fit(
            broken(toy(), 6, lambda loss: loss * torch.nan), method, 0, SETTINGS, StopAfter(path, 6)
        )
    assert not path.exists()


def test_a_gradient_that_is_not_finite_is_named_too(tmp_path):
    problem = broken(toy(), 2, lambda loss: (loss - loss.detach()).sqrt())  # value 0, slope inf
    with pytest.raises(UserError, match=r"right at epoch 1, step 3"):
        fit(problem, "pcgrad", 0, SETTINGS, unbroken(tmp_path / "c.pt"))


def test_weights_that_one_step_makes_infinite_enter_no_checkpoint(tmp_path):
    # Loss and gradient of the step are finite; a checkpoint of its end would fail every start.
    path = tmp_path / "c.pt"
    fast = {**SETTINGS, "learning_rate": 3e38, "momentum": 0.0, "optimizer": "sgd"}
    words = r"state\.model\.\S+ is not finite after a step; lower the learning rate"
    with pytest.raises(NonFiniteError, match=words):
        fit(toy(dtype=torch.float32), "pcgrad", 0, fast, StopAfter(path, 1))
    assert not path.exists()


def test_a_metric_that_is_not_finite_stops_the_run(tmp_path):
    problem = toy()
    metrics = {("left", "loss"): 1.0, ("right", "loss"): float("nan"), ("right", "accuracy"): 1.0}
    object.__setattr__(problem, "evaluate", lambda data: metrics)
    with pytest.raises(UserError, match=r"of right \(loss\) at epoch 0, test"):
        fit(problem, "sum", 0, SETTINGS, unbroken(tmp_path / "c.pt"))


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("ticks", [1, 6, 8])  # within an epoch, and at an epoch's last step
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, method, ticks):
    whole = toy(dtype=torch.float32)
    rows = fit(whole, method, 0, SETTINGS, unbroken(tmp_path / "none.pt")).rows
    with pytest.raises(Stopped):
        fit(toy(dtype=torch.float32), method, 0, SETTINGS, StopAfter(tmp_path / "c.pt", ticks))
    again = toy(dtype=torch.float32)
    assert fit(again, method, 0, SETTINGS, unbroken(tmp_path / "c.pt")).rows == rows
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True)
    )


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU; set device to cpu"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")


def test_weight_decay_and_clipping_act_on_the_whole_gradient():
    def moved(**changes):
        problem = toy(targets=OPPOSITE)
        before = torch.cat([p.detach().flatten().clone() for p in problem.model.parameters()])
        settings = {**SETTINGS, "momentum": 0.0, "learning_rate": 0.1, **changes}
        run = Fit(problem, METHODS["pcgrad"], 0, settings)
        run.update(problem.train, epoch_orders("random", 2, 1, 0, 1)[0])
        return before, torch.cat(
            [p.detach().flatten() for p in problem.model.parameters()]
        ) - before

    before, plain = moved()
    _, decayed = moved(weight_decay=0.5)
    torch.testing.assert_close(decayed, plain - 0.1 * 0.5 * before)
    _, clipped = moved(clip_norm=0.01)
    assert plain.norm() > 0.1 * 0.01 * 2
    torch.testing.assert_close(clipped, plain * (0.1 * 0.01 / plain.norm()), rtol=1e-4, atol=0)
    _, loose = moved(clip_norm=1e6)
    assert torch.equal(loose, plain)


def test_evaluation_every_so_many_epochs_and_after_the_last(tmp_path):
    records = fit(toy(), "sum", 0, {**SETTINGS, "evaluate_every": 2}, unbroken(tmp_path / "c.pt"))
    assert sorted({row[0] for row in records.rows if row[2] == "test_loss"}) == [0, 2, 3]
    assert sorted({row[0] for row in records.rows if row[2] == "train_loss"}) == [1, 2, 3]


def test_a_problem_may_choose_its_batches(tmp_path):
    problem, seen = toy(), []
    wanted = (torch.tensor([0, 1]), torch.tensor([5, 7, 9]))
    object.__setattr__(problem, "batches", lambda seed, epoch: seen.append((seed, epoch)) or wanted)
    sizes = []

    def losses(batch, draw, inner=problem.losses):
        sizes.append(len(batch[0]))
        return inner(batch, draw)

    object.__setattr__(problem, "losses", losses)
    fit(problem, "pcgrad", 4, SETTINGS, unbroken(tmp_path / "c.pt"))
    assert seen == [(4, 1), (4, 2), (4, 3)]
    assert sizes == [2, 3] * 3


def test_dynamic_average_follows_the_last_two_epochs():
    weighting = DynamicAverage(2)
    ones = [torch.tensor(1.0), torch.tensor(1.0)]
    assert [w.item() for w in weighting(ones)] == [1, 1]
    weighting.end_epoch(torch.tensor([2.0, 2.0]))
    assert [w.item() for w in weighting(ones)] == [1, 1]
    weighting.end_epoch(torch.tensor([1.0, 2.0]))  # ratios 1/2 and 1
    first, second = math.exp(0.25), math.exp(0.5)
    assert [w.item() for w in weighting(ones)] == pytest.approx(
        [2 * first / (first + second), 2 * second / (first + second)]
    )
    weighting.end_epoch(torch.tensor([1.0, 1.0]))  # ratios 1 and 1/2
    assert weighting(ones)[0] > weighting(ones)[1]


@pytest.mark.parametrize("tasks", [2, 5])
def test_peers_do_what_their_papers_say(tasks):
    g = torch.randn(tasks, 30, generator=generator(tasks, "peers"), dtype=torch.float64)
    g = g - 1.5 * g.mean(0)  # conflicts
    gramian = g @ g.T
    assert (gramian < 0).any()
    update = {
        kind: ROWS[kind].gradients(gramian, None, "sum") @ g
        for kind in ("mgda", "cagrad", "upgrad", "nash_mtl")
    }
    assert (g @ update["upgrad"]).min() >= -1e-6, "no task's loss rises"
    assert (g @ update["mgda"]).min() >= update["mgda"].square().sum() * (1 - 5e-2), (
        "the hull's shortest vector"
    )
    total = g.sum(0)
    assert (update["cagrad"] - total).norm() <= 0.4 * total.norm() * (1 + 1e-6), (
        "within the ball of radius c"
    )
    assert (g @ update["cagrad"]).min() > (g @ total).min(), "the worst task gains"
    assert update["nash_mtl"].norm() == pytest.approx(1)
    weights = ROWS["nash_mtl"].gradients(gramian, None, "sum")
    bargain = weights * (gramian @ weights)
    torch.testing.assert_close(
        bargain, bargain.mean().expand(tasks), rtol=0.05, atol=0
    )  # G w = 1 / w up to length
