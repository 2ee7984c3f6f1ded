"""UC Merced: 17 binary labels, table_ucmerced (ours)."""
