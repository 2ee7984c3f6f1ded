"""Small batches of each family."""

import pytest

from proofs.problems import CONVEX, Problems
from proofs.sampling import stream
from proofs.theorem1 import instances


def make(family: str, count: int = 12) -> Problems:
    """Random problems in conflict at their start."""
    return instances(family, count, stream(1, "tests", family, 0))[0]


@pytest.fixture(params=CONVEX)
def problems(request: pytest.FixtureRequest) -> Problems:
    return make(request.param)
