"""Recorded calls of layers, and task gradients from their inputs and outputs' gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from pcgrad._graph import Reach, can_release, gradients, is_leaf, release, saves, topological
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
    """

    layer: Any
    used: list[tuple[str, Tensor]]  # trainable parameters, with their names in the layer
    x: Tensor  # the input, detached
    version: int  # the input's at the call, which reveals later changes in place
    output: GradientEdge  # where the output's gradient arrives, valid if it is modified in place
    below: Any  # the graph node of the input; None if the input needs no gradient
    features: int  # dimensions of one row
    delta: Tensor | None = None  # the gradient of the output; set by the backward pass
    counts: Sequence[int] | None = None  # the rows of each task; None if they are equal

    @classmethod
    def of(cls, layer: nn.Module, x: Tensor, output: Tensor) -> Tap | None:
        """Record a call; ``None`` if its output is not the layer's function of its parameters."""
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
        features = len(getattr(layer, "normalized_shape", [1]))
        edge = get_gradient_edge(output)
        return cls(layer, used, x.detach(), x._version, edge, below, features)

    def gradients(self, name: str, out: Tensor, *, add: bool = False) -> None:
        """Write this call's task gradients ``[T, *shape]`` of the layer's weight or bias."""
        parts = self._factors(len(out))
        # Unequal numbers of rows do not fit one batched product.
        for part, (x, delta) in zip(_chunks(out, len(parts)), parts, strict=True):
            if name == "bias":
                row_sums(delta, part, add=add)
            elif isinstance(self.layer, nn.Linear):
                outer_products(delta, x, part, add=add)
            else:
                # The normalised input is computed again, which saves storing it for every call.
                normal = nn.functional.layer_norm(
                    x, self.layer.normalized_shape, eps=self.layer.eps
                )
                row_sums(normal * delta, part, add=add)

    def update(self, weights: Tensor) -> Tensor:
        """Return ``sum_j weights_j g_j = sum_j (weights_j delta_j)^T x_j`` of a linear layer."""
        w = weights.to(self.x.device, working_dtype(self.x.dtype.to_real())).view(-1, 1, 1)
        parts = self._factors(len(weights))
        scales = _chunks(w, len(parts))
        scaled = [delta * scale for (_, delta), scale in zip(parts, scales, strict=True)]
        x = _rows([x for x, _ in parts])
        # Autocast would round the factors, whose dtype was chosen above.
        with torch.autocast(x.device.type, enabled=False):
            return _rows(scaled).to(x.dtype).mT @ x

    def _factors(self, tasks: int) -> list[tuple[Tensor, Tensor]]:
        """Return input and output gradient in the parts of :meth:`split`, in one dtype."""
        assert self.delta is not None
        if self.x._version != self.version:
            raise RuntimeError(
                f"the input of a recorded {type(self.layer).__name__} was modified in place after "
                "the layer had read it; use an operation that returns a new tensor"
            )
        # Under autocast the layer computed its product in the dtype of delta.
        x = self.x if self.x.dtype == self.delta.dtype else self.x.to(self.delta.dtype)
        x = x.conj() if x.is_complex() else x
        return [*zip(self.split(x, tasks), self.split(self.delta, tasks), strict=True)]

    def split(self, whole: Tensor, tasks: int) -> Sequence[Tensor]:
        """Return one ``[T, rows, *features]``, or for unequal rows one ``[1, rows, ...]`` each."""
        features = self.features
        # For small layers, the overhead of a reshape that changes nothing is measurable.
        if self.counts is None and whole.dim() == features + 2 and whole.shape[0] == tasks:
            return (whole,)
        shape = whole.shape[whole.dim() - features :]
        rows = whole.shape[: whole.dim() - features].numel()
        if self.counts is None:
            return (whole.reshape(tasks, rows // tasks, *shape),)
        # One row may cover several entries, such as the positions of a sequence.
        sizes = [n * (rows // sum(self.counts)) for n in self.counts]
        return whole.reshape(1, rows, *shape).split(sizes, 1)


def _chunks(whole: Tensor, count: int) -> Sequence[Tensor]:
    """Return a tensor as parts; for small layers, the overhead of a single one is measurable."""
    return (whole,) if count == 1 else whole.chunk(count)


def _rows(parts: list[Tensor]) -> Tensor:
    """Return the parts ``[tasks, rows, n]`` as rows of one matrix."""
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).flatten(0, 1)


def _leaves(output: Tensor, below: Any, nodes: set[str]) -> set[int] | None:
    """Return the ids of a call's leaves; ``None`` for other nodes, or a result used twice."""
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


Calls = list[tuple[Tap, str]]
"""The calls that used a parameter, and its name in their layers."""

Leaf = tuple[Tensor, GradientEdge]
"""A leaf, and its place in the graph, which outlives ``requires_grad``."""


def other_leaves(
    losses: Sequence[Tensor], taps: Sequence[Tap]
) -> tuple[list[Tap], list[Leaf], int]:
    """Return the calls and other leaves that losses reach, and a hash of the operations."""
    # From a recorded call's output the walk goes on at its input: a weight or bias found
    # nevertheless has another way to the losses. Leaves frozen since the forward pass are included.
    below = {tap.output.node: tap.below for tap in taps}
    roots = [get_gradient_edge(loss).node for loss in losses]
    nodes = [node for node, _ in topological(roots, below)]
    leaves = [(node.variable, GradientEdge(node, 0)) for node in nodes if is_leaf(node)]
    seen = set(nodes)
    return [tap for tap in taps if tap.output.node in seen], leaves, hash(tuple(map(type, nodes)))


def backward_pass(
    roots: list[Tensor],
    taps: Sequence[Tap],
    leaves: Sequence[Leaf],
    own: Sequence[Tensor],
    *,
    arrive: Callable[[Tap], None] | None = None,  # called when a delta is known; may discard it
    scales: Tensor | None = None,  # factors [T] of the losses; all deltas then exist at once
    retain_graph: bool = False,
) -> list[Tensor | None]:
    """Run a pass that sets the taps' deltas, and return the own leaves' plain gradients."""
    arrived: set[Tap] = set()

    def note(tap: Tap, gradient: Tensor | None) -> None:
        arrived.add(tap)
        tap.delta = gradient
        if gradient is not None and arrive is not None:
            arrive(tap)

    # autograd.grad visits only nodes on a path to its inputs. A pass to the lowest taps and to all
    # other leaves visits every other tap, where a hook on the node delivers the delta. A gradient
    # that autograd.grad returns for a visited node would lack the tensor hooks of the output.
    ends = [tap for tap in taps if tap.below is None or scales is not None]
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
    seeds = [torch.ones_like(loss) for loss in roots]
    if scales is not None:
        parts = scales.unbind() if len(roots) > 1 else (scales,)
        seeds = [seed * part.to(seed.dtype) for seed, part in zip(seeds, parts, strict=True)]
    try:
        found = list(gradients(roots, inputs, seeds, keep=retain_graph)) if inputs else []
    finally:
        for handle in handles:
            handle.remove()
    if not retain_graph:
        _free([tap for tap in taps if tap.below is None])
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


def _free(lowest: Sequence[Tap]) -> None:
    """Free what the calls of the lowest layers saved, at whose outputs the pass ended."""
    for tap in lowest:
        node = tap.output.node
        # What a layer saved is at the node of its output, if that is not a view.
        below = [node] if saves(node) else [one for one, _ in topological([node])]
        if can_release(below):
            release(below)
        else:
            meta = node._input_metadata[tap.output.output_nr]
            zeros = torch.zeros(meta.shape, dtype=meta.dtype, device=meta.device)
            ends = [GradientEdge(one, 0) for one, _ in topological([node]) if is_leaf(one)]
            torch.autograd.grad([tap.output], ends, [zeros], allow_unused=True)


def mixed_rows(
    roots: list[Tensor], taps: Sequence[Tap], tasks: int, *, retain_graph: bool
) -> tuple[Tap | None, bool]:
    """Return a call after which a row enters another task's loss, and if the check proves it."""
    # For each bit of the task number, a pass scales the losses of the tasks with this bit by a
    # power of two, which is exact in floating point. Every row's gradient must scale with its own
    # task's loss. The numbers of any two tasks differ in some bit, whose pass distinguishes the
    # two. Zeros scale with anything and prove nothing.

    def rows(tap: Tap, gradient: Tensor) -> list[Tensor]:
        return [one for part in tap.split(gradient, tasks) for one in part]

    reached = [(tap, tap.delta) for tap in taps if tap.delta is not None]
    reach, every = Reach(roots), (1 << tasks) - 1
    proven = True
    for tap, delta in reached:
        mask = reach.masks.get(tap.output.node, 0) if len(roots) == tasks else every
        for i, part in enumerate(rows(tap, delta)):
            if mask >> i & 1 and part.numel():
                largest = part.abs().max()
                proven &= bool(largest.isfinite() and largest > 0)
    # Values that are not finite scale with nothing and would look like mixed rows.
    finite = all(bool(delta.isfinite().all()) for _, delta in reached)
    numbers, bits = torch.arange(tasks, device=roots[0].device), (tasks - 1).bit_length()
    for bit in range(bits if finite else 0):
        scales = torch.where((numbers >> bit & 1).bool(), 2.0**-8, 1.0)
        keep = retain_graph or bit + 1 < bits
        backward_pass(roots, taps, (), (), scales=scales, retain_graph=keep)
        for tap, delta in reached:
            assert tap.delta is not None
            pairs = zip(rows(tap, tap.delta), rows(tap, delta), scales.tolist(), strict=True)
            if any(_differs(*pair) for pair in pairs):
                return tap, proven
    for tap, delta in reached:
        tap.delta = delta
    return None, proven


def _differs(gradient: Tensor, rows: Tensor, scale: float) -> bool:
    """Return whether a gradient is not the rows' gradient times the scale up to rounding."""
    if not rows.numel():
        return False
    # The tolerance covers sums that another pass adds in another order. Half precision gets one
    # unit of rounding, since 64 units of bfloat16 are half of the value.
    info = torch.finfo(rows.dtype)
    error = (gradient - rows * scale).abs().max()
    bound = rows.abs().max() * (info.eps * (64 if info.bits > 16 else 1)) + info.smallest_normal
    return bool(error > bound)
