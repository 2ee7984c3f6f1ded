"""Reinforcement learning: environments, replay, training, and SAC."""
