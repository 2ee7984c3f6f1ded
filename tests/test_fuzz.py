"""A few inputs of each fuzzer; `python -m tests.fuzz` runs any number (see tests/README.md)."""

import pytest

from tests.fuzz import KINDS, run


@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_file_does_more_than_be_refused(kind):
    found = run(kind, 60)
    assert found["faults"] == []
    assert found["refused"] > 0
