"""Algorithm 1 for hundreds of tasks, on the CPU."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

CROWD, BLOCK = 128, 16
"""From so many tasks on surgery goes by blocks of so many visits: 10 times as fast with 1,000."""


def in_blocks(gramian: Tensor, orders: Tensor) -> Tensor:
    """Return the coefficients ``[T, T]`` of Algorithm 1, from float64 and int64 on the CPU."""
    # A block begins with the products of every task with those that it visits in the block, and
    # each step updates the later ones: T x BLOCK products, where single visits read T x T numbers.
    tasks = len(gramian)
    coefficients = torch.eye(tasks, dtype=torch.float64, device="cpu")
    # -G_jj, and -inf for a zero gradient, onto whose plane nothing is projected.
    squares = gramian.diagonal()
    squares = squares.masked_fill(squares <= 0, torch.inf).neg()
    for block in orders.split(BLOCK, 1):
        products = _sampled(coefficients, gramian, block).T.contiguous()  # [visits, T]
        # Dot products of the visited tasks with each other: how a step changes the later products.
        visited, count = block.T.contiguous(), block.shape[1]
        earlier, later = torch.triu_indices(count, count, 1, device="cpu")
        pairs = torch.take(gramian, (visited * tasks)[later].add_(visited[earlier]))
        between = pairs.split(list(range(count - 1, -1, -1)))  # for each visit, the later ones
        scales, steps = squares[visited], torch.empty_like(products)
        for k in range(count):
            torch.div(products[k].clamp(max=0), scales[k], out=steps[k])
            products[k + 1 :].addcmul_(between[k], steps[k])
        coefficients.scatter_add_(1, block, steps.T)
    return coefficients


def _sampled(left: Tensor, right: Tensor, columns: Tensor) -> Tensor:
    """Return the products of each row of ``left`` with its chosen rows ``[T, n]`` of ``right``."""
    rows, count = columns.shape
    # A sparse pattern takes its columns in rising order; `place` restores the order of the visits.
    ordered, place = columns.sort(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its sparse matrices beta
        pattern = torch.sparse_csr_tensor(
            torch.arange(0, rows * count + 1, count, device="cpu"),
            ordered.flatten(),
            left.new_zeros(rows * count),
            (rows, rows),
        )
        found = torch.sparse.sampled_addmm(pattern, left, right.T).values().view(rows, count)
    return torch.empty_like(found).scatter_(1, place, found)
