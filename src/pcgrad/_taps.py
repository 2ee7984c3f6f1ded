"""What a layer saw in one call, and its task gradients, formed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from pcgrad._graph import Reach, refuse_reentrant
from pcgrad._linear_gradients import outer_products, row_sums
from pcgrad._precision import working_dtype

NODES = {
    nn.Linear: {
        *("AddmmBackward0", "MmBackward0", "BmmBackward0", "LinearBackward0", "TBackward0"),
        *("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "ToCopyBackward0"),
        *("ExpandBackward0", "CloneBackward0", "AddBackward0", "AccumulateGrad"),
    },
    nn.LayerNorm: {"NativeLayerNormBackward0", "ToCopyBackward0", "AccumulateGrad"},
}
"""What autograd records of one call of a layer."""


@dataclass(eq=False)
class Tap:
    """One call of a ``Linear`` or ``LayerNorm``.

    With ``rows`` many rows per task: y = x W^T + b, delta = dL/dy -> dL_i/dW = delta_i^T x_i,
    dL_i/db = sum of delta_i. ``LayerNorm`` y = n(x) w + b -> dL_i/dw = sum of n(x_i) delta_i.

    Attributes:
        layer: the module.
        used: the parameters to train that the call used, by name.
        x: its input, detached; ``version`` tells whether it was modified since.
        output: where the gradient of its output arrives in the graph, whatever is done to the
            output in place.
        below: the graph's node of the input; ``None`` where the input needs no gradient.
        delta: the gradient of the output, after the backward pass.
        counts: rows of every task, where they are unequal.
    """

    layer: Any
    used: list[tuple[str, Tensor]]
    x: Tensor
    version: int
    output: GradientEdge
    below: Any
    delta: Tensor | None = None
    counts: Sequence[int] | None = None

    @classmethod
    def of(cls, layer: nn.Module, x: Tensor, output: Tensor) -> Tap | None:
        """A call that has just been made; ``None`` where it was not the layer's own function of its
        own parameters.
        """
        below = get_gradient_edge(x).node if x.requires_grad else None
        named = (
            ("weight", layer._parameters.get("weight")),
            ("bias", layer._parameters.get("bias")),
        )
        used: list[tuple[str, Tensor]] = [
            (name, p) for name, p in named if p is not None and p.requires_grad
        ]
        if _leaves(output, below, NODES[type(layer)]) != {id(p) for _, p in used}:
            return None
        # Inputs of three and more dimensions: the output is a view, which a step in place takes out
        # of the graph.
        if output._base is not None and output._base.numel() == output.numel():
            output = output._base
        return cls(layer, used, x.detach(), x._version, get_gradient_edge(output), below)

    def gradients(self, name: str, out: Tensor, *, add: bool = False) -> None:
        """Write (or add) this call's task gradients of the layer's weight or bias into ``[T,
        *shape]``.
        """
        if self.counts is None:
            x, delta = self._rows(len(out))
            self._form(name, x, delta, out, add=add)
            return
        for i, (x, delta) in enumerate(self._unequal()):
            self._form(name, x.unsqueeze(0), delta.unsqueeze(0), out[i : i + 1], add=add)

    def _form(self, name: str, x: Tensor, delta: Tensor, out: Tensor, *, add: bool) -> None:
        if name == "bias":
            row_sums(delta, out, add=add)
        elif isinstance(self.layer, nn.Linear):
            outer_products(delta, x, out, add=add)
        else:
            shape = self.layer.normalized_shape
            row_sums(nn.functional.layer_norm(x, shape, eps=self.layer.eps) * delta, out, add=add)

    def update(self, weights: Tensor) -> Tensor:
        """``sum_j weights_j g_j`` of a linear layer's weight, by one product and without the g_j."""
        w = weights.to(self.x.device, working_dtype(self.x.dtype.to_real()))
        if self.counts is None:
            x, delta = self._rows(len(weights))
            scaled, x = delta * w.view(-1, 1, 1), x.flatten(0, 1)
        else:
            pairs = self._unequal()
            x = torch.cat([part for part, _ in pairs])
            scaled = torch.cat([part * w[i] for i, (_, part) in enumerate(pairs)])
        with torch.autocast(x.device.type, enabled=False):
            return scaled.to(x.dtype).flatten(0, -2).mT @ x

    def _rows(self, tasks: int) -> tuple[Tensor, Tensor]:
        """Input and output gradient ``[T, rows, *features]``; under autocast the input in the dtype
        of the product.
        """
        x, delta = self._checked()
        x, delta = (_by_task(part, tasks, self._features()) for part in (x, delta))
        self.delta = delta
        return _factor(x, delta), delta

    def _unequal(self) -> list[tuple[Tensor, Tensor]]:
        """The same for every task alone, ``[rows, *features]``."""
        assert self.counts is not None
        x, delta = self._checked()
        k = self._features()
        sizes = [n * (len(x) // sum(self.counts)) for n in self.counts]
        return [
            (_factor(a, b).flatten(0, -1 - k), b.flatten(0, -1 - k))
            for a, b in zip(
                x.split(sizes),
                delta.reshape(x.shape[0], *delta.shape[1:]).split(sizes),
                strict=True,
            )
        ]

    def _features(self) -> int:
        return 1 if isinstance(self.layer, nn.Linear) else len(self.layer.normalized_shape)

    def _checked(self) -> tuple[Tensor, Tensor]:
        assert self.delta is not None
        if self.x._version != self.version:
            raise RuntimeError(
                f"the input of a recorded {type(self.layer).__name__} was modified in place after the layer had read "
                "it; use an operation that returns a new tensor"
            )
        return self.x, self.delta

    def by_task(self, tasks: int, part: Tensor) -> list[Tensor]:
        """A gradient of the output, task by task."""
        if self.counts is None:
            return list(part.reshape(tasks, -1))
        rows = len(self.x) // sum(self.counts)
        return list(part.reshape(len(self.x), -1).split([n * rows for n in self.counts]))


def _leaves(output: Tensor, below: Any, nodes: set[str]) -> set[int] | None:
    """The ids of the leaves that a call used besides its input; ``None`` where it did something
    else than its layer does.
    """
    leaves: set[int] = set()
    stack: list[Any] = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node is below:
            continue
        if type(node).__name__ not in nodes:
            return None
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        stack.extend(child for child, _ in node.next_functions)
    return leaves


def _factor(x: Tensor, delta: Tensor) -> Tensor:
    """The input as the product's other factor: in delta's dtype, conjugate where complex."""
    x = x if x.dtype == delta.dtype else x.to(delta.dtype)
    return x.conj() if x.is_complex() else x


def _by_task(part: Tensor, tasks: int, features: int) -> Tensor:
    """``[T, rows, *features]``; not reshaped without need, which shows with small layers."""
    if part.dim() == features + 2 and part.shape[0] == tasks:
        return part
    return part.reshape(tasks, -1, *part.shape[part.dim() - features :])


Calls = list[tuple[Tap, str]]
"""The calls that used a parameter, and its name in their layers."""


def calls_of(taps: Sequence[Tap]) -> dict[int, Calls]:
    """For the id of every parameter to train, its recorded calls."""
    calls: dict[int, Calls] = {}
    for tap in taps:
        for name, parameter in tap.used:
            calls.setdefault(id(parameter), []).append((tap, name))
    return calls


def other_leaves(losses: Sequence[Tensor], taps: Sequence[Tap]) -> tuple[list[Tensor], int]:
    """The leaves that the losses reach other than as a weight or bias of a recorded call, in the
    order of the graph; and a number that tells one graph's operations from another's.
    """
    below = {tap.output.node: tap.below for tap in taps}
    leaves: list[Tensor] = []
    kinds: list[type] = []
    seen: set[Any] = set()
    stack: list[Any] = [get_gradient_edge(loss).node for loss in losses]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kinds.append(type(node))
        refuse_reentrant(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        stack.extend(
            [below[node]] if node in below else [child for child, _ in node.next_functions]
        )
    return leaves, hash(tuple(kinds))


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
    :func:`other_leaves`."""

    def note(tap: Tap, gradient: Tensor | None) -> None:
        tap.delta = gradient
        if gradient is not None and arrive is not None:
            arrive(tap)

    # A pass that ends at the lowest taps and at all other leaves goes through every other tap.
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
        The tap or ``None``; and whether that is proven: zero gradients and those that are not
        finite prove nothing.
    """
    reached = [(tap, tap.delta) for tap in taps if tap.delta is not None]
    reach, every = Reach(roots), (1 << tasks) - 1
    proven = True
    for tap, delta in reached:
        mask = reach.masks.get(tap.output.node, 0) if len(roots) == tasks else every
        for i, part in enumerate(tap.by_task(tasks, delta)):
            if mask >> i & 1 and part.numel():
                largest = part.abs().max()
                proven &= bool(largest.isfinite() and largest > 0)
    finite = all(bool(delta.isfinite().all()) for _, delta in reached)
    numbers, bits = torch.arange(tasks, device=roots[0].device), (tasks - 1).bit_length()
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
            for i, scale in enumerate(scales.tolist()):
                if _differs(tap.by_task(tasks, gradient)[i], tap.by_task(tasks, delta)[i], scale):
                    return tap, proven
    return None, proven


def _differs(gradient: Tensor, rows: Tensor, scale: float) -> bool:
    """Whether a gradient is another than the rows' times the scale, up to rounding."""
    if not rows.numel():
        return False
    info = torch.finfo(rows.dtype)
    error = (gradient - rows * scale).abs().max()
    bound = rows.abs().max() * (info.eps * (64 if info.bits > 16 else 1)) + info.smallest_normal
    return bool(error > bound)


def _grad(
    roots: list[Tensor], inputs: Sequence[Any], scales: Tensor | None = None, *, retain_graph: bool
) -> Sequence[Tensor | None]:
    """The gradient of the sum of the losses, where asked each times its scale."""
    seeds = [torch.ones_like(loss) for loss in roots]
    if scales is not None:
        parts = scales.unbind() if len(roots) > 1 else (scales,)
        seeds = [seed * part.to(seed.dtype) for seed, part in zip(seeds, parts, strict=True)]
    return torch.autograd.grad(roots, inputs, seeds, retain_graph=retain_graph, allow_unused=True)
