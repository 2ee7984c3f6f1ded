"""The SAC loop's mathematics: targets, losses, task gradients, surgery, in float64."""

import numpy as np
import pytest
import torch
from sac_helpers import SETTINGS, double

from multitask.rl.replay import Batch, Replay
from multitask.rl.sac import (
    METHODS,
    Learner,
    actor_losses,
    critic_losses,
    draw_orders,
    evaluate,
    sample_actions,
    td_target,
    with_task,
)
from multitask.rl.sac.networks import init_mlp, mlp, task_gradients
from pcgrad import project_conflicting, surgery

T, B, OBS, A = 2, 6, 3, 2
SIZES = (OBS, A)
CODES = torch.eye(T, dtype=torch.float64)
ONE = torch.ones(1, 1, dtype=torch.float64)  # the code of a single task
GAMMA = 0.9


def batch(seed: int = 0) -> Batch:
    return Batch(
        double(T, B, OBS, seed=seed),
        double(T, B, A, seed=seed + 1).tanh(),
        double(T, B, seed=seed + 2),
        double(T, B, OBS, seed=seed + 3),
        torch.zeros(T, B, dtype=torch.float64),
    )


def learner(
    method: str, codes: torch.Tensor = CODES, dtype: torch.dtype = torch.float64, **changes
) -> Learner:
    return Learner(
        {**SETTINGS, **changes}, codes, SIZES, METHODS[method], 0, torch.device("cpu"), dtype
    )


def constant_actor(mean: float, log_std: float, inputs: int) -> list[torch.Tensor]:
    """One linear layer without weights: every state has the same Gaussian."""
    bias = torch.tensor([[mean, log_std]], dtype=torch.float64)
    return [torch.zeros(1, inputs, 2, dtype=torch.float64), bias]


def table_critic(values: list[float], action_slope: float = 0.0) -> list[torch.Tensor]:
    """Both critics linear: Q(state s as one-hot, task one-hot, a) = values[s] + slope * a."""
    weight = (
        torch.tensor([*values, 0.0, action_slope], dtype=torch.float64)
        .view(1, 4, 1)
        .expand(2, 4, 1)
    )
    return [weight.clone(), torch.zeros(2, 1, dtype=torch.float64)]


# --- the target ----------------------------------------------------------------------------------

# Two states, one task: 0 -> 1 with reward 1, 1 -> 0 with reward 2.
STATE = torch.eye(2, dtype=torch.float64)


def mdp(terminated: list[float]) -> Batch:
    return Batch(
        STATE.unsqueeze(0),
        torch.zeros(1, 2, 1, dtype=torch.float64),
        torch.tensor([[1.0, 2.0]], dtype=torch.float64),
        STATE.flip(0).unsqueeze(0),
        torch.tensor([terminated], dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("terminated", "kind"), [([0.0, 0.0], "ordinary or truncated"), ([0.0, 1.0], "terminated")]
)
def test_iterated_target_is_the_closed_form_value_of_a_two_state_mdp(terminated, kind):
    actor, noise = constant_actor(0.3, -1.0, 3), double(1, 2, 1, seed=4)
    alpha = torch.tensor([0.7], dtype=torch.float64)
    log_density = sample_actions(actor, with_task(STATE.unsqueeze(0), ONE), noise)[1][0].numpy()
    q = np.zeros(2)
    for _ in range(400):
        q = td_target(
            mdp(terminated), ONE, actor, table_critic(list(q)), alpha, noise, discount=GAMMA
        )[0].numpy()
    goes_on = np.diag(1 - np.array(terminated))
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    # Q = r + γ D (P Q − α log π(a'|s')): noise row n belongs to transition n.
    right = np.array([1.0, 2.0]) - GAMMA * 0.7 * goes_on @ log_density
    np.testing.assert_allclose(
        q, np.linalg.solve(np.eye(2) - GAMMA * goes_on @ swap, right), rtol=1e-12
    )


def test_target_by_hand_for_every_ending():
    """A truncated step bootstraps from its final observation, as an ordinary one does; a terminated
    one does not.
    """
    actor, noise = constant_actor(0.0, 0.0, 3), torch.zeros(1, 2, 1, dtype=torch.float64)
    log_density = -0.5 * np.log(2 * np.pi)  # a' = tanh(0): density of the standard normal at 0
    alpha = torch.tensor([0.5], dtype=torch.float64)
    target = td_target(
        mdp([0.0, 1.0]), ONE, actor, table_critic([10.0, 20.0]), alpha, noise, discount=GAMMA
    )[0]
    assert target[0].item() == pytest.approx(1.0 + GAMMA * (20.0 - 0.5 * log_density), rel=1e-12)
    assert target[1].item() == 2.0


def test_target_takes_the_smaller_critic():
    actor, noise = constant_actor(0.0, 0.0, 3), torch.zeros(1, 2, 1, dtype=torch.float64)
    critics = table_critic([10.0, 20.0])
    critics[0][1] = table_critic([5.0, 30.0])[0][1]
    none = torch.zeros(1, dtype=torch.float64)
    target = td_target(mdp([0.0, 0.0]), ONE, actor, critics, none, noise, discount=1.0)[0]
    torch.testing.assert_close(target, torch.tensor([21.0, 7.0], dtype=torch.float64))


def test_target_actions_are_sampled_at_the_next_state():
    """The actor's mean is the index of the state: the target must see the next state's."""
    weight = torch.zeros(1, 3, 2, dtype=torch.float64)
    weight[0, :2, 0] = torch.tensor([0.1, 0.9])
    actor = [weight, torch.tensor([[0.0, -20.0]], dtype=torch.float64)]
    critics = table_critic([0.0, 0.0], action_slope=1.0)
    none, noise = torch.zeros(1, dtype=torch.float64), torch.zeros(1, 2, 1, dtype=torch.float64)
    target = td_target(mdp([0.0, 0.0]), ONE, actor, critics, none, noise, discount=1.0)[0]
    torch.testing.assert_close(
        target, torch.tensor([1 + np.tanh(0.9), 2 + np.tanh(0.1)], dtype=torch.float64)
    )


# --- networks ------------------------------------------------------------------------------------


def test_network_is_torchs_own_layers_with_a_linear_output():
    parameters = init_mlp([5, 7, 6, 3], 2, torch.Generator().manual_seed(0), torch.float64)
    inputs = double(T, B, 5)
    outputs = mlp(parameters, inputs, 2)
    assert (outputs < 0).any()
    for n in range(2):
        layers: list[torch.nn.Module] = []
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            linear = torch.nn.Linear(*weight.shape[1:], dtype=torch.float64)
            linear.load_state_dict({"weight": weight[n].T, "bias": bias[n]})
            layers += [linear, torch.nn.ReLU()]
        torch.testing.assert_close(outputs[n], torch.nn.Sequential(*layers[:-1])(inputs))


def test_initialization_is_glorots_and_the_members_differ():
    weight, bias = init_mlp([40, 60], 2, torch.Generator().manual_seed(0), torch.float64)
    limit = (6 / 100) ** 0.5
    assert 0.99 * limit < weight.abs().max() < limit
    assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
    assert (bias == 0).all()
    assert not torch.equal(weight[0], weight[1])


# --- densities and losses ------------------------------------------------------------------------


def test_density_of_squashed_actions_is_that_of_torch_distributions():
    actor = init_mlp([OBS + T, 8, 2 * A], 1, torch.Generator().manual_seed(0), torch.float64)
    inputs, noise = double(1, B, OBS + T), double(1, B, A, seed=1)
    actions, log_density = sample_actions(actor, inputs, noise)
    mean, log_std = mlp(actor, inputs, 1)[0].chunk(2, -1)
    normal = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(
        normal, torch.distributions.TanhTransform()
    )
    torch.testing.assert_close(
        log_density, squashed.log_prob(actions).sum(-1), rtol=1e-9, atol=1e-9
    )


def test_density_stays_finite_far_out():
    actor = constant_actor(40.0, 5.0, 3)
    _, log_density = sample_actions(
        actor, torch.zeros(1, 1, 3, dtype=torch.float64), double(1, 1, 1)
    )
    assert torch.isfinite(log_density).all()


def test_losses_by_hand():
    one, agent = batch(), learner("sac")
    alpha, target, noise = (
        torch.tensor([0.5, 2.0], dtype=torch.float64),
        double(T, B, seed=9),
        double(T, B, A, seed=8),
    )
    q = evaluate(agent.critics, with_task(one.observation, CODES), one.action)
    actor_loss, _ = actor_losses(agent.actor, agent.critics, one, CODES.to(alpha), alpha, noise)
    critic_loss = critic_losses(agent.critics, one, CODES, target)
    for t in range(T):
        inputs = torch.cat(
            [one.observation[t], torch.eye(T, dtype=torch.float64)[t].expand(B, T)], -1
        )
        for n in range(2):
            member = [p[n : n + 1] for p in agent.critics]
            values = mlp(member, torch.cat([inputs, one.action[t]], -1).unsqueeze(0), 1)[0, 0, :, 0]
            torch.testing.assert_close(q[n, t], values)
            torch.testing.assert_close(critic_loss[n, t], 0.5 * ((values - target[t]) ** 2).mean())
        actions, log_density = sample_actions(
            agent.actor, inputs.unsqueeze(0), noise[t].unsqueeze(0)
        )
        joined = torch.cat([inputs, actions[0]], -1).unsqueeze(0)
        smaller = mlp(agent.critics, joined, 2)[:, 0, :, 0].amin(0)
        torch.testing.assert_close(actor_loss[0, t], (alpha[t] * log_density[0] - smaller).mean())


# --- task gradients and surgery ------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_vectorized_task_gradients_equal_the_loop_over_tasks(dtype, tolerance):
    agent = learner("sac_pcgrad", dtype=dtype, layers=3, width=16)
    one, target, noise = (
        batch().to(dtype),
        double(T, B, seed=9).to(dtype),
        double(T, B, A, seed=8).to(dtype),
    )
    alpha = torch.ones(T, dtype=dtype)
    losses = {
        "critics": lambda p, taps: critic_losses(p, one, agent.codes, target, taps),
        "actor": lambda p, taps: actor_losses(
            p, agent.critics, one, agent.codes, alpha, noise, taps
        )[0],
    }
    for name, parameters in (("critics", agent.critics), ("actor", agent.actor)):
        taps: list = []
        fast = task_gradients(losses[name](parameters, taps), taps)
        plain = [p.clone().requires_grad_() for p in parameters]
        values = losses[name](plain, None)
        for n, t in np.ndindex(*values.shape):
            slow = torch.autograd.grad(values[n, t], plain, retain_graph=True)
            for f, s in zip(fast, slow, strict=True):
                scale = s.abs().max().item() + 1e-30
                assert (f[n, t] - s[n]).abs().max().item() <= tolerance * max(scale, 1.0)
                assert (
                    s[1 - n].abs().max() == 0 if len(s) > 1 else True
                )  # a critic's loss reaches it alone


def flat(stacks: list[torch.Tensor], n: int) -> torch.Tensor:
    return torch.cat([stack[n].flatten(1) for stack in stacks], dim=1)


@pytest.mark.parametrize("critic_surgery", ["separate", "joint"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_update_direction_is_algorithm_1_per_network(critic_surgery, reduction):
    """Three tasks, so that every network's own order counts."""
    settings = {"critic_surgery": critic_surgery, "reduction": reduction}
    agent = learner("sac_pcgrad", torch.eye(3, dtype=torch.float64), **settings)
    stacks = [double(2, 3, *shape, seed=k) for k, shape in enumerate([(2, 2), (1,)])]
    gradients = [flat(stacks, n) for n in range(2)]
    mattered = 0
    for orders in draw_orders("random", 3, 20, torch.Generator().manual_seed(0))[:, 1:]:
        gramians = torch.stack([g @ g.T for g in gradients])
        weights = agent.critics_descent.weigh(gramians, orders)
        assert (gramians < 0).any()
        if critic_surgery == "joint":
            expected = project_conflicting(torch.cat(gradients, 1), orders[0]).sum(0).chunk(2)
        else:
            expected = [project_conflicting(g, orders[n]).sum(0) for n, g in enumerate(gradients)]
            exchanged = project_conflicting(gradients[1], orders[0]).sum(0)
            mattered += not torch.allclose(exchanged, expected[1])
        for n in range(2):
            ours = weights[n] @ gradients[n] * (3 if reduction == "mean" else 1)
            torch.testing.assert_close(ours, expected[n], rtol=1e-9, atol=1e-12)
    assert mattered > 0 or critic_surgery == "joint"


def test_update_gives_every_network_its_own_orders():
    """With three tasks the order decides: the weights that an update used are those of its own
    Gramians and orders.
    """
    settings = {"width": 4, "learning_rate": 0.05}
    agent = learner("sac_pcgrad", torch.eye(3, dtype=torch.float64), **settings)
    draw = torch.Generator().manual_seed(0)
    exchanged = 0
    for step, orders in enumerate(draw_orders("random", 3, 40, draw)):
        parts = [
            double(3, B, *w, seed=10 * step + k) for k, w in enumerate(((OBS,), (A,), (), (OBS,)))
        ]
        one = Batch(*parts, torch.zeros(3, B, dtype=torch.float64))
        log = agent.update(one, double(2, 3, B, A, seed=10 * step + 9), orders, False)
        assert torch.equal(log["weights"], surgery(log["gramians"], orders).weights)
        exchanged += not torch.equal(
            log["weights"], surgery(log["gramians"], orders.roll(1, 0)).weights
        )
    assert exchanged > 0


def test_the_methods_differ_in_the_weights_alone():
    """From one start the first updates have equal Gramians and losses; SAC's weights are 1."""
    one, noise = batch(), double(2, T, B, A, seed=8)
    opposed = torch.tensor([[9.0], [-9.0]], dtype=torch.float64).expand(
        T, B
    )  # pulls the critics apart
    one = one._replace(reward=opposed)
    orders = draw_orders("random", T, 1, torch.Generator().manual_seed(0))[0]
    plain, surgical = (learner(m).update(one, noise, orders, False) for m in ("sac", "sac_pcgrad"))
    assert (plain["weights"] == 1).all()
    assert torch.equal(plain["losses"][1:], surgical["losses"][1:])  # the critics', before any step
    assert torch.equal(plain["gramians"][1:], surgical["gramians"][1:])
    conflict = surgical["gramians"][:, 0, 1] < 0
    assert torch.equal((surgical["weights"] != 1).any(1), conflict)
    assert conflict.any()


def test_update_without_surgery_is_plain_adam_on_the_summed_losses():
    agent, one, noise = learner("sac"), batch(), double(2, T, B, A, seed=8)
    orders = draw_orders("random", T, 1, torch.Generator().manual_seed(0))[0]
    alpha = torch.ones(T, dtype=torch.float64)
    start = {
        "critics": [p.clone() for p in agent.critics],
        "actor": [p.clone() for p in agent.actor],
    }
    target = td_target(
        one, CODES, agent.actor, agent.targets, alpha, noise[0], discount=SETTINGS["discount"]
    )
    agent.update(one, noise, orders, False)

    def adam(parameters, loss):
        leaves = [p.clone().requires_grad_() for p in parameters]
        optimizer = torch.optim.Adam(leaves, lr=SETTINGS["learning_rate"])
        loss(leaves).backward()
        optimizer.step()
        return leaves

    critics = adam(start["critics"], lambda p: critic_losses(p, one, CODES, target).sum())
    # The actor meets the new critics, the targets move towards them, temperatures follow the
    # densities.
    new = [p.detach() for p in critics]
    actor = adam(
        start["actor"], lambda p: actor_losses(p, new, one, CODES, alpha, noise[1])[0].sum()
    )
    _, log_density = actor_losses(start["actor"], new, one, CODES, alpha, noise[1])
    for ours, expected in zip([*agent.critics, *agent.actor], [*critics, *actor], strict=True):
        torch.testing.assert_close(ours, expected.detach(), rtol=1e-9, atol=1e-12)
    rate = SETTINGS["target_rate"]
    for ours, old, now in zip(agent.targets, start["critics"], new, strict=True):
        torch.testing.assert_close(ours, (1 - rate) * old + rate * now, rtol=1e-12, atol=1e-15)
    rises = (
        log_density.mean(1) - A > 0
    )  # log π above −target entropy: too little noise, so α must grow
    assert torch.equal(agent.log_alpha() > 0, rises)
    assert agent.log_alpha().abs().min() > 0


def test_alpha_of_a_task_depends_on_its_own_samples():
    one, noise = batch(), double(2, T, B, A, seed=8)
    orders = draw_orders("random", T, 1, torch.Generator().manual_seed(0))[0]
    changed = noise.clone()
    changed[1, 1] *= 3  # at s, of task 1
    first, other = learner("sac"), learner("sac")
    first.update(one, noise, orders, False)
    other.update(one, changed, orders, False)
    assert first.log_alpha().grad[0] == other.log_alpha().grad[0]
    assert first.log_alpha().grad[1] != other.log_alpha().grad[1]


@pytest.mark.parametrize("kind", ["random", "shared", "fixed"])
def test_orders_of_three_networks_are_drawn_apart(kind):
    orders = draw_orders(kind, 4, 50, torch.Generator().manual_seed(0))
    assert orders.shape == (50, 3, 4, 3)
    same = [(orders[:, a] == orders[:, b]).all() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert all(same) == (kind == "fixed")


# --- buffers -------------------------------------------------------------------------------------


def test_buffers_do_not_mix_tasks_and_drop_the_oldest():
    replay = Replay(T, 10, OBS, A, torch.float64, torch.device("cpu"))
    for start in (0, 4, 8):
        n = torch.arange(start, start + 4, dtype=torch.float64)
        code = torch.stack([n, 100 + n])  # task and time in one number
        replay.add(
            Batch(*(code.unsqueeze(-1).expand(T, 4, w) if w else code for w in (OBS, A, 0, OBS, 0)))
        )
    assert len(replay) == 10
    indices = replay.draw_indices(200, 16, torch.Generator().manual_seed(0))
    seen = [set(), set()]
    for one in indices:
        for part in (drawn := replay.gather(one)):
            codes = part if part.dim() == 2 else part[..., 0]
            assert torch.equal(codes, drawn.reward)  # all parts of a transition stay together
        for t in range(T):
            seen[t] |= set(drawn.reward[t].tolist())
    assert seen[0] == set(range(2, 12))
    assert seen[1] == {100 + k for k in range(2, 12)}
    assert (indices[:, 0] != indices[:, 1]).any()  # every task draws its own positions


def test_buffer_comes_back_from_its_state():
    replay = Replay(T, 10, OBS, A, torch.float64, torch.device("cpu"))
    replay.add(batch())
    again = Replay(T, 10, OBS, A, torch.float64, torch.device("cpu"))
    again.load(replay.state())
    assert torch.equal(again.storage, replay.storage)
    assert again.added == B
