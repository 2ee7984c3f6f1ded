"""Gradient surgery for multi-task learning (PCGrad).

The method is that of Yu, Kumar, Gupta, Levine, Hausman and Finn, NeurIPS 2020. For losses that
share a graph, use it instead of ``sum(losses).backward()``::

    losses = [loss_a, loss_b]
    optimizer.zero_grad()
    pcgrad.backward(losses, trunk.parameters(), generator=generator)  # heads: plain gradients
    optimizer.step()

Use :class:`Accumulator` for one graph at a time, or for one surgery on the sum of micro-batches,
and :class:`LinearRecorder` for linear layers with one batch per task.

An approximation that must be chosen explicitly measures conflicts at the shared representation. It
saves the backward passes of the trunk (the upper bound of Sener and Koltun, NeurIPS 2018)::

    features = trunk(x)
    z = features.detach().requires_grad_()
    pcgrad.backward([loss(head(z), y) for head, loss, y in zip(heads, criteria, targets)], [z])
    features.backward(z.grad)

The folder ``examples/`` has tested recipes for mixed precision, data parallelism and frameworks.
"""

from pcgrad._ablations import direction_only, magnitude_only
from pcgrad._backward import Accumulator, backward
from pcgrad._batched import task_gradients_batched
from pcgrad._curvature import curvature_estimate, multitask_curvature
from pcgrad._gramian import apply_weights, gramian
from pcgrad._linear import LinearRecorder
from pcgrad._measures import (
    condition_a,
    conflicting,
    cosine,
    curvature_bounding_measure,
    magnitude_similarity,
)
from pcgrad._orders import fixed_orders, random_orders
from pcgrad._surgery import Surgery, Weighting, project_conflicting, surgery, surgery_coefficients
from pcgrad._task_gradients import task_gradients

__version__ = "0.3.0"

__all__ = [
    "Accumulator",
    "LinearRecorder",
    "Surgery",
    "Weighting",
    "apply_weights",
    "backward",
    "condition_a",
    "conflicting",
    "cosine",
    "curvature_bounding_measure",
    "curvature_estimate",
    "direction_only",
    "fixed_orders",
    "gramian",
    "magnitude_only",
    "magnitude_similarity",
    "multitask_curvature",
    "project_conflicting",
    "random_orders",
    "surgery",
    "surgery_coefficients",
    "task_gradients",
    "task_gradients_batched",
]
