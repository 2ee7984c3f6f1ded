"""MT10's runs: Figures 3 (left and right), 7 and 9, and the controls of Kurin et al."""

from multitask.metaworld import fingerprint, train
from multitask.sac import METHODS

__all__ = ["METHODS", "fingerprint", "train"]
