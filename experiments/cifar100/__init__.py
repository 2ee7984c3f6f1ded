"""CIFAR-100 as 20 tasks: Table 2."""
