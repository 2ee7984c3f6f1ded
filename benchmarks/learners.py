"""One update of multi-task SAC + PCGrad by several routes, at the sizes of Appendix J.

The routes, from the least work to the most:

- *plain*: one backward pass of the summed losses, without task gradients;
- *autograd*: task gradients from autograd, as in the tests' reference;
- *float32*, *bfloat16*: the update that training runs, in both precisions.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.measure import Candidates
from multitask.rl.replay import Batch
from multitask.rl.sac import METHODS, Learner, actor_losses, critic_losses, draw_orders, td_target
from multitask.rl.sac.descent import Descent
from multitask.rl.sac.gradients import ByAutograd, ByHand

LAYERS = 6
SETTINGS = {
    "layers": LAYERS, "learning_rate": 3e-4, "discount": 0.99, "target_rate": 5e-3,
    "critic_surgery": "separate", "reduction": "sum", "gradnorm_alpha": 1.5, "gradnorm_rate": 0.025,
    "cosreg_weight": 0.1,
}  # fmt: skip
OTHERS = ("sac", "multihead_sac_pcgrad", "independent", "gradnorm", "cosreg")
SIZES, BATCH = (39, 4), 128
SQUARE = 1024  # rows and columns of the product that gives the machine's rate


class Plain(Learner):
    """The update without task gradients: the cost of SAC itself."""

    def update(
        self, batch: Batch, noise: Tensor, orders: Tensor, measure_curvature: bool
    ) -> dict[str, Tensor]:
        """Run one backward pass of the summed losses for each network."""
        alpha, codes = self.log_alpha().exp(), self.codes
        given = (batch, codes, self.actor, self.targets, alpha, noise[0])
        target = td_target(*given, discount=self.settings["discount"])
        of_critics = self.descend(
            self.critics_descent, lambda p: critic_losses(p, batch, codes, target)
        )
        # The temperatures need the densities that the actor's loss computes on the way.
        densities: list[Tensor] = []

        def loss(parameters: list[Tensor]) -> Tensor:
            losses, density = actor_losses(parameters, self.critics, batch, codes, alpha, noise[1])
            densities.append(density)
            return losses

        of_actor = self.descend(self.actor_descent, loss)
        self.step_temperatures(densities[0].mean(-1) + self.target_entropy)
        self.networks.targets.approach(self.networks.critics, self.settings["target_rate"])
        return {"losses": torch.cat([of_actor, of_critics])}

    def descend(self, descent: Descent, loss: Callable[[list[Tensor]], Tensor]) -> Tensor:
        """Step along the gradient of the summed losses."""
        network = descent.network
        leaves = [p.detach().requires_grad_() for p in network.parameters]
        losses = loss(leaves)
        found = torch.autograd.grad(losses.sum(), leaves)
        for gradient, new in zip(network.gradients, found, strict=True):
            gradient.copy_(new)
        descent.optimizer.step()
        return losses.detach()


class Reference(Learner):
    """The update with task gradients computed by autograd."""

    def route(self, batch: Batch, alpha: Tensor) -> ByHand | ByAutograd:
        """Return the route by autograd."""
        return ByAutograd(self.networks, self.codes, batch, alpha, self.settings["discount"])


ROUTES: dict[str, tuple[type[Learner], str]] = {
    "plain": (Plain, "float32"),
    "autograd": (Reference, "float32"),
    "float32": (Learner, "float32"),
    "bfloat16": (Learner, "bfloat16"),
}


def new_learner(route: str, method: str, tasks: int, width: int, device: torch.device) -> Learner:
    """Return a learner of a method with the networks of Appendix J."""
    kind, precision = ROUTES[route]
    settings = {**SETTINGS, "width": width, "precision": precision}
    # A task's code is a one-hot vector, as in Meta-World.
    codes = torch.eye(tasks)
    return kind(settings, codes, SIZES, METHODS[method], 0, device, torch.float32)


def inputs(tasks: int, device: torch.device) -> tuple[Batch, Tensor, Tensor]:
    """Draw the batch, the noise and the orders of one update."""
    draw = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=draw)
    shape = (tasks, BATCH)
    actions = torch.rand(*shape, SIZES[1], generator=draw) * 2 - 1
    states, following = normal(*shape, SIZES[0]), normal(*shape, SIZES[0])
    parts = (states, actions, normal(shape), following, torch.zeros(shape))
    batch = Batch(*(part.to(device) for part in parts))
    noise = normal(2, *shape, SIZES[1]).to(device)
    return batch, noise, draw_orders("random", tasks, 1, draw)[0].to(device)


def updates(
    tasks: int, width: int, device: torch.device, methods: tuple[str, ...] = ()
) -> Candidates:
    """Return updates on one batch: SAC + PCGrad by every route, and the other methods.

    The other methods run in both precisions, CosReg in float32 only.
    """
    batch, noise, orders = inputs(tasks, device)
    cases = {f"sac_pcgrad, {route}": (route, "sac_pcgrad") for route in ROUTES}
    for method in methods:
        # CosReg differentiates through task gradients, which the passes by hand cannot.
        for precision in ("float32", "bfloat16")[: 1 if METHODS[method].cosreg else 2]:
            cases[f"{method}, {precision}"] = (precision, method)
    learners = {name: new_learner(*case, tasks, width, device) for name, case in cases.items()}
    return {
        name: partial(learner.update, batch, noise, orders, False)
        for name, learner in learners.items()
    }


def operations(tasks: int, width: int) -> float:
    """Return the number of floating-point operations of the products in one update.

    A layer of m inputs and n outputs takes 2 m n operations per row and pass. The actor runs
    forward twice, the critics twice and the targets once. Task gradients are formed once per
    network. Gradients go back through the hidden layers of the actor once and of the critics twice.
    """
    hidden = [width] * LAYERS
    inputs, action = SIZES[0] + tasks, SIZES[1]

    # The gradient with respect to the network's input is not needed, which saves the first layer.
    def per_row(inputs: int, outputs: int) -> tuple[float, float]:
        products = [2.0 * m * n for m, n in pairwise([inputs, *hidden, outputs])]
        return sum(products), sum(products[1:])

    actor, actor_back = per_row(inputs, 2 * action)
    critic, critic_back = per_row(inputs + action, 1)
    rows = tasks * BATCH
    # Forward, and the gradients of the weights, cost one product of each layer a pass.
    return rows * (3 * actor + actor_back + 2 * (4 * critic + 2 * critic_back))


def products(device: torch.device) -> Candidates:
    """Return a product of two square matrices in each precision, to measure the machine's rate."""
    draw = torch.Generator().manual_seed(0)
    factor = torch.randn(SQUARE, SQUARE, generator=draw).to(device)
    half = factor.bfloat16()
    return {"float32": lambda: factor @ factor, "bfloat16": lambda: half @ half}
