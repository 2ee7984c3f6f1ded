"""Which losses reach which leaves: one walk over the autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import get_gradient_edge


def _topological(roots: Sequence[Any]) -> list[Any]:
    """All nodes below the roots, every node before the nodes it passes gradients to (iterative:
    graphs are deep).
    """
    postorder: list[Any] = []
    seen: set[Any] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                postorder.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend(
                    (child, False) for child, _ in node.next_functions if child is not None
                )
    return postorder[::-1]


class Reach:
    """For every node below the losses, the set of losses that reach it, as a bit mask."""

    def __init__(self, losses: Sequence[Tensor]) -> None:
        roots = [get_gradient_edge(loss).node for loss in losses]
        self.masks: dict[Any, int] = {}
        for i, root in enumerate(roots):
            self.masks[root] = self.masks.get(root, 0) | 1 << i
        self._of: dict[int, int] = {}
        for node in _topological(list(dict.fromkeys(roots))):
            if type(node).__name__ == "CheckpointFunctionBackward":
                raise RuntimeError(
                    "a reentrant checkpoint hides its parameters from the graph; use checkpoint(use_reentrant=False)"
                )
            mask = self.masks[node]
            for child, _ in node.next_functions:
                if child is not None:
                    self.masks[child] = self.masks.get(child, 0) | mask

    def of(self, tensor: Tensor) -> int:
        """Bit i is set where loss i reaches the tensor; 0 for a frozen one."""
        if not tensor.requires_grad:
            return 0
        if id(tensor) not in self._of:
            self._of[id(tensor)] = self.masks.get(get_gradient_edge(tensor).node, 0)
        return self._of[id(tensor)]

    def leaves(self) -> list[Tensor]:
        """The leaves that the losses reach, in an order that depends only on the graph."""
        return [node.variable for node in self.masks if hasattr(node, "variable")]
