"""bfloat16 against float32 on every real data set, paired by seed (table_precision, ours)."""
