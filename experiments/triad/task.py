"""Figure 4's runs: multi-task SAC on two Meta-World tasks, plain and with PCGrad (Section 5.3)."""

from multitask.rl.training import fingerprint, train

__all__ = ["METHODS", "fingerprint", "train"]

METHODS = ("sac", "sac_pcgrad")
