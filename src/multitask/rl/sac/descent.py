"""Turns the task gradients of a network into a step: Gramian, weights, gradient, Adam."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from multitask.rl.sac.methods import GradNorm, Method
from multitask.rl.sac.passes import Network
from pcgrad import direction_only, gramian, magnitude_only, surgery


class Descent:
    """The optimizer of one network (actor or critics), with a method's weights of the tasks."""

    def __init__(self, settings: dict[str, Any], method: Method, network: Network) -> None:
        self.method, self.network, self.reduction = method, network, settings["reduction"]
        # Only the critics can be joined: the actor is a network of one member.
        self.joint = settings["critic_surgery"] == "joint" and network.members > 1
        self.optimizer = torch.optim.Adam(
            network.packed,
            lr=settings["learning_rate"],
            weight_decay=settings["weight_decay"] if method.decay else 0.0,
            fused=True,
        )
        parameter = network.parameters[0]
        self.gradnorm = (
            GradNorm(settings, network.members, network.tasks, parameter.dtype, parameter.device)
            if method.gradnorm
            else None
        )

    def step(
        self,
        orders: Tensor,
        losses: Tensor | None = None,
        penalty: Sequence[Tensor | None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Takes one step from the task gradients in the network's `stacks`.

        Shared parameters get Σ_t w_t g_t, a task's own parameters their plain gradient.

        Args:
            orders: Visiting orders `[N, T, T-1]`.
            losses: Losses `[N, T]` from which GradNorm takes training rates; None takes equal
                rates.
            penalty: Gradients to add, one per parameter.

        Returns:
            The Gramians `[N, T, T]` and the weights `[N, T]` that were used.
        """
        network = self.network
        gramians = self.gramians()
        weights = self.weigh(gramians, orders)
        if self.gradnorm is not None:
            norms = network.stacks[network.last_shared_weight()].flatten(2).norm(dim=-1)
            # GradNorm balances the gradients of the last shared layer (choice 13).
            weights = weights * self.gradnorm.update(norms, losses)
        network.weigh(weights)
        for gradient, extra in zip(network.gradients, penalty or (), strict=False):
            if extra is not None:
                gradient += extra
        self.optimizer.step()
        # The hidden layers may read copies of the parameters in another dtype.
        network.refresh()
        return gramians, weights

    def gramians(self) -> Tensor:
        """Returns the products of the task gradients, `[N, T, T]` in float64.

        They are taken over the shared parameters, or over all parameters if none are shared.
        """
        network = self.network
        if network.shared_stack is not None:
            return torch.stack([gramian([stack]) for stack in network.shared_stack])
        # Different tasks have no parameter in common, so the Gramian is diagonal.
        squares = [stack.flatten(2).double().square().sum(-1) for stack in network.stacks]
        return torch.diag_embed(torch.stack(squares).sum(0))

    def weigh(self, gramians: Tensor, orders: Tensor) -> Tensor:
        """Returns the weights `[N, T]` of the task gradients in the update of each member."""
        tasks = gramians.shape[-1]
        if self.method.surgery == "none" or self.method.own == "all":
            plain = 1.0 if self.reduction == "sum" else 1 / tasks
            return torch.full_like(gramians[..., 0], plain)
        # The Gramian of concatenated vectors is the sum of their Gramians.
        seen = gramians.sum(0, keepdim=True) if self.joint else gramians
        visited = orders[:1] if self.joint else orders
        # On the CPU a few tasks are faster without the batch dimension.
        if gramians.device.type == "cpu":
            pairs = zip(seen, visited, strict=True)
            found = [surgery(g, o, reduction=self.reduction).weights for g, o in pairs]
            weights = torch.stack(found)
        else:
            weights = surgery(seen, visited, reduction=self.reduction).weights
        if self.method.surgery == "direction_only":
            weights = direction_only(seen, weights)
        elif self.method.surgery == "magnitude_only":
            weights = magnitude_only(seen, weights)
        # With joint surgery both critics use the same weights.
        return weights.expand(len(gramians), -1)

    def state(self) -> dict[str, Any]:
        """Returns all that a checkpoint needs."""
        return {
            "parameters": self.network.parameters,
            "optimizer": self.optimizer.state_dict(),
            # A resumed run continues with the weights that GradNorm has reached.
            "gradnorm": None if self.gradnorm is None else self.gradnorm.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.network.load(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.gradnorm is not None:
            self.gradnorm.load(state["gradnorm"])
