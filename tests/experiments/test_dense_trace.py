"""Golden traces of NYUv2's and CityScapes' rows, on random scenes.

No config and no generator can change them.
"""

from pathlib import Path

import pytest
import torch
import traces

from multitask import supervised
from multitask.data.scenes import Scenes
from multitask.dense import problem as dense
from multitask.runs.checkpoint import Session
from multitask.runs.seeding import generator

SETTINGS = {
    **{
        "device": "cpu",
        "classes": 5,
        "widths": [2, 2, 4, 4, 4],
        "epochs": 5,
        "batch_size": 2,
        "precision": "float32",
        "optimizer": "adam",
    },
    **{
        "learning_rate": 1e-3,
        "momentum": 0.0,
        "weight_decay": 1e-4,
        "clip_norm": 0.0,
        "decay": 0.5,
        "decay_every": 3,
    },
    **{"evaluate_every": 2, "reduction": "sum", "order": "random", "log_every": 3},
}
ROWS = {
    "nyuv2": (
        *(
            "one_task",
            "stan",
            "split_wide_dwa",
            "split_deep_uncertainty_pcgrad",
            "dense_equal_pcgrad",
        ),
        *("cross_stitch_uncertainty_pcgrad", "mtan_uncertainty", "mtan_uncertainty_pcgrad"),
    ),
    "cityscapes": ("one_task", "mtan_equal", "mtan_equal_pcgrad"),
}


def scenes(experiment, split, count):
    """Random images, labels from -1 to 4, depths (some unknown) and unit normals (some unknown), in
    float64.
    """
    draw = generator(0, f"{experiment}/{split}")
    images = torch.rand(count, 3, 32, 32, generator=draw, dtype=torch.float64)
    labels = torch.randint(-1, 5, (count, 32, 32), generator=draw).to(torch.int8)
    depth = (4 * torch.rand(count, 1, 32, 32, generator=draw, dtype=torch.float64) - 0.5).clamp(
        min=0
    )
    normals = torch.nn.functional.normalize(
        torch.randn(count, 3, 32, 32, generator=draw, dtype=torch.float64), dim=1
    )
    known = torch.rand(count, 1, 32, 32, generator=draw) > 0.1
    parts = (images, labels, depth, normals * known)
    return parts if experiment == "nyuv2" else parts[:3]


def trace(experiment, row):
    """All records of 20 steps in float64."""
    data = Scenes(scenes(experiment, "train", 8), scenes(experiment, "test", 3), "")
    problem = dense.problem(row, 0, SETTINGS, data)
    problem.model.double()
    session = Session(Path("/nonexistent"), {}, every_seconds=1e9)
    return supervised.fit(problem, dense.ROWS[row][1], 0, SETTINGS, session).rows


@pytest.mark.parametrize(
    ("experiment", "row"), [(name, row) for name, rows in ROWS.items() for row in rows]
)
def test_golden_trace(experiment, row):
    traces.check(experiment, row, trace(experiment, row))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, rows in ROWS.items():
        traces.write(name, {row: trace(name, row) for row in rows})
