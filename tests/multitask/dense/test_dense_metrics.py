"""Metrics and losses of dense prediction.

They are compared with numbers by hand, with slow loops and with scikit-learn.
"""

import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from torch import nn, tensor
from torch.nn import functional

from multitask.data.scenes import NYUV2, read_split
from multitask.dense import problem as dense
from multitask.dense.losses import depth_loss, normal_loss, segmentation_loss
from multitask.dense.metrics import (
    accumulated,
    average,
    confusion,
    depth_errors,
    mean_iou,
    normal_errors,
    per_image,
)

# Two images of 2x3 pixels and three classes. Image one: class 2 is predicted at the unlabeled pixel
# alone.
TRUTH = tensor([[[0, 0, 1], [1, 1, -1]], [[2, 2, 2], [0, 0, 0]]], dtype=torch.int8)
GUESS = tensor([[[0, 1, 1], [1, 0, 2]], [[2, 2, 0], [0, 0, 0]]])
# Image one: class 0 1/3, class 1 2/4, class 2 0/1 (2019 only). Image two: class 0 3/4, class 2 2/3,
# no class 1.
ONE, ONE_LABELED, TWO = (1 / 3 + 2 / 4 + 0) / 3, (1 / 3 + 2 / 4) / 2, (3 / 4 + 2 / 3) / 2
# Both: class 0 4 of 7, class 1 2 of 4, class 2 2 of 3.
BOTH = (4 / 7 + 2 / 4 + 2 / 3) / 3


def test_confusion_by_hand():
    counts = confusion(GUESS, TRUTH, 3)
    assert counts.tolist() == [
        [[1, 1, 0], [1, 2, 0], [0, 0, 0], [0, 0, 1]],
        [[3, 0, 0], [0, 0, 0], [1, 0, 2], [0, 0, 0]],
    ]


def test_segmentation_by_hand():
    counts = confusion(GUESS, TRUTH, 3)
    assert mean_iou(counts, unlabeled_in_union=True).tolist() == pytest.approx([ONE, TWO])
    assert mean_iou(counts, unlabeled_in_union=False).tolist() == pytest.approx([ONE_LABELED, TWO])
    old, new = per_image(counts), accumulated(counts.sum(0))
    assert old["mIoU_per_image"] == pytest.approx(100 * (ONE + TWO) / 2)
    assert old["PixAcc_per_image"] == pytest.approx(100 * (3 / 5 + 5 / 6) / 2)
    assert new["mIoU"] == pytest.approx(100 * BOTH)
    assert new["PixAcc"] == pytest.approx(100 * 8 / 11)


def test_an_image_without_labels_counts_in_no_mean():
    none = torch.full((1, 2, 3), -1, dtype=torch.int8)
    both = confusion(torch.cat([GUESS[:1], GUESS[:1]]), torch.cat([TRUTH[:1], none]), 3)
    assert per_image(both)["PixAcc_per_image"] == pytest.approx(100 * 3 / 5)
    assert accumulated(both.sum(0))["PixAcc"] == pytest.approx(100 * 3 / 5)


def slow_iou(guess, truth, classes):
    """One image by the public code's definition of 2019, in loops."""
    terms = []
    for c in range(classes):
        union = both = 0
        for g, t in zip(guess.flatten().tolist(), truth.flatten().tolist(), strict=True):
            union += g == c or t == c
            both += g == c and t == c
        if union:
            terms.append(both / union)
    return sum(terms) / len(terms)


def check_segmentation(guess, truth, classes):
    counts = confusion(guess, truth, classes)
    slow = np.mean([slow_iou(g, t, classes) for g, t in zip(guess, truth, strict=True)])
    assert per_image(counts)["mIoU_per_image"] == pytest.approx(100 * slow)
    known = (truth >= 0).numpy()
    g, t = guess.numpy()[known], truth.numpy()[known]
    occur = sorted({*g.tolist(), *t.tolist()})
    assert accumulated(counts.sum(0))["mIoU"] == pytest.approx(
        100 * jaccard_score(t, g, labels=occur, average="macro")
    )
    assert np.array_equal(counts.sum(0)[:-1].numpy(), confusion_matrix(t, g, labels=range(classes)))
    shares = [(x == y)[y >= 0].float().mean().item() for x, y in zip(guess, truth, strict=True)]
    assert per_image(counts)["PixAcc_per_image"] == pytest.approx(100 * np.mean(shares))


def test_segmentation_against_loops_and_scikit_learn():
    draw = torch.Generator().manual_seed(0)
    for classes in (2, 5, 13):
        truth = torch.randint(-1, classes, (3, 8, 9), generator=draw).to(torch.int8)
        noise = torch.randint(0, classes, truth.shape, generator=draw)
        guess = torch.where(
            torch.rand(truth.shape, generator=draw) < 0.4, noise, truth.clamp(min=0).long()
        )
        check_segmentation(guess, truth, classes)


def test_depth_by_hand():
    truth = tensor([2.0, 0.0, 4.0, 0.5]).reshape(2, 1, 1, 2)
    guess = tensor([3.0, 9.0, 3.0, 0.75]).reshape(2, 1, 1, 2)
    errors = depth_errors(guess, truth)
    assert errors == {
        "AbsErr": pytest.approx((1 + 1 + 0.25) / 3),
        "RelErr": pytest.approx((1 / 2 + 1 / 4 + 1 / 2) / 3),
    }
    assert depth_loss(guess, truth).item() == pytest.approx(0.75)


def direction(degrees):
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0]


def vectors(*rows):
    """[1, 3, 1, W] from W vectors."""
    return tensor(rows).T.reshape(1, 3, 1, len(rows))


def test_normals_by_hand():
    half = math.sqrt(0.5)
    truth = vectors(direction(0), direction(0), direction(0), direction(0), [0.0, 0.0, 0.0])
    guess = vectors(direction(10), direction(20), direction(-25), direction(90), direction(0))
    errors = normal_errors(guess, truth)
    assert errors["mean_angle"] == pytest.approx((10 + 20 + 25 + 90) / 4, abs=1e-3)
    assert errors["median_angle"] == pytest.approx(22.5, abs=1e-3)
    assert [errors[f"within_{angle}"] for angle in ("11.25", "22.5", "30")] == [25, 50, 75]
    cosines = [math.cos(math.radians(angle)) for angle in (10, 20, 25, 90)]
    assert normal_loss(guess, truth).item() == pytest.approx(1 - sum(cosines) / 4, rel=1e-5)
    odd = normal_errors(guess[..., 1:4], truth[..., 1:4])
    assert odd["median_angle"] == pytest.approx(25, abs=1e-3)
    # The components of this one add up to 0: the public code would take it for unknown.
    slanted = vectors([half, -half, 0.0])
    assert normal_errors(slanted, slanted)["mean_angle"] == pytest.approx(0, abs=0.05)


def test_segmentation_loss_is_cross_entropy_over_labeled_pixels():
    logits = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = segmentation_loss(logits, TRUTH)
    by_hand = -sum(
        functional.log_softmax(logits[b, :, y, x], 0)[TRUTH[b, y, x].long()].item()
        for b in range(2)
        for y in range(2)
        for x in range(3)
        if TRUTH[b, y, x] >= 0
    )
    assert found.item() == pytest.approx(by_hand / 11)
    again = segmentation_loss(functional.log_softmax(logits, 1), TRUTH)
    assert again.item() == pytest.approx(found.item(), rel=1e-5), "log-probabilities do as well"
    found.backward()
    assert logits.grad[0, :, 1, 2].abs().max() == 0


@pytest.mark.parametrize(
    ("loss", "truth", "channels"),
    [
        (segmentation_loss, torch.full((1, 2, 2), -1, dtype=torch.int8), 3),
        (depth_loss, torch.zeros(1, 1, 2, 2), 1),
        (normal_loss, torch.zeros(1, 3, 2, 2), 3),
    ],
)
def test_a_batch_without_labels_has_no_loss_and_no_gradient(loss, truth, channels):
    prediction = torch.ones(1, channels, 2, 2, requires_grad=True)
    value = loss(prediction, truth)
    value.backward()
    assert value.item() == 0
    assert prediction.grad.abs().max() == 0


def test_average_leaves_out_batches_without_any_label():
    assert average([{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": 5.0}]) == {"a": 2.0, "b": 5.0}
    assert math.isnan(depth_errors(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))["AbsErr"])


class Fixed(nn.Module):
    """Predicts from the image: channel 0 decides the class, 1 is the depth, all three point."""

    def forward(self, images):
        classes = torch.stack(
            [images[:, 0] < 0.5, images[:, 0] >= 0.5, images[:, 0] > 2], 1
        ).float()
        return [classes, images[:, 1:2], functional.normalize(images, dim=1)]


def test_evaluation_goes_batch_by_batch_and_accumulates_the_confusion():
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 4, 4, generator=draw)
    labels = torch.randint(-1, 3, (5, 4, 4), generator=draw).to(torch.int8)
    depths, normals = (
        torch.rand(5, 1, 4, 4, generator=draw),
        functional.normalize(images.flip(1), dim=1),
    )
    outputs = {"segmentation": 3, "depth": 1, "normal": 3}
    found = dense.measure(Fixed(), outputs, (images, labels, depths, normals), batch_size=2)
    guess, depth, normal = Fixed()(images)
    whole = confusion(guess.argmax(1), labels, 3)
    assert found["segmentation", "mIoU"] == pytest.approx(accumulated(whole.sum(0))["mIoU"])
    cuts = [slice(0, 2), slice(2, 4), slice(4, 5)]
    by_batch = {
        ("segmentation", "mIoU_per_image"): [
            per_image(whole[cut])["mIoU_per_image"] for cut in cuts
        ],
        ("segmentation", "loss"): [
            segmentation_loss(guess[cut], labels[cut]).item() for cut in cuts
        ],
        ("depth", "RelErr"): [depth_errors(depth[cut], depths[cut])["RelErr"] for cut in cuts],
        ("normal", "median_angle"): [
            normal_errors(normal[cut], normals[cut])["median_angle"] for cut in cuts
        ],
    }
    for key, values in by_batch.items():
        assert found[key] == pytest.approx(np.mean(values)), key
    assert len(found) == 5 + 3 + 6


def test_real_sample_of_nyuv2():
    folder = Path(os.environ.get("PCGRAD_DATA", "data")) / "nyuv2-sample" / "val"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: needs four images of NYUv2 in MTAN's layout")
    split = read_split(folder, NYUV2, 13, (288, 384), 0, hashlib.sha256())
    _, labels, depths, normals = (part[..., ::12, ::12] for part in split)
    guess = labels.roll(2, dims=2).clamp(min=0).long()
    check_segmentation(guess, labels, 13)
    shifted = depths.roll(1, dims=3)
    t, g = depths.numpy(), shifted.numpy()
    errors = depth_errors(shifted, depths)
    assert errors["AbsErr"] == pytest.approx(np.abs(g - t)[t > 0].mean(), rel=1e-5)
    assert errors["RelErr"] == pytest.approx((np.abs(g - t) / t)[t > 0].mean(), rel=1e-5)
    turned = normals.roll(1, dims=3)
    angles = np.degrees(
        np.arccos(np.clip((turned * normals).sum(1).numpy().astype(np.float64), -1, 1))
    )
    found = normal_errors(turned, normals)
    assert found["mean_angle"] == pytest.approx(angles.mean(), rel=1e-5)
    assert found["median_angle"] == pytest.approx(np.median(angles), rel=1e-5)
    assert found["within_30"] == pytest.approx(100 * np.mean(angles < 30))
