"""Records each collection's metrics after checking that they are finite."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from multitask.rl.sac.learner import Learner
from multitask.rl.triad import conflict_statistics
from multitask.runs.errors import require_finite
from multitask.runs.records import Records

COMPONENTS = ("actor", "q1", "q2")


def record_episodes(
    records: Records, collection: int, names: Sequence[str], episodes: dict[str, Tensor]
) -> None:
    """Records means over the collection's episodes, per task and over tasks.

    Collection 0 is the warm-up.
    """
    for metric, values in episodes.items():
        for name, value in zip(names, values.mean(1).tolist(), strict=True):
            # A task may have no distance.
            if not math.isnan(value):
                records.add(collection, name, metric, value)
        if not values.isnan().all():
            records.add(collection, "all", metric, values.nanmean().item())


def record_updates(
    records: Records,
    collection: int,
    names: Sequence[str],
    logs: list[dict[str, Tensor]],
    learner: Learner,
) -> None:
    """Records the collection's losses, temperatures, conflicts and curvature.

    Raises:
        UserError: A loss or gradient is not finite.
    """
    # One transfer per quantity for the whole collection.
    losses, gramians, weights = (
        torch.stack([log[key] for log in logs]).double().cpu()
        for key in ("losses", "gramians", "weights")
    )
    alpha = learner.log_alpha().exp().double().cpu()
    squares = gramians.diagonal(dim1=-2, dim2=-1)
    # A sum is not finite if one of its terms is not: one check covers losses and gradients.
    check_finite(losses + squares, names, collection)
    for task, name in enumerate(names):
        records.add(collection, name, "alpha", alpha[task].item())
        for index, component in enumerate(COMPONENTS):
            records.add(collection, name, f"loss_{component}", losses[:, index, task].mean().item())
            records.add(
                collection,
                name,
                f"gradient_norm_{component}",
                squares[:, index, task].sqrt().mean().item(),
            )
    # Independent networks share nothing, so their gradients cannot conflict.
    for index, component in enumerate(COMPONENTS if learner.method.own != "all" else ()):
        for metric, value in conflict_statistics(gramians[:, index], weights[:, index]).items():
            records.add(collection, "all", f"{metric}_{component}", value)
    # Only some of the updates measure the curvature.
    measured = [log for log in logs if "curvature" in log]
    if not measured:
        return
    curvatures = torch.stack([log["curvature"] for log in measured]).mean(0).cpu()
    squared_steps = torch.stack([log["squared_step"] for log in measured]).mean(0).cpu()
    measures = {
        "curvature_remainder": curvatures[0],
        "curvature_definition3": curvatures[1],
        "squared_step": squared_steps,
    }
    for index, component in enumerate(COMPONENTS):
        for metric, values in measures.items():
            records.add(collection, "all", f"{metric}_{component}", values[index].item())


def check_finite(values: Tensor, names: Sequence[str], collection: int) -> None:
    """Raises a UserError that names the tasks whose loss or gradient broke first.

    Args:
        values: `[U, 3, T]`, nan or inf where a loss or gradient is.
        names: Names of the tasks.
        collection: Number of the collection.
    """
    bad = ~values.isfinite()
    # The networks are shared, so one update later every task is broken: only the first update tells
    # which task failed. Within an update the critics come before the actor.
    if bad.any():
        update = int(bad.any(-1).any(-1).nonzero()[0])
        critics, actor = values[update, 1:].sum(0), values[update, 0]
        first = critics if not critics.isfinite().all() else actor
        require_finite(
            dict(zip(names, first.tolist(), strict=True)),
            f"collection {collection}, update {update + 1}",
        )
