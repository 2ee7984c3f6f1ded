"""Stacked networks in kept memory, with forward and backward passes written by hand.

The autograd form in `multitask.rl.sac.networks` is the definition. This one gives the same numbers
(to rounding) from fewer operations: bias and ReLU are part of the product, no gradient is formed
that nobody reads, and task gradients are written into memory that is used again at every update.
Hidden layers may run in bfloat16; parameters, output layers, losses and task gradients stay in the
dtype of the parameters."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from pcgrad._linear_gradients import outer_products, row_sums

ALIGNMENT = 16
"""Every parameter starts at a multiple of so many numbers: a cache line in float32."""

FEW_COLUMNS = 16
"""Below so many columns the transposed product is faster on the CPU (8 columns: 61 us for 234)."""


def places(shapes: Sequence[torch.Size]) -> list[int]:
    """Where each of these parameters starts in a row of packed memory, and the row's length."""
    starts = [0]
    for shape in shapes:
        starts.append(starts[-1] - prod(shape) // -ALIGNMENT * ALIGNMENT)
    return starts


def views(packed: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """The parameters `[..., *shape]` in packed memory `[..., P]`."""
    starts = places(shapes)
    return [
        packed[..., start : start + prod(shape)].unflatten(-1, shape)
        for start, shape in zip(starts, shapes, strict=False)
    ]


class Network:
    """N members as one network: packed parameters, kept task gradients, passes by hand.

    Attributes:
        parameters: `[weight_0, bias_0, ...]` as `init_mlp` gives them, here views of `packed`.
        packed: what the tasks share `[N, P]`, and what every task has for itself `[N·T, P']`
            (either may be missing).
        gradients: what the optimizer reads, in the form of the parameters.
        stacks: the task gradients `[N, T, *shape]` of the parameters. Those of shared parameters
            are views of `shared_stack` `[N, T, P]`, those of own parameters are their gradients.
    """

    def __init__(
        self, parameters: Sequence[Tensor], members: int, tasks: int, compute: torch.dtype
    ) -> None:
        """`compute`: the dtype of the hidden layers' products."""
        self.members, self.tasks, self.compute = members, tasks, compute
        self.is_shared = [len(p) == members for p in parameters]
        self.parameters: list[Tensor] = [torch.empty(0)] * len(parameters)
        self.gradients = list(self.parameters)
        self.stacks = list(self.parameters)
        self.packed: list[Tensor] = []
        self.shared_stack: Tensor | None = None
        self._copies: list[Tensor] = []  # of `packed`, in the dtype of the products
        working = list(self.parameters)
        for shared in (True, False):
            chosen = [k for k, one in enumerate(self.is_shared) if one == shared]
            if chosen:
                for k, view in zip(chosen, self._pack(parameters, chosen), strict=True):
                    working[k] = view
        self._layers = [self._member(working, n) for n in range(members)]
        self.refresh()

    def _pack(self, parameters: Sequence[Tensor], chosen: list[int]) -> list[Tensor]:
        """Move these parameters into one piece of memory; returns the views that products read."""
        shapes = [parameters[k].shape[1:] for k in chosen]
        first, shared = parameters[chosen[0]], self.is_shared[chosen[0]]
        packed = first.new_zeros(len(first), places(shapes)[-1])
        stack = packed.new_zeros(self.members, self.tasks, packed.shape[1])
        if shared:
            self.shared_stack, packed.grad = stack, torch.zeros_like(packed)
        else:  # the plain gradient of an own parameter is its task's gradient
            packed.grad = stack.flatten(0, 1)
        parts = [views(memory, shapes) for memory in (packed, packed.grad, stack)]
        for k, place, gradient, task_gradients in zip(chosen, *parts, strict=True):
            self.parameters[k] = place.copy_(parameters[k])
            self.gradients[k] = gradient
            self.stacks[k] = task_gradients
        copy = packed if self.compute == packed.dtype else packed.to(self.compute)
        self.packed.append(packed)
        self._copies.append(copy)
        return views(copy, shapes)

    def _member(self, working: Sequence[Tensor], member: int) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of every layer of one member, `[inputs, outputs]` or `[T, inputs,
        outputs]`; the output layer's are the parameters themselves."""
        chosen = [*working[:-2], *self.parameters[-2:]]
        blocks = [
            p[member] if shared else p.unflatten(0, (self.members, self.tasks))[member]
            for p, shared in zip(chosen, self.is_shared, strict=True)
        ]
        return list(zip(blocks[::2], blocks[1::2], strict=True))

    def refresh(self) -> None:
        """Bring the products' copies up to date: after every change of the parameters."""
        if self.compute != self.packed[0].dtype:
            for copy, packed in zip(self._copies, self.packed, strict=True):
                copy.copy_(packed)

    def load(self, parameters: Sequence[Tensor]) -> None:
        """Take over the parameters' values."""
        for mine, value in zip(self.parameters, parameters, strict=True):
            mine.copy_(value)
        self.refresh()

    def last_shared_weight(self) -> int:
        """Position of the last shared layer's weight among the parameters; 0 if there is none."""
        return max((k for k in range(0, len(self.stacks), 2) if self.is_shared[k]), default=0)

    def weigh(self, weights: Tensor) -> None:
        """Write Σ_t w_t g_t with weights `[N, T]` into the shared parameters' gradient."""
        if self.shared_stack is not None:
            gradient = self.packed[0].grad
            assert gradient is not None
            w = weights.to(gradient.dtype).unsqueeze(1)
            torch.bmm(w, self.shared_stack, out=gradient.unsqueeze(1))

    def approach(self, other: "Network", rate: float) -> None:
        """Move the parameters towards another network's by this share of the distance."""
        torch._foreach_lerp_(self.packed, other.packed, rate)
        self.refresh()

    def forward(self, member: int, x: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """One member on rows `[T·B, inputs]`, task by task -> `[T·B, outputs]`.

        With `kept` the input of every layer is appended to it, for `backward`.
        """
        *hidden, (weight, bias) = self._layers[member]
        inputs = [x]
        for w, b in hidden:
            inputs.append(layer_relu(inputs[-1], w, b))
        inputs[-1] = inputs[-1].to(weight.dtype)
        if kept is not None:
            kept.extend(inputs)
        return layer(inputs[-1], weight, bias)

    def backward(self, member: int, kept: Sequence[Tensor], delta: Tensor) -> None:
        """Write one member's task gradients into `stacks`.

        `kept`: what `forward` kept; `delta`: the gradient of its output `[T·B, outputs]`.
        """
        for k in reversed(range(len(kept))):
            x, d = kept[k].unflatten(0, (self.tasks, -1)), delta.unflatten(0, (self.tasks, -1))
            outer_products(x, d, self.stacks[2 * k][member])
            row_sums(d, self.stacks[2 * k + 1][member])
            if k:
                delta = self._through(member, k, kept[k], delta)

    def input_gradient(
        self, member: int, kept: Sequence[Tensor], delta: Tensor, columns: int
    ) -> Tensor:
        """The gradient of the last `columns` of the input `[T·B, columns]`; no parameter's."""
        for k in reversed(range(1, len(kept))):
            delta = self._through(member, k, kept[k], delta)
        return product(delta, self._layers[member][0][0][..., -columns:, :].mT)

    def _through(self, member: int, layer: int, hidden: Tensor, delta: Tensor) -> Tensor:
        """From the gradient of a layer's output to that of the output of the layer below."""
        delta = product(delta, self._layers[member][layer][0].mT).to(self.compute)
        return relu_gradient(delta, hidden.to(self.compute))


def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b on rows `[T·B, inputs]`; W is shared or `[T, inputs, outputs]`."""
    if weight.dim() == 3:
        rows = x.unflatten(0, (len(weight), -1))
        return torch.baddbmm(bias.unsqueeze(1), rows, weight).flatten(0, 1)
    if 1 < weight.shape[1] < FEW_COLUMNS and x.device.type == "cpu":
        return torch.addmm(bias.unsqueeze(1), weight.t(), x.t()).t()
    return torch.addmm(bias, x, weight)


def layer_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """max(0, x W + b), in one operation where there is one."""
    if weight.dim() == 2 and has_fused_layers(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight.t(), bias, "relu", [], "")
    return layer(x, weight, bias).relu_()


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x W on rows `[T·B, inputs]`; W is shared or `[T, inputs, outputs]`."""
    if weight.dim() == 3:
        return torch.bmm(x.unflatten(0, (len(weight), -1)), weight).flatten(0, 1)
    return x @ weight


def relu_gradient(delta: Tensor, hidden: Tensor) -> Tensor:
    """delta where the ReLU let its input pass, else 0; written over delta."""
    return torch.ops.aten.threshold_backward.grad_input(delta, hidden, 0, grad_input=delta)


def has_fused_layers(x: Tensor) -> bool:
    """Whether oneDNN computes a linear layer and its ReLU in one operation for such rows."""
    return (
        x.device.type == "cpu" and x.dtype != torch.float64 and torch.backends.mkldnn.is_available()
    )
