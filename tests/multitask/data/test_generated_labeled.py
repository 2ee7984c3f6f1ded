"""Generated gratings and cells: the real layouts, classes that differ, variety, repeatability."""

import numpy as np
import pytest

from multitask.data import celeba, cifar100
from multitask.data.generated import labeled
from multitask.runs.seeding import numpy_generator

COUNTS = {"train": 40, "validation": 3, "test": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("gratings")
    labeled.generate_gratings(root, 4, 2, seed=0)
    return root / "cifar-100-python"


def test_cifars_loader_reads_balanced_splits(folder):
    data = cifar100.read(folder, published=False)
    for split, per_class in ((data.train, 4), (data.test, 2)):
        assert split.images.shape == (100 * per_class, 3, 32, 32)
        assert (split.fine.bincount(minlength=100) == per_class).all()
        assert (split.tasks.bincount(minlength=20) == 5 * per_class).all()
    assert not (data.train.fine.diff() >= 0).all(), "in random order, as in the real files"


def test_the_pickles_are_as_the_published_ones(folder):
    assert all(path.read_bytes()[:2] == b"\x80\x02" for path in folder.iterdir()), "protocol 2"
    train = cifar100.read_pickle(folder / "train")
    meta = cifar100.read_pickle(folder / "meta")
    assert set(train) == {b"data", b"fine_labels", b"coarse_labels", b"filenames", b"batch_label"}
    assert [train[b"data"].shape, train[b"data"].dtype] == [(400, 3072), np.uint8]
    kinds = {type(label) for key in (b"fine_labels", b"coarse_labels") for label in train[key]}
    assert kinds == {int}
    fine, coarse = meta[b"fine_label_names"], meta[b"coarse_label_names"]
    assert [len(set(fine)), len(set(coarse))] == [100, 20]
    assert [fine, coarse] == [sorted(fine), sorted(coarse)], "numbered alphabetically"
    assert len(set(train[b"filenames"])) == 400


def test_every_family_has_five_classes_and_modulo_labels_merge_some(folder):
    train = cifar100.read_pickle(folder / "train")
    members = {}
    for fine, coarse in zip(train[b"fine_labels"], train[b"coarse_labels"], strict=True):
        members.setdefault(coarse, set()).add(fine)
    assert [len(found) for found in members.values()] == [5] * 20
    assert len(set.union(*members.values())) == 100
    merged = np.mean([len({label % 5 for label in found}) for found in members.values()])
    assert 2.8 < merged < 3.8  # the real set: 3.3


def test_hues_tell_the_members_apart_and_mean_different_things():
    """The mean color of an image decides its class within the family, and only there."""
    means = {
        (family, member): labeled.gratings(family, member, 20, numpy_generator(0, "x"))
        .reshape(20, 3, -1)
        .mean((0, 2))
        for family in range(20)
        for member in range(5)
    }
    for family in range(20):
        own = np.array([means[family, member] for member in range(5)])
        gaps = np.linalg.norm(own[:, None] - own[None], axis=-1)[~np.eye(5, dtype=bool)]
        assert gaps.min() > 20
    same = np.linalg.norm(means[0, 1] - means[4, 0])
    assert same < 5, "one hue, another member of another family"


def test_planes_are_red_green_blue():
    for plane, hue in enumerate((0, 1 / 3, 2 / 3)):
        assert labeled.color(np.array(hue)).argmax() == plane
    red = labeled.gratings(0, 0, 50, numpy_generator(0, "planes")).reshape(-1, 3, 1024)
    assert red.mean((0, 2)).argmax() == 0


def test_images_differ_and_follow_the_seed(folder, tmp_path):
    labeled.generate_gratings(tmp_path / "same", 4, 2, seed=0)
    labeled.generate_gratings(tmp_path / "other", 4, 4, seed=1)
    same, other = tmp_path / "same/cifar-100-python", tmp_path / "other/cifar-100-python"
    for path in folder.iterdir():
        assert path.read_bytes() == (same / path.name).read_bytes()
    rows = np.concatenate(
        [
            cifar100.read_pickle(root / name)[b"data"]
            for root in (folder, other)
            for name in ("train", "test")
        ]
    )
    assert len(np.unique(rows, axis=0)) == len(rows), "no image twice"
    with pytest.raises(FileExistsError):
        labeled.generate_gratings(tmp_path / "same", 4, 2, seed=0)


def test_celebas_loader_reads_the_faces(tmp_path):
    labeled.generate_faces(tmp_path, COUNTS, 0)
    data = celeba.read(tmp_path / "celeba", 16, (0, 0, 0), 0, published=False)
    assert {split: len(labels) for split, labels in data.labels.items()} == COUNTS
    assert len({tuple(row.tolist()) for row in data.labels["train"]}) == 40
    labeled.generate_faces(tmp_path / "again", COUNTS, 0)
    labeled.generate_faces(tmp_path / "other", {**COUNTS, "train": 2}, 1)
    name = "celeba/img_align_celeba/000002.jpg"
    first = (tmp_path / name).read_bytes()
    assert first == (tmp_path / "again" / name).read_bytes()
    assert first != (tmp_path / "other" / name).read_bytes()


def test_attributes_are_balanced_and_depend_on_their_neighbors():
    draw = numpy_generator(0, "attributes")
    people = np.array([labeled.choose(draw) for _ in range(3000)])
    assert people.shape == (3000, 40)
    assert np.abs(people.mean(0) - 0.5).max() < 0.05
    agree = (people[:, 1:] == people[:, :-1]).mean(0)
    assert np.abs(agree - 2 / 3).max() < 0.05


@pytest.mark.parametrize("place", range(40))
def test_every_attribute_shows_in_the_picture(place):
    """Two pictures that differ in one attribute differ in the 16x16 pixels of the quick scale."""
    seen = []
    for present in (False, True):
        has = np.zeros(40, dtype=bool)
        has[place] = present
        picture = labeled.face(has, np.random.default_rng(1))
        assert picture.size == (celeba.WIDTH, celeba.HEIGHT)
        seen.append(celeba.reduced(picture, 16).astype(float))
    assert np.abs(seen[0] - seen[1]).max() > 20
