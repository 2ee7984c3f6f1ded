"""One update of all that learns: critics, actor, temperatures, targets."""

from typing import Any

import torch
from torch import Tensor

from multitask.rl.replay import Batch
from multitask.rl.sac.descent import Descent
from multitask.rl.sac.gradients import ByAutograd, ByHand, Networks
from multitask.rl.sac.losses import actor_losses, critic_losses
from multitask.rl.sac.methods import Method
from multitask.rl.sac.networks import init_mlp, mlp
from multitask.rl.sac.passes import Network
from multitask.rl.sac.precision import BFLOAT16, FLOAT32, choose_precision
from multitask.rl.triad import curvature
from multitask.runs.seeding import generator

# Rows of orders, Gramians and weights.
ACTOR, CRITICS = slice(0, 1), slice(1, 3)
TEMPERATURE_WIDTH = 64


class Learner:
    """Networks, temperatures and their optimizers; `update` takes one step of all of them."""

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
        """Draws the initial parameters under the seed.

        Args:
            settings: Settings of the run; `settings["precision"]` may ask for products in bfloat16.
            codes: `[T, C]`, which tell the tasks apart.
            sizes: Numbers of observations and actions.
            method: The method of the run.
            seed: Seed of the initial values.
            device: Where to compute.
            dtype: Type of the parameters.
        """
        self.settings, self.method = settings, method
        self.codes = codes.to(device, dtype)
        self.tasks, (observation, action) = len(codes), sizes
        # softlearning's heuristic: one nat less per dimension of the action.
        self.target_entropy = -float(action)
        draw = generator(seed, "initialization")
        inputs = observation + codes.shape[1]
        # The networks may compute in a shorter type than their parameters have.
        compute = compute_dtype(settings, method, device, dtype)

        def network(inputs: int, outputs: int, members: int) -> Network:
            hidden = [settings["width"]] * settings["layers"]
            # The number of layers, counted from the output, that every task has for itself.
            own = {"nothing": 0, "head": 1, "all": len(hidden) + 1}[method.own]
            counts = [members] * (len(hidden) + 1 - own) + [members * self.tasks] * own
            drawn = init_mlp([inputs, *hidden, outputs], counts, draw, dtype)
            return Network([p.to(device) for p in drawn], members, self.tasks, compute)

        actor = network(inputs, 2 * action, 1)
        critics = network(inputs + action, 1, 2)
        # The targets start as a copy of the critics and never need gradients.
        targets = Network(critics.parameters, 2, self.tasks, compute, trained=False)
        self.networks = Networks(actor, critics, targets)
        if settings.get("temperature") == "network":
            # Zero output weights give α = 1 for every task at the start, as zero log α does.
            sizes_alpha = [codes.shape[1], TEMPERATURE_WIDTH, 1]
            self.temperature = [p.to(device) for p in init_mlp(sizes_alpha, 1, draw, dtype)]
            self.temperature[2].zero_()
        else:
            self.temperature = [torch.zeros(self.tasks, dtype=dtype, device=device)]
        self.actor_descent = Descent(settings, method, actor)
        self.critics_descent = Descent(settings, method, critics)
        self.temperature_optimizer = torch.optim.Adam(
            self.temperature, lr=settings["learning_rate"], fused=True
        )

    @property
    def actor(self) -> list[Tensor]:
        """The actor's parameters, in the form of `networks.mlp`."""
        return self.networks.actor.parameters

    @property
    def critics(self) -> list[Tensor]:
        """The critics' parameters."""
        return self.networks.critics.parameters

    @property
    def targets(self) -> list[Tensor]:
        """The target critics' parameters."""
        return self.networks.targets.parameters

    def log_alpha(self, parameters: list[Tensor] | None = None) -> Tensor:
        """Returns log α of every task, `[T]`."""
        p = parameters or self.temperature
        return p[0] if len(p) == 1 else mlp(p, self.codes.unsqueeze(1), 1)[0, :, 0, 0]

    def route(self, batch: Batch, alpha: Tensor) -> ByHand | ByAutograd:
        """Returns the way in which this update's losses are differentiated."""
        common = (self.networks, self.codes, batch, alpha, self.settings["discount"])
        if self.method.cosreg:
            return ByAutograd(*common, cosreg_weight=self.settings["cosreg_weight"])
        return ByHand(*common)

    def update(
        self, batch: Batch, noise: Tensor, orders: Tensor, measure_curvature: bool
    ) -> dict[str, Tensor]:
        """Takes one step of critics, actor, temperatures and targets.

        Args:
            batch: Transitions `[T, B, ...]`.
            noise: `[2, T, B, A]`, for the actions at s' and at s.
            orders: Visiting orders `[3, T, T-1]`.
            measure_curvature: Whether to measure the curvature along this step.

        Returns:
            Tensors on the device, without waiting for it: losses `[3, T]`, gramians `[3, T, T]`,
                weights `[3, T]`; if measured also curvature `[2, 3]` (remainder, definition 3) and
                squared_step `[3]`.
        """
        # One α for the whole update: the temperatures step after critics and actor.
        alpha = self.log_alpha().exp()
        route = self.route(batch, alpha)
        # The steps change the parameters in place, so a measurement needs copies.
        before = [
            [p.clone() for p in one] if measure_curvature else []
            for one in (self.actor, self.critics)
        ]
        target = route.target(noise[0])
        losses_of_critics, penalty = route.critics(target)
        critics = self.critics_descent.step(orders[CRITICS], losses_of_critics, penalty)
        losses_of_actor, log_density, penalty = route.actor(noise[1])
        # An actor's loss may be negative, so GradNorm takes no rates from it (choice 13).
        actor = self.actor_descent.step(orders[ACTOR], None, penalty)
        self.step_temperatures(log_density.mean(-1) + self.target_entropy)
        # Last, so that the targets follow the critics of this update.
        self.networks.targets.approach(self.networks.critics, self.settings["target_rate"])

        log = {
            "losses": torch.cat([losses_of_actor, losses_of_critics]),
            "gramians": torch.cat([actor[0], critics[0]]),
            "weights": torch.cat([actor[1], critics[1]]),
        }
        if measure_curvature:
            # The remainder is a small difference of large numbers: float32 would lose it.
            double = batch.to(torch.float64)
            log |= self.curvatures(before[0], before[1], double, target, alpha, noise[1])
        return log

    def step_temperatures(self, excess: Tensor) -> None:
        """Steps along −Σ_t log α_t · mean_B(log π + target entropy), as the base code does."""
        # In the table the loss is linear in log α, so its gradient needs no autograd.
        if len(self.temperature) == 1:
            self.temperature[0].grad = -excess
        else:
            # The parameters themselves never require gradients; a graph exists only here.
            leaves = [p.detach().requires_grad_() for p in self.temperature]
            gradients = torch.autograd.grad(self.log_alpha(leaves), leaves, grad_outputs=-excess)
            for parameter, gradient in zip(self.temperature, gradients, strict=True):
                parameter.grad = gradient
        self.temperature_optimizer.step()

    def curvatures(
        self,
        actor_before: list[Tensor],
        critics_before: list[Tensor],
        batch: Batch,
        target: Tensor,
        alpha: Tensor,
        noise: Tensor,
    ) -> dict[str, Tensor]:
        """Measures the curvature of L = Σ_t L_t (actor, Q1, Q2) along the update just made.

        All of it is computed in float64 on the update's own batch.
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
        steps = []
        for members, old, new in ((1, actor_before, self.actor), (2, critics_before, self.critics)):
            pairs = zip(old, new, strict=True)
            squares = [(q - p).double().square().reshape(members, -1).sum(1) for p, q in pairs]
            steps.append(torch.stack(squares).sum(0))
        return {
            "curvature": torch.stack([torch.cat(pair) for pair in zip(actor, both, strict=True)]),
            # With it the curvatures can be divided by the squared length of the update.
            "squared_step": torch.cat(steps),
        }

    def state(self) -> dict[str, Any]:
        """Returns all that a checkpoint needs."""
        return {
            "actor": self.actor_descent.state(),
            "critics": self.critics_descent.state(),
            "targets": self.targets,
            "temperature": self.temperature,
            "temperature_optimizer": self.temperature_optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.actor_descent.load(state["actor"])
        self.critics_descent.load(state["critics"])
        self.networks.targets.load(state["targets"])
        for parameter, value in zip(self.temperature, state["temperature"], strict=True):
            parameter.copy_(value)
        self.temperature_optimizer.load_state_dict(state["temperature_optimizer"])


def compute_dtype(
    settings: dict[str, Any], method: Method, device: torch.device, dtype: torch.dtype
) -> torch.dtype:
    """Returns the dtype of the hidden layers' products.

    Parameters in float64 are always multiplied in float64.
    """
    runs, _ = choose_precision(settings.get("precision", FLOAT32), method, device)
    return torch.bfloat16 if runs == BFLOAT16 and dtype == torch.float32 else dtype
