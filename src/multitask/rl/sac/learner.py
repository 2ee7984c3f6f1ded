"""One update of everything that learns: critics, actor, temperatures, targets."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from multitask.rl.replay import Batch
from multitask.rl.sac.losses import actor_losses, critic_losses, td_target
from multitask.rl.sac.methods import GradNorm, Method, cosine_penalty
from multitask.rl.sac.networks import Tap, init_mlp, mlp, task_gradients
from multitask.rl.triad import curvature
from multitask.runs.seeding import generator
from pcgrad import direction_only, gramian, magnitude_only, surgery

Loss = Callable[[list[Tensor], list[Tap]], Tensor]  # parameters, taps -> losses [N, T]
ACTOR, CRITICS = slice(0, 1), slice(1, 3)  # rows of orders, Gramians, weights
TEMPERATURE_WIDTH = 64


class Learner:
    """Networks, temperatures and their optimizers; `update` is one gradient step of everything."""

    def __init__(
        self,
        settings: dict[str, Any],
        codes: Tensor,
        sizes: tuple[int, int],
        method: Method,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`codes` `[T, C]`: what tells the tasks apart; `sizes`: numbers of observations and
        actions.
        """
        self.settings, self.method = settings, method
        self.codes = codes.to(device, dtype)
        self.tasks, (observation, action) = len(codes), sizes
        self.reduction, self.joint = settings["reduction"], settings["critic_surgery"] == "joint"
        self.target_entropy = -float(action)
        draw = generator(seed, "initialization")
        inputs = observation + codes.shape[1]

        def network(inputs: int, outputs: int, members: int) -> list[Tensor]:
            hidden = [settings["width"]] * settings["layers"]
            own = {"nothing": 0, "head": 1, "all": len(hidden) + 1}[method.own]
            counts = [members] * (len(hidden) + 1 - own) + [members * self.tasks] * own
            return [p.to(device) for p in init_mlp([inputs, *hidden, outputs], counts, draw, dtype)]

        self.actor = network(inputs, 2 * action, 1)
        self.critics = network(inputs + action, 1, 2)
        self.targets = [p.clone() for p in self.critics]
        if settings.get("temperature") == "network":
            # Zero output weights: α = 1 for every task at the start, as in the table.
            sizes_alpha = [codes.shape[1], TEMPERATURE_WIDTH, 1]
            self.temperature = [p.to(device) for p in init_mlp(sizes_alpha, 1, draw, dtype)]
            self.temperature[2].zero_()
        else:
            self.temperature = [torch.zeros(self.tasks, dtype=dtype, device=device)]
        decay = settings["weight_decay"] if method.decay else 0.0
        self.optimizers = [
            torch.optim.Adam(
                parameters, lr=settings["learning_rate"], weight_decay=penalty, fused=True
            )
            for parameters, penalty in (
                (self.actor, decay),
                (self.critics, decay),
                (self.temperature, 0.0),
            )
        ]
        self.gradnorms: list[GradNorm] = []
        if method.gradnorm:
            self.gradnorms = [
                GradNorm(settings, members, self.tasks, dtype, device) for members in (1, 2)
            ]

    def log_alpha(self, parameters: list[Tensor] | None = None) -> Tensor:
        """log α of every task `[T]`."""
        p = parameters or self.temperature
        return p[0] if len(p) == 1 else mlp(p, self.codes.unsqueeze(1), 1)[0, :, 0, 0]

    def weigh(self, stacks: list[Tensor], orders: Tensor) -> tuple[Tensor, Tensor]:
        """Gramians `[N, T, T]` and weights `[N, T]` of the task gradients `[N, T, ...]` of N
        members.
        """
        members = stacks[0].shape[0]
        gramians = torch.stack([gramian([stack[n] for stack in stacks]) for n in range(members)])
        plain = torch.full_like(
            gramians[..., 0], 1.0 if self.reduction == "sum" else 1 / self.tasks
        )
        if (
            self.method.own == "all"
        ):  # nothing is shared: gradients of different tasks have no products
            return torch.diag_embed(gramians.diagonal(dim1=-2, dim2=-1)), plain
        if self.method.surgery == "none":
            return gramians, plain
        one = self.joint and members > 1
        seen = gramians.sum(0, keepdim=True) if one else gramians
        weights = surgery(seen, orders[:1] if one else orders, reduction=self.reduction).weights
        if self.method.surgery == "direction_only":
            weights = direction_only(seen, weights)
        elif self.method.surgery == "magnitude_only":
            weights = magnitude_only(seen, weights)
        return gramians, weights.expand(members, -1)

    def descend(
        self, rows: slice, parameters: list[Tensor], loss: Loss, orders: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of the networks `rows`: losses `[N, T]`, Gramians `[N, T, T]` and weights `[N,
        T]` used.

        Shared parameters get Σ_t w_t g_t, a task's own parameters their plain gradient.
        """
        taps: list[Tap] = []
        leaves = (
            [p.detach().requires_grad_() for p in parameters] if self.method.cosreg else parameters
        )
        losses = loss(leaves, taps)
        members = losses.shape[0]
        stacks = task_gradients(losses, taps, create_graph=self.method.cosreg)
        shared = [p.shape[0] == members for p in parameters]
        penalty: list[Tensor | None] = [None] * len(parameters)
        last = max(
            (k for k in range(0, len(shared), 2) if shared[k]), default=0
        )  # the last shared layer's weight
        if self.method.cosreg:
            value = self.settings["cosreg_weight"] * cosine_penalty(stacks[last])
            penalty = list(torch.autograd.grad(value, leaves, allow_unused=True))
            stacks = [stack.detach() for stack in stacks]
        visible = [stack for stack, one in zip(stacks, shared, strict=True) if one] or stacks
        gramians, weights = self.weigh(visible, orders[rows])
        if self.gradnorms:
            norms = stacks[last].flatten(2).norm(dim=-1)
            positive = losses if members == 2 else None  # choice 13
            weights = weights * self.gradnorms[members - 1].update(norms, positive)
        for parameter, stack, one, extra in zip(parameters, stacks, shared, penalty, strict=True):
            w = weights.to(stack.dtype)
            parameter.grad = (
                torch.einsum("nt,nt...->n...", w, stack) if one else stack.flatten(0, 1)
            )
            if extra is not None:
                parameter.grad += extra
        self.optimizers[rows.start].step()
        return losses.detach(), gramians, weights

    def update(
        self, batch: Batch, noise: Tensor, orders: Tensor, measure_curvature: bool
    ) -> dict[str, Tensor]:
        """Critics, actor, temperatures, targets; noise `[2, T, B, A]` (at s', at s), orders `[3, T,
        T-1]`.

        Returns tensors on the device (no host synchronization): losses `[3, T]`, gramians `[3, T,
        T]`, weights `[3, T]`, and where asked curvature `[2, 3]` (remainder, definition 3) and
        squared_step `[3]`."""
        codes, discount = self.codes, self.settings["discount"]
        alpha = self.log_alpha().exp()
        target = td_target(
            batch, codes, self.actor, self.targets, alpha, noise[0], discount=discount
        )
        critics_before = [p.clone() for p in self.critics] if measure_curvature else []
        critics = self.descend(
            CRITICS,
            self.critics,
            lambda p, taps: critic_losses(p, batch, codes, target, taps),
            orders,
        )

        density: list[Tensor] = []

        def actor_loss(parameters: list[Tensor], taps: list[Tap]) -> Tensor:
            losses, log_density = actor_losses(
                parameters, self.critics, batch, codes, alpha, noise[1], taps
            )
            density.append(log_density)
            return losses

        actor_before = [p.clone() for p in self.actor] if measure_curvature else []
        actor = self.descend(ACTOR, self.actor, actor_loss, orders)
        self.heat(density[0].mean(-1) + self.target_entropy)
        torch._foreach_lerp_(self.targets, self.critics, self.settings["target_rate"])

        log = {
            name: torch.cat([mine, theirs])
            for name, mine, theirs in zip(
                ("losses", "gramians", "weights"), actor, critics, strict=True
            )
        }
        if measure_curvature:
            log |= self.curvatures(
                actor_before, critics_before, batch.to(torch.float64), target, alpha, noise[1]
            )
        return log

    def heat(self, excess: Tensor) -> None:
        """Step the temperatures along −Σ_t log α_t · mean_B(log π + target entropy), as the base
        code has it.
        """
        if len(self.temperature) == 1:
            self.temperature[0].grad = -excess
        else:
            leaves = [p.detach().requires_grad_() for p in self.temperature]
            gradients = torch.autograd.grad(self.log_alpha(leaves), leaves, grad_outputs=-excess)
            for parameter, gradient in zip(self.temperature, gradients, strict=True):
                parameter.grad = gradient
        self.optimizers[2].step()

    def curvatures(
        self,
        actor_before: list[Tensor],
        critics_before: list[Tensor],
        batch: Batch,
        target: Tensor,
        alpha: Tensor,
        noise: Tensor,
    ) -> dict[str, Tensor]:
        """Curvature of L = Σ_t L_t (actor, Q1, Q2) along the update just made, on its own batch; in
        float64.
        """
        critics, codes = [p.double() for p in self.critics], self.codes.double()
        actor = curvature(
            lambda p: actor_losses(p, critics, batch, codes, alpha.double(), noise.double())[0].sum(
                1
            ),
            actor_before,
            self.actor,
        )
        both = curvature(
            lambda p: critic_losses(p, batch, codes, target.double()).sum(1),
            critics_before,
            self.critics,
        )
        steps = [
            torch.stack(
                [
                    (q - p).double().square().reshape(members, -1).sum(1)
                    for p, q in zip(old, new, strict=True)
                ]
            ).sum(0)
            for members, old, new in (
                (1, actor_before, self.actor),
                (2, critics_before, self.critics),
            )
        ]
        return {
            "curvature": torch.stack([torch.cat(pair) for pair in zip(actor, both, strict=True)]),
            "squared_step": torch.cat(steps),
        }

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint needs to go on."""
        return {
            "parameters": [self.actor, self.critics, self.targets, self.temperature],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "gradnorms": [one.state() for one in self.gradnorms],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state()`."""
        mine = [self.actor, self.critics, self.targets, self.temperature]
        for own, saved in zip(mine, state["parameters"], strict=True):
            for parameter, value in zip(own, saved, strict=True):
                parameter.copy_(value)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for one, saved in zip(self.gradnorms, state["gradnorms"], strict=True):
            one.load(saved)
