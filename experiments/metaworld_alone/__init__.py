"""MT10's tasks, each learned alone: what SAC learns at this budget without other tasks."""
