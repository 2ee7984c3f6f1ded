"""Composition of two digits: who is paired with whom, and which pixel goes where."""

import pytest
import torch

from multitask.data.multimnist import DEVIATION, MEAN, compose, pair, two_digits
from multitask.runs.errors import UserError
from multitask.runs.seeding import generator


def test_pairs_are_seeded_and_never_with_oneself():
    left, right = pair(50, 5000, generator(0, "pairs"))
    assert torch.equal(left, torch.arange(5000) % 50)
    assert not (left == right).any()
    assert right.min() == 0
    assert right.max() == 49
    assert all(len(right[left == one].unique()) > 30 for one in (0, 49)), (
        "partners are drawn, not fixed"
    )
    assert torch.equal(right, pair(50, 5000, generator(0, "pairs"))[1])
    assert not torch.equal(right, pair(50, 5000, generator(1, "pairs"))[1])
    with pytest.raises(UserError, match="validation_share"):
        pair(1, 5, generator(0, "pairs"))


def canvas_oracle(left, right, offset):
    """The 36x36 canvas by loops."""
    canvas = [[0] * 36 for _ in range(36)]
    for digit, shift in ((left, 0), (right, offset)):
        for row in range(28):
            for column in range(28):
                y, x = row + shift, column + shift
                canvas[y][x] = max(canvas[y][x], int(digit[row, column]))
    return canvas


@pytest.mark.parametrize("offset", [6, 8])
def test_digits_lie_top_left_and_bottom_right_with_the_maximum_between(offset):
    draw = torch.Generator().manual_seed(1)
    left, right = torch.randint(256, (2, 2, 28, 28), generator=draw).to(torch.uint8)
    found = compose(left, right, offset=offset, resize="nearest")
    for k in range(2):
        canvas = canvas_oracle(left[k], right[k], offset)
        rows = [int((i + 0.5) * 36 / 28) for i in range(28)]
        assert found[k].tolist() == [[canvas[y][x] for x in rows] for y in rows]


def test_bilinear_is_the_mean_of_its_neighbors():
    left, right = torch.randint(256, (2, 1, 28, 28), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )
    found = compose(left, right, offset=6, resize="bilinear")[0]
    canvas = torch.tensor(canvas_oracle(left[0], right[0], 6), dtype=torch.float64)
    at = (torch.arange(28) + 0.5) * 36 / 28 - 0.5
    low, part = at.floor().long(), (at - at.floor()).double()
    lines = canvas[low] * (1 - part)[:, None] + canvas[low + 1] * part[:, None]
    oracle = lines[:, low] * (1 - part) + lines[:, low + 1] * part
    torch.testing.assert_close(found.double(), oracle, rtol=0, atol=1e-3)


def test_labels_follow_their_digits_and_values_are_normalized():
    images = (
        (torch.arange(10)[:, None, None] * 20).expand(-1, 28, 28).to(torch.uint8)
    )  # digit d is a square of value 20 d
    found, left, right = two_digits(
        (images, torch.arange(10)), 400, generator(0, "pairs"), offset=6, resize="nearest"
    )
    values = (found[:, 0] * DEVIATION + MEAN) * 255
    assert found.shape == (400, 1, 28, 28)
    torch.testing.assert_close(values[:, 0, 0], left * 20.0, rtol=0, atol=1e-3)
    torch.testing.assert_close(values[:, 25, 25], right * 20.0, rtol=0, atol=1e-3)
    torch.testing.assert_close(
        values[:, 14, 14], torch.maximum(left, right) * 20.0, rtol=0, atol=1e-3
    )


def test_no_examples_asked_for_means_one_for_every_digit():
    images = torch.zeros(7, 28, 28, dtype=torch.uint8)
    found, left, _ = two_digits(
        (images, torch.arange(7)), 0, generator(0, "pairs"), offset=6, resize="nearest"
    )
    assert len(found) == 7
    assert left.tolist() == list(range(7))


def test_garments_stand_in_the_right_place_with_their_own_labels():
    """Bug: both places, or both labels, come from the same set."""
    digits = torch.full((5, 28, 28), 100, dtype=torch.uint8), torch.arange(5)
    garments = torch.full((5, 28, 28), 200, dtype=torch.uint8), torch.arange(5) + 10
    draw = torch.Generator().manual_seed(0)
    images, left, right = two_digits(digits, 5, draw, offset=6, resize="nearest", others=garments)
    assert left.tolist() == [0, 1, 2, 3, 4]
    assert set(right.tolist()) <= set(range(10, 15))
    raw = images * DEVIATION + MEAN
    assert torch.allclose(raw[:, :, 0, 0], torch.tensor(100 / 255), atol=1e-6)
    assert torch.allclose(raw[:, :, 20, 20], torch.tensor(200 / 255), atol=1e-6)
