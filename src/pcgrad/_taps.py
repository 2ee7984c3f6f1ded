"""Recorded calls of layers, and the task gradients computed from them.

A :class:`Tap` stores the input of one call. After :func:`backward_pass` it also stores the gradient
of the output, and the two determine the task gradients of the layer's weight and bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from pcgrad._graph import Reach, gradients, is_leaf, refuse_reentrant
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
    """One call of a ``Linear`` or ``LayerNorm`` layer.

    With delta = dL/dy, and x_i, delta_i the rows of task i:

    - ``Linear`` y = x W^T + b has dL_i/dW = delta_i^T x_i and dL_i/db = sum of the rows of delta_i;
    - ``LayerNorm`` y = n(x) w + b has dL_i/dw = sum of the rows of n(x_i) delta_i, and dL_i/db as
      above.

    Attributes:
        layer: the module that was called.
        used: the trainable parameters that the call used, with their names in the layer.
        x: the input, detached.
        version: the input's version counter at the call, which reveals later changes in place.
        output: the graph edge at which the output's gradient arrives. It stays valid if the output
            is modified in place.
        below: the graph node of the input; ``None`` if the input needs no gradient.
        delta: the gradient of the output; set by the backward pass.
        counts: the number of rows of each task if they are unequal, else ``None``.
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
        """Record a call that was just made.

        Returns:
            The tap; ``None`` if the output is not the layer's function of its own parameters.
        """
        below = get_gradient_edge(x).node if x.requires_grad else None
        named = ((name, layer._parameters.get(name)) for name in ("weight", "bias"))
        used: list[tuple[str, Tensor]] = [
            (name, p) for name, p in named if p is not None and p.requires_grad
        ]
        # Computed weights or a replaced output add operations or leaves that are not the layer's.
        if _leaves(output, below, NODES[type(layer)]) != {id(p) for _, p in used}:
            return None
        # For inputs of three or more dimensions the output is a view. An operation in place on a
        # view replaces its node in the graph, whereas the node of its base stays.
        if output._base is not None and output._base.numel() == output.numel():
            output = output._base
        return cls(layer, used, x.detach(), x._version, get_gradient_edge(output), below)

    def gradients(self, name: str, out: Tensor, *, add: bool = False) -> None:
        """Write this call's task gradients ``[T, *shape]`` of the layer's weight or bias."""
        if self.counts is None:
            x, delta = self._rows(len(out))
            self._form(name, x, delta, out, add=add)
            return
        # Unequal numbers of rows do not fit one batched product.
        for i, (x, delta) in enumerate(self._unequal()):
            self._form(name, x.unsqueeze(0), delta.unsqueeze(0), out[i : i + 1], add=add)

    def _form(self, name: str, x: Tensor, delta: Tensor, out: Tensor, *, add: bool) -> None:
        if name == "bias":
            row_sums(delta, out, add=add)
        elif isinstance(self.layer, nn.Linear):
            outer_products(delta, x, out, add=add)
        else:
            # The normalised input is computed again, which saves storing it for every call.
            shape = self.layer.normalized_shape
            row_sums(nn.functional.layer_norm(x, shape, eps=self.layer.eps) * delta, out, add=add)

    def update(self, weights: Tensor) -> Tensor:
        """Return ``sum_j weights_j g_j`` of a linear layer's weight without forming the g_j.

        Scaling the rows of delta by their task's weight reduces the sum to one product over all
        rows: ``sum_j (weights_j delta_j)^T x_j``.
        """
        w = weights.to(self.x.device, working_dtype(self.x.dtype.to_real()))
        if self.counts is None:
            x, delta = self._rows(len(weights))
            scaled, x = delta * w.view(-1, 1, 1), x.flatten(0, 1)
        else:
            pairs = self._unequal()
            x = torch.cat([part for part, _ in pairs])
            scaled = torch.cat([part * w[i] for i, (_, part) in enumerate(pairs)])
        # Autocast would round the factors, whose dtype was chosen above.
        with torch.autocast(x.device.type, enabled=False):
            return scaled.to(x.dtype).flatten(0, -2).mT @ x

    def _rows(self, tasks: int) -> tuple[Tensor, Tensor]:
        """Return input and output gradient as ``[T, rows, *features]``, in one dtype."""
        x, delta = self._checked()
        x, delta = (_by_task(part, tasks, self._features()) for part in (x, delta))
        self.delta = delta
        return _factor(x, delta), delta

    def _unequal(self) -> list[tuple[Tensor, Tensor]]:
        """Return input and output gradient of each task as ``[rows, *features]``."""
        assert self.counts is not None
        k = self._features()
        x, delta = (part.flatten(0, -1 - k) for part in self._checked())
        # One row may cover several entries of x, such as the positions of a sequence.
        sizes = [n * (len(x) // sum(self.counts)) for n in self.counts]
        return [(_factor(a, b), b) for a, b in zip(x.split(sizes), delta.split(sizes), strict=True)]

    def _features(self) -> int:
        return 1 if isinstance(self.layer, nn.Linear) else len(self.layer.normalized_shape)

    def _checked(self) -> tuple[Tensor, Tensor]:
        assert self.delta is not None
        if self.x._version != self.version:
            raise RuntimeError(
                f"the input of a recorded {type(self.layer).__name__} was modified in place after "
                "the layer had read it; use an operation that returns a new tensor"
            )
        return self.x, self.delta

    def by_task(self, tasks: int, part: Tensor) -> list[Tensor]:
        """Split a gradient of the output by task; each part is flattened per row."""
        if self.counts is None:
            return list(_by_task(part, tasks, self._features()))
        part = part.flatten(0, -1 - self._features())
        rows = len(part) // sum(self.counts)
        return list(part.split([n * rows for n in self.counts]))


def _leaves(output: Tensor, below: Any, nodes: set[str]) -> set[int] | None:
    """Return the ids of the leaves that a call used besides its input, whose node is ``below``.

    The result is ``None`` if the call recorded other operations than ``nodes``, or used any result
    twice.
    """
    leaves: set[int] = set()
    seen: set[Any] = set()
    stack: list[Any] = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None:
            continue
        if node in seen:
            return None
        seen.add(node)
        if node is below:
            continue
        name = type(node).__name__
        if name not in nodes:
            return None
        if is_leaf(node):
            leaves.add(id(node.variable))
        # A layer adds its bias to the product; only another operation scales what it adds.
        if name == "AddBackward0" and node._saved_alpha != 1:
            return None
        stack.extend(child for child, _ in node.next_functions)
    return leaves


def _factor(x: Tensor, delta: Tensor) -> Tensor:
    """Return the input as the other factor of the product: conjugate if complex."""
    # Under autocast the layer computed its product in the dtype of delta.
    x = x if x.dtype == delta.dtype else x.to(delta.dtype)
    return x.conj() if x.is_complex() else x


def _by_task(part: Tensor, tasks: int, features: int) -> Tensor:
    """Return a tensor as ``[T, rows, *features]``."""
    # For small layers, the overhead of a reshape that changes nothing is measurable.
    if part.dim() == features + 2 and part.shape[0] == tasks:
        return part
    rows = part.shape[: part.dim() - features].numel() // tasks
    return part.reshape(tasks, rows, *part.shape[part.dim() - features :])


Calls = list[tuple[Tap, str]]
"""The calls that used a parameter, and its name in their layers."""

Leaf = tuple[Tensor, GradientEdge]
"""A leaf, and its place in the graph, which outlives ``requires_grad``."""


def calls_of(taps: Sequence[Tap]) -> dict[int, Calls]:
    """Return the recorded calls of every trainable parameter, by its id."""
    calls: dict[int, Calls] = {}
    for tap in taps:
        for name, parameter in tap.used:
            # It may have been frozen since the call.
            if parameter.requires_grad:
                calls.setdefault(id(parameter), []).append((tap, name))
    return calls


def other_leaves(
    losses: Sequence[Tensor], taps: Sequence[Tap]
) -> tuple[list[Tap], list[Leaf], int]:
    """Return the recorded calls and the other leaves that losses reach, and the graph's kind.

    The walk skips the recorded calls: from a call's output it goes on at its input. A weight or
    bias found nevertheless has another way to the losses.

    Returns:
        The calls; the leaves in the order of the graph, those frozen since the forward pass
        included; and a hash of its sequence of operations.
    """
    below = {tap.output.node: tap.below for tap in taps}
    leaves: list[Leaf] = []
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
        if is_leaf(node):
            leaves.append((node.variable, GradientEdge(node, 0)))
        # Behind a recorded call only its input matters: its own parameters are known.
        stack.extend(
            [below[node]] if node in below else [child for child, _ in node.next_functions]
        )
    return [tap for tap in taps if tap.output.node in seen], leaves, hash(tuple(kinds))


def backward_pass(
    roots: list[Tensor],
    taps: Sequence[Tap],
    leaves: Sequence[Leaf],
    own: Sequence[Tensor],
    *,
    arrive: Callable[[Tap], None] | None = None,
    every: bool = False,
    scales: Tensor | None = None,
    retain_graph: bool = False,
) -> list[Tensor | None]:
    """Run one backward pass that sets the taps' deltas and returns own leaves' plain gradients.

    The pass computes no gradient of a weight.

    Args:
        roots: the losses; their sum is differentiated.
        taps: the recorded calls, from :func:`other_leaves` as the leaves.
        leaves: the leaves outside recorded calls.
        own: the leaves that receive plain gradients.
        arrive: called for every reached tap as soon as its delta is known. It may discard the
            delta, so that only one exists at a time. ``None`` keeps all deltas.
        every: reach every tap without any leaf; all deltas exist at the same time then.
        scales: factors ``[T]`` of the losses.
        retain_graph: keep the graph for another pass.

    Returns:
        The gradient of each own leaf; ``None`` if it is frozen or not reached.
    """
    arrived: set[Tap] = set()

    def note(tap: Tap, gradient: Tensor | None) -> None:
        arrived.add(tap)
        tap.delta = gradient
        if gradient is not None and arrive is not None:
            arrive(tap)

    # autograd.grad visits only nodes on a path to its inputs. A pass to the lowest taps and to all
    # other leaves visits every other tap, where a hook on the node delivers the delta. A gradient
    # that autograd.grad returns for a visited node would lack the tensor hooks of the output.
    ends = [tap for tap in taps if every or tap.below is None]
    handles = []
    for tap in taps:
        tap.delta = None
        hook = partial(lambda tap, gradients: note(tap, gradients[tap.output.output_nr]), tap)
        handles.append(tap.output.node.register_prehook(hook))
    wanted = [leaf for leaf in own if leaf.requires_grad]
    listed = {id(leaf) for leaf in wanted}
    inputs = [
        *wanted,
        *(edge for leaf, edge in leaves if id(leaf) not in listed),
        *(tap.output for tap in ends),
    ]
    try:
        found = list(_grad(roots, inputs, scales, retain_graph=retain_graph)) if inputs else []
    finally:
        for handle in handles:
            handle.remove()
    deltas = found[len(inputs) - len(ends) :]
    plain = iter(found[: len(wanted)])
    # Drop this reference, so that a delta discarded by `arrive` is freed at once.
    del found
    # Taken off the list one by one, so that each delta can be freed before the next is used.
    for tap in reversed(ends):
        delta = deltas.pop()
        if tap not in arrived:
            note(tap, delta)
    return [next(plain) if leaf.requires_grad else None for leaf in own]


def mixed_rows(
    roots: list[Tensor], taps: Sequence[Tap], tasks: int, *, retain_graph: bool
) -> tuple[Tap | None, bool]:
    """Find a call after which a row of one task enters the loss of another.

    For each bit of the task number, a pass scales the losses of the tasks with this bit by a power
    of two, which is exact in floating point. Every row's gradient must scale with its own task's
    loss. The numbers of any two tasks differ in some bit, whose pass distinguishes the two. The
    taps hold the deltas of a pass before.

    Returns:
        The first such tap or ``None``, and whether the check was conclusive. It is not if a
        gradient was zero or not finite, since zeros scale with anything.
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
    # Values that are not finite scale with nothing and would look like mixed rows.
    finite = all(bool(delta.isfinite().all()) for _, delta in reached)
    numbers, bits = torch.arange(tasks, device=roots[0].device), (tasks - 1).bit_length()
    for bit in range(bits if finite else 0):
        scales = torch.where((numbers >> bit & 1).bool(), 2.0**-8, 1.0)
        backward_pass(
            roots,
            taps,
            (),
            (),
            every=True,
            scales=scales,
            retain_graph=retain_graph or bit + 1 < bits,
        )
        for tap, delta in reached:
            assert tap.delta is not None
            parts = zip(tap.by_task(tasks, tap.delta), tap.by_task(tasks, delta), strict=True)
            if any(
                _differs(*pair, scale) for pair, scale in zip(parts, scales.tolist(), strict=True)
            ):
                return tap, proven
    for tap, delta in reached:
        tap.delta = delta
    return None, proven


def _differs(gradient: Tensor, rows: Tensor, scale: float) -> bool:
    """Return whether a gradient differs from the rows' gradient times the scale beyond rounding."""
    if not rows.numel():
        return False
    # The tolerance covers sums that another pass adds in another order. Half precision gets one
    # unit of rounding, since 64 units of bfloat16 are half of the value.
    info = torch.finfo(rows.dtype)
    error = (gradient - rows * scale).abs().max()
    bound = rows.abs().max() * (info.eps * (64 if info.bits > 16 else 1)) + info.smallest_normal
    return bool(error > bound)


def _grad(
    roots: list[Tensor], inputs: Sequence[Any], scales: Tensor | None = None, *, retain_graph: bool
) -> Sequence[Tensor | None]:
    """Return the gradients of the sum of the losses, each multiplied by its scale if given."""
    seeds = [torch.ones_like(loss) for loss in roots]
    if scales is not None:
        parts = scales.unbind() if len(roots) > 1 else (scales,)
        seeds = [seed * part.to(seed.dtype) for seed, part in zip(seeds, parts, strict=True)]
    return gradients(roots, inputs, seeds, keep=retain_graph)
