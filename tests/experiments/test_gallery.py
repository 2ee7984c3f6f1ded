"""Figure 10: tasks are built and pictured, faults are told, the figure shows what was pictured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.metaworld_gallery import figure_10, render
from multitask.rl.envs import MT10, MT50
from multitask.runs.errors import UserError

ROOT = Path(__file__).parents[2]
SOME = [
    "reach-v3",
    "push-v3",
    "drawer-open-v3",
    "drawer-close-v3",
    "peg-unplug-side-v3",
    "faucet-open-v3",
]


@pytest.fixture(scope="module")
def some():
    return render.gallery(SOME)


def test_every_picture_is_a_scene_of_its_own(some):
    pictures, lines = some
    assert pictures.shape == (len(SOME), render.HEIGHT, render.WIDTH, 3)
    assert [line["name"] for line in lines] == SOME
    assert all(line["built"] and not line["fault"] for line in lines)
    assert [line["mt10"] for line in lines] == [task in MT10 for task in SOME]
    assert render.different(pictures) == len(SOME)


def test_arm_table_and_goal_are_in_every_picture(some):
    for one in some[0].astype(int):
        red, green, blue = (one[..., channel] for channel in range(3))
        assert ((red > 90) & (green < 60) & (blue < 60)).sum() > 500  # the arm
        assert ((red > green + 15) & (green > blue + 5) & (blue > 30)).sum() > 3000  # the table
        assert ((red > 220) & (green < 60) & (blue > 160)).sum() > 5  # the goal


def test_the_object_is_in_the_picture(some):
    """Drawers are green, and an open one shows more of it than a closed one."""
    green = (some[0][..., 1].astype(int) > some[0][..., 0].astype(int) + 20).sum(axis=(1, 2))
    opened, closed = (
        SOME.index("drawer-close-v3"),
        SOME.index("drawer-open-v3"),
    )  # how each task starts
    assert green[opened] > green[closed] > 300


def test_an_unknown_task_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"reech-v3.*reach-v3"):
        render.gallery(["push-v3", "reech-v3"])
    command = [
        sys.executable,
        "-m",
        "experiments.metaworld_gallery.render",
        str(tmp_path),
        "reech-v3",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Meta-World has no task 'reech-v3'")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_same_bytes_twice_and_what_the_summary_says(tmp_path):
    for name in ("a", "b"):
        render.write(tmp_path / name, ["reach-v3"])
    first, second = ((tmp_path / name / "tasks.npz").read_bytes() for name in ("a", "b"))
    assert first == second
    found = json.loads((tmp_path / "a/tasks.json").read_text())
    assert found["pictured"] == 1
    assert found["versions"]["metaworld"]
    assert found["core_seconds"] > 0


def test_a_task_that_cannot_be_built_and_an_empty_or_repeated_picture_do_not_count(monkeypatch):
    def picture(task):
        if task == "push-v3":
            raise ValueError("no mesh\nmore")
        random = np.random.default_rng(0 if task.startswith("drawer") else 1)
        shape = (render.HEIGHT, render.WIDTH, 3)
        return np.full(shape, 7) if task == "reach-v3" else random.integers(0, 255, shape)

    monkeypatch.setattr(render, "picture", picture)
    pictures, lines = render.gallery(SOME[:4])  # empty, broken, and two that are the same
    assert render.different(pictures) == 1
    assert [line["fault"] for line in lines] == ["", "ValueError: no mesh", "", ""]
    fig = figure_10.figure_10(pictures, lines, "note", "tiny")
    words = {ax.get_title(): [text.get_text() for text in ax.texts] for ax in fig.axes}
    assert words["push"] == ["not built"]
    assert words["reach"] == []


def test_the_figure_shows_each_task_under_its_name(tmp_path):
    pictures = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 4, 6, 3), dtype=np.uint8
    )
    lines = [{"name": task, "mt10": task in MT10, "built": True} for task in MT50]
    np.savez(tmp_path / "tasks.npz", pictures=pictures)
    summary = {
        "tasks": lines,
        "pictured": 50,
        "versions": {"metaworld": "3.1.1", "mujoco": "3.3.0"},
    }
    gallery = tmp_path / "tiny" / "gallery"  # the scale is the folder's name
    gallery.mkdir(parents=True)
    (gallery / "tasks.json").write_text(json.dumps(summary))
    fig = figure_10.figure_10(pictures, lines, "note", "tiny")
    shown = {ax.get_title() + "-v3": ax.get_images()[0].get_array()[0, 0, 0] for ax in fig.axes}
    assert shown == {task: index for index, task in enumerate(MT50)}
    bold = {ax.get_title() + "-v3" for ax in fig.axes if ax.title.get_fontweight() == "bold"}
    assert bold == set(MT10)
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == sorted(titles)
    for kind in ("one", "two"):
        files = {end: str(tmp_path / f"{kind}.{end}") for end in ("png", "pdf")}
        figure_10.write(str(tmp_path / "tasks.npz"), str(gallery / "tasks.json"), **files)
    for end in ("png", "pdf"):
        assert (tmp_path / f"one.{end}").read_bytes() == (tmp_path / f"two.{end}").read_bytes()
