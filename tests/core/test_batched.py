"""One batch per task in one vectorised pass, against a loop over the tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import pcgrad

T, B = 3, 8


def problem() -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5)).double()
        own = {"head": torch.randn(T, 5, dtype=torch.float64, requires_grad=True)}
        batch = {
            "x": torch.randn(T, B, 4, dtype=torch.float64),
            "y": torch.randn(T, B, dtype=torch.float64),
        }
    return trunk, dict(trunk.named_parameters()), own, batch


def loss_of(trunk: nn.Module) -> Any:
    def loss(shared: Any, own: Any, batch: Any) -> Tensor:
        return ((functional_call(trunk, shared, batch["x"]) @ own["head"] - batch["y"]) ** 2).mean()

    return loss


def test_equals_a_loop_over_the_tasks() -> None:
    trunk, shared, own, batch = problem()
    loss = loss_of(trunk)
    losses, shared_grads, own_grads = pcgrad.task_gradients_batched(loss, shared, own, batch)
    singles = [
        loss(shared, {"head": own["head"][i]}, {k: v[i] for k, v in batch.items()})
        for i in range(T)
    ]
    assert torch.allclose(losses, torch.stack(singles).detach())
    expected = pcgrad.task_gradients(singles, shared, retain_graph=True)
    assert list(shared_grads) == list(shared)
    for found, stack in zip(shared_grads.values(), expected, strict=True):
        assert torch.allclose(found, stack, rtol=1e-12, atol=1e-14)
    (plain,) = torch.autograd.grad(sum(singles), own["head"])  # type: ignore[arg-type]
    assert torch.allclose(own_grads["head"], plain, rtol=1e-12, atol=1e-14)
    results = [losses, *shared_grads.values(), own_grads["head"]]
    assert not any(tensor.requires_grad for tensor in results)
    assert all(p.grad is None for p in [*shared.values(), *own.values()])


def test_the_result_feeds_gramian_surgery_and_weights() -> None:
    trunk, shared, own, batch = problem()
    _, gradients, _ = pcgrad.task_gradients_batched(loss_of(trunk), shared, own, batch)
    orders = pcgrad.random_orders(T, torch.Generator().manual_seed(0))
    weights = pcgrad.surgery(pcgrad.gramian(gradients), orders).weights
    pcgrad.apply_weights(shared, gradients, weights)
    flat = torch.cat([g.flatten(1) for g in gradients.values()], 1)
    expected = pcgrad.project_conflicting(flat, orders).sum(0)
    found = torch.cat([p.grad.flatten() for p in shared.values() if p.grad is not None])
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_lists_no_own_parameters_and_aux() -> None:
    w, x = torch.ones(4, requires_grad=True), torch.arange(12.0).reshape(T, 4)

    def loss(shared: Any, own: Any, batch: Any) -> tuple[Tensor, Tensor]:
        assert own is None
        return (shared[0] * batch).sum(), batch * 2

    losses, grads, own_grads, aux = pcgrad.task_gradients_batched(loss, [w], None, x, has_aux=True)
    assert isinstance(grads, list)
    assert torch.equal(grads[0], x)
    assert torch.equal(losses, x.sum(1))
    assert torch.equal(aux, 2 * x)
    assert own_grads is None
    assert pcgrad.task_gradients_batched(lambda s, o, b: (s[0] * b).sum(), [w], {}, x)[2] == {}


def test_works_under_no_grad_and_in_one_call_of_the_loss() -> None:
    calls = 0

    def loss(shared: Any, own: Any, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return (shared["w"] ** 2 * batch).sum()

    with torch.no_grad():
        _, grads, _ = pcgrad.task_gradients_batched(
            loss, {"w": torch.ones(2)}, None, torch.ones(5, 2)
        )
    assert calls == 1
    assert torch.equal(grads["w"], 2 * torch.ones(5, 2))


def test_dropout_differs_between_tasks() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, grads, _ = pcgrad.task_gradients_batched(
            lambda s, o, b: torch.dropout(s["w"] * b, 0.5, True).sum(),
            {"w": torch.ones(50)},
            None,
            torch.ones(2, 50),
        )
    assert not torch.equal(grads["w"][0], grads["w"][1])


def test_bad_input_is_named() -> None:
    def loss(shared: Any, own: Any, batch: Any) -> Tensor:
        return (shared["w"] * batch).sum()

    w = {"w": torch.ones(4)}
    with pytest.raises(ValueError, match=r"one and the same T > 0, got \[\[2\], \[3\]\]"):
        pcgrad.task_gradients_batched(loss, w, {"h": torch.ones(2)}, torch.ones(3, 4))
    for batch in (torch.ones(()), torch.ones(0, 4), None):
        with pytest.raises(ValueError, match="one and the same T > 0"):
            pcgrad.task_gradients_batched(loss, w, None, batch)
    with pytest.raises(ValueError, match="no shared parameters"):
        pcgrad.task_gradients_batched(loss, {}, None, torch.ones(3, 4))
    norm = nn.BatchNorm1d(4)
    with pytest.raises(RuntimeError):  # running statistics cannot be updated once per task
        pcgrad.task_gradients_batched(
            lambda s, o, b: functional_call(norm, s, b).sum(),
            dict(norm.named_parameters()),
            None,
            torch.ones(3, 5, 4),
        )
