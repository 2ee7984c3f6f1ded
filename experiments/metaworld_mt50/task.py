"""MT50's runs: Figures 3 (middle) and 8."""

from multitask.rl.sac import METHODS
from multitask.rl.training import fingerprint, train

__all__ = ["METHODS", "fingerprint", "train"]
