"""MT3 (ours): reach, drawer-close and button-press-topdown, which two CPU cores can train."""

from multitask.rl.sac import METHODS
from multitask.rl.training import fingerprint, train

__all__ = ["METHODS", "fingerprint", "train"]
