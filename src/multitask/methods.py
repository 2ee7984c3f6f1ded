"""What the methods of a comparison do differently: loss weights, and how task gradients become one update.

Everything else (initial values, batches, dropout masks, schedule, optimizer) is the same under one seed. The two
choices are independent, so that a table can pair them (the paper's NYUv2 row is uncertainty weights with PCGrad).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pcgrad import direction_only, surgery


@dataclass(frozen=True)
class Method:
    """`losses`: weights before the gradients are taken; `gradients`: from the task gradients to one update."""

    losses: str = "equal"
    gradients: str = "sum"


METHODS = {
    "single_task": Method(),  # a network of its own for every task; the experiment builds it
    "sum": Method(),
    "uncertainty": Method(losses="uncertainty"),
    "mgda": Method(gradients="mgda"),
    "pcgrad": Method(gradients="pcgrad"),
    "direction_only": Method(gradients="direction_only"),
}


class Uncertainty(nn.Module):
    """Homoscedastic uncertainty weights, L_i / (2 exp(s_i)) + s_i / 2 with learned s_i (Kendall et al. 2018).

    The form and the start s_i = -1/2 are those of MTAN's public code (im2im_pred/utils.py), the paper's base.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.full((tasks,), -0.5))

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """The weighted losses; their sum is what the method minimizes."""
        pairs = zip(losses, self.log_variances, strict=True)
        return [loss / (2 * s.exp()) + s / 2 for loss, s in pairs]


class Equal(nn.Module):
    """Losses as they are: the plain sum of Section 2.1."""

    def forward(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """The losses, unchanged."""
        return list(losses)


def loss_weighting(kind: str, tasks: int) -> nn.Module:
    """The module that weights the losses; its parameters, if any, are trained beside the model's."""
    return Uncertainty(tasks) if kind == "uncertainty" else Equal()


def update_weights(kind: str, gramian: Tensor, orders: Tensor, reduction: str) -> Tensor:
    """Weights w [T] of the task gradients, from their Gramian: the shared parameters' gradient is sum_j w_j g_j.

    "mgda": the shortest vector of the convex hull, by Frank-Wolfe as in Sener and Koltun (2018, Algorithm 2), on the
    gradients as they are: its authors' setting for MultiMNIST is `normalization_type=none` (issue 14 of
    isl-org/MultiObjectiveOptimization). "direction_only": PCGrad's direction at the length of the plain sum.
    """
    if kind == "mgda":
        from torchjd.aggregation import MGDAWeighting

        return MGDAWeighting()(gramian)
    weights = surgery(gramian, orders, reduction=reduction).weights
    return weights if kind == "pcgrad" else direction_only(gramian, weights)
