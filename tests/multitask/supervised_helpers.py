"""A small problem for the loop, and sessions that stop where a test wants."""

import torch
from torch import nn

from multitask.runs.checkpoint import Session, Stopped
from multitask.supervised import Problem

SETTINGS = {
    "epochs": 3,
    "batch_size": 16,
    "precision": "float32",
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "evaluate_every": 1,
    "decay": 0.5,
    "decay_every": 2,
    "reduction": "sum",
    "order": "random",
    "log_every": 3,
}
TASKS = ("left", "right")


def toy(*, targets=None, noise=0.1, examples=50, dtype=torch.float64):
    """Two linear regressions on one linear trunk; `noise` comes from the loop's dropout generator.

    `targets` [2, 4]: the true coefficients of each task; opposite rows conflict, equal rows do not.
    """
    draw = torch.Generator().manual_seed(3)
    targets = torch.randn(2, 4, generator=draw) if targets is None else torch.as_tensor(targets)
    x = torch.randn(examples, 4, generator=draw).to(dtype)
    y = x @ targets.to(dtype).T
    model = nn.ModuleDict(
        {"trunk": nn.Linear(4, 3), "left": nn.Linear(3, 1), "right": nn.Linear(3, 1)}
    ).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / 2)
        for left, right in zip(
            model["left"].parameters(), model["right"].parameters(), strict=True
        ):
            right.copy_(left)

    def losses(batch, draw):
        inputs, truth = batch
        features = model["trunk"](inputs)
        if draw is not None:
            features = features + noise * torch.randn(features.shape, generator=draw).to(dtype)
        return [
            (model[task](features)[:, 0] - truth[:, i]).square().mean()
            for i, task in enumerate(TASKS)
        ]

    def evaluate(data):
        return {
            (task, "loss"): loss.item()
            for task, loss in zip(TASKS, losses(data, None), strict=True)
        }

    shared = list(model["trunk"].parameters())
    return Problem(TASKS, model, shared, (x, y), {"test": (x[:20], y[:20])}, losses, evaluate)


class StopAfter(Session):
    """Saves and stops at the n-th tick."""

    def __init__(self, path, ticks):
        super().__init__(path, {"seed": 0}, every_seconds=1e9)
        self.left = ticks

    def tick(self, state):
        self.left -= 1
        if self.left == 0:
            self.save(state())
            raise Stopped("enough")


def unbroken(path):
    """A session that never saves."""
    return Session(path, {"seed": 0}, every_seconds=1e9)
