"""MT10's runs: Figures 3 (left and right), 7 and 9, and the controls of Kurin et al."""

from multitask.rl.sac import METHODS
from multitask.rl.training import fingerprint, train

__all__ = ["METHODS", "fingerprint", "train"]
