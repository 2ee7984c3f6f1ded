"""The one supervised loop: epochs, methods, schedule, records, checkpoints. An experiment supplies
a `Problem`.

Under one seed every method sees the same initial values, batches, dropout masks and schedule.
Batches and projection orders are drawn anew for each epoch from a stream of (seed, epoch), so a
resumed run needs no history for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from multitask.averages import Averages
from multitask.methods import DynamicAverage, Method
from multitask.runs.checkpoint import Session, State
from multitask.runs.errors import require_finite
from multitask.runs.precision import computing
from multitask.runs.records import Records
from multitask.runs.seeding import generator
from pcgrad import Weighting, backward, fixed_orders, random_orders

Data = tuple[Tensor, ...]  # tensors with one row per example


@dataclass(frozen=True)
class Problem:
    """What an experiment gives the loop.

    `losses(batch, draw)` returns one scalar per task, at least in float32 whatever the precision of
    the forward pass; `draw` is the generator of dropout masks and other noise. Losses may share one forward pass or have one each (a task's own examples).
    `evaluate(data)` returns {(task, metric): value} and runs without gradients in evaluation mode.
    `shared` are the parameters under surgery; all others get the plain sum of their gradients.
    `batches(seed, epoch)` gives the rows of an epoch's batches; without it they are a permutation,
    cut."""

    tasks: tuple[str, ...]
    model: nn.Module
    shared: Sequence[nn.Parameter]
    train: Data
    evaluations: Mapping[str, Data]  # name of the split ("test", "validation") -> data
    losses: Callable[[Data, Generator], Sequence[Tensor]]
    evaluate: Callable[[Data], Mapping[tuple[str, str], float]]
    batches: Callable[[int, int], Sequence[Tensor]] | None = None


def epoch_batches(examples: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Indices of the batches of one epoch, a permutation by seed and epoch alone; the last batch
    may be short.
    """
    return torch.randperm(examples, generator=generator(seed, f"batch/{epoch}")).split(batch_size)


def epoch_orders(kind: str, tasks: int, batches: int, seed: int, epoch: int) -> Tensor:
    """Projection orders [batches, T, T-1] of one epoch: "random" per task, one "shared"
    permutation, or "fixed".
    """
    if kind == "fixed":
        return fixed_orders(tasks).expand(batches, -1, -1)
    return random_orders(
        tasks, generator(seed, f"order/{epoch}"), batch=(batches,), shared=kind == "shared"
    )


def make_optimizer(
    parameters: Sequence[nn.Parameter], settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """SGD with momentum or Adam, both with an L2 penalty; the learning rate is set anew at every
    epoch.
    """
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(
            parameters, lr=rate, momentum=settings["momentum"], weight_decay=decay
        )
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)


class Fit:
    """One run of one method under one seed: the moving parts and their state."""

    def __init__(
        self, problem: Problem, method: Method, seed: int, settings: Mapping[str, Any]
    ) -> None:
        self.problem, self.method, self.seed, self.settings = problem, method, seed, settings
        self.device = problem.train[0].device
        self.weighting = self.method.losses(len(problem.tasks)).to(next(problem.model.parameters()))
        shared = {id(parameter) for parameter in problem.shared}
        self.everything = [*problem.model.parameters(), *self.weighting.parameters()]
        self.own = [parameter for parameter in self.everything if id(parameter) not in shared]
        self.optimizer = make_optimizer(self.everything, settings)
        self.dropout = generator(seed, "dropout")
        self.averages = Averages(problem.tasks, self.device)
        self.records = Records()
        self.epoch, self.step = 1, 0  # the next step to take; epochs count from 1

    def state(self) -> State:
        """All that a resumed run needs; refused if a loss or gradient was not finite."""
        self.check()
        return {
            "model": self.problem.model.state_dict(),
            "weighting": self.weighting.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "dropout": self.dropout.get_state(),
            "averages": self.averages.state(),
            "rows": self.records.rows,
            "epoch": self.epoch,
            "step": self.step,
        }

    def restore(self, state: State) -> None:
        """Continue from `state`."""
        self.problem.model.load_state_dict(state["model"])
        self.weighting.load_state_dict(state["weighting"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.dropout.set_state(state["dropout"])
        self.averages.restore(state["averages"])
        self.records = Records(state["rows"])
        self.epoch, self.step = state["epoch"], state["step"]
        # Checkpoints are taken after the steps of an epoch.
        if not 1 <= self.epoch <= self.settings["epochs"] or self.step < 1:
            raise ValueError(f"epoch {self.epoch}, step {self.step}")

    def check(self) -> None:
        """Stop with the task's name if a loss or gradient since the epoch's start was not finite."""
        require_finite(self.averages.faults(), f"epoch {self.epoch}, step {self.step}")

    def update(self, batch: Data, orders: Tensor) -> None:
        """One step: losses, gradients by the method, optimizer."""
        self.optimizer.zero_grad()
        with computing(self.settings["precision"], self.device):
            raw = self.problem.losses(batch, self.dropout)
        self.averages.add_losses(raw, len(batch[0]))
        losses = self.weighting(raw)
        weigh = self.method.gradients
        if weigh is None:
            torch.stack(losses).sum().backward()
        else:
            reduction = self.settings["reduction"]
            weighting: Weighting = lambda gramian: weigh(gramian, orders, reduction)  # noqa: E731
            result = backward(
                losses, self.problem.shared, own_parameters=self.own, weighting=weighting
            )
            self.averages.add_gradients(result.gramian, result.weights)
        if self.settings["clip_norm"]:
            nn.utils.clip_grad_norm_(self.everything, self.settings["clip_norm"])
        self.optimizer.step()

    def train_epoch(self, session: Session) -> None:
        """The steps of the current epoch that are not done yet; each ends where a checkpoint may be
        taken.
        """
        settings, problem = self.settings, self.problem
        # Epochs 1 to decay_every - 1 run at the full rate: the public code decays before its 10th
        # epoch.
        rate = settings["learning_rate"] * settings["decay"] ** (
            self.epoch // settings["decay_every"]
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if problem.batches is None:
            batches: Sequence[Tensor] = epoch_batches(
                len(problem.train[0]), settings["batch_size"], self.seed, self.epoch
            )
        else:
            batches = problem.batches(self.seed, self.epoch)
        orders = epoch_orders(
            settings["order"], len(problem.tasks), len(batches), self.seed, self.epoch
        )
        orders = orders.to(self.device)
        problem.model.train()
        if self.step > len(batches):
            raise session.damaged(f"step {self.step} of {len(batches)}")
        while self.step < len(batches):
            rows = batches[self.step].to(self.device, non_blocking=True)
            self.update(tuple(part[rows] for part in problem.train), orders[self.step])
            self.step += 1
            if self.step % settings["log_every"] == 0:
                self.check()
            session.tick(self.state)

    @torch.no_grad()
    def evaluate(self, epoch: int) -> None:
        """Record every metric of every split."""
        self.problem.model.eval()
        for split, data in self.problem.evaluations.items():
            with computing(self.settings["precision"], self.device):
                values = self.problem.evaluate(data)
            require_finite(
                {f"{task} ({metric})": v for (task, metric), v in values.items()},
                f"epoch {epoch}, {split}",
            )
            for (task, metric), value in values.items():
                self.records.add(epoch, task, f"{split}_{metric}", value)

    def end_epoch(self) -> None:
        """Record the epoch's averages and, every so many epochs and after the last, the metrics;
        move on.
        """
        self.check()
        self.averages.record(self.records, self.epoch)
        if isinstance(self.weighting, DynamicAverage):
            self.weighting.end_epoch(self.averages.mean_losses())
        if (
            self.epoch % self.settings["evaluate_every"] == 0
            or self.epoch == self.settings["epochs"]
        ):
            self.evaluate(self.epoch)
        self.averages.reset()
        self.epoch, self.step = self.epoch + 1, 0


def fit(
    problem: Problem, method: Method, seed: int, settings: Mapping[str, Any], session: Session
) -> Records:
    """Train `problem` by `method` and return its records; resumes from the session's checkpoint."""
    run = Fit(problem, method, seed, settings)
    saved = session.load(like=run.state())
    if saved is None:
        run.evaluate(0)
    else:
        with session.restoring():
            run.restore(saved)
    epochs = settings["epochs"]
    for _ in tqdm(range(run.epoch, epochs + 1), desc=f"seed {seed}", unit="epoch", disable=None):
        run.train_epoch(session)
        run.end_epoch()
    return run.records
