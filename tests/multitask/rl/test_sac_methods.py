"""What each method of the SAC loop changes, against slow computations, in float64."""

import pytest
import torch
from sac_helpers import SETTINGS, double

from multitask.rl.replay import Batch, Replay
from multitask.rl.sac import METHODS, Learner, actor_losses, critic_losses, draw_orders, td_target
from multitask.rl.sac.learner import CRITICS
from multitask.rl.sac.loop import learn
from multitask.rl.sac.methods import GradNorm, Method, cosine_penalty, settings_of_row
from multitask.rl.sac.networks import Tap, task_gradients
from multitask.runs.seeding import generator
from pcgrad import direction_only, magnitude_only, surgery

T, B, OBS, A = 3, 6, 3, 2
CODES = torch.eye(T, dtype=torch.float64)
ORDERS = draw_orders("random", T, 1, torch.Generator().manual_seed(0))[0]
NOISE = double(2, T, B, A, seed=8)


def batch(seed: int = 0) -> Batch:
    """Tasks whose rewards pull the critics apart, so that gradients conflict."""
    pull = torch.tensor([9.0, -9.0, 3.0], dtype=torch.float64).unsqueeze(1).expand(T, B)
    parts = [double(T, B, width, seed=seed + k) for k, width in enumerate((OBS, A, OBS))]
    return Batch(parts[0], parts[1].tanh(), pull, parts[2], torch.zeros(T, B, dtype=torch.float64))


def learner(method: str | Method, codes: torch.Tensor = CODES, **changes) -> Learner:
    chosen = METHODS[method] if isinstance(method, str) else method
    return Learner(
        {**SETTINGS, **changes}, codes, (OBS, A), chosen, 0, torch.device("cpu"), torch.float64
    )


def critic_target(agent: Learner, one: Batch) -> torch.Tensor:
    alpha = agent.log_alpha().exp()
    return td_target(
        one, agent.codes, agent.actor, agent.targets, alpha, NOISE[0], discount=SETTINGS["discount"]
    )


def updated(method: str | Method, one: Batch | None = None, **changes) -> Learner:
    agent = learner(method, **changes)
    agent.update(one or batch(), NOISE, ORDERS, False)
    return agent


def test_the_rows_of_the_figures_are_there():
    plain = {m: method for m, method in METHODS.items() if not settings_of_row(m, {})}
    assert METHODS["sac"] == Method()
    assert {m for m, method in plain.items() if method.surgery == "pcgrad"} == {
        *("sac_pcgrad", "sac_pcgrad_fixed", "multihead_sac_pcgrad"),
        "sac_pcgrad_reward_normalized",
    }
    assert len(set(plain.values())) == len(plain) == 13
    for name in set(METHODS) - set(plain):  # other settings, the same method
        assert METHODS[name] == METHODS[name.rpartition("_")[0]]


@pytest.mark.parametrize("method", METHODS)
def test_methods_without_own_layers_start_from_the_same_networks(method):
    plain, agent = learner("sac"), learner(method)
    if METHODS[method].own == "nothing":
        assert all(torch.equal(p, q) for p, q in zip(plain.critics, agent.critics, strict=True))
    else:
        assert agent.critics[-1].shape[0] == 2 * T


def critic_stacks(agent: Learner, one: Batch) -> list[torch.Tensor]:
    taps: list[Tap] = []
    losses = critic_losses(agent.critics, one, agent.codes, critic_target(agent, one), taps)
    return task_gradients(losses, taps)


def step_critics(agent: Learner, one: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Gramians and weights of one step of the critics alone."""
    route = agent.route(one, agent.log_alpha().exp())
    losses, penalty = route.critics(critic_target(agent, one))
    return agent.critics_descent.step(ORDERS[CRITICS], losses, penalty)


def test_heads_get_their_plain_gradient_and_do_not_count_in_surgery():
    one = batch()
    for method in ("multihead_sac", "multihead_sac_pcgrad"):
        agent = learner(method)
        stacks = critic_stacks(agent, one)
        trunk = torch.cat([stack.flatten(2) for stack in stacks[:-2]], -1)
        gramians, weights = step_critics(agent, one)
        gradients = agent.networks.critics.gradients
        for gradient, stack in zip(gradients[-2:], stacks[-2:], strict=True):
            torch.testing.assert_close(gradient, stack.flatten(0, 1), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gramians, trunk @ trunk.mT, rtol=1e-10, atol=1e-12)
        assert (gramians < 0).any()
        assert torch.equal((weights != 1).any(), torch.tensor(method == "multihead_sac_pcgrad"))
        wanted = torch.einsum("nt,ntp->np", weights, trunk)
        got = torch.cat([gradient.flatten(1) for gradient in gradients[:-2]], -1)
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["multihead_sac", "independent"])
def test_task_gradients_with_own_layers_equal_the_loop(method):
    agent, one = learner(method), batch()
    target = critic_target(agent, one)
    stacks = critic_stacks(agent, one)
    leaves = [p.clone().requires_grad_() for p in agent.critics]
    losses = critic_losses(leaves, one, CODES, target)
    for n in range(2):
        for t in range(T):
            slow = torch.autograd.grad(losses[n, t], leaves, retain_graph=True)
            for stack, gradient in zip(stacks, slow, strict=True):
                row = n if gradient.shape[0] == 2 else n * T + t
                torch.testing.assert_close(stack[n, t], gradient[row], rtol=1e-10, atol=1e-13)
                elsewhere = [k for k in range(len(gradient)) if k != row]
                assert gradient[elsewhere].abs().sum() == 0  # no other member's, no other task's


def test_independent_networks_do_not_see_other_tasks():
    one = batch()
    changed = one._replace(reward=torch.cat([one.reward[:2], one.reward[2:] + 5]))
    first, other = updated("independent", one), updated("independent", changed)
    for mine, theirs, members in ((first.critics, other.critics, 2), (first.actor, other.actor, 1)):
        for p, q in zip(mine, theirs, strict=True):
            p, q = p.unflatten(0, (members, T)), q.unflatten(0, (members, T))
            assert torch.equal(p[:, :2], q[:, :2])
    assert not torch.equal(first.critics[0], other.critics[0])
    log = learner("independent").update(one, NOISE, ORDERS, False)
    gramians = log["gramians"]
    assert torch.equal(gramians, torch.diag_embed(gramians.diagonal(dim1=-2, dim2=-1)))


@pytest.mark.parametrize("method", ["direction_only", "magnitude_only"])
@pytest.mark.parametrize("critic_surgery", ["separate", "joint"])
def test_ablations_keep_half_of_pcgrads_update(method, critic_surgery):
    agent = learner(method, critic_surgery=critic_surgery)
    stacks = critic_stacks(agent, batch())
    flat = torch.cat([stack.flatten(2) for stack in stacks], -1)
    gramians = flat @ flat.mT
    weights = agent.critics_descent.weigh(gramians, ORDERS[CRITICS])
    if critic_surgery == "joint":
        gramian, ours = gramians.sum(0), weights[0]
        assert torch.equal(weights[0], weights[1])
        flat = torch.cat(list(flat), -1).unsqueeze(0)
    else:
        gramian, ours = gramians[0], weights[0]
    full = surgery(gramian, ORDERS[1]).weights
    assert not torch.equal(full, torch.ones_like(full))
    wanted = {"direction_only": direction_only, "magnitude_only": magnitude_only}[method](
        gramian, full
    )
    torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-14)
    update, plain, cut = (
        w.to(flat) @ flat[0] for w in (ours, torch.ones(T, dtype=torch.float64), full)
    )
    same, other = (cut, plain) if method == "direction_only" else (plain, cut)
    cosine = torch.nn.functional.cosine_similarity(update, same, dim=0)
    assert cosine.item() == pytest.approx(1.0, abs=1e-9)
    assert update.norm().item() == pytest.approx(other.norm().item(), rel=1e-9)


def test_fixed_order_wins_over_the_configs(monkeypatch):
    seen: list[torch.Tensor] = []
    replay = Replay(T, 10, OBS, A, torch.float64, torch.device("cpu"))
    replay.add(batch())
    for method in ("sac_pcgrad_fixed", "sac_pcgrad"):
        agent = learner(method)
        monkeypatch.setattr(
            agent, "update", lambda one, noise, orders, measure: seen.append(orders) or {}
        )
        learn(agent, replay, {k: generator(0, k) for k in ("batch", "update", "order")}, SETTINGS)
    fixed = draw_orders("fixed", T, 1, torch.Generator())[0]
    count = SETTINGS["updates_per_collection"]
    assert all(torch.equal(orders, fixed) for orders in seen[:count])
    assert not all(torch.equal(orders, fixed) for orders in seen[count:])


# --- GradNorm ------------------------------------------------------------------------------------


def test_gradnorm_by_hand():
    """Two tasks, the first gradient 4 times as long; then the second learns more slowly."""
    one = GradNorm({"gradnorm_alpha": 1.0, "gradnorm_rate": 0.1}, 1, 2, torch.float64, "cpu")
    norms = torch.tensor([[4.0, 1.0]], dtype=torch.float64)
    first = one.update(norms, torch.tensor([[2.0, 2.0]], dtype=torch.float64))
    # Equal rates: targets 2.5 each, gradients +4 and -1; Adam's first step is 0.1 against the sign;
    # sum stays 2.
    torch.testing.assert_close(
        first, torch.tensor([[0.9, 1.1]], dtype=torch.float64), rtol=1e-6, atol=0
    )
    # Norms now equal, losses (1, 2) of (2, 2): rates (2/3, 4/3), so the slower task must grow.
    second = one.update(
        norms.new_tensor([[1 / 0.9, 1 / 1.1]]), torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    )
    assert second[0, 1] > first[0, 1]
    assert second.sum().item() == pytest.approx(2.0, rel=1e-12)


def test_gradnorm_balances_the_norms_and_keeps_the_sum():
    one = GradNorm({"gradnorm_alpha": 0.0, "gradnorm_rate": 0.01}, 2, 3, torch.float64, "cpu")
    norms = torch.tensor([[1.0, 2.0, 4.0], [5.0, 5.0, 1.0]], dtype=torch.float64)
    for _ in range(500):
        weights = one.update(norms, None)
        assert weights.sum(-1) == pytest.approx([3.0, 3.0], rel=1e-12)
    balanced = weights * norms
    assert (balanced.std(-1) / balanced.mean(-1)).max() < 0.05


def test_gradnorms_weights_are_what_the_networks_step_by():
    agent = learner("gradnorm")
    one, logs = batch(), []
    for _ in range(3):
        logs.append(agent.update(one, NOISE, ORDERS, False)["weights"])
    actor, critics = agent.actor_descent.gradnorm, agent.critics_descent.gradnorm
    assert torch.equal(logs[-1][0], actor.weights[0])
    assert torch.equal(logs[-1][1:], critics.weights)
    assert (logs[-1] != 1).any(-1).all()
    assert actor.first_losses.eq(0).all()  # the actor's rates count as equal
    assert critics.first_losses.gt(0).all()


# --- CosReg --------------------------------------------------------------------------------------


def test_cosine_penalty_by_hand():
    gradients = torch.tensor([[[3.0, 0.0], [1.0, 1.0], [0.0, -2.0]]], dtype=torch.float64)
    # Cosines: .7071, 0, -.7071; each pair counts twice of six.
    assert cosine_penalty(gradients).item() == pytest.approx(2 * (0.5 + 0.0 + 0.5) / 6, rel=1e-12)


def test_cosregs_gradient_equals_the_loop():
    one, weight = batch(), 0.7
    agent, plain = learner("cosreg", cosreg_weight=weight), learner("sac")
    target = critic_target(agent, one)
    leaves = [p.clone().requires_grad_() for p in agent.critics]
    losses = critic_losses(leaves, one, CODES, target)
    rows = [
        torch.autograd.grad(losses[n, t], leaves[-2], create_graph=True)[0][n]
        for n in range(2)
        for t in range(T)
    ]
    penalty = cosine_penalty(torch.stack(rows).unflatten(0, (2, T)))
    slow = torch.autograd.grad(losses.sum() + weight * penalty, leaves)
    step_critics(agent, one)
    step_critics(plain, one)
    ours = agent.networks.critics.gradients
    for gradient, expected in zip(ours, slow, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(ours[0], plain.networks.critics.gradients[0])


def test_cosreg_of_weight_zero_is_sac():
    agent, plain = updated("cosreg", cosreg_weight=0.0), updated("sac")
    for p, q in zip(agent.critics + agent.actor, plain.critics + plain.actor, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


# --- controls, temperatures ----------------------------------------------------------------------


def test_normalized_rewards_have_deviation_one_per_task():
    replay = Replay(T, 50, OBS, A, torch.float64, torch.device("cpu"))
    one = batch()._replace(reward=double(T, B, seed=3) * torch.tensor([[1.0], [10.0], [0.0]]))
    replay.add(one)
    deviation = replay.reward_deviation()
    torch.testing.assert_close(deviation[:2], one.reward[:2].std(1, correction=0))
    assert deviation[2] == 1
    seen = []
    for method in ("sac_reward_normalized", "sac"):
        agent = learner(method)
        agent.update = lambda one, *rest: seen.append(one.reward) or {}
        learn(
            agent,
            replay,
            {k: generator(0, k) for k in ("batch", "update", "order")},
            {**SETTINGS, "reward_scale": 2},
        )
    normalized, raw = seen[0], seen[SETTINGS["updates_per_collection"]]
    torch.testing.assert_close(normalized * deviation.unsqueeze(-1), raw)
    assert not torch.equal(normalized, raw)


def test_decay_is_an_l2_penalty_of_actor_and_critics():
    decayed, plain = (learner(m, weight_decay=0.5) for m in ("sac_weight_decay", "sac"))
    rates = [
        [group["weight_decay"] for group in optimizer.param_groups]
        for one in (decayed, plain)
        for optimizer in (
            one.actor_descent.optimizer,
            one.critics_descent.optimizer,
            one.temperature_optimizer,
        )
    ]
    assert rates == [[0.5], [0.5], [0.0], [0.0], [0.0], [0.0]]


def test_predicted_temperatures_start_at_one_and_follow_the_plain_loss():
    codes = double(T, 4, seed=5)
    agent = learner("sac", codes, temperature="network")
    assert agent.log_alpha().eq(0).all()
    excess = double(T, seed=6)
    for _ in range(2):  # after one step the hidden layer matters too
        leaves = [p.clone().requires_grad_() for p in agent.temperature]
        slow = torch.autograd.grad(-(agent.log_alpha(leaves) * excess).sum(), leaves)
        agent.step_temperatures(excess)
        for parameter, gradient in zip(agent.temperature, slow, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert agent.log_alpha().abs().min() > 0


def test_codes_in_the_place_of_one_hots_reach_every_network():
    one, codes = batch(), double(T, 4, seed=5)
    agent = learner("sac", codes)
    alpha, noise = torch.ones(T, dtype=torch.float64), NOISE[1]
    target = double(T, B, seed=9)
    first = (
        critic_losses(agent.critics, one, codes, target),
        actor_losses(agent.actor, agent.critics, one, codes, alpha, noise)[0],
    )
    moved = codes.clone()
    moved[1] += 1
    second = (
        critic_losses(agent.critics, one, moved, target),
        actor_losses(agent.actor, agent.critics, one, moved, alpha, noise)[0],
    )
    for before, after in zip(first, second, strict=True):
        assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
        assert (before[:, 1] != after[:, 1]).all()
