"""Figure 4: the tragic triad while SAC learns two Meta-World tasks, with and without PCGrad."""
