"""Errors that a user can correct."""

import math
from collections.abc import Mapping

from system.errors import UserError

__all__ = ["UserError", "require_finite"]


def require_finite(values: Mapping[str, float], where: str) -> None:
    """Raises a UserError that names every task (or component) whose value is not finite.

    Call it before a checkpoint is written.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"non-finite loss or gradient of {', '.join(bad)} at {where}; "
            "lower the learning rate or check the data, then start again: "
            "the last checkpoint is intact"
        )
