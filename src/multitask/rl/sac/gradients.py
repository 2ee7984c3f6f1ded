"""Losses and task gradients of one update, by hand and by autograd.

Both routes compute the losses of `multitask.rl.sac.losses` and write the task gradients into the
networks' `stacks`. Training runs the route by hand. The route by autograd is its reference, and
serves CosReg, whose penalty needs second derivatives; it computes in the dtype of the parameters.

Each route has three steps, to be called in this order:

    target(noise)         -> y [T, B]
    critics(target)       -> losses [2, T], penalty
    actor(noise)          -> losses [1, T], log π [T, B], penalty

`penalty` holds the gradients that a method adds, or is None. The critics may step between the last
two.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from multitask.rl.replay import Batch
from multitask.rl.sac.losses import (
    actor_losses,
    critic_losses,
    draw_actions,
    td_target,
    with_task,
)
from multitask.rl.sac.methods import cosine_penalty
from multitask.rl.sac.networks import Tap, task_gradients
from multitask.rl.sac.passes import Network

Penalty = list[Tensor | None] | None


class Networks(NamedTuple):
    """The networks that an update reads and changes."""

    actor: Network
    critics: Network
    targets: Network


class ByHand:
    """Hand-written forward and backward passes, in the networks' compute dtype."""

    def __init__(
        self, networks: Networks, codes: Tensor, batch: Batch, alpha: Tensor, discount: float
    ) -> None:
        """Prepares the rows of the batch; `codes` is `[T, C]`, `alpha` `[T]`."""
        self.networks, self.codes, self.batch = networks, codes, batch
        self.alpha, self.discount = alpha.unsqueeze(-1), discount
        self.states = self._rows(batch.observation)

    def _rows(self, observation: Tensor) -> Tensor:
        """Returns observations and codes `[T·B, O + C]` in the dtype of the products."""
        rows = with_task(observation, self.codes).flatten(0, 1)
        return rows.to(self.networks.actor.compute)

    def target(self, noise: Tensor) -> Tensor:
        """Computes `losses.td_target`."""
        actor, _, targets = self.networks
        states = self._rows(self.batch.next_observation)
        drawn = draw_actions(actor.forward(0, states), noise.flatten(0, 1))
        # Actions are computed in the parameters' dtype and cast for the product.
        inputs = torch.cat([states, drawn.action.to(states.dtype)], dim=-1)
        value = torch.minimum(*(targets.forward(n, inputs) for n in (0, 1)))
        value = value.view(self.batch.reward.shape)
        # The entropy bonus of the next action.
        value = value - self.alpha * drawn.log_density.view(value.shape)
        return self.batch.reward + self.discount * (1 - self.batch.terminated) * value

    def critics(self, target: Tensor) -> tuple[Tensor, Penalty]:
        """Computes `losses.critic_losses` and its task gradients from dL/dQ = (Q − y) / B."""
        critics, shape = self.networks.critics, target.shape
        action = self.batch.action.flatten(0, 1).to(self.states.dtype)
        inputs = torch.cat([self.states, action], dim=-1)
        losses = []
        for n in (0, 1):
            kept: list[Tensor] = []
            error = critics.forward(n, inputs, kept).view(shape) - target
            losses.append(0.5 * error.square().mean(-1))
            critics.backward(n, kept, (error / shape[1]).view(-1, 1))
        return torch.stack(losses), None

    def actor(self, noise: Tensor) -> tuple[Tensor, Tensor, Penalty]:
        """Computes `losses.actor_losses` and its task gradients.

        With q = min_n Q_n, dq/da its gradient at the action a, raw = μ + σ ε and a = tanh(raw):

            dL/draw   = [α · 2a − dq/da (1 − a²)] / B
            dL/dμ     = dL/draw
            dL/dlog σ = dL/draw · σ ε − α / B                0 where log σ is clipped

        This follows from log π = Σ_A [−log σ − log(1 − a²)] + const and d log(1 − a²)/draw = −2a.
        """
        actor, (tasks, batch) = self.networks.actor, self.batch.reward.shape
        kept: list[Tensor] = []
        drawn = draw_actions(actor.forward(0, self.states, kept), noise.flatten(0, 1))
        value, slope = self._smaller_value(drawn.action)
        alpha = self.alpha.expand(tasks, batch).reshape(-1, 1)
        a = drawn.action
        # The chain rule written out, see the docstring; autograd is the reference in the tests.
        raw = (alpha * 2 * a - slope * (1 - a * a)) / batch
        log_std = (raw * drawn.deviation - alpha / batch) * drawn.inside
        actor.backward(0, kept, torch.cat([raw, log_std], dim=-1))
        log_density = drawn.log_density.view(tasks, batch)
        losses = (self.alpha * log_density - value.view(tasks, batch)).mean(-1)
        return losses.unsqueeze(0), log_density, None

    def _smaller_value(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Returns min_n Q_n at the states `[T·B, 1]` and its gradient in the action `[T·B, A]`.

        Where both critics are equal, each contributes half of its gradient, as autograd's `amin`
        does.
        """
        critics = self.networks.critics
        inputs = torch.cat([self.states, action.to(self.states.dtype)], dim=-1)
        kept: tuple[list[Tensor], list[Tensor]] = ([], [])
        first, second = (critics.forward(n, inputs, kept[n]) for n in (0, 1))
        # 1 where the first critic is smaller, 0 where the second is, 1/2 where they are equal
        share = 0.5 * (1 - (first - second).sign())
        slopes = [
            critics.input_gradient(n, kept[n], part, action.shape[-1])
            for n, part in ((0, share), (1, 1 - share))
        ]
        return torch.minimum(first, second), (slopes[0] + slopes[1]).to(action.dtype)


class ByAutograd:
    """The losses differentiated by autograd; with `cosreg_weight` it adds CosReg's penalty."""

    def __init__(
        self,
        networks: Networks,
        codes: Tensor,
        batch: Batch,
        alpha: Tensor,
        discount: float,
        cosreg_weight: float | None = None,
    ) -> None:
        self.networks, self.codes, self.batch = networks, codes, batch
        self.alpha, self.discount, self.cosreg_weight = alpha, discount, cosreg_weight

    def target(self, noise: Tensor) -> Tensor:
        """Computes `losses.td_target`."""
        actor, _, targets = (network.parameters for network in self.networks)
        return td_target(
            self.batch, self.codes, actor, targets, self.alpha, noise, discount=self.discount
        )

    def critics(self, target: Tensor) -> tuple[Tensor, Penalty]:
        """Computes `losses.critic_losses` and its task gradients."""
        network, taps = self.networks.critics, list[Tap]()
        leaves = self._leaves(network)
        losses = critic_losses(leaves, self.batch, self.codes, target, taps)
        return losses.detach(), self._differentiate(network, leaves, losses, taps)

    def actor(self, noise: Tensor) -> tuple[Tensor, Tensor, Penalty]:
        """Computes `losses.actor_losses` and its task gradients."""
        network, taps = self.networks.actor, list[Tap]()
        leaves, critics = self._leaves(network), self.networks.critics.parameters
        losses, log_density = actor_losses(
            leaves, critics, self.batch, self.codes, self.alpha, noise, taps
        )
        return losses.detach(), log_density, self._differentiate(network, leaves, losses, taps)

    def _leaves(self, network: Network) -> list[Tensor]:
        """Returns the parameters that the losses are computed from.

        Second derivatives need the parameters in the graph; otherwise it starts at the first layer.
        """
        if self.cosreg_weight is None:
            return network.parameters
        return [p.detach().requires_grad_() for p in network.parameters]

    def _differentiate(
        self, network: Network, leaves: list[Tensor], losses: Tensor, taps: list[Tap]
    ) -> Penalty:
        second = self.cosreg_weight is not None
        stacks = task_gradients(losses, taps, create_graph=second)
        for mine, stack in zip(network.stacks, stacks, strict=True):
            # Into the memory that the descent reads, as the route by hand does.
            mine.copy_(stack.detach())
        if self.cosreg_weight is None:
            return None
        # The task gradients are still in the graph, so the penalty can be differentiated again.
        value = self.cosreg_weight * cosine_penalty(stacks[network.last_shared_weight()])
        return list(torch.autograd.grad(value, leaves, allow_unused=True))
