"""Routing networks: policies, reach of gradients, learning rule, resuming; stitched columns."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from multitask.models.convnet import StitchedNet
from multitask.models.routing import MEMORY, Routing, onto_simplex, routed
from multitask.runs.seeding import generator, initialization


def small(tasks=2, modules=3, **policy):
    """A routing network without convolutions on 4 inputs, with one head for all tasks: only routes
    can differ.
    """
    with initialization(0):
        net = Routing(tasks, 2, filters=1, units=8, modules=modules, **policy)
        net.convolutions = nn.Flatten()
        net.layers[0] = nn.ModuleList([nn.Linear(4, 8) for _ in range(modules)])
        head = nn.Linear(8, 2)
    net.heads = nn.ModuleList([head] * tasks)
    return net


def toy(net, seed, opposed, steps=150):
    """Train on a linear rule, which the second task reverses if `opposed`; return the accuracies of
    sampled routes.
    """
    draw = generator(seed, "toy")
    rule = torch.randn(4, generator=draw)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)

    def examples(task, count):
        x = torch.randn(count, 4, generator=draw)
        return x, ((x @ rule > 0).long() + (task if opposed else 0)) % 2

    for _ in range(steps):
        optimizer.zero_grad()
        losses = []
        for task in range(2):
            x, y = examples(task, 32)
            losses.append(functional.cross_entropy(net(x, task, draw), y))
            net.learn(y)
        torch.stack(losses).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return [
            (net(x, task, draw).argmax(1) == y).float().mean().item()
            for task, (x, y) in ((t, examples(t, 500)) for t in range(2))
        ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_opposed_tasks_take_different_routes_and_a_frozen_policy_is_worse(seed):
    net, frozen = small(), small(rate=0.0)
    before = net.entropy()
    learned, uniform = toy(net, seed, opposed=True), toy(frozen, seed, opposed=True)
    routes = net.policies.argmax(-1)
    assert (routes[0] != routes[1]).any()
    assert before == pytest.approx(math.log(3))
    assert net.entropy() < 0.9 * before, "selection becomes decided"
    assert frozen.entropy() == pytest.approx(math.log(3))
    assert min(learned) > 0.75
    assert sum(uniform) / 2 < 0.65, "one head and random routes cannot serve opposed tasks"


def test_equal_tasks_are_learned_by_whatever_routes():
    assert min(toy(small(), 0, opposed=False)) > 0.95


def test_a_small_advantage_decides_the_routes_in_spite_of_noise():
    """Module 0 is right in 6 of 10 examples, the others in 5: batches of 10 hide the difference."""
    net = small(tasks=1, collaboration=0.0)
    draw = generator(0, "noise")
    for _ in range(2000):
        selections = torch.multinomial(net.policies[0], 10, replacement=True, generator=draw).T
        likely = torch.where(selections[:, 0] == 0, 0.6, 0.5)
        right = torch.rand(10, generator=draw) < likely
        net._last = 0, selections, torch.zeros(10, 2)  # the guess is class 0
        net.learn((~right).long())
    assert net.policies[0, 0, 0] > 0.7


def test_rows_go_through_their_module():
    modules = [nn.Linear(3, 2) for _ in range(4)]
    x, chosen = torch.randn(9, 3), torch.tensor([2, 0, 2, 3, 0, 2, 2, 3, 0])
    literal = torch.stack([modules[k](row) for k, row in zip(chosen.tolist(), x, strict=True)])
    torch.testing.assert_close(routed(modules, x, chosen), literal)
    assert routed(modules, x[:0], chosen[:0]).shape == (0, 2)


def test_gradients_reach_the_selected_modules_only():
    with initialization(0):
        net = Routing(2, 5, filters=2, units=6)
    net.policies[0] = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    net(torch.randn(7, 3, 32, 32), 0, generator(0, "routes")).sum().backward()
    reached = [[layer[k].weight.grad is not None for k in range(3)] for layer in net.layers]
    assert reached == [[False, True, False], [False, False, True]]
    assert net.convolutions.layers[0].weight.grad is not None
    shared = {id(p) for p in net.shared_parameters()}
    own = [name for name, p in net.named_parameters() if id(p) not in shared]
    assert {name.split(".")[0] for name in own} == {"heads"}


def test_evaluation_takes_the_likeliest_modules_and_learns_nothing():
    with initialization(0):
        net = Routing(2, 5, filters=2, units=6)
    net.policies[1] = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    x = torch.randn(4, 3, 32, 32)
    expected = functional.relu(
        net.layers[1][0](functional.relu(net.layers[0][1](net.convolutions(x))))
    )
    torch.testing.assert_close(net(x, 1), net.heads[1](expected))
    before = net.policies.clone()
    net.learn(torch.zeros(4, dtype=torch.int64))
    assert torch.equal(net.policies, before)


def test_the_weighted_policy_learner_by_hand():
    """One example right through module 0, one wrong through module 1, policies 1/2, 1/2."""
    net = small(tasks=1, modules=2, rate=0.1, collaboration=0.0)
    x = torch.randn(2, 4)
    net(x, 0, generator(0, "routes"))
    task, _, logits = net._last
    guess = logits.argmax(1)
    net._last = task, torch.tensor([[0, 0], [1, 0]]), logits
    net.learn(torch.stack([guess[0], 1 - guess[1]]))
    # Depth 0: Q = A = (m, -m) with m = 1 - MEMORY, weights 1/2. Depth 1: both took module 0, whose
    # mean reward is 0.
    m = 1 - MEMORY
    step = torch.tensor([0.1 * m / 2, -0.1 * m / 2], dtype=torch.float64)
    torch.testing.assert_close(net.policies[0, 0], 0.5 + step)
    torch.testing.assert_close(net.policies[0, 1], torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert net.value[0].flatten().tolist() == pytest.approx([m, -m, 0, 0])


def test_the_collaboration_reward_draws_tasks_to_the_same_module():
    def after(collaboration):
        net = small(tasks=2, rate=0.1, collaboration=collaboration)
        net.usage[:] = torch.tensor([0.8, 0.1, 0.1])
        draw = generator(0, "routes")
        for _ in range(60):
            x = torch.randn(32, 4, generator=draw)
            labels = net(x, 0, draw).argmax(
                1
            )  # always right: the reward differs by collaboration alone
            net.learn(labels)
        return net.policies[0, 0, 0].item()

    assert after(1.0) > 0.6
    assert after(-1.0) < 0.2
    assert after(0.0) == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize(
    "point",
    [[0.2, 0.3, 0.5], [0.9, 0.9, -1.0], [5.0, 0.0, 0.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]],
)
def test_the_nearest_distribution(point):
    point = torch.tensor(point, dtype=torch.float64)
    found = onto_simplex(point)
    assert found.min() >= 0
    assert found.sum().item() == pytest.approx(1)
    grid = (
        torch.tensor(
            [[a, b, 20 - a - b] for a in range(21) for b in range(21 - a)], dtype=torch.float64
        )
        / 20
    )
    assert (found - point).norm() <= (grid - point).norm(dim=1).min() + 1e-9


def test_a_restored_network_goes_on_bit_for_bit():
    whole, broken = small(), small()
    toy(whole, 4, opposed=True, steps=5)
    toy(broken, 4, opposed=True, steps=5)
    restored = small()
    restored.load_state_dict(broken.state_dict())
    for net in (whole, restored):
        toy(net, 5, opposed=True, steps=5)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state_dict().values(), restored.state_dict().values(), strict=True)
    )
    assert not torch.equal(whole.policies, small().policies)


def test_stitched_columns_mix_by_their_matrix():
    with initialization(0):
        net = StitchedNet(3, 5, filters=2, units=4)
    x = torch.randn(6, 3, 32, 32)
    features = net.convolutions(x)
    columns = [features] * 3
    for layer, mixture in zip(net.layers, net.mixtures, strict=True):
        outputs = [functional.relu(layer[k](columns[k])) for k in range(3)]
        columns = [sum(mixture[k, j] * outputs[j] for j in range(3)) for k in range(3)]
    torch.testing.assert_close(net(x, 1), net.heads[1](columns[1]))
    assert net.mixtures[0].diagonal().tolist() == pytest.approx([0.9] * 3)
    assert net.mixtures[0].sum(1).tolist() == pytest.approx([1.0] * 3)


def test_every_task_reaches_every_column_but_one_head():
    with initialization(0):
        net = StitchedNet(3, 5, filters=2, units=4)
    net(torch.randn(6, 3, 32, 32), 2).sum().backward()
    unreached = {name for name, p in net.named_parameters() if p.grad is None}
    assert unreached == {f"heads.{k}.{part}" for k in (0, 1) for part in ("weight", "bias")}
    # The last mixture's other rows lead to other heads.
    assert net.mixtures[1].grad[2].any()
    assert not net.mixtures[1].grad[:2].any()
    shared = {id(p) for p in net.shared_parameters()}
    assert {name.split(".")[0] for name, p in net.named_parameters() if id(p) not in shared} == {
        "heads"
    }
