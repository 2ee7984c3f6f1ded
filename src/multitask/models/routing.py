"""Routing network for CIFAR-100: the row "routing, all-fc + WPL" of Table 2.

The convolutions are shared. Each of the two dense layers is a set of modules. For every example,
the policy of its task at that depth draws the module that computes the layer; evaluation takes the
likeliest module. Policies are tables: one distribution over modules per task and depth, the same
for all examples of the task, as in the multi-agent form of Rosenbaum, Klinger and Riemer (2018).

Policies learn by the weighted policy learner (Abdallah and Lesser 2008), not by gradients of the
network's loss:

    pi <- project(pi + rate * A(a) * (pi(a) if A(a) < 0 else 1 - pi(a)))     for every module a

A(a) = Q(a) - sum_b pi(b) Q(b), where Q(a) is the running mean of the reward of the task's examples
that took a. One batch's rewards in the place of Q are so noisy that the rule, which slows down near
its bounds, keeps the policies near even. An example's reward at a depth is +1 if it was classified
right and -1 if not, plus `collaboration` times the share of all tasks' recent selections at that
depth that chose the same module.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from multitask.models.convnet import Convolutions

# Our choice, as the paper gives none. The base code (cle-ros/RoutingNetworks) routes three layers
# of 20 modules each, with ratio 0.3, on another network. Its learner regresses log-probabilities
# instead of following the published rule.
MODULES, RATE, COLLABORATION = 3, 0.2, 0.1
# Weight of the past in the running means, per update of a task.
MEMORY = 0.97


class Routing(nn.Module):
    """`forward` takes one task's images; `learn` then updates the policies of that task."""

    policies: Tensor
    usage: Tensor
    value: Tensor

    def __init__(
        self,
        tasks: int,
        classes: int,
        filters: int = 160,
        units: int = 320,
        *,
        modules: int = MODULES,
        rate: float = RATE,
        collaboration: float = COLLABORATION,
    ) -> None:
        super().__init__()
        self.rate, self.collaboration = rate, collaboration
        self.convolutions = Convolutions(filters)
        sizes = [self.convolutions.features, units, units]
        self.layers = nn.ModuleList(
            [
                nn.ModuleList([nn.Linear(a, b) for _ in range(modules)])
                for a, b in itertools.pairwise(sizes)
            ]
        )
        self.heads = nn.ModuleList([nn.Linear(units, classes) for _ in range(tasks)])
        depth = len(self.layers)
        self.register_buffer(
            "policies", torch.full((tasks, depth, modules), 1 / modules, dtype=torch.float64)
        )
        self.register_buffer(
            "usage", torch.full((depth, modules), 1 / modules, dtype=torch.float64)
        )
        self.register_buffer("value", torch.zeros(tasks, depth, modules, dtype=torch.float64))
        # Task, selections [B, depth] and logits of the last forward pass.
        self._last: tuple[int, Tensor, Tensor] | None = None

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns convolutions and all modules, because any task may reach them.

        A module that a batch's task did not draw has a zero gradient for it. Heads belong to one
        task; policies are no parameters.
        """
        return [*self.convolutions.parameters(), *self.layers.parameters()]

    def forward(self, images: Tensor, task: int, draw: Generator | None = None) -> Tensor:
        """Returns logits [B, classes] of one task's images [B, 3, 32, 32].

        Without `draw` the likeliest modules compute.
        """
        policy = self.policies[task]
        if draw is None:
            selections = policy.argmax(1).expand(len(images), -1)
        elif len(images):
            # Drawn on the CPU, so that every device takes the same modules.
            drawn = torch.multinomial(policy.cpu(), len(images), replacement=True, generator=draw)
            selections = drawn.T.to(images.device)
        else:
            selections = torch.zeros(0, len(self.layers), dtype=torch.int64, device=images.device)
        x = self.convolutions(images)
        for modules, chosen in zip(self.layers, selections.T, strict=True):
            x = functional.relu(routed(list(modules.children()), x, chosen))
        logits = self.heads[task](x)
        if draw is not None:
            self._last = task, selections, logits.detach()
        return logits

    @torch.no_grad()
    def learn(self, labels: Tensor) -> None:
        """Moves the policies of the last forward pass's task by the rewards for `labels` [B].

        A pass counts once: a second call does nothing.
        """
        if self._last is None or not len(labels):
            return
        (task, selections, logits), self._last = self._last, None
        right = 2.0 * (logits.argmax(1) == labels).double() - 1
        for depth, chosen in enumerate(selections.T):
            taken = functional.one_hot(chosen, self.policies.shape[-1]).double()
            # A module that many tasks use earns more, so that tasks share modules.
            rewards = right + self.collaboration * self.usage[depth][chosen]
            drawn = taken.sum(0)
            mean = rewards @ taken / drawn.clamp(min=1)
            value, pi = self.value[task, depth], self.policies[task, depth]
            # A module that no example took keeps its value.
            value += (1 - MEMORY) * torch.where(drawn > 0, mean - value, 0.0)
            advantage = value - pi @ value
            # The weighted policy learner slows down as a probability nears its bound.
            weight = torch.where(advantage < 0, pi, 1 - pi)
            self.policies[task, depth] = onto_simplex(pi + self.rate * weight * advantage)
            # A batch has one task's examples: a step of 1/T makes the mean one over all tasks.
            self.usage[depth].lerp_(taken.mean(0), (1 - MEMORY) / len(self.heads))

    def entropy(self) -> float:
        """Returns the mean entropy of the policies in nats.

        It is log(modules) while nothing is learned, and 0 for fixed routes.
        """
        return torch.special.entr(self.policies).sum(-1).mean().item()


def routed(modules: Sequence[nn.Module], x: Tensor, chosen: Tensor) -> Tensor:
    """Applies module chosen[i] to row i of x; returns [B, units].

    Modules that no row chose are not touched.
    """
    # An empty batch still needs a graph and the right shape.
    if not len(x):
        return modules[0](x)
    # Sorted by module, so that each module computes its rows in one call.
    order = chosen.argsort(stable=True)
    counts = chosen.bincount(minlength=len(modules)).tolist()
    groups = x[order].split(counts)
    parts = [module(group) for module, group in zip(modules, groups, strict=True) if len(group)]
    return torch.cat(parts)[order.argsort()]


def onto_simplex(point: Tensor) -> Tensor:
    """Returns the distribution nearest to `point` [K] (Duchi et al. 2008, Figure 1)."""
    ordered = point.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(
        1, len(point) + 1, dtype=point.dtype, device=point.device
    )
    last = int((ordered > excess).sum()) - 1
    return (point - excess[last]).clamp(min=0)
