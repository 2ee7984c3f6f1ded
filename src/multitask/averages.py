"""An epoch's averages: losses and the geometry of task gradients.

They are accumulated on the device, without waiting for it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from multitask.runs.checkpoint import State
from multitask.runs.records import Records
from pcgrad import conflicting, cosine, magnitude_similarity

GEOMETRY = ("cosine", "conflict_share", "magnitude_similarity", "length_ratio")


class Averages:
    """Sums and counts of one epoch.

    Recorded per epoch:

    - per task: `train_loss`, the mean over examples before loss weights;
    - for "all", means over pairs and steps: `cosine` (Definition 1), `conflict_share`,
      `magnitude_similarity` (Definition 2);
    - for "all", the mean over steps: `length_ratio`, ||update|| / ||sum of the task gradients|| on
      the shared parameters.

    Values that are undefined for a zero gradient are left out.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device) -> None:
        self.tasks, self.device = tuple(tasks), device
        self.reset()

    def reset(self) -> None:
        """Starts an epoch."""
        zeros = {"losses": len(self.tasks), "sums": len(GEOMETRY), "counts": len(GEOMETRY)}
        self.parts = {
            name: torch.zeros(n, dtype=torch.float64, device=self.device)
            for name, n in zeros.items()
        }
        self.parts["faulty"] = torch.zeros(len(self.tasks), dtype=torch.bool, device=self.device)
        self.examples = 0

    def add_losses(self, losses: Sequence[Tensor], examples: int) -> None:
        """Adds mean losses over `examples` examples."""
        # In float64: the sum of an epoch's losses is long.
        values = torch.stack([loss.detach() for loss in losses]).double()
        self._watch(values)
        # Weighted by examples, because the last batch may be short.
        self.parts["losses"] += values * examples
        self.examples += examples

    def add_gradients(self, gramian: Tensor, weights: Tensor) -> None:
        """Adds task gradients by their Gramian [T, T] and the weights [T] of the update."""
        self._watch(gramian.diagonal())
        # Every pair once: the measures are symmetric.
        pairs = torch.triu_indices(len(self.tasks), len(self.tasks), offset=1, device=self.device)
        ratio = ((weights @ gramian @ weights) / gramian.sum()).sqrt()
        measured = [
            cosine(gramian)[pairs[0], pairs[1]],
            conflicting(gramian)[pairs[0], pairs[1]].double(),
            magnitude_similarity(gramian)[pairs[0], pairs[1]],
            # Opposite gradients have a sum without length: the ratio is undefined.
            torch.where(ratio.isfinite(), ratio, torch.nan),
        ]
        # Sums and counts stay on the device: reading them would wait for it at every step.
        self.parts["sums"] += torch.stack([values.nansum() for values in measured])
        self.parts["counts"] += torch.stack(
            [values.isnan().logical_not().sum() for values in measured]
        )

    def _watch(self, values: Tensor) -> None:
        """Marks the tasks that are the first to be not finite."""
        now = values.isfinite().logical_not()
        # The next update spoils all tasks, so nothing is marked once there is a mark.
        self.parts["faulty"] |= now & self.parts["faulty"].any().logical_not()

    def faults(self) -> dict[str, float]:
        """Returns nan for the tasks that were the first to be not finite, 0 for the others.

        This waits for the device once.
        """
        return {
            task: math.nan if bad else 0.0
            for task, bad in zip(self.tasks, self.parts["faulty"].tolist(), strict=True)
        }

    def mean_losses(self) -> Tensor:
        """Returns the epoch's average loss per task [T], before loss weights."""
        return self.parts["losses"] / self.examples

    def record(self, records: Records, epoch: int) -> None:
        """Records the epoch's averages; a measure without any defined value has no row."""
        for task, loss in zip(self.tasks, self.mean_losses().tolist(), strict=True):
            records.add(epoch, task, "train_loss", loss)
        sums, counts = self.parts["sums"].tolist(), self.parts["counts"].tolist()
        for metric, total, count in zip(GEOMETRY, sums, counts, strict=True):
            # A metric that was undefined at every step has no mean.
            if count:
                records.add(epoch, "all", metric, total / count)

    def state(self) -> State:
        """Returns what a checkpoint needs."""
        return {**self.parts, "examples": self.examples}

    def restore(self, state: State) -> None:
        """Restores what `state` returned."""
        self.parts = {name: state[name].to(self.device) for name in self.parts}
        self.examples = state["examples"]
