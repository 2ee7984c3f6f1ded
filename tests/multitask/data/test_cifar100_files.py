"""CIFAR-100's files: what is read, what is refused and in which words, and which labels come out."""

import io
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch

from multitask.data import cifar100
from multitask.data.cifar100 import (
    balanced_subset,
    read,
    read_images,
    read_pickle,
    unpack,
    within_superclass,
)
from multitask.runs.errors import UserError

COARSE = np.random.default_rng(0).permutation(
    np.repeat(np.arange(20), 5)
)  # fine class -> superclass


def split(per_class, seed=0):
    draw = np.random.default_rng(seed)
    fine = draw.permutation(np.repeat(np.arange(100), per_class))
    data = draw.integers(0, 256, (len(fine), 3072), dtype=np.uint8)
    return {
        b"data": data,
        b"fine_labels": fine.tolist(),
        b"coarse_labels": COARSE[fine].tolist(),
        b"filenames": [],
    }


def write(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    meta = {
        b"coarse_label_names": [f"group {k}".encode() for k in range(20)],
        b"fine_label_names": [],
    }
    for name, content in {"train": split(3), "test": split(2, 1), "meta": meta, **changes}.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
    return folder


def test_reads_images_labels_and_names(tmp_path):
    data = read(write(tmp_path / "a"), published=False)
    assert data.train.images.shape == (300, 3, 32, 32)
    assert data.train.images.dtype == torch.uint8
    raw = split(3)
    assert data.train.images[7, 1, 2, 3] == raw[b"data"][7, 1024 + 2 * 32 + 3], (
        "planes red, green, blue; rows of 32"
    )
    assert data.train.fine.tolist() == raw[b"fine_labels"]
    assert data.test.tasks.tolist() == split(2, 1)[b"coarse_labels"]
    assert data.names[4] == "group 4"


def test_the_fingerprint_is_of_all_content(tmp_path):
    first = read(write(tmp_path / "a"), published=False).sha256
    assert first == read(write(tmp_path / "b"), published=False).sha256
    other = split(2, 1)
    other[b"data"][5, 5] ^= 1
    assert first != read(write(tmp_path / "c", test=other), published=False).sha256


def test_labels_within_a_superclass_are_a_bijection():
    fine = torch.arange(100).repeat(2)
    tasks = torch.from_numpy(COARSE)[fine]
    label = within_superclass(tasks, fine)
    for task in range(20):
        mine = tasks == task
        pairs = {(f, n) for f, n in zip(fine[mine].tolist(), label[mine].tolist(), strict=True)}
        assert sorted(n for _, n in pairs) == [0, 1, 2, 3, 4]
        assert [f for f, _ in sorted(pairs, key=lambda pair: pair[1])] == sorted(
            f for f, _ in pairs
        )


def test_damaged_superclasses_are_named():
    fine = torch.arange(100)
    tasks = torch.from_numpy(COARSE)[fine]
    with pytest.raises(UserError, match=r"coarse class \d+ has [46] fine classes, not 5"):
        within_superclass(torch.where(fine == 3, (tasks + 1) % 20, tasks), fine)
    twice = torch.cat([fine, torch.tensor([5])])
    owner = torch.cat([tasks, (tasks[5:6] + 1) % 20])
    with pytest.raises(UserError, match=r"fine classes, not 5"):
        within_superclass(owner, twice)


def changed(**changes):
    content = split(3)
    content.update({key.encode(): value for key, value in changes.items()})
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {b"data": split(1)[b"data"], b"labels": [0] * 100},
            "has no fine_labels, coarse_labels.*CIFAR-10",
        ),
        ([1, 2], "holds a list, not a dictionary"),
        (changed(data=np.zeros((300, 3071), np.uint8)), r"data is uint8 \[300, 3071\]"),
        (changed(data=np.zeros((300, 3072), np.float32)), "data is float32"),
        (changed(data=np.zeros((0, 3072), np.uint8)), r"data is uint8 \[0, 3072\]"),
        (changed(fine_labels=[0] * 299), r"fine_labels is int64 \[299\], not 300 integers"),
        (changed(fine_labels=[0.5] * 300), "fine_labels is float64"),
        (
            changed(fine_labels=[0] * 10 + [100] + [0] * 289),
            r"fine_labels\[10\] is 100, outside 0...99",
        ),
        (
            changed(coarse_labels=[0] * 5 + [-1] + [0] * 294),
            r"coarse_labels\[5\] is -1, outside 0...19",
        ),
    ],
)
def test_wrong_content_is_one_line(tmp_path, content, words):
    folder = write(tmp_path / "a", train=content)
    with pytest.raises(UserError, match=words) as error:
        read_images(folder / "train", None)
    assert "\n" not in str(error.value)


def test_counts_of_the_published_set_are_checked(tmp_path):
    folder = write(tmp_path / "a")
    with pytest.raises(UserError, match="fine class 0 has 3 images, not 500"):
        read(folder)


def test_missing_and_cut_files_are_named(tmp_path):
    folder = write(tmp_path / "a")
    whole = (folder / "train").read_bytes()
    (folder / "train").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"train is no CIFAR-100 file .*delete .* and run again"):
        read_pickle(folder / "train")
    (folder / "train").unlink()
    with pytest.raises(UserError, match="train is missing"):
        read(folder, published=False)
    write(folder, meta={b"coarse_label_names": [b"one"]})
    with pytest.raises(UserError, match="names 1 coarse labels, not 20"):
        read(folder, published=False)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bombed",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_asks_for_more_than_arrays_is_refused(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").write_bytes(pickle.dumps({b"data": Bomb()}, protocol=protocol))
    with pytest.raises(UserError, match=r"it asks for \w+\.system"):
        read_pickle(tmp_path / "train")
    assert not (tmp_path / "bombed").exists()


def test_a_downloaded_archive_is_unpacked_whole(tmp_path, monkeypatch):
    source = write(tmp_path / "source")
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, arcname=cifar100.FOLDER)
    asked = []
    monkeypatch.setattr(cifar100, "fetch", lambda *arguments: asked.append(arguments) or archive)
    monkeypatch.setattr(cifar100, "PER_CLASS", {"train": 3, "test": 2})
    (tmp_path / "root").mkdir()
    assert len(cifar100.cifar100(tmp_path / "root").train.fine) == 300
    assert [(name, digest) for _, name, digest, _ in asked] == [
        (cifar100.ARCHIVE, cifar100.ARCHIVE_SHA256)
    ]
    read.cache_clear()
    cifar100.cifar100(tmp_path / "root")
    assert len(asked) == 1, "what is there is not fetched again"
    shutil.rmtree(tmp_path / "root")


def test_an_archive_may_not_write_elsewhere(tmp_path):
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("../outside")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    (tmp_path / "root").mkdir()
    with pytest.raises(tarfile.OutsideDestinationError):
        unpack(archive, tmp_path / "root" / cifar100.FOLDER)
    assert not (tmp_path / "outside").exists()


def test_a_subset_has_equally_many_of_every_class():
    fine = torch.randperm(400, generator=torch.Generator().manual_seed(0)) % 100
    rows = balanced_subset(fine, 200, seed=3)
    assert fine[rows].bincount(minlength=100).tolist() == [2] * 100
    assert torch.equal(rows, rows.sort().values)
    assert torch.equal(rows, balanced_subset(fine, 200, seed=3))
    assert not torch.equal(rows, balanced_subset(fine, 200, seed=4))
    assert torch.equal(balanced_subset(fine, 0, seed=3), torch.arange(400))
    for wrong in (150, 500):
        with pytest.raises(
            UserError,
            match=f"{wrong} images are no multiple of 100, or more than 4 .* test_examples",
        ):
            balanced_subset(fine, wrong, seed=3)
