"""Dense prediction (NYUv2, CityScapes, CamVid): the problem, its losses and its metrics."""
