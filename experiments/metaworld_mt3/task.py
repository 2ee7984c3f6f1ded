"""MT3, ours: reach, drawer-close and button-press-topdown, small enough to say something on two CPU
cores.
"""

from multitask.rl.sac import METHODS
from multitask.rl.training import fingerprint, train

__all__ = ["METHODS", "fingerprint", "train"]
