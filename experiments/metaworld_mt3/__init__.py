"""MT3, ours: three tasks that two CPU cores can learn."""
