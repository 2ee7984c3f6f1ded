"""Errors that a user can correct."""

import math
from collections.abc import Mapping

from system.errors import UserError

__all__ = ["NonFiniteError", "UserError", "require_finite"]


class NonFiniteError(UserError):
    """Training has diverged: a loss or a gradient is not finite."""


def require_finite(values: Mapping[str, float], where: str) -> None:
    """Raises a NonFiniteError that names every task (or component) whose value is not finite.

    Call it before a checkpoint is written.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise NonFiniteError(
            f"non-finite loss or gradient of {', '.join(bad)} at {where}; "
            "lower the learning rate or check the data, then start again: "
            "the last checkpoint is intact"
        )
