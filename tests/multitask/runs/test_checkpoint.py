"""Checkpoints: atomic, tied to their run, and a clean stop."""

import os
import random
import signal
import time

import pytest
import torch

from multitask.runs.checkpoint import Session, Stopped, seal
from multitask.runs.errors import UserError
from system import stopping

IDENTITY = {"seed": 0, "method": "pcgrad", "settings": {"epochs": 2}, "code_hash": "aa"}


def session(path, **changes):
    options = {
        key: changes.pop(key)
        for key in ("deadline", "every_seconds", "accept_code_change")
        if key in changes
    }
    return Session(path, {**IDENTITY, **changes}, **options)


def test_state_comes_back_exactly(tmp_path):
    generator = torch.Generator().manual_seed(7)
    state = {
        "weights": [torch.randn(3, dtype=torch.float64)],
        "rng": generator.get_state(),
        "rows": [(1, "a", "b", 0.1)],
    }
    session(tmp_path / "c.pt").save(state)
    loaded = session(tmp_path / "c.pt").load()
    assert torch.equal(loaded["weights"][0], state["weights"][0])
    assert loaded["rows"] == state["rows"]
    again = torch.Generator()
    again.set_state(loaded["rng"])
    assert torch.equal(torch.rand(5, generator=generator), torch.rand(5, generator=again))


def test_first_start_has_no_state(tmp_path):
    assert session(tmp_path / "c.pt").load() is None


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"settings": {"epochs": 3}}, {"method": "sum"}, {"extra": 1}]
)
def test_checkpoint_of_another_run_is_refused_by_name(tmp_path, change):
    session(tmp_path / "c.pt").save({})
    with pytest.raises(UserError, match=next(iter(change))):
        session(tmp_path / "c.pt", accept_code_change=True, **change).load()


def test_changed_code_is_refused_unless_accepted(tmp_path):
    session(tmp_path / "c.pt").save({"step": 5})
    with pytest.raises(UserError, match="--accept-code-change"):
        session(tmp_path / "c.pt", code_hash="bb").load()
    assert session(tmp_path / "c.pt", code_hash="bb", accept_code_change=True).load() == {"step": 5}


def test_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "c.pt"
    session(path).save({"step": 5, "filler": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"c\.pt is damaged"):
        session(path).load()


def test_failed_write_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    session(path).save({"step": 5})

    def full_disk(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match="No space left"):
        session(path).save({"step": 6})
    monkeypatch.undo()
    assert session(path).load() == {"step": 5}
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_tick_saves_only_when_due(tmp_path):
    path = tmp_path / "c.pt"
    session(path, every_seconds=3600).tick(
        lambda: pytest.fail("state was built though no checkpoint is due")
    )
    assert not path.exists()
    session(path, every_seconds=0).tick(lambda: {"step": 1})
    assert path.exists()


def test_deadline_saves_then_stops(tmp_path):
    path = tmp_path / "c.pt"
    with pytest.raises(Stopped, match="max-minutes"):
        session(path, deadline=time.monotonic() - 1).tick(lambda: {"step": 9})
    assert session(path).load() == {"step": 9}


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_saves_then_stops(tmp_path, number):
    path = tmp_path / "c.pt"
    with stopping.listening():
        running = session(path)
        running.tick(lambda: {"step": 2})
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped, match=number.name):
            running.tick(lambda: {"step": 3})
    assert session(path).load() == {"step": 3}


def test_a_signal_before_the_first_tick_stops_at_once(tmp_path):
    with stopping.listening(), pytest.raises(Stopped, match="SIGINT"):
        signal.raise_signal(signal.SIGINT)
    assert not (tmp_path / "c.pt").exists()


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_and_no_cut_is_ever_loaded(tmp_path):
    """torch's reader compares no checksum: most flips in the numbers would load in silence."""
    path = tmp_path / "c.pt"
    session(path).save({"step": 5, "weights": torch.randn(400), "rows": [(1, "a", "loss", 0.5)]})
    content = path.read_bytes()
    draw = random.Random(0)
    bits = [draw.randrange(8 * len(content)) for _ in range(300)]
    damages = [flipped(content, bit) for bit in bits]
    damages += [content[: draw.randrange(len(content))] for _ in range(50)]
    damages += [content + b"x", b"", content[64:], content[:-64] + b"0" * 64]
    for damage in damages:
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"c\.pt is damaged"):
            session(path).load()
    path.write_bytes(content)
    assert session(path).load()["step"] == 5


GROUP = {"lr": 0.1, "betas": (0.9, 0.99), "params": [0, 1]}
STATE = {
    "model": {"w": torch.zeros(3, 2), "mean": torch.zeros(3), "b": torch.zeros(2)},
    "optimizer": {"state": {}, "param_groups": [GROUP]},
    "replay": torch.zeros(2, 0, 5),
    "rows": [],
    "epoch": 1,
    "rate": 0.5,
    "nothing": None,
}
W, B = ({"step": torch.tensor(3.0), "mean": torch.ones(size)} for size in ((3, 2), (2,)))
LATER = {
    **STATE,
    "optimizer": {"state": {0: W, 1: B}, "param_groups": [{**GROUP, "lr": 0.05}]},
    "replay": torch.ones(2, 7, 5),
    "rows": [(0, "a", "b", 0.5), (1, "a", "b", float("nan"))],
    "epoch": 7,
}


def moments(first=W, second=B, **group):
    groups = [{**LATER["optimizer"]["param_groups"][0], **group}]
    return {"optimizer": {"state": {0: first, 1: second}, "param_groups": groups}}


@pytest.mark.parametrize(
    "change",
    [
        {"model": {**STATE["model"], "w": torch.zeros(3, 2).half()}},
        {"model": {**STATE["model"], "w": torch.zeros(2, 3)}},
        {"model": {**STATE["model"], "w": torch.full((3, 2), float("nan"))}},
        {"model": {"w": torch.zeros(3, 2)}},
        {"model": [torch.zeros(3, 2), torch.zeros(3), torch.zeros(2)]},
        {"epoch": "1"},
        {"epoch": True},
        {"epoch": 0},
        {"rate": float("inf")},
        {"nothing": 0},
        {"replay": torch.zeros(1, 7, 5)},
        {"replay": torch.zeros(2, 7)},
        {"replay": torch.full((2, 7, 5), float("inf"))},
        {"rows": "none"},
        {"rows": [5]},
        {"rows": [(1, "a", "b")]},
        {"rows": [(1, "a", "b", "0.5")]},
        {"rows": [(-1, "a", "b", 0.5)]},
        {"finished": 5},
        {"seconds": "x"},
        {"more": 1},
        moments(lr=-0.1),
        moments(lr=float("nan")),
        moments(betas=(0.9, 0.5)),
        moments(params=[1, 0]),
        moments(first=B, second=W),
        moments(first={**W, "mean": torch.ones(3, 2).half()}),
        moments(first={**W, "mean": torch.full((3, 2), float("nan"))}),
        moments(first={**W, "mean": "x"}),
        moments(first=[torch.ones(3, 2)]),
        moments(first={"step": W["step"]}),
        {"optimizer": {"state": {2: W}, "param_groups": [GROUP]}},
        {"optimizer": {"state": {}, "param_groups": [GROUP, GROUP]}},
        {"optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"optimizer": 5},
    ],
)
def test_a_state_of_another_form_is_damaged(tmp_path, change):
    path = tmp_path / "c.pt"
    session(path).save({**LATER, **change})
    with pytest.raises(UserError, match=r"c\.pt is damaged"):
        session(path).load(like=STATE)
    session(path).save(LATER)
    assert session(path).load(like=STATE)["epoch"] == 7


@pytest.mark.parametrize(
    "change",
    [
        *({"elapsed": value} for value in (None, -1.0, float("nan"), "1")),
        {"identity": [1]},
        {"state": 5},
        {"state": {"finished": []}},
        {"code_hashes": []},
        {"code_hashes": [5]},
    ],
)
def test_a_checkpoint_without_its_parts_is_damaged(tmp_path, change):
    path = tmp_path / "c.pt"
    content = {"identity": IDENTITY, "state": {}, "elapsed": 1.0, "code_hashes": ["aa"], **change}
    with path.open("w+b") as file:
        torch.save(content, file)
        seal(file)
    with pytest.raises(UserError, match=r"c\.pt is damaged"):
        session(path).load()


def test_accepted_code_changes_are_remembered(tmp_path):
    path = tmp_path / "c.pt"
    session(path).save({"step": 1})
    second = session(path, code_hash="bb", accept_code_change=True)
    second.load()
    second.save({"step": 2})
    third = session(path, code_hash="bb")
    assert third.load() == {"step": 2}
    assert third.code_hashes == ["aa", "bb"]


def test_elapsed_time_survives_a_resume(tmp_path):
    first = session(tmp_path / "c.pt")
    first._started -= 100  # as if the process had run for 100 s
    first.save({})
    second = session(tmp_path / "c.pt")
    assert second.elapsed() < 50
    second.load()
    assert second.elapsed() >= 100
