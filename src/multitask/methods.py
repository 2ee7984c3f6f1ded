"""Methods of the comparisons: how losses are weighted and gradients become one update.

Everything else (initial values, batches, dropout masks, schedule, optimizer) is the same under one
seed. The two choices are independent, so that a table can pair them: the paper's NYUv2 row is
uncertainty weights with PCGrad.

To add a method, add a row to METHODS and a class or function of its own. The code hash of a run
covers only what its row refers to, so the other runs stay valid.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pcgrad import Weighting, direction_only, magnitude_only, surgery

Reduction = Literal["sum", "mean"]


class Equal(nn.Module):
    """Leaves the losses as they are: the plain sum of Section 2.1."""

    def __init__(self, tasks: int) -> None:
        super().__init__()

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Returns the losses, unchanged."""
        return list(losses)


class Uncertainty(nn.Module):
    """Homoscedastic uncertainty weights with learned s_i (Kendall et al. 2018).

        L_i / (2 exp(s_i)) + s_i / 2

    The form and the start s_i = -1/2 are those of MTAN's public code (im2im_pred/utils.py), on
    which the paper builds.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.full((tasks,), -0.5))

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Returns the weighted losses; the method minimizes their sum."""
        pairs = zip(losses, self.log_variances, strict=True)
        return [loss / (2 * s.exp()) + s / 2 for loss, s in pairs]


class DynamicAverage(nn.Module):
    """Dynamic weight averaging (Liu et al. 2019, equation 7) with temperature 2.

        w_i = T exp(r_i / 2) / sum_k exp(r_k / 2)

    r_i is the ratio of task i's average losses over the last two epochs, and 1 in the first two
    epochs. The weights sum to T.
    """

    TEMPERATURE = 2.0
    history: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        # Rows: the epoch before last and the last one, nan until they exist. A buffer, so that
        # checkpoints hold it; float64, as the averages are.
        self.register_buffer("history", torch.full((2, tasks), torch.nan, dtype=torch.float64))

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Returns the weighted losses."""
        # A ratio that does not exist yet is nan and counts as 1.
        ratios = (self.history[1] / self.history[0]).nan_to_num(1.0)
        # softmax sums to 1, so the factor makes the weights sum to T.
        weights = len(losses) * (ratios / self.TEMPERATURE).softmax(0)
        return [loss * weight.to(loss) for loss, weight in zip(losses, weights, strict=True)]

    def end_epoch(self, averages: Tensor) -> None:
        """Stores an epoch's average losses [T], taken before weighting."""
        self.history = torch.stack([self.history[1], averages.to(self.history)])


def pcgrad(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """PCGrad (Algorithm 1)."""
    return surgery(gramian, orders, reduction=reduction).weights


def pcgrad_direction(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """The direction of Algorithm 1's update at the length of the plain sum."""
    # Lengths and products of updates follow from the Gramian; no gradient is formed here.
    return direction_only(gramian, pcgrad(gramian, orders, reduction))


def pcgrad_length(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """The direction of the plain sum at the length of Algorithm 1's update."""
    return magnitude_only(gramian, pcgrad(gramian, orders, reduction))


def mgda(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """MGDA: the shortest vector in the gradients' convex hull (Sener and Koltun 2018, Algorithm 2).

    It is found by Frank-Wolfe, on gradients that are not normalized: the authors' setting for
    MultiMNIST is `normalization_type=none` (issue 14 of isl-org/MultiObjectiveOptimization).
    """
    return _solved(_peer("MGDAWeighting"), gramian)


def cagrad(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """CAGrad with c = 0.4 (Liu et al. 2021).

    It is defined for the mean of the losses, hence the factor T.
    """
    return len(gramian) * _solved(_peer("CAGradWeighting", c=0.4), gramian)


def upgrad(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """UPGrad (Quinton and Rey 2024).

    It is defined for the mean of the losses, hence the factor T.
    """
    return len(gramian) * _solved(_peer("UPGradWeighting"), gramian)


def nash_mtl(gramian: Tensor, orders: Tensor, reduction: Reduction) -> Tensor:
    """Nash-MTL (Navon et al. 2022): an update of length at most 1, as in its public code.

    No step starts from the last step's solution, so that a resumed run needs no history.
    """
    tasks = len(gramian)
    weighting = _peer("NashMTL", n_tasks=tasks, max_norm=1.0, update_weights_every=1).weighting
    # `weighting` expects gradients instead of a Gramian: `_nash` makes a matrix with this Gramian.
    return _solved(partial(_nash, weighting), gramian)


@cache
def _peer(name: str, **options: Any) -> Any:
    """Returns an object of torchjd, built once because setting up a solver is slow."""
    # Imported here: runs of other methods do not need torchjd.
    from torchjd import aggregation

    return getattr(aggregation, name)(**options)


def _solved(weighting: Weighting, gramian: Tensor) -> Tensor:
    """Returns weights [T] for a Gramian [T, T]; nan if it is not finite."""
    # The solvers raise on such a Gramian; nan weights let the loop report the task instead.
    if not gramian.diagonal().isfinite().all():
        return torch.full_like(gramian.diagonal(), torch.nan)
    return weighting(gramian)


def _nash(weighting: Any, gramian: Tensor) -> Tensor:
    """Runs Nash-MTL, which expects gradients, on a matrix with their Gramian."""
    # V sqrt(λ) has the Gramian V λ Vᵀ; rounding may leave tiny negative eigenvalues.
    values, vectors = torch.linalg.eigh(gramian)
    # Discard the last solution, from which the solver would start.
    weighting.prvs_alpha = np.ones(len(gramian), dtype=np.float32)
    with warnings.catch_warnings():
        # cvxpy warns about the problem's form and about zero gradients.
        warnings.simplefilter("ignore")
        return weighting(vectors * values.clamp(min=0).sqrt())


@dataclass(frozen=True)
class Method:
    """How a method weights losses and combines gradients.

    Attributes:
        losses: Class of the module that weights the losses before their gradients are taken.
        gradients: Maps the Gramian [T, T], the orders and the reduction to the weights w [T] of the
            update sum_j w_j g_j; None takes the gradient of the summed losses.
    """

    losses: Callable[[int], nn.Module] = Equal
    gradients: Callable[[Tensor, Tensor, Reduction], Tensor] | None = None


METHODS = {
    # The experiment builds a network of its own for every task.
    "single_task": Method(),
    "sum": Method(),
    "uncertainty": Method(losses=Uncertainty),
    "mgda": Method(gradients=mgda),
    "cagrad": Method(gradients=cagrad),
    "nash_mtl": Method(gradients=nash_mtl),
    "upgrad": Method(gradients=upgrad),
    "pcgrad": Method(gradients=pcgrad),
    "direction_only": Method(gradients=pcgrad_direction),
    "sum_pcgrad_length": Method(gradients=pcgrad_length),
}
