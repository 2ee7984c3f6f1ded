"""bfloat16: where it is used, what stays in float32, and what happens without such units."""

import pytest
import torch
from supervised_helpers import SETTINGS
from torch import nn
from torch.nn import functional

from multitask import supervised
from multitask.methods import METHODS
from multitask.rl.sac import precision as sac_precision
from multitask.runs import precision
from multitask.runs.checkpoint import Session
from multitask.supervised import Fit, Problem


def test_a_device_without_bfloat16_computes_in_float32(monkeypatch):
    """Bug: bfloat16 is emulated, slower than float32 and not what run.json says."""
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: False)
    made = problem()
    Fit(made, METHODS["sum"], 0, {**SETTINGS, "precision": "bfloat16"}).evaluate(0)
    assert made.model.seen == {torch.float32}


def test_run_json_names_what_ran(monkeypatch, capsys):
    """Bug: a supervised row's fallback is not said, or said in more than a line."""
    settings = {"precision": "bfloat16", "device": "cpu"}
    monkeypatch.setattr(sac_precision, "has_bfloat16_units", lambda device: False)
    assert sac_precision.precision_of(settings, "pcgrad") == "float32"
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(sac_precision, "has_bfloat16_units", lambda device: True)
    assert sac_precision.precision_of(settings, "pcgrad") == "bfloat16"
    assert not capsys.readouterr().err


class Recorder(nn.Module):
    """A trunk that keeps the dtype of its features, and two heads."""

    def __init__(self):
        super().__init__()
        self.trunk, self.heads = nn.Linear(6, 8), nn.ModuleList([nn.Linear(8, 3) for _ in "ab"])
        self.seen = set()

    def forward(self, x):
        features = self.trunk(x)
        self.seen.add(features.dtype)
        return [head(features) for head in self.heads]


def problem():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 6, generator=draw), torch.randint(3, (32,), generator=draw)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Recorder()

    def losses(batch, _):
        return [functional.cross_entropy(precision.full(z), batch[1]) for z in model(batch[0])]

    def evaluate(data):
        return {("a", "loss"): losses(data, None)[0].item()}

    shared = list(model.trunk.parameters())
    return Problem(("a", "b"), model, shared, (x, y), {"test": (x, y)}, losses, evaluate)


@pytest.fixture
def units(monkeypatch):
    """bfloat16 on every processor: emulated it is slow, but the types and numbers are the same."""
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: True)


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize("method", ["sum", "pcgrad", "mgda"])
def test_only_the_network_computes_in_bfloat16(method, tmp_path):
    """Bug: losses, gradients, weights or optimizer state in bfloat16; or no autocast at all."""
    settings = {**SETTINGS, "precision": "bfloat16", "optimizer": "adam"}
    made = problem()
    fit = Fit(made, METHODS[method], 0, settings)
    kept = []
    fit.averages.add_losses = lambda losses, _: kept.extend(loss.dtype for loss in losses)
    fit.update(made.train, supervised.epoch_orders("random", 2, 1, 0, 1)[0])
    assert made.model.seen == {torch.bfloat16}
    assert set(kept) == {torch.float32}
    state = [
        value
        for entry in fit.optimizer.state.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor)
    ]
    assert {p.dtype for p in fit.everything} == {p.grad.dtype for p in fit.everything}
    assert {value.dtype for value in state} == {torch.float32}
    fit.evaluate(1)
    assert made.model.seen == {torch.bfloat16}


@pytest.mark.usefixtures("units")
def test_float32_is_untouched_and_bfloat16_is_near(tmp_path):
    """Bug: autocast on in float32 runs (all published numbers would move)."""
    session = Session(tmp_path / "none.pt", {}, every_seconds=1e9)
    losses = {}
    for name in precision.PRECISIONS:
        made = problem()
        rows = supervised.fit(
            made, METHODS["pcgrad"], 0, {**SETTINGS, "precision": name}, session
        ).rows
        assert made.model.seen == {getattr(torch, name)}
        losses[name] = [value for _, _, metric, value in rows if metric == "test_loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
