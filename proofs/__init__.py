"""The statements of the paper, checked symbolically and on random instances."""
