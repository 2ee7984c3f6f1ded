"""CIFAR-100's files: what is read, what is refused with which message, and the labels."""

import io
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from multitask.data import cifar100
from multitask.data.cifar100 import (
    balanced_subset,
    content_digest,
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
        (changed(data=np.zeros((300, 3072), np.float32)), "array of type 'f4'"),
        (changed(data=np.zeros((0, 3072), np.uint8)), r"data is uint8 \[0, 3072\]"),
        (changed(fine_labels=[0] * 299), r"fine_labels is \[299\], not 300 integers"),
        (changed(fine_labels=[0.5] * 300), "fine_labels holds a float"),
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
        read(folder)
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
    with pytest.raises(UserError, match=r"it asks for \w+\.system|it uses the opcode"):
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
    small = read(source, published=False)
    parts = {"train": small.train, "test": small.test}
    monkeypatch.setattr(
        cifar100, "CONTENT", {name: content_digest(part) for name, part in parts.items()}
    )
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
    with pytest.raises(UserError, match="cannot be unpacked"):
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


@pytest.mark.parametrize(
    "state",
    [
        (2, "<", None, ("a",), 5, 2**31 - 1),  # released a pointer of its choosing: signal 11
        (3, "<", None, ("a", "b"), {"a": ("u1", 0)}, 8, 1, 27),
        (3, "|", ("u1", (10**9,)), None, None, 8, 1, 0),
    ],
)
def test_no_type_takes_the_state_of_a_file(tmp_path, state):
    """The opcodes that hand NumPy's dtype a state of the file's own."""
    dtype = b"cnumpy\ndtype\n" + pickle.dumps(("u1", 0, 1), 2)[2:-1] + b"R"
    text = b"\x80\x02}U\x04data" + dtype + pickle.dumps(state, 2)[2:-1] + b"bs."
    (tmp_path / "train").write_bytes(text)
    with pytest.raises(UserError, match="train is no CIFAR-100 file"):
        read_pickle(tmp_path / "train")


@pytest.mark.parametrize(
    "text",
    [
        b"r\xff\xff\xff\x7f",
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"B\xff\xff\xff\x7f",
        b"\x96" + b"\x7f" * 8,
    ],
)
def test_a_few_bytes_ask_for_no_memory(tmp_path, text):
    (tmp_path / "train").write_bytes(text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"train (is no CIFAR-100 file|holds a NoneType)"):
        read_pickle(tmp_path / "train")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": changed(data=[[1], [2, 3]])}, "data is a list, not an array"),
        ({"train": changed(fine_labels=[[0], [1, 2]])}, "fine_labels holds a list"),
        ({"train": changed(fine_labels=[2**70] * 300)}, r"fine_labels\[0\] is \d+, outside"),
        ({"train": changed(coarse_labels="many")}, "coarse_labels is str"),
        ({"meta": {b"coarse_label_names": [b"x"] * 19 + [7]}}, "something else than text"),
        ({"meta": {b"coarse_label_names": [b"x"] * 19 + ["y"]}}, "something else than text"),
        ({"meta": {b"coarse_label_names": [b"x"] * 19 + [b"\xff"]}}, "something else than text"),
        ({"meta": {b"coarse_label_names": [b"x"] * 19 + [b"a\nb"]}}, "cannot be printed"),
        ({"meta": {b"coarse_label_names": 5}}, "names no list of coarse labels"),
        ({"meta": {b"a\nb": 1}}, "names 0 coarse labels"),
    ],
)
def test_content_of_another_kind_is_one_line(tmp_path, changes, words):
    folder = write(tmp_path / "a", **changes)
    with pytest.raises(UserError, match=words) as error:
        read(folder, published=False)
    assert "\n" not in str(error.value)


def test_arrays_of_python_2_and_3_are_read_by_every_protocol(tmp_path):
    for protocol in (2, 3, 4):
        for order in "CF":
            data = np.asarray(np.arange(12, dtype=">i2").reshape(3, 4), order=order)
            path = tmp_path / f"p{protocol}"
            path.write_bytes(pickle.dumps({b"data": data, b"list": [1, (2, b"x")]}, protocol))
            found = read_pickle(path)
            assert np.array_equal(found[b"data"], data)
            assert found[b"list"] == [1, (2, b"x")]


NESTED = b")" + b"\x85" * 200_000  # a tuple in a tuple in a tuple ...


@pytest.mark.parametrize(
    "opcodes",
    [
        b"}" + NESTED + b"Ns",
        b"}(" + NESTED + b"Nu",
        b"cnumpy\ndtype\n" + NESTED + b"\x85R",
        b"cnumpy\ndtype\n]\x85R",
        b"c_codecs\nencode\nX\1\0\0\0a" + NESTED + b"\x86R",
        b"cnumpy\ndtype\nU\2u1\x85R(K\1" + NESTED + b"NNNtb",
        b"cnumpy\nndarray\n)R(K\1" + NESTED + b"NNU\1atb",
        NESTED,
        b"]" * 200_000 + b"a" * 199_999,
    ],
)
def test_deep_nesting_neither_crashes_nor_hangs(tmp_path, opcodes):
    """Bug: the hash of a deeply nested tuple exhausts the stack (signal 11).

    In a process of its own, because a crash would end the tests.
    """
    path = tmp_path / "train"
    path.write_bytes(b"\x80\x02" + opcodes + b".")
    code = (
        "import sys\nfrom pathlib import Path\nfrom multitask.data.pickles import read_pickle\n"
        "from system import command\n"
        "sys.exit(command.run(lambda: read_pickle(Path(sys.argv[1]))))"
    )
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", ["bit", "swap", "black"])
def test_what_is_not_the_published_content_is_refused(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(cifar100, "PER_CLASS", {"train": 3, "test": 2})
    folder = write(tmp_path / "a")
    small = read(folder, published=False)
    parts = {"train": small.train, "test": small.test}
    monkeypatch.setattr(
        cifar100, "CONTENT", {name: content_digest(part) for name, part in parts.items()}
    )
    read.cache_clear()
    train, test = split(3), split(2, 1)
    order = np.random.default_rng(9).permutation(300)
    for key in (b"data", b"fine_labels", b"coarse_labels"):  # another order is the same content
        values = np.asarray(train[key])[order]
        train[key] = values if key == b"data" else values.tolist()
    write(folder, train=train)
    assert len(read(folder).train.fine) == 300
    read.cache_clear()
    if damage == "bit":
        train[b"data"][7, 99] ^= 4
    elif damage == "swap":
        labels = train[b"fine_labels"]
        same = [i for i in range(300) if COARSE[labels[i]] == COARSE[labels[0]]]
        other = next(i for i in same if labels[i] != labels[0])
        labels[0], labels[other] = labels[other], labels[0]
    else:
        test[b"data"][:] = 0
    write(folder, train=train, test=test)
    with pytest.raises(UserError, match="not the published content of CIFAR-100"):
        read(folder)
