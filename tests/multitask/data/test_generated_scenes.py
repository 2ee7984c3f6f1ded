"""Generated rooms and streets: exact geometry, real layout, variety, one shared folder."""

import multiprocessing

import numpy as np
import pytest
import torch

from multitask.data.generated import layout, scenes
from multitask.data.generated.scenes import ROOM, STREET, UNNAMED, View
from multitask.data.scenes import CITYSCAPES, NYUV2, read_scenes
from multitask.runs.errors import UserError
from multitask.runs.seeding import numpy_generator

SHAPE = (64, 96)
ANY = (np.full(3, -np.inf), np.full(3, np.inf))


def view(tilt=0.0, shape=(5, 5), focal=0.5):
    return View(numpy_generator(0, "view"), ROOM, shape, focal, tilt, "wall")


def test_a_wall_ahead_is_flat_and_a_floor_follows_the_pinhole_formula():
    scene = view()
    scene.surface("wall", 1, 2.0, *ANY)
    scene.surface("floor", 2, -1.0, *ANY)
    # Rows below the horizon, in focal lengths of 0.5 x 5 pixels.
    below = (np.arange(5) + 0.5 - 2.5) / 2.5
    floor = 1 / below[3:]
    assert scene.depth[:3] == pytest.approx(np.full((3, 5), 2.0))
    assert scene.depth[3:] == pytest.approx(np.repeat(np.minimum(floor, 2.0)[:, None], 5, 1))
    assert (scene.normal[:3] == [0, -1, 0]).all()
    assert (scene.normal[4] == [0, 0, 1]).all()
    assert (scene.label[4] == list(ROOM).index("floor")).all()


@pytest.mark.parametrize("tilt", [-0.4, 0.2])
def test_hits_of_a_tilted_camera_lie_on_the_surface(tilt):
    scene = view(tilt, (20, 30))
    scene.surface("floor", 2, -1.5, *ANY)
    hit = np.isfinite(scene.depth)
    assert 0 < hit.sum() < hit.size
    assert (scene.rays * scene.depth[..., None])[hit][:, 2] == pytest.approx(-1.5)
    # The first row of the rotation from the world to the camera is unchanged by a tilt.
    assert scene.normal[hit] == pytest.approx(
        np.broadcast_to([0, np.sin(tilt), np.cos(tilt)], (hit.sum(), 3))
    )


def test_the_nearest_of_the_surfaces_is_seen_in_any_order():
    found = []
    for order in (1, -1):
        scene = view(shape=(40, 40))
        for name, y in [("bed", 2.0), ("sofa", 2.2)][::order]:
            scene.box(name, 0.0, y, -1.0)
        found.append(scene.label[28, 20])
    assert found == [list(ROOM).index("bed")] * 2


def test_the_sides_of_a_box_face_the_camera():
    scene = view(shape=(60, 90))
    scene.box("bed", -1.5, 2.0, -1.0)
    hit = np.isfinite(scene.depth)
    assert {tuple(normal) for normal in scene.normal[hit]} == {(1, 0, 0), (0, -1, 0), (0, 0, 1)}
    assert ((scene.normal * scene.rays).sum(-1)[hit] < 0).all()


def test_colors_fade_into_the_haze():
    scene = view()
    scene.surface("wall", 1, 1e6, *ANY)
    image = scene.image(2.0, (1.0, 1.0, 1.0))
    assert image.min() > 0.85, "light and noise are left"


@pytest.fixture(scope="module")
def some_rooms():
    return [scenes.room(numpy_generator(0, f"train/{i}"), *SHAPE) for i in range(40)]


@pytest.fixture(scope="module")
def some_streets():
    return [scenes.street(numpy_generator(0, f"train/{i}"), 32, 64) for i in range(40)]


@pytest.mark.parametrize(("name", "classes"), [("some_rooms", 13), ("some_streets", 7)])
def test_every_class_occurs_and_none_decides(name, classes, request):
    labels = np.stack([example["label"] for example in request.getfixturevalue(name)])
    counts = np.bincount(labels[labels >= 0].astype(int), minlength=classes)
    shares = counts / counts.sum()
    assert len(shares) == classes
    assert (shares > 5e-3).all()
    assert shares.max() < 0.35
    assert 0.01 < (labels == UNNAMED).mean() < 0.15


def test_rooms_are_in_meters_with_unit_normals_of_their_depths(some_rooms):
    """Neighboring points of a flat piece lie in the plane that its normal says."""
    rays = view(0.0, SHAPE, scenes.ROOM_FOCAL).rays
    agree = []
    for example in some_rooms:
        types = {name: values.dtype for name, values in example.items()}
        assert types == dict.fromkeys(("image", "label", "depth", "normal"), np.float32)
        assert 0.2 < example["depth"].min() < example["depth"].max() < 10
        normal = example["normal"]
        assert np.linalg.norm(normal, axis=-1) == pytest.approx(np.ones(SHAPE), abs=1e-3)
        assert ((normal * rays).sum(-1) < 1e-3).all(), "the side that is seen"
        points = rays * example["depth"]
        step = points[:, 1:] - points[:, :-1]
        same = (normal[:, 1:] == normal[:, :-1]).all(-1)
        off = np.abs((step * normal[:, 1:]).sum(-1)) / np.linalg.norm(step, axis=-1)
        agree.append(np.mean(off[same] < 0.05))
    assert np.mean(agree) > 0.9


def test_streets_hold_inverse_depths(some_streets):
    sky, smallest = list(STREET).index("sky"), np.float32(1 / scenes.STEPS)
    known = np.concatenate([example["depth"][example["depth"] > 0] for example in some_streets])
    assert known.min() == smallest, "the code of disparity 0"
    assert known.max() <= scenes.LARGEST_CODE / scenes.STEPS
    assert np.allclose(known * scenes.STEPS, np.round(known * scenes.STEPS))
    for example in some_streets:
        depth, label = example["depth"][..., 0], example["label"]
        assert (depth[:, :4] == 0).all(), "the border that one camera does not see"
        assert set(np.unique(depth[label == sky])) <= {0.0, smallest}
    depths = np.full((2, 100), 50.0)
    near = scenes.disparity(depths, np.zeros((2, 1), bool), numpy_generator(1, "x"))
    code = (np.round(256 * 0.22 * 2262 / 50) + 1) / scenes.STEPS
    assert set(np.unique(near)) == {0.0, code}


def test_pictures_differ_and_repeat(some_rooms, some_streets):
    for picture, examples, size in (
        (scenes.room, some_rooms, SHAPE),
        (scenes.street, some_streets, (32, 64)),
    ):
        assert len({example["label"].tobytes() for example in examples}) == len(examples)
        again = picture(numpy_generator(0, "train/3"), *size)
        assert all(np.array_equal(again[name], values) for name, values in examples[3].items())
        assert not np.array_equal(
            picture(numpy_generator(1, "train/3"), *size)["image"], examples[3]["image"]
        )


@pytest.mark.parametrize(
    ("make", "source", "classes", "size"),
    [(scenes.rooms, NYUV2, 13, SHAPE), (scenes.streets, CITYSCAPES, 7, (32, 64))],
)
def test_the_real_loader_reads_them(tmp_path, make, source, classes, size):
    folder = make(tmp_path, {"train": 3, "val": 2}, *size, 0)
    found = read_scenes(folder, source, classes, size, (3, 2))
    first = np.load(folder / "train" / "image" / "0.npy")
    assert torch.equal(found.train[0][0], torch.from_numpy(first).movedim(-1, 0))
    assert make(tmp_path, {"train": 3, "val": 2}, *size, 0) == folder
    assert make(tmp_path, {"train": 3, "val": 2}, *size, 1) != folder
    more = read_scenes(
        make(tmp_path, {"train": 4, "val": 2}, *size, 0), source, classes, size, (0, 0)
    )
    assert torch.equal(more.train[0][:3], found.train[0]), (
        "an example does not depend on how many there are"
    )
    assert torch.equal(more.test[0], found.test[0])
    assert not torch.equal(more.test[0][0], more.train[0][0])


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    def fails(folder):
        (folder / "half").write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        layout.write_once(tmp_path, "set", {}, fails)
    assert list((tmp_path / "generated").iterdir()) == []

    calls = []
    write = lambda folder: calls.append((folder / "all").write_text("whole"))  # noqa: E731
    first, second = (layout.write_once(tmp_path, "set", {}, write) for _ in range(2))
    assert first == second
    assert len(calls) == 1
    assert (first / "all").read_text() == "whole"


def test_a_process_that_comes_second_uses_what_is_there(tmp_path):
    def meanwhile(folder):
        (folder / "mine").write_text("")
        other = layout.write_once(
            tmp_path, "set", {}, lambda place: (place / "theirs").write_text("")
        )
        assert (other / "theirs").exists()

    folder = layout.write_once(tmp_path, "set", {}, meanwhile)
    assert {path.name for path in folder.iterdir()} == {"theirs", layout.CHECKSUMS}
    assert list((tmp_path / "generated").iterdir()) == [folder], "nothing unfinished is left"


def small(root):
    return scenes.rooms(root, {"train": 2, "val": 1}, 32, 32, 0)


def test_two_processes_at_once_agree(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(small, [tmp_path, tmp_path])
    assert one == two
    assert len(list((tmp_path / "generated").iterdir())) == 1


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"file.* cannot be written .*make data_root writable or change it"
    ):
        small(tmp_path / "file")
