"""Generated textures: real layout, differences between classes, variety, repeatability."""

import colorsys
from collections import Counter

import numpy as np
import pytest

from multitask.data.cifar100 import read, read_pickle
from multitask.data.generated import textures
from multitask.data.generated.textures import (
    PATTERNS,
    SHAPES,
    SIDE,
    Shape,
    classes,
    color,
    draw,
    generate_textures,
    pattern,
)
from multitask.runs.seeding import numpy_generator

FILES = ("train", "test", "meta")
CENTERED = np.mgrid[:SIDE, :SIDE][::-1] - (SIDE - 1) / 2  # x, y of every pixel


def one(value):
    return np.full((1, 1, 1), float(value))


def covered(shape, size=12.0, tilt=0.0):
    """The silhouette [32, 32] in the middle of the image."""
    x, y = CENTERED[:, None]
    return textures.silhouette(shape, x, y, one(size), one(tilt))[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("textures")
    generate_textures(root, 4, 2, seed=0)
    return root / "cifar-100-python"


def test_the_real_loader_reads_balanced_splits(folder):
    data = read(folder, published=False)
    for split, per_class in ((data.train, 4), (data.test, 2)):
        assert split.images.shape == (100 * per_class, 3, 32, 32)
        assert (split.fine.bincount(minlength=100) == per_class).all()
        assert (split.tasks.bincount(minlength=20) == 5 * per_class).all()
    assert data.names == tuple(SHAPES)
    assert not (data.train.fine.diff() >= 0).all(), (
        "images come in random order, as in the real files"
    )


def test_the_layout_is_the_published_one(folder):
    assert all((folder / name).read_bytes()[:2] == b"\x80\x02" for name in FILES), (
        "pickle protocol 2"
    )
    train, meta = read_pickle(folder / "train"), read_pickle(folder / "meta")
    assert set(train) == {b"data", b"fine_labels", b"coarse_labels", b"filenames", b"batch_label"}
    assert train[b"data"].shape == (400, 3072)
    assert train[b"data"].dtype == np.uint8
    assert {type(label) for key in (b"fine_labels", b"coarse_labels") for label in train[key]} == {
        int
    }
    fine, coarse = meta[b"fine_label_names"], meta[b"coarse_label_names"]
    assert [len(set(fine)), len(set(coarse))] == [100, 20]
    assert [fine, coarse] == [sorted(fine), sorted(coarse)], "numbered alphabetically"
    for name, label, task in zip(
        train[b"filenames"], train[b"fine_labels"], train[b"coarse_labels"], strict=True
    ):
        assert name.startswith(fine[label] + b"_")
        assert fine[label].endswith(b"_" + coarse[task]), (
            "the fine class belongs to this coarse class"
        )
    assert len(set(train[b"filenames"])) == 400


def test_planes_are_red_green_blue():
    for plane, hue in enumerate(("red", "green", "blue")):
        dress = next(d for d in classes().values() if d.hue == hue and SHAPES[d.shape].hole == 0)
        images = draw(dress, 50, numpy_generator(0, "planes")).reshape(-1, 3, SIDE, SIDE)
        assert images[:, :, 13:19, 13:19].mean((0, 2, 3)).argmax() == plane


def test_modulo_labels_collide_within_families():
    labels = {}
    for fine, dress in enumerate(classes().values()):
        labels.setdefault(dress.shape, set()).add(fine % 5)
    assert max(map(len, labels.values())) < 5
    assert 2.8 < np.mean([len(found) for found in labels.values()]) < 3.8  # the real set: 3.3


def test_neither_hue_nor_pattern_alone_tells_classes_apart():
    for shape in SHAPES:
        dresses = [dress for dress in classes().values() if dress.shape == shape]
        assert sorted(Counter(dress.hue for dress in dresses).values()) == [2, 3]
        assert sorted(Counter(dress.pattern for dress in dresses).values()) == [1, 2, 2]
        assert len(set(dresses)) == 5
    for part in ("hue", "pattern"):
        families = Counter(
            value for value, _ in {(getattr(d, part), d.shape) for d in classes().values()}
        )
        assert min(families.values()) >= 4, "families share hues and patterns"


def test_images_differ_and_follow_the_seed(folder, tmp_path):
    generate_textures(tmp_path / "same", 4, 2, seed=0)
    generate_textures(
        tmp_path / "other", 4, 4, seed=1
    )  # equal counts: a stream used twice would show
    for name in FILES:
        assert (folder / name).read_bytes() == (
            tmp_path / "same/cifar-100-python" / name
        ).read_bytes()
    splits = [
        read_pickle(root / name)[b"data"]
        for root in (folder, tmp_path / "other/cifar-100-python")
        for name in FILES[:2]
    ]
    rows = np.concatenate(splits)
    assert len(np.unique(rows, axis=0)) == len(rows), (
        "no image twice: in a class, in train and test, under two seeds"
    )
    corners = splits[0].reshape(-1, 3, SIDE, SIDE)[:, :, 0, 0]
    assert len(np.unique(corners, axis=0)) > 0.9 * len(corners), (
        "no background twice: a stream for every class"
    )
    with pytest.raises(FileExistsError):
        generate_textures(tmp_path / "same", 4, 2, seed=0)


def test_a_class_depends_on_no_other(folder, monkeypatch, tmp_path):
    names = list(classes())
    few = dict(list(classes().items())[40:43])
    monkeypatch.setattr(textures, "classes", lambda: few)
    generate_textures(tmp_path, 4, 2, seed=0)
    alone, whole = (read_pickle(root / "train") for root in (tmp_path / "cifar-100-python", folder))
    for label, name in enumerate(few):
        mine = alone[b"data"][np.array(alone[b"fine_labels"]) == label]
        same = whole[b"data"][np.array(whole[b"fine_labels"]) == names.index(name)]
        assert (np.unique(mine, axis=0) == np.unique(same, axis=0)).all()


def test_colors_are_hsv():
    draws = numpy_generator(0, "colors").uniform(size=(50, 3)) * [3, 1, 1] - [
        1,
        0,
        0,
    ]  # hues beyond a turn too
    hue, saturation, value = draws.T[:, :, None, None]
    found = color(hue, saturation, value)[:, :, 0, 0]
    assert found == pytest.approx(np.array([colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in draws]))


@pytest.mark.parametrize(
    ("shape", "area"),  # of a radius of 1
    [
        (Shape(40), np.pi),
        (Shape(4), 2.0),
        (Shape(3), 3**1.5 / 4),
        (Shape(6), 3**1.5 / 2),
        (Shape(40, stretch=1.5), np.pi),
        (
            Shape(5, 0.25),
            np.pi * (1 + 0.25**2 / 2) / 1.25**2,
        ),  # of 1 + d cos(n angle), divided by its largest radius
    ],
)
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_silhouettes_have_the_area_of_their_shape(shape, area, tilt):
    assert covered(shape, 12.0, tilt).sum() == pytest.approx(144 * area, rel=0.03)


def test_holes_are_empty_and_rims_are_not():
    whole, holed = covered(Shape(40)), covered(Shape(40, hole=0.45))
    radius = np.hypot(*CENTERED)
    assert not holed[radius < 0.45 * 12].any()
    assert (holed == whole)[radius > 0.45 * 12 + 1.5].all()


def test_silhouettes_differ_by_family():
    masks = np.stack([covered(shape) for shape in SHAPES.values()])
    gaps = np.abs(masks[:, None] - masks[None]).mean((2, 3))[~np.eye(len(masks), dtype=bool)]
    assert gaps.min() > 0.005


def test_patterns_differ_whatever_their_phase():
    """The spectra's amplitudes, which no shift changes, of a pattern are alike and those of two
    patterns are not.
    """
    x, y = CENTERED[:, None]
    spectra = {}
    for name in PATTERNS:
        drawn = pattern(
            name, x, y, np.full((30, 1, 1), 6.0), np.zeros((30, 1, 1)), numpy_generator(0, name)
        )
        assert np.abs(drawn).max() <= 1
        assert drawn.std() > 0.4, "visible"
        spectra[name] = np.abs(np.fft.fft2(drawn)).mean(0).ravel()
        spectra[name] /= np.linalg.norm(spectra[name])
    for a in PATTERNS:
        assert max(spectra[a] @ spectra[b] for b in PATTERNS if b != a) < 0.9
