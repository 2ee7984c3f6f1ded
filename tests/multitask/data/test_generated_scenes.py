"""Generated rooms and streets: exact geometry, real layout, variety, one shared folder."""

import math
import multiprocessing

import numpy as np
import pytest
import torch

from multitask.data.generated import layout, rooms, streets
from multitask.data.generated.raycast import Camera, Solid, cast, shade
from multitask.data.scenes import CITYSCAPES, NYUV2, read_scenes
from multitask.runs.errors import UserError
from multitask.runs.seeding import numpy_generator

GRAY = np.full(3, 0.5)
LEVEL = Camera((0.0, 0.0, 1.0), 0.0, 0.0, 0.5)


def look(solid, camera=LEVEL, height=5, width=5):
    """Depth [H, W] and normals in the camera's frame [H, W, 3]."""
    turn = camera.turn()
    hits = cast([solid], np.array(camera.position), camera.rays(height, width) @ turn.T)
    return hits.depth.reshape(height, width), (hits.normal @ turn).reshape(height, width, 3)


def test_depth_is_along_the_axis_and_a_wall_ahead_is_flat():
    depth, normal = look(Solid((0, 3, 1), (20, 2, 20), 0, GRAY))
    assert depth == pytest.approx(np.full((5, 5), 2.0))
    assert normal == pytest.approx(np.broadcast_to([0, -1, 0], (5, 5, 3)))


def test_floor_by_the_pinhole_formula():
    depth, normal = look(Solid((0, 0, -0.5), (100, 100, 1), 0, GRAY))
    below = (
        np.arange(5) + 0.5 - 2.5
    ) / 2.5  # rows below the horizon, in focal lengths of 0.5 x 5 pixels
    assert np.isinf(depth[:3]).all()
    assert depth[3:] == pytest.approx(np.repeat(1 / below[3:, None], 5, 1))
    assert normal[3:] == pytest.approx(np.broadcast_to([0, 0, 1], (2, 5, 3)))


@pytest.mark.parametrize("yaw", [0.4, -1.1])
def test_turning_camera_and_box_together_changes_nothing(yaw):
    c, s = math.cos(yaw), math.sin(yaw)
    x, y = 0.3, 2.5
    still = look(Solid((x, y, 0.8), (1.0, 0.6, 0.9), 0, GRAY, yaw=0.2))
    box = Solid((c * x - s * y, s * x + c * y, 0.8), (1.0, 0.6, 0.9), 0, GRAY, yaw=0.2 + yaw)
    turned = look(box, Camera((0.0, 0.0, 1.0), yaw, 0.0, 0.5))
    assert np.isfinite(still[0]).any()
    assert turned[0] == pytest.approx(still[0])
    assert turned[1] == pytest.approx(still[1])


def test_ball_by_its_equation():
    camera = Camera((0.0, 0.0, 1.0), 0.3, -0.1, 0.5)
    ball = Solid((-0.5, 3.0, 0.8), (1.6, 1.6, 1.6), 0, GRAY, round=True)
    turn = camera.turn()
    rays = camera.rays(40, 40) @ turn.T
    hits = cast([ball], np.array(camera.position), rays)
    met = np.isfinite(hits.depth)
    assert 50 < met.sum() < 1600
    points = hits.points[met] - np.array(ball.center)
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.full(met.sum(), 0.8))
    assert hits.normal[met] == pytest.approx(points / 0.8)
    assert ((hits.normal[met] * rays[met]).sum(1) < 0).all(), "the side that is seen"


def test_room_from_within_and_the_nearer_of_two():
    room = Solid((0, 2, 1), (4, 6, 2), 0, GRAY, hollow=True)
    box = Solid((0, 3, 1), (1, 1, 1), 1, GRAY)
    hits = cast([room, box], np.array(LEVEL.position), LEVEL.rays(5, 5))
    assert hits.depth.reshape(5, 5)[2, 2] == pytest.approx(2.5)
    assert hits.index.reshape(5, 5)[2].tolist() == [0, 0, 1, 0, 0]
    assert hits.normal.reshape(5, 5, 3)[2, 0] == pytest.approx([1, 0, 0])
    swapped = cast([box, room], np.array(LEVEL.position), LEVEL.rays(5, 5))
    assert np.array_equal(swapped.depth, hits.depth)


def test_shading_fades_into_the_background():
    hits = cast([Solid((0, 3, 1), (4, 2, 9), 0, GRAY)], np.array(LEVEL.position), LEVEL.rays(9, 9))
    colors = shade(
        [Solid((0, 3, 1), (4, 2, 9), 0, GRAY)], hits, np.array([0.0, 0.0, 1.0]), np.ones(3), 2.0
    )
    assert (colors[np.isinf(hits.depth)] == 1).all()
    center = colors.reshape(9, 9, 3)[4, 4]
    assert center == pytest.approx(math.exp(-1) * GRAY + 1 - math.exp(-1))


@pytest.fixture(scope="module")
def some_rooms():
    return [rooms.picture(numpy_generator(0, f"train/{i}"), 64, 96) for i in range(40)]


@pytest.fixture(scope="module")
def some_streets():
    return [streets.picture(numpy_generator(0, f"train/{i}"), 32, 64) for i in range(40)]


def shares(examples, classes):
    """Of the labeled pixels, per class."""
    labels = np.stack([example["label"] for example in examples])
    counts = np.bincount(labels[labels >= 0].astype(int), minlength=classes)
    return counts / counts.sum()


def test_rooms_have_every_class_and_no_ruler(some_rooms):
    found = shares(some_rooms, 13)
    assert len(rooms.CLASSES) == 13
    assert (found > 5e-4).all()
    assert found.max() < 0.3
    unnamed = np.mean([example["label"] == -1 for example in some_rooms])
    assert 0.01 < unnamed < 0.15


def test_streets_have_every_class_and_no_ruler(some_streets):
    found = shares(some_streets, 7)
    assert len(streets.CLASSES) == 7
    assert (found > 2e-3).all()
    assert found.max() < 0.35
    unnamed = np.mean([example["label"] == -1 for example in some_streets])
    assert 0.01 < unnamed < 0.15


def test_rooms_are_in_meters_with_unit_normals_that_face_the_camera(some_rooms):
    rays = Camera((0, 0, 0), 0, 0, rooms.FOCAL).rays(64, 96).reshape(64, 96, 3)
    for example in some_rooms:
        assert {name: values.dtype for name, values in example.items()} == dict.fromkeys(
            example, np.dtype("float32")
        )
        assert 0.2 < example["depth"].min() < example["depth"].max() < 8
        assert np.linalg.norm(example["normal"], axis=-1) == pytest.approx(
            np.ones((64, 96)), abs=1e-3
        )
        assert ((example["normal"] * rays).sum(-1) < 1e-3).all()
    floors = np.concatenate(
        [
            example["normal"][example["label"] == rooms.CLASSES.index("floor")]
            for example in some_rooms
        ]
    )
    assert floors[:, 2].min() > 0.8, "up is the third component"


def test_normals_are_those_of_the_depths(some_rooms):
    """Neighboring points of a flat piece lie in the plane that its normal says."""
    rays = Camera((0, 0, 0), 0, 0, rooms.FOCAL).rays(64, 96).reshape(64, 96, 3)
    agree = []
    for example in some_rooms[:10]:
        points = rays * example["depth"]
        step = points[:, 1:] - points[:, :-1]
        same = (example["normal"][:, 1:] == example["normal"][:, :-1]).all(-1)
        off = np.abs((step * example["normal"][:, 1:]).sum(-1)) / np.linalg.norm(step, axis=-1)
        agree.append(np.mean(off[same] < 0.05))
    assert np.mean(agree) > 0.9


def test_streets_hold_inverse_depths(some_streets):
    sky = streets.CLASSES.index("sky")
    known = np.concatenate([example["depth"][example["depth"] > 0] for example in some_streets])
    assert known.min() == pytest.approx(1 / streets.STEPS), "the smallest code: disparity 0"
    assert known.max() <= streets.LARGEST
    assert np.allclose(known * streets.STEPS, np.round(known * streets.STEPS))
    for example in some_streets:
        depth, label = example["depth"][..., 0], example["label"]
        assert (depth[:, :4] == 0).all(), "the border that one camera does not see"
        assert set(np.unique(depth[label == sky])) <= {0.0, np.float32(1 / streets.STEPS)}
    near = streets.disparity(
        np.array([[np.inf, 1e9], [10.0, 50.0]]), np.zeros((2, 2), bool), numpy_generator(1, "x")
    )
    codes = np.round(256 * 0.22 * 2262 / np.array([10.0, 50.0])) + 1
    assert near[1, 1] in (0.0, codes[1] / streets.STEPS)


def test_pictures_differ_and_repeat(some_rooms, some_streets):
    for module, examples, size in (
        (rooms, some_rooms, (64, 96)),
        (streets, some_streets, (32, 64)),
    ):
        assert len({example["label"].tobytes() for example in examples}) == len(examples)
        again = module.picture(numpy_generator(0, "train/3"), *size)
        assert all(np.array_equal(again[name], values) for name, values in examples[3].items())
        assert not np.array_equal(
            module.picture(numpy_generator(1, "train/3"), *size)["image"], examples[3]["image"]
        )


@pytest.mark.parametrize(
    ("make", "source", "classes", "size"),
    [(rooms.rooms, NYUV2, 13, (64, 96)), (streets.streets, CITYSCAPES, 7, (32, 64))],
)
def test_the_real_loader_reads_them(tmp_path, make, source, classes, size):
    folder = make(tmp_path, {"train": 3, "val": 2}, *size, 0)
    scenes = read_scenes(folder, source, classes, size, (3, 2))
    first = np.load(folder / "train" / "image" / "0.npy")
    assert torch.equal(scenes.train[0][0], torch.from_numpy(first).movedim(-1, 0))
    assert make(tmp_path, {"train": 3, "val": 2}, *size, 0) == folder
    assert make(tmp_path, {"train": 3, "val": 2}, *size, 1) != folder
    more = read_scenes(
        make(tmp_path, {"train": 4, "val": 2}, *size, 0), source, classes, size, (0, 0)
    )
    assert torch.equal(more.train[0][:3], scenes.train[0]), (
        "an example does not depend on how many there are"
    )
    assert torch.equal(more.test[0], scenes.test[0])
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
    return rooms.rooms(root, {"train": 2, "val": 1}, 32, 32, 0)


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
