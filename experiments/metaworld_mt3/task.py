"""MT3, ours: reach, drawer-close and button-press-topdown, small enough to say something on two CPU
cores.
"""

from multitask.rl.sac import METHODS as ALL
from multitask.rl.training import fingerprint, train

__all__ = ["METHODS", "fingerprint", "train"]

METHODS = (*ALL, "sac_float32", "sac_pcgrad_float32")  # what bfloat16 is compared with
