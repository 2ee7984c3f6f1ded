"""The handwritten passes: equal to autograd in float64 for every method, close in bfloat16."""

import copy

import pytest
import torch
from sac_helpers import SETTINGS, double

from multitask.rl.replay import Batch
from multitask.rl.sac import METHODS, Learner, draw_orders
from multitask.rl.sac.gradients import ByAutograd
from multitask.rl.sac.networks import init_mlp, mlp
from multitask.rl.sac.passes import Network
from multitask.rl.sac.precision import choose_precision, precision_of
from multitask.runs.devices import has_bfloat16_units

T, B, OBS, A = 3, 16, 5, 2
CPU = torch.device("cpu")
HAS_UNITS = has_bfloat16_units(CPU)


def batch(seed: int) -> Batch:
    """Rewards that pull the tasks apart, some transitions that end for good."""
    parts = [double(T, B, width, seed=seed + k) for k, width in enumerate((OBS, A, OBS))]
    pull = torch.tensor([5.0, -5.0, 2.0], dtype=torch.float64).unsqueeze(1)
    ends = (double(T, B, seed=seed + 3) > 1).double()
    return Batch(parts[0], parts[1].tanh(), pull + double(T, B, seed=seed + 4), parts[2], ends)


class Reference(Learner):
    """The same learner, differentiated by autograd."""

    def route(self, batch, alpha):
        weight = self.settings["cosreg_weight"] if self.method.cosreg else None
        discount = self.settings["discount"]
        return ByAutograd(self.networks, self.codes, batch, alpha, discount, weight)


def learner(method, kind=Learner, dtype=torch.float64, **changes):
    codes = torch.eye(T, dtype=torch.float64)
    settings = {**SETTINGS, "layers": 3, "width": 24, **changes}
    return kind(settings, codes, (OBS, A), METHODS[method], 0, CPU, dtype)


def step(agent, number, seed=0):
    """One update on a batch that depends on its number alone."""
    dtype = agent.codes.dtype
    orders = draw_orders("random", T, 1, torch.Generator().manual_seed(number))[0]
    noise = double(2, T, B, A, seed=1000 + number).to(dtype)
    return agent.update(batch(10 * number + seed).to(dtype), noise, orders, number % 2 == 0)


@pytest.mark.parametrize("method", METHODS)
def test_by_hand_equals_autograd_in_every_method(method):
    """Fails on a transposed weight, a term of the actor's loss left out, a mask of the wrong layer,
    a gradient that is written to another member."""
    ours, reference = learner(method), learner(method, Reference)
    for number in range(5):
        got, wanted = step(ours, number), step(reference, number)
        assert got.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(got[key], value, rtol=1e-10, atol=1e-10, msg=key)
        for one, other in zip(ours.networks, reference.networks, strict=True):
            for p, q in zip(one.parameters, other.parameters, strict=True):
                torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.log_alpha(), reference.log_alpha(), rtol=1e-10, atol=1e-12)


def test_clipped_deviations_get_no_gradient():
    """Half of the actor's log σ lie beyond the range: by hand and by autograd alike."""
    ours, reference = learner("sac"), learner("sac", Reference)
    for agent in (ours, reference):
        agent.actor[-1][0, A] = 3.0  # log σ of the first action, above its limit 2
        agent.networks.actor.refresh()
        step(agent, 0)
    gradients = ours.networks.actor.gradients
    assert gradients[-1][0, A] == 0
    for p, q in zip(gradients, reference.networks.actor.gradients, strict=True):
        # torch's softplus is linear from 20 on: its slope is off by 2e-9 there.
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-8)


def test_equal_critics_share_the_actors_gradient():
    """Where both critics agree, min takes half the gradient of each, as autograd's amin does."""
    ours, reference = learner("sac"), learner("sac", Reference)
    for agent in (ours, reference):
        for p in agent.critics:
            p[1] = p[0]
        agent.networks.critics.refresh()
        route = agent.route(batch(0), agent.log_alpha().exp())
        route.actor(double(T, B, A, seed=7))
    pairs = zip(ours.networks.actor.stacks, reference.networks.actor.stacks, strict=True)
    for p, q in pairs:
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-13)


def test_a_torch_without_onednn_computes_the_same(monkeypatch):
    """Fails where a layer calls an operation that such a torch does not have."""
    with_it = step(learner("sac_pcgrad", dtype=torch.float32), 0)
    monkeypatch.setattr("multitask.rl.sac.passes.FUSED_LAYER", None)
    without = step(learner("sac_pcgrad", dtype=torch.float32), 0)
    torch.testing.assert_close(with_it["losses"], without["losses"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", [[2, 2, 2], [2, 2, 2 * T], [2 * T] * 3])
@pytest.mark.parametrize("outputs", [1, 4, 20])
def test_passes_of_every_kind_of_network(counts, outputs):
    """Shared layers, heads and independent networks; few and many outputs take different
    products."""
    draw = torch.Generator().manual_seed(0)
    parameters = init_mlp([5, 8, 8, outputs], counts, draw, torch.float64)
    for bias in parameters[1::2]:
        bias.normal_(generator=draw)
    network = Network(parameters, 2, T, torch.float64)
    x = double(T, B, 5, seed=1).requires_grad_()
    leaves = [p.clone().requires_grad_() for p in parameters]
    wanted, delta = mlp(leaves, x, 2), double(2, T, B, outputs, seed=2)
    for n in (0, 1):
        kept = []
        rows = network.forward(n, x.detach().flatten(0, 1), kept)
        torch.testing.assert_close(rows.view(T, B, outputs), wanted[n], rtol=1e-12, atol=1e-12)
        network.backward(n, kept, delta[n].flatten(0, 1))
        slope = network.input_gradient(n, kept, delta[n].flatten(0, 1), 2)
        (plain,) = torch.autograd.grad((wanted[n] * delta[n]).sum(), x, retain_graph=True)
        torch.testing.assert_close(slope.view(T, B, 2), plain[..., -2:], rtol=1e-11, atol=1e-12)
    for stack, p in zip(network.stacks, leaves, strict=True):
        for n in (0, 1):
            for t in range(T):
                loss = (wanted[n, t] * delta[n, t]).sum()
                (plain,) = torch.autograd.grad(loss, p, retain_graph=True)
                row = n if len(p) == 2 else n * T + t
                torch.testing.assert_close(stack[n, t], plain[row], rtol=1e-11, atol=1e-12)


def gradient(agent, name):
    """Weighted task gradients of one network, as one vector."""
    return torch.cat([g.flatten() for g in getattr(agent.networks, name).gradients])


# Measured on these batches and networks: cosines from .9967 up, losses within .001, Gramians within
# .012 of their largest entry. A transposed weight or a missing term of a loss is far outside.
COSINE, RELATIVE = 0.995, 0.02


@pytest.mark.skipif(not HAS_UNITS, reason="this processor has no units for bfloat16")
@pytest.mark.parametrize("method", [m for m in METHODS if m != "cosreg"])
def test_bfloat16_gradients_point_along_float32s(method):
    half, full = (
        learner(method, dtype=torch.float32, precision=precision, width=64)
        for precision in ("bfloat16", "float32")
    )
    assert half.networks.actor.compute == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in (*half.actor, *half.critics, *half.targets))
    for number in range(4):  # along a run, each time from the same parameters
        half.load(copy.deepcopy(full.state()))
        got, wanted = step(half, number), step(full, number)
        for name in ("actor", "critics"):
            one, other = gradient(half, name), gradient(full, name)
            assert torch.nn.functional.cosine_similarity(one, other, dim=0) > COSINE, name
        for key in ("losses", "gramians"):
            error = (got[key] - wanted[key]).abs().amax() / wanted[key].abs().amax()
            assert error < RELATIVE, key
        assert not torch.equal(got["losses"], wanted["losses"])  # it really ran in bfloat16


@pytest.mark.skipif(not HAS_UNITS, reason="this processor has no units for bfloat16")
def test_parameters_in_float32_collect_steps_that_bfloat16_would_lose():
    """A rate of 1e-6 moves no bfloat16 number near one, but the float32 parameters."""
    agent = learner("sac", dtype=torch.float32, precision="bfloat16", learning_rate=1e-6)
    before = [p.clone() for p in agent.critics]
    for number in range(3):
        step(agent, number)
    moved = torch.cat([(p != q).flatten() for p, q in zip(agent.critics, before, strict=True)])
    assert moved.double().mean() > 0.9


def test_without_units_the_run_says_so_and_takes_float32(monkeypatch, capsys):
    monkeypatch.setattr("multitask.rl.sac.precision.has_bfloat16_units", lambda device: False)
    settings = {"precision": "bfloat16", "device": "cpu"}
    assert precision_of(settings, "sac") == "float32"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bfloat16" in said
    agent = learner("sac", dtype=torch.float32, precision="bfloat16")
    assert agent.networks.critics.compute == torch.float32
    assert precision_of({**settings, "precision": "float32"}, "sac") == "float32"
    assert capsys.readouterr().err == ""


def test_cosreg_stays_in_float32():
    asked = choose_precision("bfloat16", METHODS["cosreg"], CPU)
    assert asked[0] == "float32"
    assert "second derivatives" in asked[1]
    agent = learner("cosreg", dtype=torch.float32, precision="bfloat16")
    assert agent.networks.actor.compute == torch.float32


def test_an_update_allocates_no_memory_for_task_gradients():
    agent = learner("sac_pcgrad")
    held = [stack.data_ptr() for one in agent.networks for stack in one.stacks]
    for number in range(2):
        step(agent, number)
    assert [stack.data_ptr() for one in agent.networks for stack in one.stacks] == held


@pytest.mark.skipif(not HAS_UNITS, reason="this processor has no units for bfloat16")
def test_a_bfloat16_learner_comes_back_from_its_state():
    """Fails where the products' copies are not those of the parameters that were loaded."""
    first, second = (
        learner("multihead_sac_pcgrad", dtype=torch.float32, precision="bfloat16") for _ in "12"
    )
    step(first, 0)
    second.load(copy.deepcopy(first.state()))
    got, wanted = step(second, 1), step(first, 1)
    assert torch.equal(got["losses"], wanted["losses"])
    for one, other in zip(second.networks, first.networks, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.packed, other.packed, strict=True))
