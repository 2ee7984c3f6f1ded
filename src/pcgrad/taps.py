"""What a layer saw in one call, and its task gradients, formed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from pcgrad.precision import working_dtype


@dataclass(eq=False)
class Tap:
    """One call of a ``Linear`` or ``LayerNorm``.

    With ``rows`` many rows per task: y = x W^T + b, delta = dL/dy -> dL_i/dW = delta_i^T x_i,
    dL_i/db = sum of delta_i. ``LayerNorm`` y = n(x) w + b -> dL_i/dw = sum of n(x_i) delta_i.

    Attributes:
        layer: the module.
        x: its input, detached; ``version`` tells whether it was modified since.
        output: where the gradient of its output arrives in the graph, whatever is done to the
        output in place.
        below: the graph's node of the input; ``None`` where the input needs no gradient.
        delta: the gradient of the output, after the backward pass.
    """

    layer: Any
    x: Tensor
    version: int
    output: GradientEdge
    below: Any
    delta: Tensor | None = None

    @classmethod
    def of(cls, layer: nn.Module, x: Tensor, output: Tensor) -> Tap:
        """A call that has just been made."""
        below = get_gradient_edge(x).node if x.requires_grad else None
        # Inputs of three and more dimensions: the output is a view, which a step in place takes out
        # of the graph.
        if output._base is not None and output._base.numel() == output.numel():
            output = output._base
        return cls(layer, x.detach(), x._version, get_gradient_edge(output), below)

    def parameters(self) -> list[tuple[str, Tensor]]:
        """The layer's parameters to train, by name."""
        named = (("weight", self.layer.weight), ("bias", self.layer.bias))
        return [(name, p) for name, p in named if p is not None and p.requires_grad]

    def gradients(self, name: str, out: Tensor, *, add: bool = False) -> None:
        """Write (or add) this call's task gradients of the layer's weight or bias into ``[T,
        *shape]``.
        """
        x, delta = self._rows(len(out))
        if name == "weight" and isinstance(self.layer, nn.Linear) and out.dtype == delta.dtype:
            out.baddbmm_(delta.mT, x, beta=int(add))  # beta 0: what was there is not read
            return
        if name == "bias" and delta.dim() == 3 and not add and out.dtype == delta.dtype:
            torch.sum(delta, 1, out=out)
            return
        if name == "bias":
            found = delta.sum(1)
        elif isinstance(self.layer, nn.Linear):
            found = torch.bmm(delta.mT, x)
        else:
            found = (
                nn.functional.layer_norm(x, self.layer.normalized_shape, eps=self.layer.eps) * delta
            ).sum(1)
        if add:
            out.add_(found)
        else:
            out.copy_(found)

    def update(self, weights: Tensor) -> Tensor:
        """``sum_j weights_j g_j`` of a linear layer's weight, by one product and without the g_j."""
        x, delta = self._rows(len(weights))
        w = weights.to(delta.device, working_dtype(delta.dtype)).view(-1, 1, 1)
        with torch.autocast(delta.device.type, enabled=False):
            return (delta * w).to(delta.dtype).flatten(0, 1).mT @ x.flatten(0, 1)

    def _rows(self, tasks: int) -> tuple[Tensor, Tensor]:
        """Input and output gradient ``[T, rows, *features]``; under autocast the input in the dtype
        of the product.
        """
        assert self.delta is not None
        if self.x._version != self.version:
            raise RuntimeError(
                f"the input of a recorded {type(self.layer).__name__} was modified in place after the layer had read "
                "it; use an operation that returns a new tensor"
            )
        features = 1 if isinstance(self.layer, nn.Linear) else len(self.layer.normalized_shape)
        self.x, self.delta = (
            _by_task(self.x, tasks, features),
            _by_task(self.delta, tasks, features),
        )
        return self.x if self.x.dtype == self.delta.dtype else self.x.to(
            self.delta.dtype
        ), self.delta


def _by_task(part: Tensor, tasks: int, features: int) -> Tensor:
    """``[T, rows, *features]``, by no call where it has this shape: beside small layers calls
    without work show.
    """
    if part.dim() == features + 2 and part.shape[0] == tasks:
        return part
    return part.reshape(tasks, -1, *part.shape[part.dim() - features :])


Calls = list[tuple[Tap, str]]
"""The calls that used a parameter, and its name in their layers."""


def calls_of(taps: Sequence[Tap]) -> dict[int, Calls]:
    """For the id of every parameter to train, its recorded calls."""
    calls: dict[int, Calls] = {}
    for tap in taps:
        for name, parameter in tap.parameters():
            calls.setdefault(id(parameter), []).append((tap, name))
    return calls


def leaves_beside(losses: Sequence[Tensor], taps: Sequence[Tap]) -> list[Tensor]:
    """The leaves that the losses reach other than as a weight or bias of a recorded call, in the
    order of the graph.
    """
    below = {tap.output.node: tap.below for tap in taps}
    leaves: list[Tensor] = []
    seen: set[Any] = set()
    stack: list[Any] = [get_gradient_edge(loss).node for loss in losses]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "CheckpointFunctionBackward":
            raise RuntimeError(
                "a reentrant checkpoint hides its parameters from the graph; use checkpoint(use_reentrant=False)"
            )
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        stack.extend(
            [below[node]] if node in below else [child for child, _ in node.next_functions]
        )
    return leaves


def backward_pass(
    roots: list[Tensor],
    taps: Sequence[Tap],
    leaves: Sequence[Tensor],
    own: Sequence[Tensor],
    *,
    arrive: Callable[[Tap], None] | None = None,
    retain_graph: bool = False,
) -> list[Tensor | None]:
    """One pass from the sum of the losses to the taps' deltas and the plain gradients of own
    leaves.

    No gradient of a weight is formed. ``arrive(tap)`` is called for every tap that is reached, as
    soon as its delta is
    there: it may forget it, so that no more than one is alive. ``None`` keeps all. ``leaves``:
    :func:`leaves_beside`."""

    def note(tap: Tap, gradient: Tensor | None) -> None:
        tap.delta = gradient
        if gradient is not None and arrive is not None:
            arrive(tap)

    # A pass that ends at the lowest taps and at all leaves beside them goes through every other
    # tap.
    ends = [tap for tap in taps if arrive is None or tap.below is None]
    handles = []
    for tap in taps:
        tap.delta = None
        if tap not in ends:
            hook = partial(lambda tap, gradients: note(tap, gradients[tap.output.output_nr]), tap)
            handles.append(tap.output.node.register_prehook(hook))
    listed = {id(leaf) for leaf in own}
    wanted = [leaf for leaf in own if leaf.requires_grad]
    inputs = [
        *wanted,
        *(leaf for leaf in leaves if id(leaf) not in listed),
        *(tap.output for tap in ends),
    ]
    try:
        found = list(_grad(roots, inputs, retain_graph=retain_graph)) if inputs else []
    finally:
        for handle in handles:
            handle.remove()
    deltas = found[len(inputs) - len(ends) :]
    plain = iter(found[: len(wanted)])
    del found
    for tap in reversed(ends):
        note(tap, deltas.pop())
    return [next(plain) if leaf.requires_grad else None for leaf in own]


def mixed_rows(
    roots: list[Tensor], taps: Sequence[Tap], tasks: int, *, retain_graph: bool
) -> tuple[Tap | None, bool]:
    """Find a call behind which a row of one task enters the loss of another.

    Half of the losses are scaled by a power of two, which rounds nothing: every row's gradient must
    scale with its own task's loss. The numbers of any two tasks differ in some bit, and there the
    two are told apart.

    Returns:
        The tap or ``None``; and whether all gradients were finite, for others prove nothing.
    """
    reached = [(tap, tap.delta) for tap in taps if tap.delta is not None]
    numbers, bits = torch.arange(tasks, device=roots[0].device), (tasks - 1).bit_length()
    finite = all(bool(delta.isfinite().all()) for _, delta in reached)
    for bit in range(bits if finite else 0):
        scales = torch.where((numbers >> bit & 1).bool(), 2.0**-8, 1.0)
        found = _grad(
            roots,
            [tap.output for tap, _ in reached],
            scales,
            retain_graph=retain_graph or bit + 1 < bits,
        )
        for (tap, delta), gradient in zip(reached, found, strict=True):
            assert gradient is not None
            rows, scaled = delta.reshape(tasks, -1), gradient.reshape(tasks, -1)
            info = torch.finfo(delta.dtype)
            error = (scaled - rows * scales.to(rows.dtype).unsqueeze(1)).abs().amax(1)
            bound = (
                rows.abs().amax(1) * (info.eps * (64 if info.bits > 16 else 1))
                + info.smallest_normal
            )
            if bool((error > bound).any()):
                return tap, finite
    return None, finite


def _grad(
    roots: list[Tensor], inputs: Sequence[Any], scales: Tensor | None = None, *, retain_graph: bool
) -> Sequence[Tensor | None]:
    """The gradient of the sum of the losses, where asked each times its scale."""
    seeds = [torch.ones_like(loss) for loss in roots]
    if scales is not None:
        parts = scales.unbind() if len(roots) > 1 else (scales,)
        seeds = [seed * part.to(seed.dtype) for seed, part in zip(seeds, parts, strict=True)]
    return torch.autograd.grad(roots, inputs, seeds, retain_graph=retain_graph, allow_unused=True)
