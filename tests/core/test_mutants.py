"""The oracle catches each mistake of public implementations and each edit of the kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import torch
from torch import Tensor

import pcgrad
from tests.mutants import NAMED, OTHERS, Core, literal

from .oracle import CATALOGUE, algorithm_1, total_norm

Update = Callable[[Tensor, Tensor], Tensor]


def check(update: Update) -> None:
    """Compare the update of Algorithm 1 with the oracle.

    The whole catalogue is tried at two extreme scales, with three orders each.
    """
    for name, matrix in CATALOGUE.items():
        for scale in (1e-9, 1.0, 1e9):
            gradients = matrix * scale
            for seed in range(3):
                orders = pcgrad.random_orders(len(gradients), torch.Generator().manual_seed(seed))
                error = (update(gradients, orders) - algorithm_1(gradients, orders).sum(0)).norm()
                assert error <= 1e-12 * total_norm(gradients), name


def update_of(surgery: Callable[..., pcgrad.Surgery], *, batched: bool = False) -> Update:
    """A single Gramian of few tasks is computed in Python's numbers, a batch in tensors."""

    def update(gradients: Tensor, orders: Tensor) -> Tensor:
        gramian = gradients @ gradients.T
        if batched:
            return surgery(gramian.unsqueeze(0), orders.unsqueeze(0)).weights[0] @ gradients
        return surgery(gramian, orders).weights @ gradients

    return update


@pytest.mark.parametrize("batched", [False, True])
def test_the_library_passes(batched: bool) -> None:
    check(update_of(pcgrad.surgery, batched=batched))


def on_vectors(core: Core) -> Update:
    """The update of a mutant core."""
    return lambda gradients, orders: core(gradients @ gradients.T, orders).sum(0) @ gradients


MISTAKES = NAMED | OTHERS


def test_without_a_mistake_the_literal_core_passes() -> None:
    check(on_vectors(literal))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mutants_take_any_batch(mistake: str) -> None:
    """A batch gives what single calls give; orders and Gramians broadcast either way."""
    random = torch.Generator().manual_seed(0)
    g, orders = (
        torch.randn(4, 3, 9, generator=random, dtype=torch.float64),
        pcgrad.random_orders(3, random, batch=(5,)),
    )
    batched = MISTAKES[mistake]((g @ g.mT).unsqueeze(1), orders)
    assert batched.shape == (4, 5, 3, 3)
    for n in range(4):
        for k in range(5):
            torch.testing.assert_close(batched[n, k], MISTAKES[mistake](g[n] @ g[n].T, orders[k]))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_of_public_implementations_are_caught(mistake: str) -> None:
    with pytest.raises(AssertionError):
        check(on_vectors(MISTAKES[mistake]))


def test_a_self_test_is_caught_where_it_matters() -> None:
    """A task tested against itself in its place in the order: from three tasks on, in low
    dimension, after others have bent its gradient by more than a right angle. The kernel refuses
    such orders; vectors show that it must."""
    g = CATALOGUE["crowded 20x5"]
    orders = torch.stack(
        [torch.randperm(20, generator=torch.Generator().manual_seed(i)) for i in range(20)]
    )
    with_self = on_vectors(literal)(g, orders)
    without = torch.stack([row[row != i] for i, row in enumerate(orders)])
    assert (with_self - algorithm_1(g, without).sum(0)).norm() > 1e-3 * total_norm(g)
    with pytest.raises(ValueError, match=r"must have shape \[..., 20, 19\]"):
        pcgrad.surgery(g @ g.T, orders)
    with pytest.raises(ValueError, match="without i itself"):
        pcgrad.surgery(g @ g.T, orders[:, :-1])


EDITS = {
    "no conflict test": (".clamp_(max=0)", ""),
    "only agreeing tasks": (".clamp_(max=0)", ".clamp_(min=0)"),
    "mean for sum": ("coefficients.sum(-2) if", "coefficients.mean(-2) if"),
    "rows for columns": ("coefficients.sum(-2) if", "coefficients.sum(-1) if"),
    "zero gradient unguarded": (".masked_fill_(squares <= 0, torch.inf)", ""),
    "absolute guard": ("squares <= 0", "squares <= 1e-12"),
    "absolute epsilon": ("(squares[..., k : k + 1])", "(squares[..., k : k + 1] - 1e-12)"),
    "own square": (
        ".unsqueeze(-2).expand(full.shape).gather(-1, visited)",
        ".unsqueeze(-1).repeat_interleave(tasks - 1, -1)",
    ),
    "projection doubled": ("(-1, j, step)", "(-1, j, step * 2)"),
    "sign lost": (".neg_()", ""),
    "last visit dropped": ("for k in range(tasks - 1)", "for k in range(tasks - 2)"),
    "first visit dropped": ("for k in range(tasks - 1)", "for k in range(1, tasks - 1)"),
    "first task's order for all": (
        "j = visited[..., k : k + 1]",
        "j = visited[..., :1, k : k + 1].expand_as(squares)",
    ),
    "visits reversed": ("(tasks - 1):", "(tasks - 1)[::-1]:"),
    "original gradient tested": (
        "g_j.mul_(coefficients)",
        "g_j.mul_(torch.eye(tasks, dtype=torch.float64))",
    ),
    "start from zero": ("torch.eye(tasks,", "0 * torch.eye(tasks,"),
}
EDITS_OF_SCALARS = {
    "no conflict test": ("product >= 0 or ", ""),
    "only agreeing tasks": ("product >= 0 or", "product <= 0 or"),
    "absolute guard": ("gramian[j][j] <= 0", "gramian[j][j] <= 1e-12"),
    "own square": ("product / gramian[j][j]", "product / gramian[i][i]"),
    "projection doubled": ("row[j] -= product", "row[j] -= 2 * product"),
    "sign lost": ("row[j] -= product", "row[j] += product"),
    "last visit dropped": ("for j in order:", "for j in order[:-1]:"),
    "first visit dropped": ("for j in order:", "for j in order[1:]:"),
    "first task's order for all": (
        "for j in order:",
        "for j in [k for k in (0, *orders[0]) if k != i]:",
    ),
    "visits reversed": ("for j in order:", "for j in reversed(order):"),
    "original gradient tested": ("product += coefficient * g_m_j", "product = gramian[j][i]"),
    "start from zero": ("row[i] = 1.0", "row[i] = 0.0"),
}


@pytest.mark.parametrize(
    ("edit", "batched"),
    [
        *((pair, True) for pair in EDITS.items()),
        *((pair, False) for pair in EDITS_OF_SCALARS.items()),
    ],
)
def test_edits_of_the_kernel_are_caught(edit: tuple[str, tuple[str, str]], batched: bool) -> None:
    """The source of surgery.py with one edit, imported under another name, must fail the oracle."""
    path = Path(sys.modules["pcgrad._surgery"].__file__ or "")
    source, (name, (old, new)) = path.read_text(), edit
    assert source.count(old) == 1, f"edit {name!r} no longer matches {path.name}: update this table"
    spec = spec_from_loader("pcgrad_mutant", loader=None)
    assert spec is not None
    mutant = module_from_spec(spec)
    sys.modules["pcgrad_mutant"] = mutant  # dataclasses look their module up
    try:
        exec(compile(source.replace(old, new), str(path), "exec"), mutant.__dict__)
        with pytest.raises((AssertionError, RuntimeError, ZeroDivisionError)):
            check(update_of(mutant.surgery, batched=batched))
    finally:
        del sys.modules["pcgrad_mutant"]
