"""Figure 10: a picture of every task of MT50, by MuJoCo's ray caster."""
