"""All that can change a number: loops, data, baselines, checkpoints, seeds, records."""
