"""Result files are whole or absent; seeds give independent streams; hashes cover code only."""

import hashlib
import json

import pandas as pd
import pytest
import torch

from multitask.runs.records import Records, write_run
from multitask.runs.seeding import generator, initialization, numpy_generator
from system.writing import whole, write_json


def test_run_files_round_trip(tmp_path):
    records = {0: Records(), 1: Records()}
    records[0].add(1, "left", "test_accuracy", 0.1 + 0.2)
    records[1].add(1, "all", "cosine", float("nan"))
    write_run(tmp_path / "run", records, {"method": "pcgrad"})
    frame = pd.read_csv(tmp_path / "run/metrics.csv")
    assert list(frame.columns) == ["seed", "step", "task", "metric", "value"]
    assert frame.value[0] == 0.1 + 0.2
    assert frame.value.isna().tolist() == [False, True]
    info = json.loads((tmp_path / "run/run.json").read_text())
    assert info["method"] == "pcgrad"
    content = (tmp_path / "run/metrics.csv").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert info["metrics"] == {"sha256": sha256, "rows": 2, "seeds": [0, 1]}


def test_failed_write_leaves_nothing(tmp_path):
    def fail_in_the_middle():
        with whole(tmp_path / "metrics.csv") as file:
            file.write("half a ")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "run.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_last_returns_the_newest_value():
    records = Records()
    for step, value in enumerate([3.0, 2.0, 1.0]):
        records.add(step, "a", "loss", value)
        records.add(step, "b", "loss", -value)
    assert records.last("a", "loss") == 1.0
    with pytest.raises(KeyError, match="accuracy of a"):
        records.last("a", "accuracy")


def test_streams_depend_on_seed_and_name_alone():
    draws = {
        (seed, name): torch.rand(4, generator=generator(seed, name))
        for seed in (0, 1)
        for name in ("data", "order")
    }
    assert torch.equal(draws[0, "data"], torch.rand(4, generator=generator(0, "data")))
    values = list(draws.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])
    assert numpy_generator(0, "data").random() == numpy_generator(0, "data").random()


def test_initialization_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    layers = []
    for seed in (0, 0, 1):
        with initialization(seed):
            layers.append(torch.nn.Linear(3, 3).weight)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])
