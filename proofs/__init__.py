"""The statements of the paper, checked symbolically and on random instances."""

from system import stopping

stopping.during_imports()
