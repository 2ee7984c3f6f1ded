"""An epoch's averages: what is counted, and what is not."""

import math

import pytest
import torch

from multitask.averages import Averages
from multitask.runs.records import Records

GRADIENTS = torch.tensor([[1.0, 0.0], [-3.0, 4.0]], dtype=torch.float64)
ONES = torch.ones(2, dtype=torch.float64)


def recorded(averages):
    records = Records()
    averages.add_losses([torch.tensor(1.0), torch.tensor(2.0)], 1)
    averages.record(records, 1)
    return {metric: value for _, task, metric, value in records.rows if task == "all"}


def test_geometry_is_averaged_over_steps_and_a_zero_gradient_does_not_count():
    averages = Averages(("left", "right"), torch.device("cpu"))
    for gradients, weights in ((GRADIENTS, ONES * 2), (GRADIENTS.abs(), ONES)):
        averages.add_gradients(gradients @ gradients.T, weights)
    averages.add_gradients(torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64), ONES)
    found = recorded(averages)
    assert found["cosine"] == pytest.approx((-0.6 + 0.6) / 2)
    assert found["magnitude_similarity"] == pytest.approx(2 * 5 / 26)
    assert found["conflict_share"] == pytest.approx(1 / 3)
    assert found["length_ratio"] == pytest.approx((2 + 1 + 1) / 3)


def test_opposite_gradients_have_no_length_ratio():
    averages = Averages(("left", "right"), torch.device("cpu"))
    averages.add_gradients(
        torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64),
        torch.tensor([1.0, 0.0]).double(),
    )
    assert "length_ratio" not in recorded(averages)


def test_methods_without_task_gradients_record_no_geometry():
    assert recorded(Averages(("left", "right"), torch.device("cpu"))) == {}


def test_losses_are_weighted_by_examples():
    averages = Averages(("left", "right"), torch.device("cpu"))
    averages.add_losses([torch.tensor(1.0), torch.tensor(4.0)], 3)
    averages.add_losses([torch.tensor(5.0), torch.tensor(0.0)], 1)
    records = Records()
    averages.record(records, 7)
    assert records.rows == [(7, "left", "train_loss", 2.0), (7, "right", "train_loss", 3.0)]


def test_only_the_first_fault_is_named():
    averages = Averages(("left", "right"), torch.device("cpu"))
    averages.add_gradients(torch.eye(2, dtype=torch.float64), ONES)
    assert averages.faults() == {"left": 0, "right": 0}
    averages.add_gradients(torch.tensor([[1.0, 0.0], [0.0, math.inf]], dtype=torch.float64), ONES)
    averages.add_losses([torch.tensor(math.nan), torch.tensor(math.nan)], 1)
    found = averages.faults()
    assert found["left"] == 0
    assert math.isnan(found["right"])


def test_state_goes_through_a_checkpoint():
    averages = Averages(("left", "right"), torch.device("cpu"))
    averages.add_gradients(GRADIENTS @ GRADIENTS.T, ONES)
    other = Averages(("left", "right"), torch.device("cpu"))
    other.restore(averages.state())
    assert recorded(other) == recorded(averages) != {}
