"""The RL benchmark compares equal updates, and counts their operations rightly."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, baddbmm_flop

from benchmarks import learners

CPU = torch.device("cpu")


def test_every_route_takes_the_same_step():
    """A route that left something out would win by it: parameters after three steps without surgery
    agree to float32's rounding."""
    ended = {}
    for route in ("plain", "autograd", "float32"):
        agent = learners.new_learner(route, "sac", 3, 32, CPU)
        batch, noise, orders = learners.inputs(3, CPU)
        for _ in range(3):
            agent.update(batch, noise, orders, False)
        ended[route] = torch.cat([p.flatten() for one in agent.networks for p in one.parameters])
    start = learners.new_learner("plain", "sac", 3, 32, CPU).networks
    moved = torch.cat([p.flatten() for one in start for p in one.parameters]) - ended["plain"]
    assert moved.abs().max() > 1e-4
    for route in ("autograd", "float32"):
        # Adam's first steps divide by the gradient's size: where it is near zero rounding shows.
        close = (ended[route] - ended["plain"]).abs() < 2e-5
        assert close.double().mean() > 0.99, route


def test_operations_are_those_that_torch_counts():
    agent = learners.new_learner("float32", "sac", 4, 32, CPU)
    batch, noise, orders = learners.inputs(4, CPU)
    for network in agent.networks:  # torch's counter does not know oneDNN's fused layers
        for layers in network._layers:
            for layer in layers:
                layer.fused = False

    def in_place(memory, left, right, *, out_shape=None, beta=1):
        return baddbmm_flop(memory, left, right)

    known = {torch.ops.aten.baddbmm_: in_place}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        agent.update(batch, noise, orders, False)
    # Besides the products of the layers: Gramians, weighted sums, the slope at four action columns.
    assert learners.operations(4, 32) == pytest.approx(counter.get_total_flops(), rel=0.03)
