"""Goal-conditioned pushing: nine starts and goals of one puck learned at once."""
