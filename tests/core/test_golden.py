"""The core along a trajectory of 50 updates, against tests/golden/many_tasks.json.

Five tasks share three dimensions.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import pcgrad

GOLDEN = Path(__file__).resolve().parents[1] / "golden/many_tasks.json"
UPDATES, SEED = (
    50,
    2,
)  # with this seed the orders bend a large gradient, too, by more than a right angle
ANCHORS = torch.tensor(  # each task pulls toward its own: they disagree wherever theta is between
    [[2.0, 0.3, -0.5], [-1.6, 1.2, 0.4], [0.6, 0.1, -1.7], [-0.7, -1.9, 0.8], [0.2, 0.5, 2.1]],
    dtype=torch.float64,
)
CURVATURES = torch.tensor([[1.0, 0.5, 2.0], [0.3, 1.5, 0.8]], dtype=torch.float64)
FLAT = 1e-4  # the third loss's scale: its gradient is small enough for an absolute epsilon to count


def losses_at(theta: Tensor) -> list[Tensor]:
    """Two quadratics, a flat pseudo-Huber loss, log cosh and a logistic loss, all convex."""
    away = theta - ANCHORS
    return [
        (CURVATURES[0] * away[0] ** 2).sum() / 2,
        (CURVATURES[1] * away[1] ** 2).sum() / 2,
        FLAT * (1 + (away[2] ** 2).sum()).sqrt(),
        away[3].cosh().log().sum(),
        torch.nn.functional.softplus(-4 * (theta @ ANCHORS[4]) + 3),
    ]


def trace() -> dict[str, list[list[float]]]:
    """Return the trajectory of θ, and the weights of the task gradients in every update."""
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer, generator = torch.optim.SGD([theta], lr=0.1), torch.Generator().manual_seed(SEED)
    path, weights = [theta.tolist()], []
    for _ in range(UPDATES):
        optimizer.zero_grad()
        weights.append(
            pcgrad.backward(losses_at(theta), [theta], generator=generator).weights.tolist()
        )
        optimizer.step()
        path.append(theta.tolist())
    return {"theta": path, "weights": weights}


def check_trace() -> None:
    """Bug: published numbers are superseded without a note.

    After a deliberate change, say so in the CHANGELOG and regenerate the file.
    """
    golden, found = json.loads(GOLDEN.read_text(encoding="utf-8")), trace()
    assert [len(golden[name]) for name in ("theta", "weights")] == [UPDATES + 1, UPDATES]
    for name, rows in golden.items():
        for update, (row, expected) in enumerate(zip(found[name], rows, strict=True)):
            assert row == pytest.approx(expected, rel=1e-9, abs=1e-12), f"{name} at update {update}"


def test_golden_trace() -> None:
    check_trace()


def regenerate() -> None:
    """Write the golden file."""
    rows = {name: ",\n".join(json.dumps(row) for row in found) for name, found in trace().items()}
    text = ",\n".join(f'"{name}": [\n{lines}\n]' for name, lines in rows.items())
    GOLDEN.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    regenerate()
