"""The compared methods, with GradNorm and CosReg, which no surgery expresses."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Method:
    """What a method changes; everything else is equal for all methods."""

    # none, pcgrad, or one of its ablations direction_only, magnitude_only (Figure 3, right)
    surgery: str = "none"
    # what every task has for itself: nothing, head (the output layers), all (independent networks)
    own: str = "nothing"
    # visiting order that replaces the config's
    order: str = ""
    gradnorm: bool = False
    cosreg: bool = False
    # divide each task's rewards by their standard deviation in its buffer
    normalize_rewards: bool = False
    # L2 penalty `weight_decay` on actor and critics
    decay: bool = False


METHODS = {
    "sac": Method(),
    "sac_pcgrad": Method(surgery="pcgrad"),
    "sac_pcgrad_fixed": Method(surgery="pcgrad", order="fixed"),
    "multihead_sac": Method(own="head"),
    "multihead_sac_pcgrad": Method(surgery="pcgrad", own="head"),
    "independent": Method(own="all"),
    "direction_only": Method(surgery="direction_only"),
    "magnitude_only": Method(surgery="magnitude_only"),
    "gradnorm": Method(gradnorm=True),
    "cosreg": Method(cosreg=True),
    # Kurin et al. 2022 attribute the gains over plain SAC to these instead of to surgery.
    "sac_reward_normalized": Method(normalize_rewards=True),
    "sac_pcgrad_reward_normalized": Method(surgery="pcgrad", normalize_rewards=True),
    "sac_weight_decay": Method(decay=True),
    # The same methods under other settings: see VARIANTS.
    "sac_float32": Method(),
    "sac_pcgrad_float32": Method(surgery="pcgrad"),
    "sac_v2": Method(),
    "sac_pcgrad_v2": Method(surgery="pcgrad"),
}


# Settings that replace the config's in rows whose names have these endings.
VARIANTS: dict[str, dict[str, Any]] = {
    # The reference for bfloat16.
    "_float32": {"precision": "float32"},
    # Meta-World's later rewards.
    "_v2": {"reward_function_version": "v2"},
}


def settings_of_row(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the config's settings with those that the row replaces."""
    own = next((own for ending, own in VARIANTS.items() if name.endswith(ending)), {})
    return {**settings, **own}


class GradNorm:
    """Weights w_t of the task gradients of N networks (Chen et al. 2018, Algorithm 1).

    An update takes one step on

        minimize over w   Σ_t |w_t‖g_t‖ − c_t|
        c_t = mean_s(w_s‖g_s‖) r_t^a                     held constant
        r_t = (L_t/L_t(0)) / mean_s(L_s/L_s(0))          training rate

    and then scales the weights so that they sum to T.
    """

    # A weight of zero would have no gradient and could not grow again.
    SMALLEST = 1e-3

    def __init__(
        self, settings: dict[str, Any], networks: int, tasks: int, dtype: torch.dtype, device: Any
    ) -> None:
        self.asymmetry = settings["gradnorm_alpha"]
        self.weights = torch.ones(networks, tasks, dtype=dtype, device=device)
        # Zero marks losses that are not measured yet.
        self.first_losses = torch.zeros_like(self.weights)
        self.optimizer = torch.optim.Adam([self.weights], lr=settings["gradnorm_rate"])

    def update(self, norms: Tensor, losses: Tensor | None) -> Tensor:
        """Moves the weights by the norms ‖g_t‖ `[N, T]` and returns a copy of them.

        If `losses` is None, all tasks have equal training rates.
        """
        target = (self.weights * norms).mean(-1, keepdim=True)
        if losses is not None:
            self.first_losses = torch.where(
                self.first_losses == 0, losses.detach(), self.first_losses
            )
            progress = losses.detach() / self.first_losses
            target = target * (progress / progress.mean(-1, keepdim=True)) ** self.asymmetry
        # The derivative of |w_t‖g_t‖ − c_t| in w_t, with c_t constant.
        self.weights.grad = norms * (self.weights * norms - target).sign()
        self.optimizer.step()
        self.weights.clamp_min_(self.SMALLEST)
        self.weights *= self.weights.shape[-1] / self.weights.sum(-1, keepdim=True)
        return self.weights.clone()

    def state(self) -> dict[str, Any]:
        """Returns all that a checkpoint needs."""
        return {
            "weights": self.weights,
            "first_losses": self.first_losses,
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.weights.copy_(state["weights"])
        self.first_losses.copy_(state["first_losses"])
        self.optimizer.load_state_dict(state["optimizer"])


def cosine_penalty(gradients: Tensor) -> Tensor:
    """Returns CosReg's penalty (Suteu and Guo 2019), summed over networks.

        ‖Ĝ Ĝᵀ − I‖²_F / (T (T − 1)),   rows of Ĝ: task gradients of length 1

    Args:
        gradients: Task gradients `[N, T, ...]`, differentiable.
    """
    tasks = gradients.shape[1]
    unit = torch.nn.functional.normalize(gradients.flatten(2), dim=-1)
    # The diagonal of Ĝ Ĝᵀ is 1 and cancels with I, so the mask replaces the subtraction.
    off_diagonal = unit @ unit.mT * (1 - torch.eye(tasks, dtype=unit.dtype, device=unit.device))
    return off_diagonal.square().sum() / max(1, tasks * (tasks - 1))
