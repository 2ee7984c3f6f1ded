"""What the methods of a comparison do differently: loss weights, and how task gradients become one
update.

Everything else (initial values, batches, dropout masks, schedule, optimizer) is the same under one
seed. The two choices are independent, so that a table can pair them (the paper's NYUv2 row is
uncertainty weights with PCGrad)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pcgrad import Weighting, direction_only, magnitude_only, surgery


@dataclass(frozen=True)
class Method:
    """`losses`: weights before the gradients are taken; `gradients`: from the task gradients to one
    update.
    """

    losses: str = "equal"
    gradients: str = "sum"


METHODS = {
    "single_task": Method(),  # a network of its own for every task; the experiment builds it
    "sum": Method(),
    "uncertainty": Method(losses="uncertainty"),
    "mgda": Method(gradients="mgda"),
    "cagrad": Method(gradients="cagrad"),
    "nash_mtl": Method(gradients="nash_mtl"),
    "upgrad": Method(gradients="upgrad"),
    "pcgrad": Method(gradients="pcgrad"),
    "direction_only": Method(gradients="direction_only"),
    "sum_pcgrad_length": Method(gradients="magnitude_only"),
}


class Uncertainty(nn.Module):
    """Homoscedastic uncertainty weights, L_i / (2 exp(s_i)) + s_i / 2 with learned s_i (Kendall et
    al. 2018).

    The form and the start s_i = -1/2 are those of MTAN's public code (im2im_pred/utils.py), the
    paper's base."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.full((tasks,), -0.5))

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """The weighted losses; their sum is what the method minimizes."""
        pairs = zip(losses, self.log_variances, strict=True)
        return [loss / (2 * s.exp()) + s / 2 for loss, s in pairs]


class DynamicAverage(nn.Module):
    """Dynamic weight averaging (Liu et al. 2019, equation 7): T exp(r_i / 2) / sum_k exp(r_k / 2),
    temperature 2.

    r_i is the ratio of task i's average losses over the last two epochs; 1 in the first two.
    Weights sum to T."""

    TEMPERATURE = 2.0
    history: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        # In float64 as recorded: rows are the epoch before last and the last one; nan before there
        # is any.
        self.register_buffer("history", torch.full((2, tasks), torch.nan, dtype=torch.float64))

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """The weighted losses."""
        ratios = (self.history[1] / self.history[0]).nan_to_num(1.0)
        weights = len(losses) * (ratios / self.TEMPERATURE).softmax(0)
        return [loss * weight.to(loss) for loss, weight in zip(losses, weights, strict=True)]

    def end_epoch(self, averages: Tensor) -> None:
        """Take note of an epoch's average losses [T], before weights."""
        self.history = torch.stack([self.history[1], averages.to(self.history)])


class Equal(nn.Module):
    """Losses as they are: the plain sum of Section 2.1."""

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """The losses, unchanged."""
        return list(losses)


def loss_weighting(kind: str, tasks: int) -> nn.Module:
    """The module that weights the losses; its parameters, if any, are trained beside the model's."""
    if kind == "uncertainty":
        return Uncertainty(tasks)
    return DynamicAverage(tasks) if kind == "dwa" else Equal()


def gradient_weighting(kind: str, orders: Tensor, reduction: Literal["sum", "mean"]) -> Weighting:
    """How a method weights task gradients: from their Gramian [T, T] to w [T], update sum_j w_j g_j.

    "pcgrad": Algorithm 1. "direction_only": its direction at the length of the plain sum.
    "magnitude_only": the plain sum's direction at the length of Algorithm 1's update. The others come from torchjd: "mgda": the shortest vector of the convex hull, by Frank-Wolfe as in
    Sener and Koltun (2018, Algorithm 2), on the gradients as they are: its authors' setting for
    MultiMNIST is `normalization_type=none` (issue 14 of isl-org/MultiObjectiveOptimization).
    "cagrad" (Liu et al. 2021, c = 0.4) and "upgrad" (Quinton and Rey 2024) are stated for the mean
    of the losses; here they carry the factor T of the sum. "nash_mtl" (Navon et al. 2022): an
    update of length 1 at most, as in its public code, solved anew at every step instead of from the
    last step's solution, so that a resumed run needs no history.
    """

    def weights(gramian: Tensor) -> Tensor:
        if kind in ("pcgrad", "direction_only", "magnitude_only"):
            found = surgery(gramian, orders, reduction=reduction).weights
            if kind == "pcgrad":
                return found
            ablation = direction_only if kind == "direction_only" else magnitude_only
            return ablation(gramian, found)
        if not gramian.diagonal().isfinite().all():
            # Solvers would fail without naming the task; the loop names it.
            return torch.full_like(gramian.diagonal(), torch.nan)
        return _peer(kind, len(gramian))(gramian)

    return weights


@cache
def _peer(kind: str, tasks: int) -> Weighting:
    """torchjd's weights of a Gramian [T, T]; kept, because setting up a solver costs more than
    using it.
    """
    from torchjd import aggregation as peers

    if kind == "mgda":
        return peers.MGDAWeighting()
    if kind in ("cagrad", "upgrad"):
        weighting = peers.CAGradWeighting(c=0.4) if kind == "cagrad" else peers.UPGradWeighting()
        return lambda gramian: tasks * weighting(gramian)
    return partial(
        _nash, peers.NashMTL(n_tasks=tasks, max_norm=1.0, update_weights_every=1).weighting
    )


def _nash(weighting: Any, gramian: Tensor) -> Tensor:
    """Nash-MTL takes gradients: any matrix with their Gramian will do."""
    values, vectors = torch.linalg.eigh(gramian)
    weighting.prvs_alpha = np.ones(len(gramian), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cvxpy on the problem's form, and on zero gradients
        return weighting(vectors * values.clamp(min=0).sqrt())
