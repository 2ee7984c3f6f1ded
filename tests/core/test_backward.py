"""backward: surgery for the shared parameters, plain gradients for the rest, added to .grad."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgrad

from .oracle import algorithm_1

T = 4


class Model(nn.Module):
    """A trunk with BatchNorm and dropout, a head per task, and a scale.

    All losses use the scale, but it is not listed as shared.
    """

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.trunk = nn.Sequential(
                nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Dropout(0.2), nn.Linear(7, 3)
            )
            self.heads = nn.ModuleList(nn.Linear(3, 2) for _ in range(T))
            self.scale = nn.Parameter(torch.ones(2))
            self.x, self.y = torch.randn(12, 5, dtype=dtype), torch.randn(T, 12, 2, dtype=dtype)
        self.to(dtype)
        self.passes = 0

    def losses(self) -> list[Tensor]:
        self.passes += 1
        with torch.random.fork_rng():
            torch.manual_seed(4)
            features = self.trunk(self.x)
        outputs = [head(features) * self.scale for head in self.heads]
        return [
            ((out - y) ** 2).mean() * 3**i
            for i, (out, y) in enumerate(zip(outputs, self.y, strict=True))
        ]

    def own(self) -> list[nn.Parameter]:
        return [*self.heads.parameters(), self.scale]


def grads(parameters: Iterable[Tensor]) -> list[Tensor]:
    found = [p.grad for p in parameters]
    return [g.clone() for g in found if g is not None]


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def vectors(model: Model) -> Tensor:
    """The trunk's task gradients [T, P] as plain vectors."""
    losses, trunk = model.losses(), list(model.trunk.parameters())
    return torch.stack(
        [flat(torch.autograd.grad(loss, trunk, retain_graph=True)) for loss in losses]
    )


def plain_own(model: Model) -> list[Tensor]:
    twin = copy.deepcopy(model)
    sum(twin.losses()).backward()  # type: ignore[union-attr]
    return grads(twin.own())


@pytest.mark.parametrize("orders", ["random", "shared", "fixed"])
def test_shared_parameters_get_algorithm_1(orders: str) -> None:
    model, generator = Model(), torch.Generator().manual_seed(7)
    result = pcgrad.backward(
        model.losses(),
        model.trunk.parameters(),
        orders=orders,
        generator=generator,
    )
    twin = torch.Generator().manual_seed(7)
    expected_orders = (
        pcgrad.fixed_orders(T)
        if orders == "fixed"
        else pcgrad.random_orders(T, twin, shared=orders == "shared")
    )
    assert torch.equal(result.orders, expected_orders)
    g = vectors(model)
    projected = algorithm_1(g, expected_orders)
    assert not torch.allclose(projected, g, atol=1e-3)  # there are conflicts
    assert torch.allclose(
        flat(grads(model.trunk.parameters())), projected.sum(0), rtol=0, atol=1e-12
    )
    assert torch.allclose(result.gramian, g @ g.T, rtol=1e-12)
    assert torch.allclose(result.coefficients @ g, projected, rtol=0, atol=1e-12)
    for found, expected in zip(grads(model.own()), plain_own(model), strict=True):
        assert torch.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_heads_get_their_plain_gradients_byte_for_byte(dtype: torch.dtype) -> None:
    model = Model(dtype)
    pcgrad.backward(model.losses(), model.trunk.parameters())
    for found, expected in zip(grads(model.own()), plain_own(model), strict=True):
        assert torch.equal(found, expected)


def test_heads_do_not_enter_the_dot_products() -> None:
    model = Model()
    before = pcgrad.backward(model.losses(), model.trunk.parameters(), orders="fixed")
    expected = vectors(model)
    assert torch.allclose(before.gramian, expected @ expected.T, rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = pcgrad.backward(
            model.losses(), [*model.trunk.parameters(), *model.own()], orders="fixed"
        )
    assert not torch.allclose(wrong.weights, before.weights, rtol=0.01)


def test_grad_is_added_to() -> None:
    """A penalty of no task takes one plain backward more; micro-batches accumulate."""
    model = Model()
    parameters = [*model.trunk.parameters(), *model.own()]
    pcgrad.backward(model.losses(), model.trunk.parameters(), orders="fixed")
    once = grads(parameters)
    for p in parameters:
        p.grad = None
    sum((p**2).sum() for p in parameters).backward()  # type: ignore[union-attr]
    pcgrad.backward(model.losses(), model.trunk.parameters(), orders="fixed")
    for p, g in zip(parameters, once, strict=True):
        assert p.grad is not None
        assert torch.allclose(p.grad, g + 2 * p.detach(), rtol=1e-12)


def test_one_forward_pass_and_no_other_change() -> None:
    model = Model()
    losses = model.losses()
    before = copy.deepcopy(model.state_dict())
    pcgrad.backward(losses, model.trunk.parameters())
    assert model.passes == 1
    assert model.state_dict()["trunk.1.num_batches_tracked"] == 1
    for (name, now), then in zip(model.state_dict().items(), before.values(), strict=True):
        assert torch.equal(now, then), name


def test_one_task_is_plain_training() -> None:
    model, twin = Model(), Model()
    result = pcgrad.backward(model.losses()[:1], model.trunk.parameters())
    twin.losses()[0].backward()
    assert result.weights.tolist() == [1.0]
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or q.grad is None or torch.equal(p.grad, q.grad)


def test_reduction_mean_divides_the_shared_update_alone() -> None:
    total, mean = Model(), Model()
    pcgrad.backward(total.losses(), total.trunk.parameters(), orders="fixed")
    pcgrad.backward(mean.losses(), mean.trunk.parameters(), orders="fixed", reduction="mean")
    assert torch.allclose(
        flat(grads(total.trunk.parameters())), T * flat(grads(mean.trunk.parameters())), rtol=1e-12
    )
    assert torch.equal(flat(grads(total.own())), flat(grads(mean.own())))


def test_per_tensor_is_algorithm_1_on_every_tensor() -> None:
    model = Model()
    generator = torch.Generator().manual_seed(1)
    result = pcgrad.backward(
        model.losses(), model.trunk.parameters(), granularity="per_tensor", generator=generator
    )
    count = len(list(model.trunk.parameters()))
    assert result.weights.shape == (count, T)
    assert result.orders.shape == (count, T, T - 1)
    g, start, whole = vectors(model), 0, []
    for k, p in enumerate(model.trunk.parameters()):
        expected = algorithm_1(g[:, start : start + p.numel()], result.orders[k]).sum(0)
        assert p.grad is not None
        assert torch.allclose(p.grad.flatten(), expected, rtol=0, atol=1e-12)
        start += p.numel()
        whole.append(expected)
    assert not torch.allclose(torch.cat(whole), algorithm_1(g, result.orders[0]).sum(0), rtol=0.01)


def test_given_orders_are_used() -> None:
    model = Model()
    orders = pcgrad.fixed_orders(T).flip(1)
    result = pcgrad.backward(model.losses(), model.trunk.parameters(), orders=orders)
    assert torch.allclose(
        flat(grads(model.trunk.parameters())),
        algorithm_1(vectors(model), orders).sum(0),
        rtol=0,
        atol=1e-12,
    )
    assert torch.equal(result.orders, orders)
    many = orders.repeat(2, 1, 1)
    with pytest.raises(ValueError, match="per tensor, got"):
        pcgrad.backward(model.losses(), model.trunk.parameters(), orders=many)


def test_orders_are_drawn_anew_at_every_step_and_repeat_with_the_seed() -> None:
    model = Model()

    def run(seed: int) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        steps = [
            pcgrad.backward(model.losses(), model.trunk.parameters(), generator=generator)
            for _ in range(6)
        ]
        return [str(step.orders.tolist()) for step in steps]

    assert run(0) == run(0)
    assert run(0) != run(1)
    assert len(set(run(0))) > 1
    with torch.random.fork_rng():
        torch.manual_seed(11)
        a = pcgrad.backward(model.losses(), model.trunk.parameters()).orders
        torch.manual_seed(11)
        b = pcgrad.backward(model.losses(), model.trunk.parameters()).orders
    assert torch.equal(a, b)


def test_own_parameters_may_be_listed() -> None:
    model = Model()
    pcgrad.backward(
        model.losses(), model.trunk.parameters(), own_parameters=model.heads[0].parameters()
    )
    assert all(p.grad is not None for p in model.heads[0].parameters())
    assert all(p.grad is None for p in [*model.heads[1].parameters(), model.scale])
    model = Model()
    pcgrad.backward(model.losses(), model.trunk.parameters(), own_parameters=[])
    assert all(p.grad is None for p in model.own())
    assert all(p.grad is not None for p in model.trunk.parameters())


def test_every_head_is_passed_once() -> None:
    """Heads take part in their task's own backward pass.

    A listed parameter that no loss reaches costs no pass.
    """
    model, unused = Model(), nn.Parameter(torch.ones(3, dtype=torch.float64))
    passes = [0] * T

    def count(i: int) -> None:
        passes[i] += 1

    for i, head in enumerate(model.heads):
        head.register_full_backward_hook(lambda *_, i=i: count(i))
    pcgrad.backward(
        model.losses(), model.trunk.parameters(), own_parameters=[*model.heads.parameters(), unused]
    )
    assert passes == [1] * T
    assert unused.grad is None
    pcgrad.backward(
        model.losses(), model.trunk.parameters()
    )  # the joint pass for `scale` stops above the heads
    assert passes == [2] * T


def test_frozen_and_unreached_parameters_keep_their_grad() -> None:
    model = Model()
    model.trunk[0].weight.requires_grad_(False)
    unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    pcgrad.backward(model.losses(), [*model.trunk.parameters(), unused])
    assert model.trunk[0].weight.grad is None
    assert unused.grad is None  # as after Tensor.backward: an optimizer passes over it
    assert model.trunk[0].bias.grad is not None


def test_a_parameter_of_some_tasks_takes_part_as_zero_for_the_others() -> None:
    some = torch.zeros(2, requires_grad=True)
    shared = torch.zeros(2, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]])
    losses = [
        targets[0] @ shared + some.sum(),
        targets[1] @ shared - some.sum(),
        targets[2] @ shared,
    ]
    result = pcgrad.backward(losses, [shared, some], orders="fixed")
    stacked = torch.cat([targets, torch.tensor([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])], 1)
    assert torch.allclose(
        flat(grads([shared, some])), algorithm_1(stacked, result.orders).sum(0), atol=1e-6
    )


def test_retain_graph() -> None:
    model = Model()
    losses = model.losses()
    pcgrad.backward(losses, model.trunk.parameters(), orders="fixed", retain_graph=True)
    once = grads(model.parameters())
    pcgrad.backward(losses, model.trunk.parameters(), orders="fixed")
    for a, b in zip(grads(model.parameters()), once, strict=True):
        assert torch.allclose(a, 2 * b, rtol=1e-12)
    with pytest.raises(RuntimeError, match="second time"):
        pcgrad.backward(losses, model.trunk.parameters(), orders="fixed")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_reaches_grad_and_is_named(value: float) -> None:
    model = Model(torch.float32)
    losses = model.losses()
    losses[2] = losses[2] * value
    result = pcgrad.backward(losses, model.trunk.parameters(), retain_graph=True)
    assert result.gramian.diagonal().isfinite().tolist() == [True, True, False, True]
    assert not any(g.isfinite().all() for g in grads(model.trunk.parameters()))
    model.zero_grad()
    with pytest.raises(FloatingPointError, match=r"not finite: task 2 \(loss"):
        pcgrad.backward(losses, model.trunk.parameters(), check_finite=True)
    assert all(p.grad is None for p in model.parameters())
    pcgrad.backward(model.losses(), model.trunk.parameters(), check_finite=True)


def test_grad_scaler_sees_and_skips() -> None:
    """Scaled losses give the scaled update; an overflow skips the step and halves the scale."""
    model, twin = Model(torch.float32), Model(torch.float32)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, twin)]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    pcgrad.backward(
        [scaler.scale(loss) for loss in model.losses()], model.trunk.parameters(), orders="fixed"
    )
    scaler.step(optimizers[0])
    scaler.update()
    pcgrad.backward(twin.losses(), twin.trunk.parameters(), orders="fixed")
    optimizers[1].step()
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True)
    )

    optimizers[0].zero_grad()
    losses = model.losses()
    losses[1] = losses[1] * torch.inf
    pcgrad.backward([scaler.scale(loss) for loss in losses], model.trunk.parameters())
    scaler.step(optimizers[0])
    scaler.update()
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True)
    )
    assert scaler.get_scale() == 2.0**15


def test_autocast_around_backward_changes_nothing() -> None:
    inside, outside = Model(torch.float32), Model(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = inside.losses()
        a = pcgrad.backward(losses, inside.trunk.parameters(), orders="fixed")
    with torch.autocast("cpu", torch.bfloat16):
        losses = outside.losses()
    b = pcgrad.backward(losses, outside.trunk.parameters(), orders="fixed")
    assert torch.equal(a.gramian, b.gramian)
    pairs = zip(grads(inside.parameters()), grads(outside.parameters()), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)


def test_half_precision_parameters() -> None:
    model = Model(torch.bfloat16)
    result = pcgrad.backward(model.losses(), model.trunk.parameters(), orders="fixed")
    assert result.gramian.dtype == torch.float64
    assert all(
        p.grad is not None and p.grad.dtype == torch.bfloat16 for p in model.trunk.parameters()
    )
    g = vectors(model).double()
    assert torch.allclose(result.gramian, g @ g.T, rtol=1e-5)


def test_grads_alias_nothing_and_keep_the_layout() -> None:
    """The gradient of a sum is an expanded scalar, and two leaves may get the very same tensor."""
    a, b, c = (torch.zeros(3, requires_grad=True) for _ in range(3))
    pcgrad.backward([(a + b + c).sum(), (a - b - c).sum()], [a])
    for p in (a, b, c):
        assert p.grad is not None
        p.grad.mul_(2)  # as clipping does
    assert b.grad is not None
    assert b.grad.data_ptr() != c.grad.data_ptr()  # type: ignore[union-attr]
    convolution = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    out = convolution(torch.randn(2, 3, 5, 5))
    pcgrad.backward([out[:, :2].sum(), out[:, 2:].square().sum()], [convolution.bias])  # type: ignore[list-item]
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.stride() == convolution.weight.stride()


def test_bad_input_is_named_and_changes_nothing() -> None:
    model = Model()

    def run(**changes: Any) -> None:
        arguments: dict[str, Any] = {
            "losses": model.losses(),
            "shared_parameters": model.trunk.parameters(),
        }
        arguments |= changes
        pcgrad.backward(arguments.pop("losses"), arguments.pop("shared_parameters"), **arguments)

    w = torch.ones(2, requires_grad=True)
    stacked = torch.stack(model.losses())
    for changes, error, message in [
        ({"losses": []}, ValueError, "there are no tasks"),
        ({"losses": stacked}, TypeError, "must be a Python list"),
        ({"losses": [stacked]}, ValueError, "task 0 must be a scalar"),
        ({"losses": [loss.detach() for loss in model.losses()]}, ValueError, "task 0 has no graph"),
        ({"shared_parameters": []}, ValueError, "no shared parameters"),
        ({"shared_parameters": [w.detach()]}, ValueError, "all are frozen"),
        ({"shared_parameters": [w]}, ValueError, "no loss reaches a shared parameter"),
        ({"shared_parameters": [w * 2]}, ValueError, r"parameter #0 \[2\] is not a leaf"),
        ({"shared_parameters": [w, w]}, ValueError, "are the same tensor"),
        ({"own_parameters": [model.trunk[0].weight]}, ValueError, "is also listed as shared"),
        ({"own_parameters": [w, w]}, ValueError, "own parameters .* are the same tensor"),
        ({"own_parameters": [w * 2]}, ValueError, r"own parameter #0 \[2\] is not a leaf"),
        ({"orders": "sorted"}, ValueError, "unknown orders 'sorted'"),
        ({"orders": pcgrad.fixed_orders(3)}, ValueError, "orders of 4 tasks"),
        (
            {"orders": torch.zeros(4, 3, dtype=torch.int64)},
            ValueError,
            "permutation of the other tasks",
        ),
        ({"reduction": "average"}, ValueError, "unknown reduction"),
        ({"granularity": "layer"}, ValueError, "unknown granularity"),
    ]:
        with pytest.raises(error, match=message) as caught:
            run(**changes)
        assert "\n" not in str(caught.value)
        assert all(p.grad is None for p in model.parameters())
    run()


def test_the_ten_line_example() -> None:
    """Two regressions that pull a linear trunk apart: the loop of the README trains both."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk, heads = nn.Linear(6, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(2))
        x = torch.randn(64, 6)
    target = x[:, :1]
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=0.03)
    for _ in range(150):
        features = trunk(x)
        losses = [
            ((heads[0](features) - target) ** 2).mean(),
            ((heads[1](features) + target) ** 2).mean(),
        ]
        optimizer.zero_grad()
        pcgrad.backward(losses, trunk.parameters(), generator=generator)
        optimizer.step()
    assert max(loss.item() for loss in losses) < 1e-2


@pytest.mark.parametrize("granularity", ["global", "per_tensor"])
def test_a_weighting_takes_the_place_of_algorithm_1(granularity: str) -> None:
    """Fails if the weights go anywhere but into the update, or the heads are weighted too."""
    model, plain = Model(), plain_own(Model())
    gradients, seen = vectors(model), []

    def weighting(gramian: Tensor) -> Tensor:
        seen.append(gramian)
        return torch.tensor([1.0, -2.0, 0.5, 0.0])

    trunk = list(model.trunk.parameters())
    result = pcgrad.backward(model.losses(), trunk, granularity=granularity, weighting=weighting)
    weights = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(flat(grads(trunk)), weights @ gradients)
    torch.testing.assert_close(sum(seen), gradients @ gradients.T)
    assert all(map(torch.equal, grads(model.own()), plain))
    assert torch.equal(result.coefficients.sum(-2), result.weights)
    assert len(seen) == (1 if granularity == "global" else len(trunk))


@pytest.mark.parametrize(
    ("weighting", "got"),
    [
        (lambda gramian: gramian[0, :3], r"\[3\]"),
        (lambda gramian: gramian[0] * 1j, "complex128"),
        (lambda gramian: gramian[0].tolist(), r"\["),
    ],
)
def test_what_a_weighting_returns_is_checked(weighting: Any, got: str) -> None:
    model = Model()
    with pytest.raises(ValueError, match=rf"must return real weights \[4\] of .*, got .*{got}"):
        pcgrad.backward(model.losses(), model.trunk.parameters(), weighting=weighting)
    assert not grads(model.parameters())
