"""Task gradients of functional models with one batch per task, from one vectorised pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves, tree_map

from pcgrad._parameters import shown

Tree = Any
"""A tensor, or a list, tuple or dict of trees."""


def task_gradients_batched(
    loss: Callable[[Tree, Tree, Tree], Any],
    shared: Tree,
    own: Tree,
    batch: Tree,
    *,
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """Return the loss and the gradients of every task from one vectorised pass.

    The scalar ``loss(shared, own_i, batch_i)`` is called once, under ``vmap(grad)``. It must be a
    function of its arguments; call modules through ``torch.func.functional_call``. Random numbers
    inside come from the global generator and differ between tasks; pass noise in ``batch`` to
    control it. Layers that update running statistics (BatchNorm in training mode) raise an error.

    Args:
        shared: parameters common to all tasks ``[*shape]``: a list, tuple or dict.
        own: the tasks' own parameters, stacked ``[T, *shape]``; ``None`` if there are none.
        batch: the tasks' batches, stacked ``[T, ...]``, in the same kinds of containers.
        has_aux: the loss returns ``(scalar, aux)``; the stacked aux is a fourth result.

    Returns:
        ``(losses [T], shared_grads, own_grads)``, detached, in containers like the arguments'. The
        shared gradients are stacks ``[T, *shape]`` for :func:`pcgrad.gramian` and
        :func:`pcgrad.apply_weights`; the own gradients are plain ones.

    Raises:
        RuntimeError: if ``vmap`` cannot transform a module of the loss.
        ValueError: if the leading dimensions differ, there are no shared parameters, or the loss
            uses other trainable tensors.
    """
    if not callable(loss):
        raise TypeError(f"the loss must be a function of (shared, own, batch), got {shown(loss)}")
    # None is a leaf, which grad and vmap refuse: an absent `own` is passed through unmapped.
    owned = [] if own is None else tree_leaves(own)
    mapped, has_own = [*tree_leaves(batch), *owned], bool(owned)
    sizes = {leaf.shape[:1] for leaf in mapped if isinstance(leaf, Tensor)}
    if not tree_leaves(shared):
        raise ValueError("there are no shared parameters")
    if len(sizes) != 1 or sizes == {torch.Size([])} or sizes == {torch.Size([0])}:
        found = sorted(list(size) for size in sizes)
        raise ValueError(
            "own parameters and batches must be tensors [T, ...] with one and the same T > 0, "
            f"got {found}"
        )
    for leaf in [*tree_leaves(shared), *mapped]:
        if not isinstance(leaf, Tensor):
            raise TypeError(
                "parameters and batches are lists, tuples or dicts of tensors; they hold a "
                f"{type(leaf).__name__}"
            )
    shared, batch = (tree_map(Tensor.detach, tree) for tree in (shared, batch))
    own = tree_map(Tensor.detach, own) if has_own else own
    gradient = grad_and_value(loss, argnums=(0, 1) if has_own else 0, has_aux=has_aux)
    in_dims = (None, 0 if has_own else None, 0)
    with torch.enable_grad(), _running() as names:
        try:
            gradients, value = vmap(gradient, in_dims=in_dims, randomness="different")(
                shared, own, batch
            )
        except RuntimeError as error:
            # vmap's own message does not name the module in which it failed.
            where = names[-1] if names else "this loss"
            raise RuntimeError(
                f"vmap cannot take {where} "
                f"({str(error).splitlines()[0].rstrip('.')}); use "
                "pcgrad.backward with one forward pass per task"
            ) from error
    shared_grads, own_grads = gradients if has_own else (gradients, own)
    losses, *aux = value if has_aux else (value,)
    if losses.requires_grad:
        raise ValueError(
            "the loss uses trainable tensors that are not its arguments: call modules through "
            "torch.func.functional_call with all parameters, and freeze or detach the others"
        )
    return losses, shared_grads, own_grads, *aux


@contextmanager
def _running() -> Iterator[list[str]]:
    """Track the types of the modules whose forward function is running, the innermost last."""
    names: list[str] = []
    # The hooks return None: any other result would replace the module's input or output.
    enter = register_module_forward_pre_hook(lambda module, _: names.append(type(module).__name__))
    leave = register_module_forward_hook(lambda module, args, output: (names.pop(), None)[1])
    try:
        yield names
    finally:
        enter.remove()
        leave.remove()
