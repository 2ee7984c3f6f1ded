"""Trains a `Problem` with one method: epochs, schedule, records, checkpoints.

Under one seed every method sees the same initial values, batches, dropout masks and schedule.
Batches and projection orders are drawn for each epoch from a stream of (seed, epoch), so a resumed
run needs no history of them.
"""

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

# Tensors with one row per example.
Data = tuple[Tensor, ...]


@dataclass(frozen=True)
class Problem:
    """The data, model, losses and metrics that an experiment gives to the loop.

    Attributes:
        tasks: Names of the tasks.
        model: The network; the loop switches it between training and evaluation mode.
        shared: The parameters under surgery. All others get the plain sum of their gradients.
        train: Training data.
        evaluations: Data of every split that is evaluated, by the split's name.
        losses: `losses(batch, draw)` returns one scalar per task, in float32 or longer for any
            precision of the forward pass. `draw` generates dropout masks and other noise. The
            losses may share one forward pass or have one each.
        evaluate: `evaluate(data)` returns {(task, metric): value}. The loop calls it without
            gradients and in evaluation mode.
        batches: `batches(seed, epoch)` returns the rows of each batch of an epoch. By default a
            random permutation is cut into batches.
    """

    tasks: tuple[str, ...]
    model: nn.Module
    shared: Sequence[nn.Parameter]
    train: Data
    evaluations: Mapping[str, Data]
    losses: Callable[[Data, Generator], Sequence[Tensor]]
    evaluate: Callable[[Data], Mapping[tuple[str, str], float]]
    batches: Callable[[int, int], Sequence[Tensor]] | None = None


def epoch_batches(examples: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Returns the rows of each batch of an epoch; the last batch may be short.

    The permutation depends on the seed and the epoch alone.
    """
    return torch.randperm(examples, generator=generator(seed, f"batch/{epoch}")).split(batch_size)


def epoch_orders(kind: str, tasks: int, batches: int, seed: int, epoch: int) -> Tensor:
    """Returns the projection orders [batches, T, T-1] of one epoch.

    Args:
        kind: "random" draws one order per task, "shared" one permutation for all tasks, "fixed"
            takes the tasks as numbered.
        tasks: Number of tasks T.
        batches: Number of updates in the epoch.
        seed: Seed of the run.
        epoch: Number of the epoch, from 1.
    """
    if kind == "fixed":
        return fixed_orders(tasks).expand(batches, -1, -1)
    return random_orders(
        tasks, generator(seed, f"order/{epoch}"), batch=(batches,), shared=kind == "shared"
    )


def make_optimizer(
    parameters: Sequence[nn.Parameter], settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Returns SGD with momentum or Adam, both with an L2 penalty.

    The loop sets the learning rate at the start of every epoch.
    """
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(
            parameters, lr=rate, momentum=settings["momentum"], weight_decay=decay
        )
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)


class Fit:
    """One run of one method under one seed."""

    def __init__(
        self, problem: Problem, method: Method, seed: int, settings: Mapping[str, Any]
    ) -> None:
        self.problem, self.method, self.seed, self.settings = problem, method, seed, settings
        self.device = problem.train[0].device
        # The weights of the losses may be learned: they belong on the model's device.
        self.weighting = self.method.losses(len(problem.tasks)).to(next(problem.model.parameters()))
        # Compare by identity: `==` on tensors compares their elements.
        shared = {id(parameter) for parameter in problem.shared}
        # Learned loss weights train together with the network, but are never shared.
        self.everything = [*problem.model.parameters(), *self.weighting.parameters()]
        self.own = [parameter for parameter in self.everything if id(parameter) not in shared]
        self.optimizer = make_optimizer(self.everything, settings)
        self.dropout = generator(seed, "dropout")
        self.averages = Averages(problem.tasks, self.device)
        self.records = Records()
        # The next step to take; epochs count from 1.
        self.epoch, self.step = 1, 0

    def state(self) -> State:
        """Returns all that a resumed run needs.

        Raises:
            UserError: A loss or a gradient was not finite.
        """
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
        """Restores what `state` returned."""
        self.problem.model.load_state_dict(state["model"])
        self.weighting.load_state_dict(state["weighting"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.dropout.set_state(state["dropout"])
        self.averages.restore(state["averages"])
        self.records = Records(state["rows"])
        self.epoch, self.step = state["epoch"], state["step"]
        # Checkpoints are taken after a step, so a sound one has at least one step and an epoch of
        # this run.
        if not 1 <= self.epoch <= self.settings["epochs"] or self.step < 1:
            raise ValueError(f"epoch {self.epoch}, step {self.step}")

    def check(self) -> None:
        """Raises a UserError if a loss or gradient of this epoch was not finite."""
        require_finite(self.averages.faults(), f"epoch {self.epoch}, step {self.step}")

    def update(self, batch: Data, orders: Tensor) -> None:
        """Takes one step: losses, gradients by the method, optimizer."""
        self.optimizer.zero_grad()
        with computing(self.settings["precision"], self.device):
            # Only the forward pass runs in low precision; weighting and surgery stay outside.
            raw = self.problem.losses(batch, self.dropout)
        self.averages.add_losses(raw, len(batch[0]))
        # The records hold the raw losses; the method sees the weighted ones.
        losses = self.weighting(raw)
        weigh = self.method.gradients
        if weigh is None:
            # Methods that only weight losses need no task gradients: one backward pass is enough.
            torch.stack(losses).sum().backward()
        else:
            reduction = self.settings["reduction"]
            weighting: Weighting = lambda gramian: weigh(gramian, orders, reduction)  # noqa: E731
            result = backward(
                losses, self.problem.shared, own_parameters=self.own, weighting=weighting
            )
            # The backward pass has computed the Gramian for surgery; recording it costs nothing
            # more.
            self.averages.add_gradients(result.gramian, result.weights)
        # Clip after surgery, so that the limit applies to the gradient that is used.
        if self.settings["clip_norm"]:
            nn.utils.clip_grad_norm_(self.everything, self.settings["clip_norm"])
        self.optimizer.step()

    def train_epoch(self, session: Session) -> None:
        """Takes the remaining steps of the current epoch.

        A checkpoint may be written after each step.
        """
        settings, problem = self.settings, self.problem
        # Epochs 1 to decay_every - 1 run at the full rate, as in the public code, which decays
        # before its 10th epoch.
        # Computed from the epoch instead of kept by a scheduler: a resumed run needs no state for
        # it.
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
        # All orders of the epoch at once: one transfer to the device instead of one per step.
        orders = epoch_orders(
            settings["order"], len(problem.tasks), len(batches), self.seed, self.epoch
        )
        orders = orders.to(self.device)
        # An evaluation has left the model in evaluation mode.
        problem.model.train()
        # A checkpoint may be written after the last step of an epoch, so equality is sound.
        if self.step > len(batches):
            # The number of batches is known only here, not when the checkpoint is read.
            raise session.damaged(f"step {self.step} of {len(batches)}")
        while self.step < len(batches):
            rows = batches[self.step].to(self.device, non_blocking=True)
            # The data are on the device already: only row numbers move.
            self.update(tuple(part[rows] for part in problem.train), orders[self.step])
            self.step += 1
            # The check waits for the device, so it is not made at every step.
            if self.step % settings["log_every"] == 0:
                self.check()
            # Passed as a function: the state is built only when a checkpoint is due.
            session.tick(self.state)

    @torch.no_grad()
    def evaluate(self, epoch: int) -> None:
        """Records every metric of every split."""
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
        """Records the epoch's averages, evaluates when due, and moves to the next epoch.

        The metrics are measured every `evaluate_every` epochs and after the last one.
        """
        self.check()
        self.averages.record(self.records, self.epoch)
        # Its weights of the next epoch depend on this epoch's average losses.
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
    """Trains `problem` by `method` and returns the records.

    The run resumes from the session's checkpoint if there is one.
    """
    run = Fit(problem, method, seed, settings)
    # The state of a fresh run is the pattern that a checkpoint must match.
    saved = session.load(like=run.state())
    if saved is None:
        # Epoch 0 holds the metrics of the initial values.
        run.evaluate(0)
    else:
        # The checkpoint has passed its checksum and form; what fails now means that it is damaged.
        with session.restoring():
            run.restore(saved)
    epochs = settings["epochs"]
    for _ in tqdm(range(run.epoch, epochs + 1), desc=f"seed {seed}", unit="epoch", disable=None):
        run.train_epoch(session)
        run.end_epoch()
    return run.records
