"""One ordinary backward pass for all task gradients, where every task has its own batch and the
layers are linear.

A linear layer treats rows alone, so in the gradient of the sum of all losses with respect to its
output every row belongs to one task. The pass stops at these outputs (no weight's gradient is
formed), and one batched product per layer gives every task's gradient of its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pcgrad.backward import GRANULARITIES, refuse_not_finite
from pcgrad.distributed import Group, agree, average, broadcast_orders, reached_anywhere, world
from pcgrad.gramian import accumulate, apply_checked, joined, products
from pcgrad.orders import make_orders
from pcgrad.precision import full_precision, is_full
from pcgrad.surgery import REDUCTIONS, Surgery, surgery
from pcgrad.taps import Calls, Tap, backward_pass, calls_of, leaves_beside, mixed_rows
from pcgrad.task_gradients import Parameters, check_losses, dense, named

COVERED = (nn.Linear, nn.LayerNorm)

Layer = list[tuple[Tensor, Calls]]
"""Parameters of a layer, with the calls that used them."""

Stack = tuple[Tensor, Tensor]
"""A parameter's task gradients ``[T, *shape]``, and the same memory as rows ``[T, P]``."""


class LinearRecorder:
    """PCGrad on one batch per task at the price of about one backward pass, for networks of
    ``Linear`` layers.

    ::

        recorder = pcgrad.LinearRecorder(trunk, tasks=T)  # once
        ...
        with recorder:
            features = trunk(x)  # [T, B, inputs] or [T * B, inputs], task by task
        losses = [loss(head(h), y) for head, h, y in zip(heads, features, targets)]
        recorder.backward(losses, generator=generator)

    The module may hold ``Linear``, ``LayerNorm`` and anything without parameters that treats rows
    alone (activations, dropout). Layers may be called several times or not at all, and share
    weights. Refused, by name: other modules with parameters to train, BatchNorm, compiled modules.

    Args:
        module: its parameters take part in surgery; what else the losses reach (task heads) gets
        plain gradients.
        tasks: T.
        check: in the first backward pass make sure that task i's rows enter loss i alone, by
        ceil(log2 T) more passes
            that wait for the device. Rows mixed by a forward function (``x - x.mean(0)``) show in
            no module, and all gradients would be wrong without a word.
    """

    def __init__(self, module: nn.Module, tasks: int, *, check: bool = True) -> None:
        if not isinstance(tasks, int) or tasks < 1:
            raise ValueError(f"the number of tasks must be a positive integer, got {tasks!r}")
        for name, part in module.named_modules():
            _refuse(name, part)
        self._layers = [part for part in module.modules() if type(part) in COVERED]
        self.module, self.tasks, self.check = module, tasks, check
        self._taps: list[Tap] = []
        self._handles: list[RemovableHandle] = []
        self._space: dict[int, Stack] = {}

    def __enter__(self) -> LinearRecorder:
        if self._handles:
            raise RuntimeError("this recorder is recording already; leave its with block first")
        self._taps = []
        for part in self._layers:
            if any(p is not None and p.requires_grad for p in (part.weight, part.bias)):
                # The first of all hooks: one that replaces the output comes after.
                self._handles.append(
                    part.register_forward_hook(self._tap, prepend=True, with_kwargs=True)
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _tap(
        self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
    ) -> None:
        if not output.requires_grad:  # under no_grad: part of no loss
            return
        x = args[0] if args else kwargs["input"]
        if x.dim() < 2 or x.shape[0] % self.tasks:
            raise ValueError(
                f"a recorded {type(layer).__name__} got {list(x.shape)}: the first dimension must be the {self.tasks} "
                "tasks, or as many rows of each, task by task"
            )
        self._taps.append(Tap.of(layer, x, output))

    def task_gradients(
        self,
        losses: Sequence[Tensor] | Tensor,
        own_parameters: Parameters = (),
        *,
        retain_graph: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The gradient of every loss, and the plain gradients of own parameters, from one backward
        pass.

        ``.grad`` is not touched. Parameters that are frozen, or that no loss reaches, have zero
        gradients.

        Args:
            losses: T scalars or a tensor ``[T]``; loss i depends on task i's rows alone.
            own_parameters: leaves outside the module, as in :func:`pcgrad.backward`.
            retain_graph: keep the graph and what was recorded for another call.

        Returns:
            One stack ``[T, *shape]`` per parameter, in the order of ``module.parameters()``, in its
            dtype; and the own parameters' gradients.
        """
        roots = self._roots(losses)
        leaves = self._leaves(roots)
        own = leaves if own_parameters is None else self._listed(own_parameters)
        parameters = list(self.module.parameters())
        stacks = {id(p): p.new_empty((self.tasks, *p.shape)) for p in parameters}

        def form(layer: Layer) -> None:
            for p, calls in layer:
                _fill(stacks[id(p)], calls)

        formed, pending, plain = self._pass(roots, leaves, own, form, retain_graph=retain_graph)
        form([(p, pending.get(id(p), [])) for p in parameters if id(p) not in formed])
        self._forget(retain_graph)
        return list(stacks.values()), [
            torch.zeros_like(p) if g is None else g for p, g in zip(own, plain, strict=True)
        ]

    def backward(
        self,
        losses: Sequence[Tensor] | Tensor,
        *,
        own_parameters: Parameters | None = None,
        orders: str | Tensor = "random",
        reduction: str = "sum",
        granularity: str = "global",
        generator: torch.Generator | None = None,
        group: Group = None,
        streaming: bool = False,
        check_finite: bool = False,
        retain_graph: bool = False,
    ) -> Surgery:
        """:func:`pcgrad.backward` on the recorded module: ``.grad`` is added to; arguments not
        listed mean the same.

        Args:
            losses: T scalars or a tensor ``[T]``; loss i depends on task i's rows alone.
            group: data parallelism. With ``streaming`` one layer's gradients at a time are averaged
            for the Gramian,
                and then the update, which is linear in them: equal results, P numbers more to send.
            streaming: never hold the gradients of all parameters. One layer's are formed for the
            Gramian and dropped;
                the update is sum_i (w_i delta_i)^T x_i, one product over all rows. Memory of the
                plain step, the outputs' gradients and one layer's task gradients; the price is one
                more product per layer. (The memory of task gradients, one layer's or all, stays
                with the recorder from one step to the next.)

        Returns:
            The :class:`Surgery`; where ``granularity="per_tensor"`` with a leading dimension over
            the module's parameters that are not frozen.
        """
        for argument, value, known in (("reduction", reduction, REDUCTIONS),
                                       ("granularity", granularity, GRANULARITIES)):  # fmt: skip
            if value not in known:
                raise ValueError(f"unknown {argument} {value!r}; use one of {', '.join(known)}")
        roots, ranks = self._roots(losses), world(group)
        leaves = self._leaves(roots)
        shared = [p for p in self.module.parameters() if p.requires_grad]
        own = (
            leaves
            if own_parameters is None
            else [p for p in self._listed(own_parameters) if p.requires_grad]
        )
        per_tensor, device = granularity == "per_tensor", roots[0].device
        drawn = make_orders(orders, self.tasks, generator, (len(shared),) if per_tensor else ())
        agree(
            [self.tasks, len(shared), len(own), sum(p.numel() for p in [*shared, *own])],
            device,
            ranks,
        )

        formed = _Formed(self._memory, device, ranks, streaming=streaming)
        done, pending, plain = self._pass(
            roots,
            leaves,
            own,
            formed.form if ranks is None else None,
            retain_graph=retain_graph,
            keep=streaming,
        )
        masks = [int(id(p) in done or id(p) in pending) for p in shared] + [
            int(g is not None) for g in plain
        ]
        flags = reached_anywhere(masks, device, ranks)
        reached = [p for p, flag in zip(shared, flags, strict=False) if flag]
        formed.form([(p, pending.get(id(p), [])) for p in reached if id(p) not in done])
        gramians = formed.gramian(shared, per_tensor=per_tensor)
        if check_finite:
            values = roots if len(roots) == self.tasks else list(roots[0].detach().unbind())
            refuse_not_finite(values, gramians, local=ranks is None)
        result = surgery(gramians, broadcast_orders(drawn, device, ranks), reduction=reduction)
        formed.apply(shared, reached, result.weights)
        for leaf, gradient, flag in zip(own, plain, flags[len(shared) :], strict=True):
            if flag:
                _add(leaf, torch.zeros_like(leaf) if gradient is None else gradient, ranks)
        self._forget(retain_graph)
        return result

    def _memory(self, p: Tensor, *, keep: bool) -> Stack:
        """Memory for a parameter's task gradients: that of the last step, or of all dropped ones."""
        key, size, shape = id(p) if keep else 0, self.tasks * p.numel(), (self.tasks, *p.shape)
        found = self._space.get(key)
        if (
            found is None
            or found[0].numel() < size
            or (found[0].dtype, found[0].device) != (p.dtype, p.device)
        ):
            self._space.pop(key, None)
            del found  # the old one is freed first
            memory = p.new_empty(shape)
            self._space[key] = found = (memory, memory.flatten(1))
        if found[0].shape == shape:
            return found
        memory = found[0].view(-1)[:size].view(shape)
        return memory, memory.flatten(1)

    def _roots(self, losses: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """The losses as T scalars, or as one tensor ``[T]``."""
        count = losses.numel() if isinstance(losses, Tensor) else len(losses)
        if count != self.tasks or (isinstance(losses, Tensor) and losses.dim() != 1):
            shape = f"shape {list(losses.shape)}" if isinstance(losses, Tensor) else f"{count}"
            raise ValueError(
                f"there must be one loss per task, {self.tasks} scalars or a tensor [T], got {shape}"
            )
        if not isinstance(losses, Tensor):
            return check_losses(losses)
        if not losses.requires_grad:
            raise ValueError("the losses have no graph; compute them with gradients")
        return [losses]

    def _leaves(self, roots: Sequence[Tensor]) -> list[Tensor]:
        """What the losses reach besides the module's parameters, which they must reach through its
        layers alone.
        """
        leaves = leaves_beside(roots, self._taps)
        names = {id(p): name for name, p in self.module.named_parameters()} if leaves else {}
        for leaf in leaves:
            if id(leaf) in names:
                raise RuntimeError(
                    f"parameter {names[id(leaf)]} reaches the losses otherwise than through a recorded call of its "
                    "layer (a penalty, a functional call, a call outside the with block); use pcgrad.backward"
                )
        return leaves

    def _listed(self, own_parameters: Parameters) -> list[Tensor]:
        """The caller's own parameters."""
        identities = {id(p) for p in self.module.parameters()}
        table = named(own_parameters, "own parameters")
        for name, tensor in table.items():
            if id(tensor) in identities:
                raise ValueError(
                    f"own parameter {name} belongs to the recorded module; it is one or the other"
                )
        return list(table.values())

    def _pass(
        self,
        roots: list[Tensor],
        leaves: list[Tensor],
        own: list[Tensor],
        form: Callable[[Layer], None] | None,
        *,
        retain_graph: bool,
        keep: bool = False,
    ) -> tuple[set[int], dict[int, Calls], list[Tensor | None]]:
        """The backward pass. ``form`` takes a layer whose parameters have no other call, during the
        pass.

        Returns the ids of the parameters that were formed, the calls of those that are reached but
        still to be formed, and the plain gradients of the own leaves. ``keep``: formed layers keep
        what the update is made from."""
        check = self.check and self.tasks > 1
        calls, formed = calls_of(self._taps), set[int]()

        def arrive(tap: Tap) -> None:
            layer = [(p, calls[id(p)]) for _, p in tap.parameters()]
            if form is not None and all(len(uses) == 1 for _, uses in layer):
                form(layer)
                formed.update(id(p) for p, _ in layer)
                tap.delta = tap.delta if keep else None

        found = backward_pass(
            roots,
            self._taps,
            leaves,
            own,
            arrive=None if check or form is None else arrive,
            retain_graph=retain_graph or check,
        )
        pending = {
            key: [use for use in uses if use[0].delta is not None] for key, uses in calls.items()
        }
        pending = {key: uses for key, uses in pending.items() if uses and key not in formed}
        if not pending and not formed:
            raise ValueError(
                "no loss reaches a recorded layer: call the module inside the with block, compute the losses from its "
                "output, and record again for every backward pass"
            )
        if check:
            self._check_rows(roots, retain_graph)
        return formed, pending, [None if g is None else dense(g) for g in found]

    def _check_rows(self, roots: list[Tensor], retain_graph: bool) -> None:
        tap, finite = mixed_rows(roots, self._taps, self.tasks, retain_graph=retain_graph)
        if tap is not None:
            name = next(name for name, part in self.module.named_modules() if part is tap.layer)
            raise RuntimeError(
                f"rows of several tasks are mixed behind layer {name or 'of the module'}, or its input is not ordered "
                "task by task: a row of one task enters another's loss; use pcgrad.backward"
            )
        self.check = not finite  # else once more, next time

    def _forget(self, retain_graph: bool) -> None:
        if not retain_graph:
            self._taps = []


def _refuse(name: str, part: nn.Module) -> None:
    """Modules that mix rows, or whose parameters' gradients are not formed here."""
    label = f"{name or 'the module'} ({type(part).__name__})"
    if hasattr(part, "_orig_mod") or part._compiled_call_impl is not None:
        raise TypeError(
            f"{label} is compiled, which hides its layers; record and call the module as it was before"
        )
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        raise TypeError(f"{label} mixes rows: use LayerNorm in its place, or pcgrad.backward")
    if type(part) not in COVERED and any(p.requires_grad for p in part.parameters(recurse=False)):
        raise TypeError(
            f"{label} has parameters and is neither Linear nor LayerNorm: freeze it, record the part of the module "
            "without it, or use pcgrad.backward"
        )


class _Formed:
    """The task gradients of one backward pass, or what is left of them: their Gramian and how to
    make the update.
    """

    def __init__(
        self,
        memory: Callable[..., Stack],
        device: torch.device,
        ranks: Any | None,
        *,
        streaming: bool,
    ) -> None:
        self.memory, self.ranks, self.streaming = memory, ranks, streaming
        self.precision = nullcontext if is_full(device) else partial(full_precision, device)
        self.rows: dict[int, Tensor] = {}
        self.products: dict[int, Tensor] = {}
        self.calls: dict[int, Calls] = {}

    def form(self, layer: Layer) -> None:
        """Form a layer's task gradients, and multiply them while they are in the cache."""
        for p, uses in layer:
            drop = self.streaming and p.dim() == 2
            stack, rows = self.memory(p, keep=not drop)
            _fill(stack, uses)
            average([stack], self.ranks)
            with self.precision():
                self.products[id(p)] = products(rows)
            if drop:
                self.calls[id(p)] = uses
            else:
                self.rows[id(p)] = rows

    def gramian(self, shared: Sequence[Tensor], *, per_tensor: bool) -> Tensor:
        """``[T, T]``, or one for each shared parameter, zero for those that no loss reaches."""
        none = torch.zeros_like(next(iter(self.products.values())))
        return joined([self.products.get(id(p), none) for p in shared], per_tensor=per_tensor)

    def apply(self, shared: Sequence[Tensor], reached: Sequence[Tensor], weights: Tensor) -> None:
        """Add the update to ``.grad``; ``weights``: ``[T]`` or one row for each shared parameter."""
        of = dict(zip(map(id, shared), weights, strict=True)) if weights.dim() == 2 else None
        kept = [p for p in reached if id(p) in self.rows]
        if kept:
            ours = weights if of is None else torch.stack([of[id(p)] for p in kept])
            apply_checked(kept, [self.rows[id(p)] for p in kept], ours)
        for p in reached:
            if id(p) in self.calls:
                _add(
                    p,
                    _update(p, self.calls[id(p)], weights if of is None else of[id(p)]),
                    self.ranks,
                )


def _fill(stack: Tensor, uses: Calls) -> None:
    """A parameter's task gradients ``[T, *shape]``: the sum over the calls that used it."""
    for k, (tap, name) in enumerate(uses):
        tap.gradients(name, stack, add=k > 0)
    if not uses:
        stack.zero_()


def _update(parameter: Tensor, uses: Calls, weights: Tensor) -> Tensor:
    """A weight's update, without its task gradients."""
    update = (
        torch.zeros_like(parameter) if not uses else uses[0][0].update(weights).to(parameter.dtype)
    )
    for tap, _ in uses[1:]:
        update += tap.update(weights)
    return update


def _add(parameter: Tensor, gradient: Tensor, ranks: Any | None) -> None:
    average([gradient], ranks)
    accumulate(parameter, gradient)
