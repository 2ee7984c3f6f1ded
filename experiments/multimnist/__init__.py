"""Table 4: MultiMNIST, two digits in one image."""
