"""Dense prediction (NYUv2, CityScapes): the problem, its losses and its metrics."""
