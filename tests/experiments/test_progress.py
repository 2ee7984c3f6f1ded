"""What a training says about where it is, and how `make watch` shows it."""

import io
import os
import time

import pytest

from experiments import progress, watch
from experiments.progress import ToldSession


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", made.monotonic)
    return made


def session(tmp_path, settings, **more):
    made = ToldSession(
        tmp_path / "seed0.pt",
        {},
        name="toy/walk seed 0",
        settings=settings,
        every_seconds=0.0,
        **more,
    )
    made.load()
    return made


def test_collections_have_an_estimate_for_all_seeds_of_the_job(tmp_path, clock, capsys):
    run = session(tmp_path, {"collections": 10}, later=1)
    for collection in (1, 2):
        clock.now += 60
        run.tick(lambda collection=collection: {"next": collection + 1})
    lines = capsys.readouterr().err.splitlines()
    # 8 collections of this seed and 10 of the next, a minute each
    assert lines == [
        "progress: toy/walk seed 0: collection 1 of 10; 60 s so far, about 19 min left",
        "progress: toy/walk seed 0: collection 2 of 10; 2 min so far, about 18 min left",
    ]


def test_the_steps_of_an_epoch_are_known_after_one(tmp_path, clock, capsys):
    run = session(tmp_path, {"epochs": 3})
    for epoch, step in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)):
        clock.now += 60
        run.tick(lambda epoch=epoch, step=step: {"epoch": epoch, "step": step})
    lines = capsys.readouterr().err.splitlines()
    assert lines[2].endswith("epoch 1 of 3, step 3; 3 min so far")
    assert lines[5].endswith("epoch 2 of 3, step 2 of 4; 6 min so far, about 6 min left")


def test_a_resumed_run_measures_from_its_checkpoint(tmp_path, clock, capsys):
    first = session(tmp_path, {"epochs": 3})
    for step in (1, 2, 3):
        first.tick(lambda step=step: {"epoch": 1, "step": step})
    clock.now += 5000
    run = session(tmp_path, {"epochs": 3})
    for epoch, step in ((1, 4), (2, 1)):
        clock.now += 60
        run.tick(lambda epoch=epoch, step=step: {"epoch": epoch, "step": step})
    # 7 steps are left, and the two since the checkpoint took a minute each
    assert "step 1 of 4; 2 min so far, about 7 min left" in capsys.readouterr().err


def test_a_line_a_minute_and_none_on_a_terminal(tmp_path, clock, capsys, monkeypatch):
    run = session(tmp_path, {"collections": 500})
    for collection in range(1, 61):
        clock.now += 10
        run.tick(lambda collection=collection: {"next": collection + 1})
    assert capsys.readouterr().err.count("progress: ") == 10
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    clock.now += 60
    run.tick(lambda: {"next": 62})
    assert not terminal.getvalue()


def log(place, text, age):
    place.parent.mkdir(parents=True)
    place.write_text(text)
    os.utime(place, (time.time() - age,) * 2)


def test_watch_shows_what_runs(tmp_path):
    root = tmp_path / "project"
    line = "progress: toy/walk seed 0: collection 1 of 10; 60 s so far, about 19 min left\n"
    log(root / "results/quick/logs/train_toy/a.log", f"loading\n{line}", 30)
    log(root / "results/laptop/logs/train_toy/b.log", f"{line}stopped by SIGINT\n", 30)
    log(root / "results/laptop/logs/train_old/c.log", line, 3600)
    log(tmp_path / "campaign-laptop-x/results/laptop/logs/campaign/d.log", line, 60)
    log(root / "results/quick/logs/empty/e.log", "", 1)
    (root / "results/quick/logs/folder.log").mkdir()
    (root / "results/quick/logs/gone.log").symlink_to("nowhere")
    log(root / "results/quick/logs/ahead/f.log", line, -3600)
    lines = watch.report(root, time.time()).splitlines()
    assert "3 running" in lines[0]
    assert lines.pop(1).endswith("(0 s ago, quick)")
    assert lines[1].endswith(
        "collection 1 of 10; 60 s so far, about 19 min left  (30 s ago, quick)"
    )
    assert lines[2].endswith("(60 s ago, laptop)")
    assert "no training" in watch.report(tmp_path / "else/nothing", time.time())
