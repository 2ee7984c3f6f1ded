"""MT50's runs: Figures 3 (middle) and 8."""

from multitask.metaworld import fingerprint, train
from multitask.sac import METHODS

__all__ = ["METHODS", "fingerprint", "train"]
