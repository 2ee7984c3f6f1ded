"""MT3, ours: reach, drawer-close and button-press-topdown, small enough to say something on two CPU cores."""

from multitask.metaworld import fingerprint, train
from multitask.sac import METHODS

__all__ = ["METHODS", "fingerprint", "train"]
