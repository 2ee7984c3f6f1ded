"""One backward pass for all task gradients: equal to one pass per task, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import pcgrad
from tests.core.oracle import algorithm_1

T, B = 5, 7


def mlp(width: int = 9, layers: int = 6, *between: nn.Module) -> nn.Sequential:
    """`layers` hidden layers of one width, 4 inputs, 3 outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = [
            m
            for k in range(layers)
            for m in (nn.Linear(width if k else 4, width), *between, nn.Tanh())
        ]
        return nn.Sequential(*hidden, nn.Linear(width, 3))


def data(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def separate(module: nn.Module, losses: Tensor) -> list[Tensor]:
    """One backward pass per task and parameter: the oracle."""
    parameters = list(module.parameters())
    rows = []
    for loss in losses:
        trained = [p for p in parameters if p.requires_grad]
        found = iter(torch.autograd.grad(loss, trained, retain_graph=True, materialize_grads=True))
        rows.append([next(found) if p.requires_grad else torch.zeros_like(p) for p in parameters])
    return [torch.stack(stack) for stack in zip(*rows, strict=True)]


def agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    assert [f.dtype for f in found] == [e.dtype for e in expected]
    size = max(float(e.abs().max()) for e in expected)
    for k, (f, e) in enumerate(zip(found, expected, strict=True)):
        assert f.shape == e.shape
        assert (f - e).abs().max() <= tolerance * size, k


def check(
    module: nn.Module, losses: Callable[[], Tensor], tolerance: float = 1e-12
) -> pcgrad.LinearRecorder:
    """Recorded gradients equal the oracle's, twice: the first pass is the one that checks rows."""
    recorder = pcgrad.LinearRecorder(module, T)
    expected = separate(module, losses())
    for _ in range(2):
        with recorder:
            values = losses()
        agree(recorder.task_gradients(values)[0], expected, tolerance)
    return recorder


@pytest.mark.parametrize("shape", [(T, B, 4), (T * B, 4)], ids=["3d", "2d"])
def test_hooks_on_outputs_count_in_checked_passes_too(shape: tuple[int, ...]) -> None:
    """Bug: a checked pass takes the outputs' gradients as they are before the tensor hooks."""
    model, x = mlp(9, 2, nn.LayerNorm(9)).double(), data(*shape)
    for k, layer in enumerate(model):
        layer.register_forward_hook(
            lambda m, a, out, k=k: void(out.register_hook(lambda g: (k + 2) * g))
        )
    check(model, lambda: model(x).view(T, -1).square().mean(1))


def void(_: object) -> None:
    """A forward hook's result would replace the output."""


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", ["embedding", "0.weight", "0.bias", "1.weight"])
def test_what_is_frozen_after_the_forward_pass(name: str, checked: bool) -> None:
    """Bug: layers above a leaf frozen since then are not reached, frozen ones keep gradients."""
    model, embedding = mlp(9, 2, nn.LayerNorm(9)).double(), data(T, B, 4).requires_grad_()
    recorder = pcgrad.LinearRecorder(model, T, check=checked)
    with recorder:
        losses = model(embedding).square().mean((1, 2))
    {**dict(model.named_parameters()), "embedding": embedding}[name].requires_grad_(False)
    expected = separate(model, losses)
    agree(recorder.task_gradients(losses)[0], expected, 1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)]
)
@pytest.mark.parametrize("flat", [False, True])
def test_six_layers(dtype: torch.dtype, tolerance: float, flat: bool) -> None:
    model, x, y = mlp().to(dtype), data(T, B, 4).to(dtype), data(T, B, 3).to(dtype)

    def losses() -> Tensor:
        out = model(x.flatten(0, 1)).unflatten(0, (T, B)) if flat else model(x)
        return (out - y).square().mean((1, 2))

    check(model, losses, tolerance)
    assert all(p.grad is None for p in model.parameters())


class Everything(nn.Module):
    """A model with every kind of layer that the recorder must handle.

    Layers called twice, a weight in two layers, one never called, a frozen one, norms, in-place
    steps and sequences.
    """

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.first, self.twice, self.tied = (
                nn.Linear(4, 6),
                nn.Linear(6, 6),
                nn.Linear(6, 6, bias=False),
            )
            self.never, self.frozen, self.last = nn.Linear(3, 3), nn.Linear(6, 6), nn.Linear(6, 2)
            self.norm, self.plain = nn.LayerNorm(6), nn.LayerNorm((2, 6), elementwise_affine=False)
        self.tied.weight = self.twice.weight
        nn.init.normal_(self.norm.weight, generator=torch.Generator().manual_seed(3))
        self.frozen.requires_grad_(False)
        self.last.bias.requires_grad_(False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # [T, B, 2, 4]
        h = self.norm(self.relu(self.first(input=x)))
        h = self.relu(self.twice(torch.tanh(self.twice(h)))) + self.tied(h)
        with torch.no_grad():
            self.last(h)
        unused = self.first(x)  # recorded, but no loss depends on it
        assert unused.requires_grad
        return self.last(self.plain(self.frozen(h).add_(1.0)))


def test_everything_that_a_layer_may_go_through() -> None:
    model, x = Everything().double(), data(T, B, 2, 4)
    check(model, lambda: model(x).square().mean((1, 2, 3)))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("granularity", ["global", "per_tensor"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_backward_equals_algorithm_1(streaming: bool, granularity: str, dtype: torch.dtype) -> None:
    """Heads, temperatures and layers below the module get plain gradients, added to `.grad`."""
    torch.manual_seed(0)  # some networks' tasks do not conflict: the check below needs conflict
    trunk, heads = mlp().to(dtype), [nn.Linear(3, 2).to(dtype) for _ in range(T)]
    log_alpha, untouched = (
        nn.Parameter(torch.zeros(T, dtype=dtype)),
        nn.Parameter(torch.zeros(2, dtype=dtype)),
    )
    code = nn.Parameter(torch.zeros(4, dtype=dtype))  # below the recorded module
    x, y = data(T, B, 4).to(dtype), data(T, B, 2).to(dtype)
    everything = [
        *trunk.parameters(),
        *(p for head in heads for p in head.parameters()),
        log_alpha,
        code,
    ]

    def losses() -> list[Tensor]:
        parts = zip(heads, trunk(x + code), y, log_alpha, strict=True)
        return [(head(h) - target).square().mean() * a.exp() for head, h, target, a in parts]

    gradients = separate(trunk, torch.stack(losses()))
    plain = torch.autograd.grad(torch.stack(losses()).sum(), everything)
    shared = len(gradients)
    draws = (shared,) if granularity == "per_tensor" else ()
    orders = pcgrad.random_orders(T, torch.Generator().manual_seed(5), batch=draws)
    if granularity == "per_tensor":
        expected = [
            algorithm_1(g.flatten(1), o).sum(0).view_as(g[0])
            for g, o in zip(gradients, orders, strict=True)
        ]
    else:
        update = algorithm_1(torch.cat([g.flatten(1) for g in gradients], 1), orders).sum(0)
        sizes = [g[0].numel() for g in gradients]
        expected = [u.view_as(g[0]) for u, g in zip(update.split(sizes), gradients, strict=True)]
    assert (
        max(float((e - p).abs().max()) for e, p in zip(expected, plain, strict=False)) > 1e-3
    )  # surgery did something

    recorder = pcgrad.LinearRecorder(trunk, T)
    for total in (1, 2, 3):  # with the check, without it, and into its own memory once more
        with recorder:
            values = losses()
        generator = torch.Generator().manual_seed(5)
        result = recorder.backward(
            values, granularity=granularity, generator=generator, streaming=streaming
        )
        assert torch.equal(result.orders, orders)
        wanted = [total * w for w in [*expected, *plain[shared:]]]
        agree(
            [p.grad for p in everything if p.grad is not None],
            wanted,
            1e-11 if dtype == torch.float64 else 1e-5,
        )
    assert untouched.grad is None


@pytest.mark.parametrize("streaming", [False, True])
def test_backward_through_everything_equals_pcgrad_backward(streaming: bool) -> None:
    model, twin, x = Everything().double(), Everything().double(), data(T, B, 2, 4)
    pcgrad.backward(
        list(twin(x).square().mean((1, 2, 3))), twin.parameters(), orders="fixed", reduction="mean"
    )
    recorder = pcgrad.LinearRecorder(model, T)
    for _ in range(2):
        model.zero_grad()
        with recorder:
            losses = model(x).square().mean((1, 2, 3))
        recorder.backward(losses, orders="fixed", reduction="mean", streaming=streaming)
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), name
            assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-12, atol=1e-15), name
    assert model.never.weight.grad is None
    assert model.frozen.weight.grad is None


def test_autocast() -> None:
    """Autocast acts as in a plain pass: products in bfloat16, gradients in float32."""
    model, x, y = mlp(32), data(T, B, 4).float(), data(T, B, 3).float()

    def losses() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return (model(x) - y).square().mean((1, 2))

    check(model, losses, 0.02)
    recorder = pcgrad.LinearRecorder(model, T)
    for streaming in (False, True):
        model.zero_grad()
        with recorder, torch.autocast("cpu", torch.bfloat16):
            values = (model(x) - y).square().mean((1, 2))
            recorder.backward(values, orders="fixed", streaming=streaming)  # inside, too
        expected = mlp(32)
        pcgrad.backward(
            list((expected(x) - y).square().mean((1, 2))), expected.parameters(), orders="fixed"
        )
        for p, q in zip(model.parameters(), expected.parameters(), strict=True):
            assert p.grad is not None
            assert q.grad is not None
            assert p.grad.dtype == torch.float32
            assert (p.grad - q.grad).norm() <= 0.05 * q.grad.norm()


def test_retain_graph_and_a_record_that_is_used_up() -> None:
    model, x = mlp().double(), data(T, B, 4)
    recorder = pcgrad.LinearRecorder(model, T)
    with recorder:
        losses = model(x).square().mean((1, 2))
    first, _ = recorder.task_gradients(losses, retain_graph=True)
    recorder.backward(losses, streaming=True, retain_graph=True)
    second, _ = recorder.task_gradients(losses)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises((RuntimeError, ValueError), match="recorded"):
        recorder.task_gradients(losses)
    model(x)
    assert not recorder._taps  # nothing is recorded outside the block


def test_no_weight_gradient_is_formed_and_own_ones_come_from_the_same_pass() -> None:
    model, x, scale = (
        mlp(layers=2).double(),
        data(T, B, 4),
        nn.Parameter(torch.ones(T, dtype=torch.float64)),
    )
    recorder = pcgrad.LinearRecorder(model, T, check=False)
    with recorder:
        losses = model(x).square().mean((1, 2)) * scale
    seen: list[str] = []
    assert losses.grad_fn is not None
    losses.grad_fn.register_prehook(lambda _: seen.append("pass"))
    for p in model.parameters():
        node = torch.autograd.graph.get_gradient_edge(p).node
        node.register_prehook(lambda _: seen.append("weight"))
    stacks, (own,) = recorder.task_gradients(losses, [scale])
    assert seen == ["pass"]
    assert torch.allclose(own, losses.detach() / scale.detach())
    assert len(stacks) == 6


class Mixing(nn.Module):
    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.mix = mlp(layers=2), mix

    def forward(self, x: Tensor) -> Tensor:
        a, b, *rest = self.net
        return nn.Sequential(*rest)(self.mix(b(a(x))))


MIXES = {
    "centered": lambda h: h - h.mean((0, 1)),
    "a little of the next task": lambda h: h + 1e-3 * h.roll(1, 0),
    "task 4 sees task 0": lambda h: torch.cat([h[:4], h[4:] + h[:1]]),
    "other order of tasks": lambda h: h.flip(0),
    "transposed": lambda h: h.flatten(0, 1).unflatten(0, (B, T)).transpose(0, 1),
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_mix_are_refused(mix: str, dtype: torch.dtype) -> None:
    model, x = Mixing(MIXES[mix]).to(dtype), data(T, B, 4).to(dtype)
    recorder = pcgrad.LinearRecorder(model, T)
    with recorder:
        losses = model(x).square().mean((1, 2))
    with pytest.raises(RuntimeError, match=r"mixed behind layer net\.\d"):
        recorder.backward(losses)
    assert all(p.grad is None for p in model.parameters())


def test_a_head_called_with_its_task_alone_is_refused() -> None:
    """Its rows would be taken for all tasks' rows."""
    model, x = (
        nn.ModuleList([mlp(), *(nn.Linear(3, 1) for _ in range(T))]),
        data(T, 2 * T, 4).float(),
    )
    recorder = pcgrad.LinearRecorder(model, T)
    with recorder:
        losses = [
            head(h).square().mean() for head, h in zip(list(model)[1:], model[0](x), strict=True)
        ]
    with pytest.raises(RuntimeError, match="mixed"):
        recorder.backward(losses)


def test_values_that_are_not_finite_reach_grad_and_leave_the_check_for_later() -> None:
    model, x = mlp(), data(T, B, 4).float()
    recorder = pcgrad.LinearRecorder(model, T)
    for value, proven in ((float("inf"), False), (0.0, False), (1.0, True), (0.0, True)):
        with recorder:
            losses = model(x).square().mean((1, 2)) * torch.tensor([1.0, value, 1.0, 1.0, 1.0])
        recorder.backward(losses, orders="fixed")
        assert [known for _, known in recorder._seen.values()] == [proven]
    assert model[0].weight.grad is not None
    assert not model[0].weight.grad.isfinite().all()
    with recorder:
        losses = model(x).square().mean((1, 2)) * torch.tensor([1.0, float("nan"), 1.0, 1.0, 1.0])
    with pytest.raises(FloatingPointError, match="task 1"):
        recorder.backward(losses, check_finite=True)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.BatchNorm1d(4), r"1 \(BatchNorm1d\) mixes rows"),
        (nn.BatchNorm1d(4, affine=False), "mixes rows"),
        (nn.Conv1d(4, 4, 1), r"1 \(Conv1d\) has parameters"),
        (nn.MultiheadAttention(4, 2), "has parameters"),
        (nn.PReLU(), "has parameters"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "computes its weight"),
    ],
)
def test_modules_that_are_not_covered(part: nn.Module, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pcgrad.LinearRecorder(nn.Sequential(nn.Linear(4, 4), part), T)


def test_a_frozen_part_of_another_kind_is_not_in_the_way() -> None:
    part = nn.PReLU().double().requires_grad_(False)
    model, x = nn.Sequential(nn.Linear(4, 4).double(), part), data(T, B, 4)
    check(model, lambda: model(x).square().mean((1, 2)))


def test_compiled_modules_are_refused() -> None:
    model = mlp()
    with pytest.raises(TypeError, match="compiled"):
        pcgrad.LinearRecorder(torch.compile(model, backend="eager"), T)  # type: ignore[arg-type]
    model.compile(backend="eager")
    with pytest.raises(TypeError, match="compiled"):
        pcgrad.LinearRecorder(nn.Sequential(model), T)


USES = {
    "penalty": lambda model, x: (
        model(x).square().mean((1, 2)) + 1e-9 * model[0].weight.square().sum()
    ),
    "functional call": lambda model, x: (
        nn.functional.linear(model(x), model[-1].weight.T).square().mean((1, 2))
    ),
}


@pytest.mark.parametrize("use", USES)
def test_uses_that_no_layer_shows_are_refused(use: str) -> None:
    model, x = mlp().double(), data(T, B, 4)
    recorder = pcgrad.LinearRecorder(model, T, check=False)
    with recorder:
        losses = USES[use](model, x)
    with pytest.raises(RuntimeError, match="otherwise than through a recorded call"):
        recorder.backward(losses)
    outside = model(x).square().mean((1, 2))
    with pytest.raises(RuntimeError, match="otherwise than through a recorded call"):
        recorder.backward(outside)


def test_checkpoints() -> None:
    model, x = mlp().double(), data(T, B, 4)
    check(model, lambda: checkpoint(model, x, use_reentrant=False).square().mean((1, 2)))
    recorder = pcgrad.LinearRecorder(model, T)
    with recorder:
        losses = checkpoint(model, x.requires_grad_(), use_reentrant=True).square().mean((1, 2))
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        recorder.backward(losses)


@pytest.mark.parametrize("checked", [True, False])
def test_an_input_modified_in_place_after_it_was_read(checked: bool) -> None:
    model, x = mlp(layers=1), data(T, B, 4).float()
    recorder = pcgrad.LinearRecorder(model, T, check=checked)
    with recorder:
        losses = model(x).square().mean((1, 2))
    x += 1
    with pytest.raises(RuntimeError, match="modified in place"):
        recorder.backward(losses)


def test_wrong_arguments() -> None:
    model, x = mlp(), data(T, B, 4).float()
    recorder = pcgrad.LinearRecorder(model, T)
    with recorder:
        losses = [model(x[0]).square().mean()] * T
    with pytest.raises(ValueError, match="must be the 5 tasks"):
        recorder.backward(losses)
    with recorder:
        losses = model(x).square().mean((1, 2))
        with pytest.raises(RuntimeError, match="recording already"), recorder:
            pass
    for wrong in (losses[:3], losses.sum(), list(losses)[:2], losses.unsqueeze(0)):
        with pytest.raises(ValueError, match="one loss per task"):
            recorder.backward(wrong)
    with pytest.raises(ValueError, match="no graph"):
        recorder.backward(losses.detach())
    with pytest.raises(ValueError, match="belongs to the recorded module"):
        recorder.backward(losses, own_parameters=model[0].parameters())
    with pytest.raises(ValueError, match="unknown reduction"):
        recorder.backward(losses, reduction="max")
    with pytest.raises(ValueError, match="positive integer"):
        pcgrad.LinearRecorder(model, 0)
    with pytest.raises(ValueError, match="no loss reaches"):
        recorder.backward(nn.Parameter(torch.ones(T)) * 2)
    assert all(p.grad is None for p in model.parameters())


def test_conflicts_at_the_representation_are_an_approximation() -> None:
    """The bound in the package's docstring: exact where the trunk keeps dot products up to a
    factor, else not. With one batch per task it sees no conflicts at all: the tasks'
    representations are different rows."""
    heads, x = data(3, 4, seed=4), data(4, seed=5)

    def update(weight: Tensor, approximate: bool) -> Tensor:
        w = weight.clone().requires_grad_()
        features = w @ x
        z = features.detach().requires_grad_() if approximate else features
        pcgrad.backward([(z * h).sum() for h in heads], [z] if approximate else [w], orders="fixed")
        if approximate:
            assert z.grad is not None
            features.backward(z.grad)
        assert w.grad is not None
        return w.grad

    # One input: dL_i/dW = dL_i/dz x^T, so products of gradients are those at z times |x|^2.
    assert torch.allclose(
        update(data(4, 4, seed=6), False), update(data(4, 4, seed=6), True), rtol=1e-12
    )

    trunk, rows = nn.Linear(4, 4).double(), data(6, 4, seed=7)
    trunk.weight.data, trunk.bias.data = data(4, 4, seed=8), data(4, seed=9)
    exact = pcgrad.gramian(
        pcgrad.task_gradients([(trunk(rows) @ h).tanh().sum() for h in heads], trunk.parameters())
    )
    z = trunk(rows).detach().requires_grad_()
    bound = pcgrad.gramian(pcgrad.task_gradients([(z @ h).tanh().sum() for h in heads], [z]))
    assert not torch.allclose(exact / exact.trace(), bound / bound.trace(), rtol=0.05)

    z = trunk(data(T, B, 4)).detach().requires_grad_()
    own_rows = pcgrad.gramian(pcgrad.task_gradients(list(z.square().sum((1, 2))), [z]))
    assert torch.equal(own_rows, own_rows.diagonal().diag())
