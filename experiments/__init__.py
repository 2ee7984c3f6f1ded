"""The experiments of the paper: one folder each, trained by `python -m experiments.run`."""

from system import stopping

# As a name that nothing reads, the call is in the hash of no training (`multitask.runs.sources`).
_ = stopping.during_imports()  # type: ignore[func-returns-value]
