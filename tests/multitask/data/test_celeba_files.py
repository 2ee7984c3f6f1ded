"""CelebA's files: what is read, what is refused, and the network's sizes."""

import numpy as np
import pytest
import torch
from PIL import Image

from multitask.data import celeba as faces
from multitask.data.celeba import (
    ATTRIBUTES,
    read,
    read_attributes,
    read_image,
    read_partition,
    reduced,
    subset,
)
from multitask.models.resnet import FaceNet, ResNet
from multitask.runs.errors import UserError

NAMES = [f"{number:06d}.jpg" for number in range(1, 8)]
CODES = [0, 0, 0, 0, 1, 2, 2]
VALUES = np.random.default_rng(0).choice([-1, 1], (7, 40))


def picture(seed):
    cells = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((178, 218))


@pytest.fixture
def folder(tmp_path):
    """A set of seven faces."""
    (tmp_path / "img_align_celeba").mkdir()
    for seed, name in enumerate(NAMES):
        picture(seed).save(tmp_path / "img_align_celeba" / name)
    rows = [
        f"{name} {' '.join(f'{value:2d}' for value in values)}"
        for name, values in zip(NAMES, VALUES, strict=True)
    ]
    (tmp_path / "list_attr_celeba.txt").write_text(
        "\n".join(["7", " ".join(ATTRIBUTES) + " ", *rows, ""])
    )
    rows = [f"{name} {code}" for name, code in zip(NAMES, CODES, strict=True)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join([*rows, ""]))
    read.cache_clear()
    return tmp_path


def everything(folder):
    read.cache_clear()
    return read(folder, 32, (0, 0, 0), 0, published=False)


def test_reads_pixels_and_attributes_by_the_official_partition(folder):
    data = everything(folder)
    assert {split: tuple(images.shape) for split, images in data.images.items()} == {
        "train": (4, 3, 32, 32),
        "validation": (1, 3, 32, 32),
        "test": (2, 3, 32, 32),
    }
    assert data.images["test"].dtype == data.labels["test"].dtype == torch.uint8
    for split, rows in {"train": [0, 1, 2, 3], "validation": [4], "test": [5, 6]}.items():
        assert np.array_equal(data.labels[split].numpy(), VALUES[rows] == 1)
    pixels, _ = read_image(folder / "img_align_celeba" / NAMES[6], 32)
    assert np.array_equal(data.images["test"][1].numpy(), pixels)


@pytest.mark.parametrize("shift", [0, 90])
def test_pixels_are_those_of_the_base_code(shift):
    """Spelled out: blue first, mean subtracted, each image stretched to its own range, then
    resized.
    """
    image = Image.fromarray((np.asarray(picture(3)) // 2 + shift).astype(np.uint8))
    values = np.asarray(image)[:, :, ::-1].astype(np.float64) - [
        73.15835921,
        82.90891754,
        72.39239876,
    ]
    stretched = (values - values.min()) * (255 / (values.max() - values.min()))
    small = Image.fromarray((stretched.clip(0, 255) + 0.5).astype(np.uint8)).resize(
        (64, 64), Image.Resampling.BILINEAR
    )
    expected = np.asarray(small).transpose(2, 0, 1)
    assert expected.max() > 240
    assert np.array_equal(reduced(image, 64), expected)


def test_the_fingerprint_is_of_files_and_labels(folder):
    first = everything(folder).sha256
    assert first == everything(folder).sha256
    picture(99).save(folder / "img_align_celeba" / NAMES[5])
    second = everything(folder).sha256
    text = (folder / "list_attr_celeba.txt").read_text()
    (folder / "list_attr_celeba.txt").write_text(text[:-4].replace(" 1", "-1") + text[-4:])
    assert len({first, second, everything(folder).sha256}) == 3


def test_a_subset_is_of_the_wanted_size_and_by_seed(folder):
    data = read(folder, 16, (2, 1, 1), 0, published=False)
    assert [len(data.labels[split]) for split in faces.SPLITS] == [2, 1, 1]
    assert subset(1000, 0, "train", 0) == list(range(1000))
    rows = subset(1000, 10, "train", 0)
    assert rows == sorted(rows) == subset(1000, 10, "train", 0)
    assert rows != subset(1000, 10, "train", 1)
    assert len(set(rows)) == 10
    with pytest.raises(UserError, match="validation_examples: 2 are more than the 1 there are"):
        read(folder, 16, (2, 2, 1), 0, published=False)


def test_a_missing_folder_says_what_to_put_there_and_the_terms(tmp_path):
    words = (
        r"img_align_celeba/, list_attr_celeba.txt, list_eval_partition.txt there "
        r".*Liu.*non-commercial.*PCGRAD_DATA"
    )
    with pytest.raises(UserError, match=words) as error:
        read(tmp_path / "celeba", 64, (0, 0, 0), 0)
    assert "\n" not in str(error.value)


def test_counts_of_the_published_set_are_checked(folder):
    with pytest.raises(UserError, match="the train split has 4 images, not 162770"):
        read(folder, 64, (0, 0, 0), 0)


def test_missing_and_damaged_images_are_named(folder):
    path = folder / "img_align_celeba" / NAMES[5]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"000006.jpg is no (whole )?picture .*; put the original files"
        ):
            everything(folder)
    picture(0).resize((218, 178)).save(path)
    with pytest.raises(UserError, match="has 218x178 pixels, not 178x218; put the original"):
        everything(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"000006.jpg is missing; .*img_align_celeba"):
        everything(folder)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("7\n", "seven\n", "does not begin with the number of images, but 'seven'"),
        ("7\n", "8\n", "announces 8 images and has lines for 7"),
        ("Bald Bangs", "Bangs Bald", "line 2 does not name the 40 attributes .*Bangs for Bald"),
        (" Young", "", r"line 2 does not name the 40 attributes .*\(39 names\)"),
        ("000003.jpg", "000003.jpg  0 ", "line 5 has the value '0', neither 1 nor -1"),
        ("000003.jpg", "000003.jpg  1 ", "line 5 has 41 values, not 40"),
        ("000003.jpg", "000004.jpg", "lists an image twice"),
    ],
)
def test_wrong_attributes_are_one_line(folder, old, new, words):
    path = folder / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=words) as error:
        read_attributes(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("000003.jpg 0", "000003.jpg 3", "line 3 gives 000003.jpg the split '3', not 0, 1 or 2"),
        ("000003.jpg 0", "000003.jpg", "line 3 gives 000003.jpg the split ''"),
        ("000003.jpg 0", "300000.jpg 0", "line 3 names '300000.jpg', which has no attributes"),
        ("000003.jpg 0", "000004.jpg 0", "lists 7 images, 6 of them different, not 7"),
        ("000003.jpg 0\n", "", "lists 6 images, 6 of them different, not 7"),
    ],
)
def test_a_wrong_partition_is_one_line(folder, old, new, words):
    path = folder / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=words) as error:
        read_partition(path, dict.fromkeys(NAMES))
    assert "\n" not in str(error.value)


def test_missing_lists_are_named(folder):
    for name in ("list_eval_partition.txt", "list_attr_celeba.txt"):
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"{name} is missing; put the original files"):
            everything(folder)


def test_the_network_has_the_base_codes_sizes():
    with torch.device("meta"):
        net = FaceNet(40, width=64, blocks=2)
        logits = net(torch.empty(2, 3, 64, 64))
    assert sum(p.numel() for p in net.trunk.parameters()) == 11_168_832
    assert net.trunk.features == 2048
    assert sum(p.numel() for p in net.heads.parameters()) == 40 * (2 * 2048 + 2)
    assert [tuple(x.shape) for x in logits] == [(2, 2)] * 40


def test_features_are_means_over_a_two_by_two_grid():
    net = ResNet(width=2, blocks=1).eval()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = []
    net.stages.register_forward_hook(lambda *call: maps.append(call[2]))
    features = net(images).reshape(3, 16, 2, 2)
    assert maps[0].shape == (3, 16, 8, 8)
    assert torch.allclose(features[:, :, 1, 0], maps[0][:, :, 4:, :4].mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "I;16", "P", "RGBA", "1", "CMYK"])
def test_pixels_of_another_kind_are_refused(tmp_path, mode):
    """Bug: 16 bits were cut to 8, so that a picture became white."""
    path = tmp_path / "000001.jpg"
    made = picture(0).convert("I" if mode == "I;16" else mode)
    made.convert(mode).save(path, "JPEG" if mode == "CMYK" else "PNG")
    with pytest.raises(UserError, match=rf"000001\.jpg has pixels of the kind {mode}, not RGB"):
        read_image(path, 16)
