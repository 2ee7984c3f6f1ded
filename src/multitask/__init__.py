"""What can change a number: the supervised loop, the RL loop, data, baselines, checkpoints, seeds,
records.
"""
