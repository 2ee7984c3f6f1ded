"""The experiments of the paper: one folder each, trained by `python -m experiments.run`."""
