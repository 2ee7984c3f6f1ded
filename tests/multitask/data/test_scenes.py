"""The loader of MTAN's preprocessed layout: what it reads, and one line for every fault."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from multitask.data.scenes import CITYSCAPES, NYUV2, read_scenes, read_split
from multitask.runs.errors import UserError

SIZE, CLASSES = (4, 6), 3


def write(folder, count=3, *, normals=True, label="label"):
    """A split with every part in the real files' types."""
    draw = np.random.default_rng(count)
    for name in ("image", label, "depth", *(["normal"] if normals else [])):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        np.save(folder / "image" / f"{i}.npy", draw.random((*SIZE, 3), dtype=np.float32))
        np.save(folder / label / f"{i}.npy", draw.integers(-1, CLASSES, SIZE).astype(np.float32))
        np.save(folder / "depth" / f"{i}.npy", draw.random((*SIZE, 1), dtype=np.float32))
        if normals:
            vectors = draw.normal(size=(*SIZE, 3))
            unit = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
            np.save(folder / "normal" / f"{i}.npy", np.asfortranarray(unit))


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "val", 2)
    return tmp_path


def read(root, source=NYUV2, classes=CLASSES, size=SIZE, counts=(0, 0)):
    return read_scenes(root, source, classes, size, counts)


def read_one(folder, source, classes=CLASSES, size=SIZE):
    return read_split(folder, source, classes, size, 0, hashlib.sha256())


def test_reads_every_part_as_it_is(root):
    scenes = read(root)
    assert [tuple(part.shape) for part in scenes.train] == [
        (3, 3, 4, 6),
        (3, 4, 6),
        (3, 1, 4, 6),
        (3, 3, 4, 6),
    ]
    assert [part.dtype for part in scenes.train] == [
        torch.float32,
        torch.int8,
        torch.float32,
        torch.float32,
    ]
    assert len(scenes.test[0]) == 2
    for name, part in zip(("image", "label", "depth", "normal"), scenes.train, strict=True):
        raw = np.load(root / "train" / name / "2.npy")
        ours = part[2].numpy() if name == "label" else np.moveaxis(part[2].numpy(), 0, -1)
        assert np.array_equal(ours, raw), name


def test_examples_keep_their_numbers_beyond_nine(tmp_path):
    write(tmp_path, 12)
    images = read_one(tmp_path, NYUV2)[0]
    assert np.array_equal(
        np.moveaxis(images[10].numpy(), 0, -1), np.load(tmp_path / "image" / "10.npy")
    )


def test_fingerprint_is_of_the_contents(root, tmp_path_factory):
    first = read(root).sha256
    copy = tmp_path_factory.mktemp("copy") / "set"
    shutil.copytree(root, copy)
    assert read(copy).sha256 == first
    depth = np.load(copy / "val" / "depth" / "1.npy")
    depth[0, 0] += 0.25
    np.save(copy / "val" / "depth" / "1.npy", depth)
    read_scenes.cache_clear()
    assert read(copy).sha256 != first


@pytest.mark.parametrize("label", ["label_7", "label"])
def test_cityscapes_has_no_normals_and_two_names_for_its_labels(tmp_path, label):
    write(tmp_path / "train", normals=False, label=label)
    write(tmp_path / "val", normals=False, label=label)
    assert len(read(tmp_path, CITYSCAPES).train) == 3


def test_seven_classes_come_before_other_numbers(tmp_path):
    write(tmp_path, normals=False, label="label_7")
    write(tmp_path / "other", normals=False)
    shutil.move(tmp_path / "other" / "label", tmp_path / "label")
    np.save(tmp_path / "label" / "0.npy", np.full(SIZE, 18.0))
    assert read_one(tmp_path, CITYSCAPES)[1].max() < CLASSES


def values(**changes):
    """Replace one value of train example 1."""

    def change(root):
        (part, value), *_ = changes.items()
        path = root / "train" / part / "1.npy"
        array = np.load(path)
        array.flat[0] = value
        np.save(path, array)

    return change


def stored(part, array):
    return lambda root: np.save(root / "train" / part / "1.npy", array, allow_pickle=True)


def remove(path):
    return lambda root: (root / path).unlink()


def truncate(root):
    path = root / "train/depth/1.npy"
    path.write_bytes(path.read_bytes()[:-7])


def not_npy(root):
    (root / "train/image/1.npy").write_bytes(b"no array")


def huge(root):
    path = root / "train/depth/1.npy"
    path.write_bytes(path.read_bytes().replace(b"(4, 6, 1)", b"(4, 600)"))


FAULTS = {
    "no set": (
        lambda root: shutil.rmtree(root / "train"),
        r"no folder .*train/image; put NYUv2 .*research.*Silberman",
    ),
    "no part": (
        lambda root: shutil.rmtree(root / "val/normal"),
        r"no folder .*val/normal; put NYUv2",
    ),
    "gap": (remove("train/image/1.npy"), r"train/image/1.npy is missing \(2 of 3 files"),
    "fewer labels": (remove("val/label/1.npy"), r"val/label/1.npy is missing \(1 of 2"),
    "empty": (
        lambda root: [p.unlink() for p in (root / "val").rglob("*.npy")],
        r"val/image/0.npy is missing",
    ),
    "truncated": (truncate, r"train/depth/1.npy is damaged or no .npy"),
    "other file": (not_npy, r"train/image/1.npy is damaged or no .npy"),
    "header": (huge, r"train/depth/1.npy (is damaged|has shape)"),
    "objects": (
        stored("depth", np.array([{}], dtype=object)),
        r"train/depth/1.npy holds values of type object",
    ),
    "strings": (stored("depth", np.full((*SIZE, 1), "x")), r"holds values of type <U1"),
    "shape": (
        stored("label", np.zeros((6, 4), np.float32)),
        r"label/1.npy has shape \(6, 4\), not \(4, 6\)",
    ),
    "nan": (values(depth=np.nan), r"depth/1.npy holds values that are not finite"),
    "label above": (
        values(label=3),
        r"labels from -1 to 3, not integers from -1 to 2; set classes",
    ),
    "label below": (values(label=-2), r"labels from -2 to 2"),
    "label between": (values(label=0.5), r"label/1.npy holds labels .* not integers"),
    "bytes": (
        values(image=255),
        r"image/1.npy holds values from .* to 255, not from 0 to 1; divide",
    ),
    "negative": (values(depth=-1), r"depth/1.npy holds negative depths \(-1\)"),
    "long": (values(normal=2), r"normal/1.npy holds normals .* unit vectors"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_in_one_line(root, fault):
    damage, message = FAULTS[fault]
    damage(root)
    with pytest.raises(UserError, match=message) as caught:
        read(root)
    assert "\n" not in str(caught.value)


def test_counts_of_the_config_must_hold(root):
    assert len(read(root, counts=(3, 2)).train[0]) == 3
    with pytest.raises(UserError, match=r"train holds 3 examples, not 795; .* set train_examples"):
        read(root, counts=(795, 0))
    with pytest.raises(UserError, match=r"val holds 2 examples, not 654"):
        read(root, counts=(0, 654))


def test_cityscapes_says_under_which_terms(tmp_path):
    (tmp_path / "image").mkdir()
    with pytest.raises(UserError, match=r"no folder .*label_7.*registration.*Cordts") as caught:
        read_one(tmp_path, CITYSCAPES, 7)
    assert "{train,val}/{image,label_7,depth}/<i>.npy" in str(caught.value)


def test_real_sample_of_nyuv2():
    folder = Path(os.environ.get("PCGRAD_DATA", "data")) / "nyuv2-sample" / "val"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: needs four images of NYUv2 in MTAN's layout")
    images, labels, depths, normals = read_one(folder, NYUV2, 13, (288, 384))
    assert images.shape == (4, 3, 288, 384)
    assert labels.min() == -1
    assert labels.max() == 12
    assert 0.5 < depths.min() < depths.max() < 10
    assert torch.allclose(normals.norm(dim=1), torch.ones(4, 288, 384), atol=1e-4)
