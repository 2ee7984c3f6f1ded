"""Visiting orders: uniform, new for every task and step, from the caller's generator only."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import pcgrad


def others(tasks: int) -> list[list[int]]:
    return [[j for j in range(tasks) if j != i] for i in range(tasks)]


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
@pytest.mark.parametrize("shared", [False, True])
def test_every_row_is_a_permutation_of_the_others(tasks: int, shared: bool) -> None:
    orders = pcgrad.random_orders(
        tasks, torch.Generator().manual_seed(1), batch=(4, 2), shared=shared
    )
    assert orders.shape == (4, 2, tasks, tasks - 1)
    assert orders.dtype == torch.int64
    for rows in orders.flatten(0, 1).tolist():
        assert [sorted(row) for row in rows] == others(tasks)
    assert pcgrad.fixed_orders(tasks).tolist() == others(tasks)


def test_orders_are_uniform_and_rows_independent() -> None:
    """T = 3: 2³ combinations of rows, each with probability 1/8.

    Chi-square with 7 degrees of freedom stays below its 99.99% point.
    """
    orders = pcgrad.random_orders(3, torch.Generator().manual_seed(2), batch=(8000,))
    counts = Counter(str(rows) for rows in orders.tolist())
    assert len(counts) == 8
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 29.9
    orders = pcgrad.random_orders(4, torch.Generator().manual_seed(2), batch=(6000,))
    for i in range(4):
        counts = Counter(str(row) for row in orders[:, i].tolist())
        assert len(counts) == 6
        assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 25.8


def test_shared_is_one_uniform_permutation_without_the_task_itself() -> None:
    """T = 3: 3! permutations; all tasks that see a pair see it in the same sequence."""
    orders = pcgrad.random_orders(3, torch.Generator().manual_seed(3), batch=(6000,), shared=True)
    counts = Counter(str(rows) for rows in orders.tolist())
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 25.8
    rows = pcgrad.random_orders(5, torch.Generator().manual_seed(3), shared=True).tolist()
    sequence = [j for j in rows[0]]
    for i in range(1, 5):
        assert [j for j in rows[i] if j not in (0, i)] == [j for j in sequence if j != i]


def test_drawing_ahead_gives_the_same_orders() -> None:
    for shared in (False, True):
        one, many = (torch.Generator().manual_seed(4) for _ in range(2))
        steps = [pcgrad.random_orders(6, one, shared=shared) for _ in range(9)]
        assert torch.equal(
            torch.stack(steps), pcgrad.random_orders(6, many, batch=(9,), shared=shared)
        )
        assert len({str(step.tolist()) for step in steps}) > 1  # not one order for ever


def test_randomness_comes_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    a, b = (pcgrad.random_orders(8, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, pcgrad.random_orders(8, torch.Generator().manual_seed(6)))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        c = pcgrad.random_orders(8)
        torch.manual_seed(7)
        assert torch.equal(c, pcgrad.random_orders(8, None))


def test_bad_task_numbers_are_refused() -> None:
    for tasks in (0, -1, 2.0):
        with pytest.raises(ValueError, match="number of tasks"):
            pcgrad.random_orders(tasks, None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="number of tasks"):
            pcgrad.fixed_orders(tasks)  # type: ignore[arg-type]
