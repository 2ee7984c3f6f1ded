"""Errors that a user can mend."""

import math
from collections.abc import Mapping

from system.errors import UserError

__all__ = ["UserError", "require_finite"]


def require_finite(values: Mapping[str, float], where: str) -> None:
    """Raise a UserError that names every task (or component) whose value is not finite; called
    before a checkpoint.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"non-finite loss or gradient of {', '.join(bad)} at {where}; "
            "lower the learning rate or check the data, then start again: the last checkpoint is intact"
        )
