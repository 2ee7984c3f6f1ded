"""PCGrad for linear layers: all task gradients from one ordinary backward pass.

Every task has its own batch, and a linear layer treats each row separately: each row of
delta = d(sum of losses)/d(output) belongs to one task. One batched product per layer,
dL_i/dW = delta_i^T x_i, then gives every task's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle

from pcgrad._distributed import Group, average
from pcgrad._gramian import Weights, dense, products
from pcgrad._graph import refuse_hidden
from pcgrad._method import Granularity, Method
from pcgrad._orders import Orders, check_tasks
from pcgrad._parameters import Parameters, check_losses, integers, named, own_leaves, shown
from pcgrad._precision import full_precision, is_full
from pcgrad._surgery import Reduction, Surgery, Weighting
from pcgrad._taps import Calls, Leaf, Tap, backward_pass, mixed_rows, other_leaves
from pcgrad._task_gradients import no_gradient

COVERED = (nn.Linear, nn.LayerNorm)
FORWARDS: dict[type[nn.Module], Any] = {layer: layer.forward for layer in COVERED}

Layer = list[tuple[Tensor, Calls]]
"""Parameters of a layer, with the calls that used them."""


class Reached(NamedTuple):
    """What the losses of a step reach: recorded calls, leaves outside the module, graph's kind."""

    roots: list[Tensor]
    taps: list[Tap]
    leaves: list[Leaf]
    kind: object


class LinearRecorder:
    """Runs PCGrad on one batch per task with a single backward pass.

    For modules of ``Linear`` and ``LayerNorm`` layers::

        recorder = pcgrad.LinearRecorder(trunk, tasks=T)  # once
        ...
        with recorder:
            features = trunk(x)  # [T, B, inputs] or [T * B, inputs], task by task
        losses = [loss(head(h), y) for head, h, y in zip(heads, features, targets)]
        recorder.backward(losses, generator=generator)

    The module may also contain modules without parameters that treat rows separately, such as
    activations and dropout. Layers may share weights, and may be called any number of times. An
    error names other modules with trainable parameters, BatchNorm, compiled modules, layers that
    compute their weight (weight_norm, pruning, parametrizations), calls with weights other than the
    module's, and parameters with tensor hooks. A ``TorchFunctionMode`` that changes the input of
    ``linear``, and hooks of graph nodes, are not seen.

    Args:
        module: the module whose parameters are under surgery. Other leaves that the losses reach
            (task heads) receive plain gradients.
        tasks: the number of tasks T.
        rows: the number of rows of each task in a batch, ``[n_1, ...]``; 0 for a task without rows.
            ``None`` means equal numbers. ``backward(rows=)`` overrides it for one step.
        check: verify that the rows of task i enter loss i alone. A forward function may mix rows
            (``x - x.mean(0)``), which the list of modules does not show. The check takes
            ceil(log2 T) extra passes and synchronises with the device. It runs in passes number 1,
            2, 4, 8, ... of every sequence of operations and numbers of rows, and in every pass
            until it has seen no zero gradient.
    """

    def __init__(
        self,
        module: nn.Module,
        tasks: int,
        *,
        rows: Sequence[int] | None = None,
        check: bool = True,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"a recorder takes a module, got a {type(module).__name__}")
        self.module, self.tasks, self.check = module, check_tasks(tasks), check
        self.rows = _checked_rows(rows, self.tasks)
        self._taps: list[Tap] = []
        self._handles: list[RemovableHandle] = []
        self._space: dict[int, Tensor] = {}
        self._seen: dict[object, tuple[int, bool]] = {}
        # Raises here for a module that cannot be recorded, rather than in the first step.
        self._layers()

    def _layers(self) -> list[nn.Module]:
        """Return the layers to record, or raise for a module that cannot be recorded."""
        for name, part in self.module.named_modules():
            _refuse(name, part)
        return [part for part in self.module.modules() if type(part) in COVERED]

    def __getstate__(self) -> dict[str, Any]:
        # Calls belong to a graph, and memory to parameters by their id: a copy has neither.
        return {**self.__dict__, "_taps": [], "_handles": [], "_space": {}, "_seen": {}}

    def __enter__(self) -> LinearRecorder:
        if self._handles:
            raise RuntimeError("this recorder is recording already; leave its with block first")
        self._taps = []
        # Collected again, because layers may have been frozen or changed since the last step.
        for part in self._layers():
            if any(p is not None and p.requires_grad for p in part._parameters.values()):
                # Runs before the user's hooks, which may replace the output.
                handle = part.register_forward_hook(_Hook(self), prepend=True, with_kwargs=True)
                self._handles.append(handle)
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _tap(
        self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
    ) -> None:
        # A call under no_grad is part of no loss. A call during a backward pass is a checkpoint's
        # recomputation of one that is recorded already.
        if not output.requires_grad or torch._C._current_graph_task_id() != -1:
            return
        x = args[0] if args else kwargs["input"]
        if x.is_nested or x.layout != torch.strided:
            raise TypeError(
                f"{self._name(layer)} got a nested or sparse tensor; pass the rows as a dense one, "
                "with rows=[n_1, ...] if their numbers differ, or use pcgrad.backward"
            )
        if x.dim() < 2 or x.dim() <= len(getattr(layer, "normalized_shape", ())):
            raise ValueError(
                f"a recorded {type(layer).__name__} got {list(x.shape)}: the first dimension must "
                "be the tasks, or the rows of each, task by task"
            )
        tap = Tap.of(layer, x, output)
        if tap is None:
            raise TypeError(
                f"{self._name(layer)} was not called as a plain {type(layer).__name__} of its own "
                "parameters (weights that are computed, a replaced output); use pcgrad.backward"
            )
        self._taps.append(tap)

    def _name(self, layer: nn.Module) -> str:
        name = next((name for name, part in self.module.named_modules() if part is layer), "")
        return f"layer {name}" if name else f"the recorded {type(layer).__name__}"

    def task_gradients(
        self,
        losses: Sequence[Tensor] | Tensor,
        own_parameters: Parameters = (),
        *,
        rows: Sequence[int] | None = None,
        retain_graph: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the task gradients of the module and the plain gradients of own parameters.

        ``.grad`` does not change. The gradients of frozen parameters, and of parameters that no
        loss reaches, are zero. Arguments are those of :meth:`backward`.

        Returns:
            ``(stacks, own)``: one stack ``[T, *shape]`` per parameter, in the order of
            ``module.parameters()`` and in its dtype; and the gradients of the own parameters.
        """
        reached = self._reached(losses, rows)
        own = self._own(reached.leaves, own_parameters)
        parameters = list(self.module.parameters())
        trained = [p for p in parameters if p.requires_grad]
        stacks = {id(p): p.new_empty((self.tasks, *p.shape)) for p in trained}

        def form(layer: Layer) -> None:
            for p, calls in layer:
                _fill(stacks[id(p)], calls)

        formed, pending, plain = self._pass(reached, own, form, retain_graph=retain_graph)
        # Parameters with several calls, or none, are formed after the pass.
        form([(p, pending.get(id(p), [])) for p in trained if id(p) not in formed])
        self._taps = self._taps if retain_graph else []
        every = [
            stacks[id(p)] if p.requires_grad else no_gradient(p, trained[0], self.tasks)
            for p in parameters
        ]
        return every, [
            torch.zeros_like(p) if g is None else dense(g) for p, g in zip(own, plain, strict=True)
        ]

    def backward(
        self,
        losses: Sequence[Tensor] | Tensor,
        *,
        rows: Sequence[int] | None = None,
        own_parameters: Parameters | None = None,
        weighting: Weighting | None = None,
        orders: Orders | Tensor = "random",
        reduction: Reduction = "sum",
        granularity: Granularity = "global",
        generator: torch.Generator | None = None,
        group: Group = None,
        streaming: bool = False,
        check_finite: bool = False,
        retain_graph: bool = False,
    ) -> Surgery:
        """Add PCGrad's update of the recorded module, and plain gradients, to ``.grad``.

        Arguments that are not listed, and the result, are those of :func:`pcgrad.backward`. The
        recorder keeps the memory of task gradients from one step to the next.

        Args:
            losses: T scalars or a tensor ``[T]``; loss i depends on the rows of task i alone.
            rows: the number of rows of each task in this step, as for a short last batch.
            group: the process group of data parallelism. With ``streaming``, the ranks also average
                the updates: P more numbers are sent.
            streaming: hold the task gradients of one layer at a time. The update is then
                sum_i (w_i delta_i)^T x_i, one more product per layer. Peak memory is that of a
                plain step, the gradients of all outputs, and one layer's task gradients.
        """
        method = Method(weighting, orders, reduction, granularity, generator, group)
        reached = self._reached(losses, rows)
        table = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        named(table, "recorded parameters")
        own = [p for p in self._own(reached.leaves, own_parameters) if p.requires_grad]
        roots = reached.roots
        method.prepare(table, own, self.tasks, roots[0].device)
        formed = _Formed(list(table.values()), self._memory, method, streaming)
        # A single process multiplies each layer's gradients while they are in the cache. Several
        # ranks wait: they must agree on the reached parameters before they average anything.
        form = formed.form if method.ranks is None else None
        done, formed.pending, plain = self._pass(
            reached, own, form, retain_graph=retain_graph, keep=streaming
        )
        formed.reached = [id(p) in done or id(p) in formed.pending for p in formed.shared]
        kept, pairs = method.gather(formed, own, plain)
        # A tensor of losses is split, so that an error can name the task.
        values = roots if len(roots) == self.tasks else list(roots[0].detach().unbind())
        result = method.apply(formed, kept, pairs, values if check_finite else ())
        # The taps hold the layers' inputs, which would stay in memory until the next step.
        self._taps = self._taps if retain_graph else []
        return result

    def _memory(self, p: Tensor, *, keep: bool) -> Tensor:
        """Return memory ``[T, P]`` for task gradients; without ``keep``, all share one."""
        key, size = id(p) if keep else 0, self.tasks * p.numel()
        found = self._space.get(key)
        right = found is not None and (found.dtype, found.device) == (p.dtype, p.device)
        if found is None or not right or found.numel() < size:
            # Free the old memory before allocating, which lowers the peak.
            self._space.pop(key, None)
            del found
            self._space[key] = found = p.new_empty(self.tasks, p.numel())
        if found.numel() == size:
            return found
        return found.view(-1)[:size].view(self.tasks, p.numel())

    def _roots(self, losses: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Return the checked losses as T scalars, or as one tensor ``[T]``."""
        if isinstance(losses, Tensor):
            roots, right = [losses], losses.shape == (self.tasks,)
            if right:
                check_losses([losses[0]])
        else:
            roots = check_losses(losses)
            right = len(roots) == self.tasks
        if not right:
            got = f"shape {list(losses.shape)}" if isinstance(losses, Tensor) else f"{len(roots)}"
            raise ValueError(
                f"there must be one loss per task, {self.tasks} scalars or a tensor [T], got {got}"
            )
        return roots

    def _reached(self, losses: Sequence[Tensor] | Tensor, rows: Sequence[int] | None) -> Reached:
        """Return what the losses reach; raise where task gradients would be wrong."""
        roots = self._roots(losses)
        # A call of another graph, such as a logged value's, belongs to no task. A hook may run a
        # pass through it (implicit layers), whose gradients are not the losses'.
        taps, leaves, graph = other_leaves(roots, self._taps)
        names = {id(p): name for name, p in self.module.named_parameters()}
        for leaf, _ in leaves:
            if leaf.requires_grad and id(leaf) in names:
                raise RuntimeError(
                    f"parameter {names[id(leaf)]} reaches the losses otherwise than through a "
                    "recorded call of its layer (a penalty, a functional call, a call outside the "
                    "with block); use pcgrad.backward"
                )
        counts = self.rows if rows is None else _checked_rows(rows, self.tasks)
        total = self.tasks
        expected = (
            f"{total} tasks, or as many rows of each, task by task; pass rows=[n_1, ...] where "
            "they differ"
        )
        if counts:
            total = sum(counts)
            expected = f"{total} rows that rows={list(counts)} says"
        for tap in taps:
            for part, p in tap.used:
                if id(p) not in names:
                    raise RuntimeError(
                        f"{self._name(tap.layer)} was called with another {part} than its own "
                        "(a functional call, swapped weights); use pcgrad.backward"
                    )
                if p._backward_hooks:
                    raise RuntimeError(
                        f"parameter {names[id(p)]} has a tensor hook, which task gradients formed "
                        "here do not pass; use pcgrad.backward"
                    )
            tap.counts = counts
            if total == 0 or len(tap.x) % total:
                raise ValueError(
                    f"{self._name(tap.layer)} got {list(tap.x.shape)}: the first dimension must be "
                    f"the {expected}"
                )
        return Reached(roots, taps, leaves, (graph, counts, *(tap.x.shape for tap in taps)))

    def _own(self, leaves: list[Leaf], own_parameters: Parameters | None) -> list[Tensor]:
        """Return the caller's own parameters, not of the module; ``None`` selects the leaves."""
        trainable = [leaf for leaf, _ in leaves if leaf.requires_grad]
        identities = {id(p) for p in self.module.parameters()}
        return own_leaves(own_parameters, trainable, identities, "belongs to the recorded module")

    def _pass(
        self,
        reached: Reached,
        own: list[Tensor],
        form: Callable[[Layer], None] | None,
        *,
        retain_graph: bool,
        keep: bool = False,
    ) -> tuple[set[int], dict[int, Calls], list[Tensor | None]]:
        """Return ids of parameters formed on the way, calls of the others, and plain gradients."""
        roots, taps, leaves, kind = reached
        calls_before, proven = self._seen.get(kind, (0, False))
        # n & (n + 1) is 0 for n = 0, 1, 3, 7, ...: calls number 1, 2, 4, 8, ... are checked.
        due = not proven or calls_before & (calls_before + 1) == 0
        # Meta tensors have no values to check.
        check = self.check and self.tasks > 1 and due and not roots[0].is_meta
        calls: dict[int, Calls] = {}
        for tap in taps:
            for name, p in tap.used:
                # It may have been frozen since the call.
                if p.requires_grad:
                    calls.setdefault(id(p), []).append((tap, name))
        formed: set[int] = set()

        def arrive(tap: Tap) -> None:
            layer = [(p, calls[id(p)]) for _, p in tap.used if id(p) in calls]
            # The gradient of a weight with several calls is a sum over deltas still to come.
            if form is not None and all(len(uses) == 1 for _, uses in layer):
                form(layer)
                formed.update(id(p) for p, _ in layer)
                tap.delta = tap.delta if keep else None

        # The check needs all deltas at once, so no layer may be formed and dropped on the way.
        early = None if check or form is None else arrive
        again = retain_graph or check
        with refuse_hidden([p for p in self.module.parameters() if p.requires_grad]):
            found = backward_pass(roots, taps, leaves, own, arrive=early, retain_graph=again)
        pending = {}
        for key in calls.keys() - formed:
            uses = [use for use in calls[key] if use[0].delta is not None]
            if uses:
                pending[key] = uses
        if not pending and not formed:
            raise ValueError(
                "no loss reaches a recorded layer: call the module inside the with block, compute "
                "the losses from its output, and record again for every backward pass"
            )
        if check:
            mixed, conclusive = mixed_rows(roots, taps, self.tasks, retain_graph=retain_graph)
            if mixed is not None:
                raise RuntimeError(
                    f"rows of several tasks are mixed behind {self._name(mixed.layer)}, or its "
                    "input is not ordered task by task: a row of one task enters another's loss; "
                    "use rows=[n_1, ...] for unequal rows, or pcgrad.backward"
                )
            proven |= conclusive
        self._seen[kind] = (calls_before + 1, proven)
        return formed, pending, found


class _Hook:
    """A recorded layer's forward hook; in a copy of the layer it does nothing."""

    def __init__(self, recorder: LinearRecorder | None) -> None:
        self.recorder = recorder

    def __call__(self, *call: Any) -> None:
        if self.recorder is not None:
            self.recorder._tap(*call)

    def __reduce__(self) -> tuple[Any, ...]:
        # No recorder removes the hook of a copy, so each later call would be recorded twice.
        return _Hook, (None,)


def _checked_rows(rows: Sequence[int] | None, tasks: int) -> tuple[int, ...] | None:
    """Return the checked numbers of rows of the tasks, or ``None`` for equal numbers."""
    if rows is None:
        return None
    counts = integers(rows)
    if counts is None or len(counts) != tasks or min(counts) < 0:
        raise ValueError(
            f"rows must be {tasks} integers from 0 on, one per task, got {shown(rows)}"
        )
    return tuple(counts)


def _refuse(name: str, part: nn.Module) -> None:
    """Raise if a module mixes rows, or has trainable parameters that the recorder cannot handle."""
    label = f"{name or 'the module'} ({type(part).__name__})"
    if hasattr(part, "_orig_mod") or part._compiled_call_impl is not None:
        raise TypeError(
            f"{label} is compiled, which hides its layers; "
            "record and call the module as it was before"
        )
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        raise TypeError(f"{label} mixes rows: use LayerNorm, or pcgrad.backward")
    # Module.parameters() takes ten times as long, for every module in every step.
    parameters = [p for p in part._parameters.values() if p is not None]
    if any(is_lazy(p) for p in parameters):
        raise ValueError(f"{label} has no weights yet; call the module once before recording it")
    # The registered parameter differs from `weight` if a hook or property computes the latter.
    trains = any(p.requires_grad for p in parameters)
    if isinstance(part, COVERED) and (
        (trains and part._parameters.get("weight") is not part.weight) or is_parametrized(part)
    ):
        raise TypeError(
            f"{label} computes its weight from other parameters (weight_norm, spectral_norm, "
            "pruning, a parametrization); use pcgrad.backward"
        )
    if type(part) in COVERED and (
        "forward" in part.__dict__
        or type(part).forward is not FORWARDS[type(part)]
        or part._is_full_backward_hook is False
    ):
        raise TypeError(f"{label} has a forward or a backward hook of its own; use pcgrad.backward")
    if type(part) not in COVERED and trains:
        raise TypeError(
            f"{label} has parameters and is neither Linear nor LayerNorm: freeze it, record the "
            "part of the module without it, or use pcgrad.backward"
        )


class _Formed:
    """The task gradients of one pass; with streaming, a weight's recorded calls in their place."""

    def __init__(
        self, shared: list[Tensor], memory: Callable[..., Tensor], method: Method, streaming: bool
    ) -> None:
        self.shared, self.streaming = shared, streaming
        self.reached: list[bool] = []
        self.pending: dict[int, Calls] = {}
        self._memory, self._ranks = memory, method.ranks
        full = is_full(method.device)
        self._precision = nullcontext if full else partial(full_precision, method.device)
        self._rows: dict[int, Tensor] = {}
        self._products: dict[int, Tensor] = {}
        self._calls: dict[int, Calls] = {}

    def form(self, layer: Layer) -> None:
        """Form a layer's task gradients, and multiply them while they are in the cache."""
        for p, uses in layer:
            # Biases and norms are small, and their update is no product of two matrices.
            drop = self.streaming and p.dim() == 2
            drop = drop and all(isinstance(tap.layer, nn.Linear) for tap, _ in uses)
            rows = self._memory(p, keep=not drop)
            _fill(rows if p.dim() == 1 else rows.view(rows.shape[0], *p.shape), uses)
            average([rows], self._ranks)
            with self._precision():
                self._products[id(p)] = products(rows)
            if drop:
                self._calls[id(p)] = uses
            else:
                self._rows[id(p)] = rows

    def complete(self, kept: Sequence[int], ranks: Any | None) -> None:
        """Form what the pass did not: everything under a group or in a checked pass."""
        left = [self.shared[k] for k in kept if id(self.shared[k]) not in self._products]
        self.form([(p, self.pending.get(id(p), [])) for p in left])

    def products(self, *, whole: bool) -> list[Tensor]:
        """Return the dot products of every shared parameter; zero if no loss reaches it."""
        none = torch.zeros_like(next(iter(self._products.values())))
        return [self._products.get(id(p), none) for p in self.shared]

    def updates(self, kept: Sequence[int], weights: Tensor) -> list[Tensor]:
        ready, found = Weights(weights), []
        for n, k in enumerate(kept):
            p = self.shared[k]
            if id(p) in self._rows:
                with self._precision():
                    update = ready.update(p, self._rows[id(p)], n)
            else:
                w = weights[n] if weights.dim() == 2 else weights
                update = _update(p, self._calls[id(p)], w)
                average([update], self._ranks)
            found.append(update)
        return found


def _fill(stack: Tensor, uses: Calls) -> None:
    """Write a parameter's task gradients ``[T, *shape]``, summed over the calls that used it."""
    for k, (tap, name) in enumerate(uses):
        tap.gradients(name, stack, add=k > 0)
    if not uses:
        stack.zero_()


def _update(parameter: Tensor, uses: Calls, weights: Tensor) -> Tensor:
    """Return a weight's update from its recorded calls, without forming task gradients."""
    if not uses:
        return torch.zeros_like(parameter)
    update = uses[0][0].update(weights).to(parameter.dtype)
    for tap, _ in uses[1:]:
        update += tap.update(weights)
    return update
