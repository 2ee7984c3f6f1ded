"""What the training command needs of an experiment: the contents of its `task.py`."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

# Importing these needs torch, and the command must report faults before that.
if TYPE_CHECKING:
    from multitask.runs.checkpoint import Session
    from multitask.runs.records import Records


class Task(Protocol):
    """A module `experiments.<name>.task`."""

    @property
    def METHODS(self) -> Collection[str]:  # noqa: N802
        """The methods that can be trained, in the order of the experiment's table."""

    def fingerprint(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return what identifies the data: name, sizes, content, whether they are the paper's.

        A change of the fingerprint trains the experiment anew.
        """

    def train(
        self, method: str, seed: int, settings: Mapping[str, Any], session: "Session"
    ) -> "Records":
        """Train one run, resuming from the session's checkpoint, and return its records."""
