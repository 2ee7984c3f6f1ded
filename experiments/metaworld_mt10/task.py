"""MT10's runs: Figures 3 (left and right), 7 and 9, and the controls of Kurin et al."""

from multitask.rl.sac import METHODS as ALL
from multitask.rl.training import fingerprint, train

__all__ = ["METHODS", "fingerprint", "train"]

METHODS = (*ALL, "sac_v2", "sac_pcgrad_v2")  # the second row: Meta-World's later rewards
