"""Per-task gradients: one forward pass, a head per task, zeros where a task does not reach."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import pcgrad


class Heads(nn.Module):
    """A trunk, three heads, and a layer that only tasks 0 and 1 use."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trunk = nn.Sequential(
                nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Dropout(0.3)
            )
            self.some = nn.Linear(6, 6)
            self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3))
            self.data = torch.randn(16, 4)

    def forward(self) -> list[Tensor]:
        features = self.trunk(self.data)
        paths = [self.some(features), self.some(features).relu(), features]
        return [
            ((head(h) - i) ** 2).mean()
            for i, (head, h) in enumerate(zip(self.heads, paths, strict=True))
        ]


def test_every_stack_holds_the_gradient_of_every_loss() -> None:
    model = Heads().double()
    model.data = model.data.double()
    losses = model()
    listed = [*model.trunk.parameters(), *model.some.parameters()]
    expected = [
        torch.autograd.grad(loss, listed, retain_graph=True, materialize_grads=True)
        for loss in losses
    ]
    stacks = pcgrad.task_gradients(losses, listed)
    assert [stack.shape for stack in stacks] == [(3, *p.shape) for p in listed]
    for k, stack in enumerate(stacks):
        assert torch.allclose(
            stack, torch.stack([gradients[k] for gradients in expected]), rtol=1e-12, atol=1e-15
        )
    assert all(p.grad is None for p in model.parameters())
    assert (stacks[-1][2] == 0).all()  # task 2 does not use that layer
    assert (stacks[-1][:2] != 0).any()


def test_frozen_and_unreached_parameters_are_zero() -> None:
    w, frozen, unreached = (
        torch.ones(2, requires_grad=True),
        torch.ones(3),
        torch.ones(4, requires_grad=True),
    )
    losses = [(w * frozen[:2]).sum(), 2 * w.sum()]
    stacks = pcgrad.task_gradients(losses, [frozen, w, unreached])
    assert [stack.tolist() for stack in stacks] == [
        [[0.0] * 3] * 2,
        [[1.0] * 2, [2.0] * 2],
        [[0.0] * 4] * 2,
    ]


def test_named_pairs_and_dicts_are_parameters_too() -> None:
    model = Heads()
    losses = model()
    a, b, c = (
        pcgrad.task_gradients(losses, parameters, retain_graph=True)
        for parameters in (
            model.trunk.parameters(),
            model.trunk.named_parameters(),
            dict(model.trunk.named_parameters()),
        )
    )
    for x, y, z in zip(a, b, c, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(x, z)


def test_retain_graph() -> None:
    model = Heads()
    losses, trunk = model(), list(model.trunk.parameters())
    first = pcgrad.task_gradients(losses, trunk, retain_graph=True)
    second = pcgrad.task_gradients(losses, trunk)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        pcgrad.task_gradients(losses, trunk)


def test_each_task_runs_through_its_own_head_alone() -> None:
    model = Heads()
    passes = [0, 0, 0]

    def count(i: int) -> None:
        passes[i] += 1

    for i, head in enumerate(model.heads):
        head.register_full_backward_hook(lambda *_, i=i: count(i))
    pcgrad.task_gradients(model(), model.trunk.parameters())
    assert passes == [1, 1, 1]


def test_one_task_that_is_not_a_number_leaves_the_others_alone() -> None:
    model = Heads()
    losses = model()
    losses[1] = losses[1] * torch.nan
    for stack in pcgrad.task_gradients(losses, model.trunk.parameters()):
        assert stack[1].isnan().all()
        assert stack[[0, 2]].isfinite().all()


def test_a_parameter_of_one_task_among_the_shared_ones_is_named_once() -> None:
    model = Heads()
    listed = [*model.trunk.named_parameters(), ("head.weight", model.heads[2].weight)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            pcgrad.task_gradients(model(), listed)
    assert len(caught) == 1
    assert "head.weight (task 2)" in str(caught[0].message)
    assert "0.weight (" not in str(caught[0].message)
    with pytest.warns(UserWarning, match=r"#0 \[1, 6\] \(task 1\)"):
        pcgrad.task_gradients(model(), [model.heads[1].weight, *model.trunk.parameters()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pcgrad.task_gradients(model(), model.trunk.parameters())
        pcgrad.task_gradients(model(), model.some.parameters())  # two of three tasks share it
        pcgrad.task_gradients([model()[0]], model.parameters())  # one task shares nothing


def test_sparse_gradients_become_dense() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    out = embedding(torch.tensor([1, 3]))
    (stack,) = pcgrad.task_gradients([out[0].sum(), out[1].sum()], embedding.parameters())
    assert stack.layout == torch.strided
    assert stack.sum((1, 2)).tolist() == [2.0, 2.0]
    assert stack[0, 1].tolist() == stack[1, 3].tolist() == [1.0, 1.0]


def test_hooks_of_the_caller_count_and_ours_do_not_stay() -> None:
    """A parameter's hook changes its task gradients like plain ones, and nothing is left on it."""
    w, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    mine = w.register_hook(lambda gradient: 3 * gradient)
    stacks = pcgrad.task_gradients([(w * other).sum(), 2 * w.sum()], {"w": w, "other": other})
    assert [stack.tolist() for stack in stacks] == [[[3.0] * 2, [6.0] * 2], [[1.0] * 2, [0.0] * 2]]
    mine.remove()

    def fail(_: Tensor) -> None:
        raise KeyError("out of the loss")

    loss = (w * other).sum()
    loss.register_hook(fail)
    with pytest.raises(KeyError, match="out of the loss"):
        pcgrad.task_gradients([loss, w.sum() + other.sum()], [w, other])
    assert not w._backward_hooks
    assert not other._backward_hooks


def test_a_representation_may_stand_for_the_parameters() -> None:
    """Gradients with respect to an inner tensor, as approximations of MGDA and PCGrad use."""
    features = torch.ones(3, requires_grad=True) * 2
    (stack,) = pcgrad.task_gradients([features.sum(), (features**2).sum()], [features])
    assert stack.tolist() == [[1.0] * 3, [4.0] * 3]


def test_checkpoints() -> None:
    """Non-reentrant checkpointing works; the reentrant kind hides its parameters and is refused."""
    model = Heads().double()
    layer, inputs = model.trunk[0], model.data.double().requires_grad_()
    expected = pcgrad.task_gradients(
        [layer(inputs).sum(), layer(inputs).square().sum()], layer.parameters()
    )
    for reentrant in (False, True):
        out = checkpoint(layer, inputs, use_reentrant=reentrant)
        assert isinstance(out, Tensor)
        losses = [out.sum(), out.square().sum()]
        if reentrant:
            with pytest.raises(RuntimeError, match="use_reentrant=False"):
                pcgrad.task_gradients(losses, layer.parameters())
        else:
            found = pcgrad.task_gradients(losses, layer.parameters())
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_compiled_module_is_differentiated_task_by_task() -> None:
    model, twin = Heads(), Heads()
    trunk = nn.Sequential(model.trunk[0], model.trunk[1])
    compiled = torch.compile(trunk, backend="aot_eager")
    features = compiled(model.data)
    found = pcgrad.task_gradients([features.sum(), features.square().sum()], trunk.parameters())
    features = twin.trunk[1](twin.trunk[0](twin.data))
    expected = pcgrad.task_gradients(
        [features.sum(), features.square().sum()], twin.trunk[0].parameters()
    )
    assert all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(found, expected, strict=True)
    )


def test_losses_that_are_leaves_or_of_one_element() -> None:
    w = torch.tensor([3.0], requires_grad=True)
    (stack,) = pcgrad.task_gradients([w, w * w, (w * 5).sum()], [w])
    assert stack.tolist() == [[1.0], [6.0], [5.0]]


def test_bad_input_is_named() -> None:
    w = torch.ones(2, requires_grad=True)
    loss = w.sum()
    for losses, parameters, error, message in [
        ([], [w], ValueError, "there are no tasks"),
        (torch.stack([loss, loss]), [w], TypeError, "must be a Python list"),
        ([loss, 1.0], [w], TypeError, "task 1 must be a tensor, got float"),
        ([loss, w * 2], [w], ValueError, r"task 1 must be a scalar, got shape \[2\]"),
        ([loss, loss.detach()], [w], ValueError, "task 1 has no graph"),
        (
            [loss, torch.zeros((), device="meta", requires_grad=True)],
            [w],
            ValueError,
            "task 1 is on meta",
        ),
        ([loss], [], ValueError, "there are no parameters"),
        ([loss], w, TypeError, "got a Tensor"),
        ([loss], [w, 3], TypeError, "got int at position 1"),
        (
            [loss],
            [w, w],
            ValueError,
            r"#0 \[2\] and parameters #1 \[2\]|#0 \[2\] and #1 \[2\] are the same tensor",
        ),
        (
            [loss],
            [w, torch.ones(2, device="meta", requires_grad=True)],
            ValueError,
            r"several devices \(cpu, meta\)",
        ),
    ]:
        with pytest.raises(error, match=message):
            pcgrad.task_gradients(losses, parameters)  # type: ignore[arg-type]
