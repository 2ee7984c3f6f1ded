"""Stacked networks in preallocated memory, with hand-written forward and backward passes.

`multitask.rl.sac.networks` defines the networks by autograd. This module gives the same numbers (up
to rounding) with fewer operations: bias and ReLU are part of the product, unused gradients are not
formed, and task gradients are written into memory that every update reuses. Hidden layers may run
in bfloat16; parameters, output layers, losses and task gradients keep the dtype of the parameters.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from pcgrad._linear_gradients import outer_products, row_sums

ALIGNMENT = 16
"""Every parameter starts at a multiple of so many numbers: a cache line in float32."""

FUSED_LAYER: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""oneDNN's linear layer with its activation in one operation; None in a torch without oneDNN."""

FEW_COLUMNS = 16
"""Below so many columns the transposed product is faster on the CPU (8 columns: 61 us for 234)."""


def starts(shapes: Sequence[torch.Size]) -> list[int]:
    """Returns where each parameter starts in a row of packed memory, then the row's length."""
    found = [0]
    for shape in shapes:
        # Round up to a multiple of ALIGNMENT: -n // -A is the ceiling of n / A.
        found.append(found[-1] - prod(shape) // -ALIGNMENT * ALIGNMENT)
    return found


def views(packed: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Returns the parameters `[..., *shape]` as views of packed memory `[..., P]`."""
    return [
        packed[..., start : start + prod(shape)].unflatten(-1, shape)
        for start, shape in zip(starts(shapes), shapes, strict=False)
    ]


class Layer:
    """One layer of one member, y = x W + b on rows `[T·B, inputs]`, task by task.

    W is `[inputs, outputs]` where the tasks share it, `[T, inputs, outputs]` where each has its
    own. Views are taken once, because creating them is as slow as the small operations.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stacks: Sequence[Tensor], tasks: int) -> None:
        """Keeps views of the parameters.

        Args:
            weight: W.
            bias: b.
            stacks: Memory for the task gradients of W and b; empty if none are formed.
            tasks: Number of tasks T.
        """
        self.weight, self.transposed = weight, weight.mT
        self.stacks, self.tasks = stacks, tasks
        self.own = weight.dim() == 3
        self.bias = bias.unsqueeze(1) if self.own else bias
        on_cpu = weight.device.type == "cpu"
        # Layers with few outputs (the action, one Q) are faster as a transposed product.
        self.narrow = on_cpu and not self.own and weight.shape[1] < FEW_COLUMNS
        # oneDNN's operation exists only on the CPU and takes no float64.
        self.fused = (
            on_cpu
            and not (self.own or self.narrow)
            and weight.dtype != torch.float64
            and FUSED_LAYER is not None
        )

    def output(self, x: Tensor) -> Tensor:
        """Returns x W + b."""
        if self.own:
            rows = x.view(self.tasks, -1, x.shape[1])
            return torch.baddbmm(self.bias, rows, self.weight).flatten(0, 1)
        if self.narrow and self.weight.shape[1] > 1:
            # (x W)ᵀ = Wᵀ xᵀ, with the bias as a column.
            return torch.addmm(self.bias.unsqueeze(1), self.transposed, x.t()).t()
        return torch.addmm(self.bias, x, self.weight)

    def hidden(self, x: Tensor) -> Tensor:
        """Returns max(0, x W + b), in one oneDNN operation where possible."""
        if self.fused:
            return FUSED_LAYER(x, self.transposed, self.bias, "relu", [], "")
        return self.output(x).relu_()

    def below(self, delta: Tensor, columns: int = 0) -> Tensor:
        """Returns delta Wᵀ: the gradient of x, or of its last `columns` (0: of all)."""
        if self.own:
            rows = delta.view(self.tasks, -1, delta.shape[1])
            return torch.bmm(rows, self.transposed[..., -columns:]).flatten(0, 1)
        if self.fused:
            return FUSED_LAYER(delta, self.weight[-columns:], None, "none", [], "")
        return delta @ self.transposed[:, -columns:]

    def form(self, x: Tensor, delta: Tensor) -> None:
        """Writes every task's xᵀ delta and sum of delta into the memory for task gradients."""
        rows = delta.view(self.tasks, -1, delta.shape[1])
        outer_products(x.view(self.tasks, -1, x.shape[1]), rows, self.stacks[0])
        row_sums(rows, self.stacks[1])


class Network:
    """N members as one network: packed parameters, task gradients, hand-written passes.

    Attributes:
        parameters: `[weight_0, bias_0, ...]` as `init_mlp` gives them, here views of `packed`.
        packed: The shared parameters `[N, P]` and the tasks' own `[N·T, P']`; either may be
            missing.
        gradients: What the optimizer reads, in the form of the parameters.
        stacks: The task gradients `[N, T, *shape]` of the parameters. Those of shared parameters
            are views of `shared_stack` `[N, T, P]`, those of own parameters are their gradients.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        members: int,
        tasks: int,
        compute: torch.dtype,
        *,
        trained: bool = True,
    ) -> None:
        """Copies the parameters into packed memory.

        Args:
            parameters: `[weight_0, bias_0, ...]` as `init_mlp` gives them.
            members: Number of members N.
            tasks: Number of tasks T.
            compute: The dtype of the hidden layers' products.
            trained: Whether to allocate memory for gradients.
        """
        self.members, self.tasks, self.compute = members, tasks, compute
        # Shared parameters have N leading rows, a task's own have N·T.
        self.is_shared = [len(p) == members for p in parameters]
        count, nothing = len(parameters), torch.empty(0)
        self.parameters: list[Tensor] = [nothing] * count
        self.gradients: list[Tensor] = [nothing] * count if trained else []
        self.stacks: list[Tensor] = [nothing] * count if trained else []
        self.packed: list[Tensor] = []
        self.shared_stack: Tensor | None = None
        # copies of `packed` in the dtype of the products
        self._copies: list[Tensor] = []
        working = [nothing] * count
        for shared in (True, False):
            chosen = [k for k, one in enumerate(self.is_shared) if one == shared]
            if chosen:
                places = self._pack(parameters, chosen)
                for k, place in zip(chosen, places, strict=True):
                    working[k] = place
        self._layers = [self._member(working, n) for n in range(members)]
        self.refresh()

    def _pack(self, parameters: Sequence[Tensor], chosen: list[int]) -> list[Tensor]:
        """Moves these parameters into one tensor and returns the views that products read."""
        # Without the leading dimension of members, which is the rows of the packed tensor.
        shapes = [parameters[k].shape[1:] for k in chosen]
        first = parameters[chosen[0]]
        packed = first.new_zeros(len(first), starts(shapes)[-1])
        for k, place in zip(chosen, views(packed, shapes), strict=True):
            self.parameters[k] = place.copy_(parameters[k])
        self.packed.append(packed)
        if self.gradients:
            self._remember(packed, shapes, chosen)
        # In the parameters' own dtype the products read the parameters themselves.
        copy = packed if self.compute == packed.dtype else packed.to(self.compute)
        self._copies.append(copy)
        return views(copy, shapes)

    def _remember(self, packed: Tensor, shapes: Sequence[torch.Size], chosen: list[int]) -> None:
        """Allocates the task gradients of packed parameters and what the optimizer reads."""
        stack = packed.new_zeros(self.members, self.tasks, packed.shape[1])
        if self.is_shared[chosen[0]]:
            self.shared_stack, packed.grad = stack, torch.zeros_like(packed)
        # The plain gradient of an own parameter is its task's gradient: no copy is needed.
        else:
            packed.grad = stack.flatten(0, 1)
        parts = views(packed.grad, shapes), views(stack, shapes)
        for k, gradient, task_gradients in zip(chosen, *parts, strict=True):
            self.gradients[k], self.stacks[k] = gradient, task_gradients

    def _member(self, working: Sequence[Tensor], member: int) -> list[Layer]:
        """Returns one member's layers; the output layer reads the parameters themselves."""
        # Outputs, losses and their gradients stay in the dtype of the parameters.
        chosen = [*working[:-2], *self.parameters[-2:]]
        own = [
            p[member] if shared else p.unflatten(0, (self.members, self.tasks))[member]
            for p, shared in zip(chosen, self.is_shared, strict=True)
        ]
        stacks = [stack[member] for stack in self.stacks]
        return [
            Layer(own[k], own[k + 1], stacks[k : k + 2], self.tasks)
            for k in range(0, len(self.parameters), 2)
        ]

    def refresh(self) -> None:
        """Updates the products' copies; must follow every change of the parameters."""
        if self.compute != self.packed[0].dtype:
            for copy, packed in zip(self._copies, self.packed, strict=True):
                copy.copy_(packed)

    def load(self, parameters: Sequence[Tensor]) -> None:
        """Copies the given values into the parameters."""
        for mine, value in zip(self.parameters, parameters, strict=True):
            mine.copy_(value)
        self.refresh()

    def last_shared_weight(self) -> int:
        """Returns the position of the last shared weight among the parameters.

        Without a shared weight it returns 0, the position of the first weight.
        """
        return max((k for k in range(0, len(self.stacks), 2) if self.is_shared[k]), default=0)

    def weigh(self, weights: Tensor) -> None:
        """Writes Σ_t w_t g_t with weights `[N, T]` into the shared parameters' gradient."""
        # Own parameters need no weights: their gradient is in place already.
        if self.shared_stack is not None:
            gradient = self.packed[0].grad
            assert gradient is not None
            # One product over the packed row replaces one per parameter.
            w = weights.to(gradient.dtype).unsqueeze(1)
            torch.bmm(w, self.shared_stack, out=gradient.unsqueeze(1))

    def approach(self, other: "Network", rate: float) -> None:
        """Moves the parameters towards another network's by this share of the distance."""
        # θ + rate (θ' − θ) for all parameters in one operation.
        torch._foreach_lerp_(self.packed, other.packed, rate)
        self.refresh()

    def forward(self, member: int, x: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """Evaluates one member on rows `[T·B, inputs]`, task by task -> `[T·B, outputs]`.

        If `kept` is given, every layer's input is appended to it, for `backward`.
        """
        *hidden, last = self._layers[member]
        inputs = [x]
        for layer in hidden:
            inputs.append(layer.hidden(inputs[-1]))
        # The output layer computes in the dtype of the parameters.
        if self.compute != last.weight.dtype:
            inputs[-1] = inputs[-1].to(last.weight.dtype)
        if kept is not None:
            kept.extend(inputs)
        return last.output(inputs[-1])

    def backward(self, member: int, kept: Sequence[Tensor], delta: Tensor) -> None:
        """Writes one member's task gradients into `stacks`.

        Args:
            member: Number of the member.
            kept: What `forward` kept.
            delta: The gradient of the member's output `[T·B, outputs]`.
        """
        layers = self._layers[member]
        # The first layer needs no gradient of its input.
        for k in reversed(range(1, len(layers))):
            layers[k].form(kept[k], delta)
            delta = self._through(layers[k], kept[k], delta)
        layers[0].form(kept[0], delta)

    def input_gradient(
        self, member: int, kept: Sequence[Tensor], delta: Tensor, columns: int
    ) -> Tensor:
        """Returns the gradient of the last `columns` of the input, `[T·B, columns]`.

        It forms no gradient of a parameter.
        """
        first, *layers = self._layers[member]
        for k in reversed(range(len(layers))):
            delta = self._through(layers[k], kept[k + 1], delta)
        return first.below(delta, columns)

    def _through(self, layer: Layer, hidden: Tensor, delta: Tensor) -> Tensor:
        """Passes the gradient of a layer's output to the output of the layer below.

        `hidden` is that output after its ReLU; the gradient is 0 where it is 0.
        """
        delta = layer.below(delta)
        # In place: the gradient is read only once.
        torch.ops.aten.threshold_backward.grad_input(delta, hidden, 0, grad_input=delta)
        return delta if delta.dtype == self.compute else delta.to(self.compute)
