"""Table 3: CelebA, 40 attributes of a face."""
