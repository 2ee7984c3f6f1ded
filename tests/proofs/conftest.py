"""Small batches of each family, and mutants of the core."""

import pytest

from proofs.problems import CONVEX, Problems
from proofs.sampling import stream
from proofs.theorem1 import instances
from tests.mutants import NAMED, OTHERS, Core


def make(family: str, count: int = 12) -> Problems:
    """Random problems in conflict at their start."""
    return instances(family, count, stream(1, "tests", family, 0))[0]


@pytest.fixture(params=CONVEX)
def problems(request: pytest.FixtureRequest) -> Problems:
    return make(request.param)


MUTANTS: dict[str, Core] = {
    "mean": NAMED["mean for sum"],
    "always": NAMED["no conflict test"],
    "never": OTHERS["plain sum"],
    "dropped": NAMED["a dropped task"],
    "epsilon": NAMED["absolute epsilon"],
}
