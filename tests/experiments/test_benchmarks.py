"""The benchmark: all codes compute the same step; times, bytes, table and figure are right."""

import functools
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import images, networks, peers, report, run, steps, surgery
from benchmarks.measure import interleaved, peak, quartiles
from system import command

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (2, 2, 3, 3, 3)
# Two tasks: there is one visiting order, so that every code must find the same update.
NETWORKS = {
    "linear": functools.partial(networks.linear, [7, 6, 5, 3], 2, 4, CPU),
    "cifar100": functools.partial(networks.cifar100, 2, 2, 3, 4, CPU),
    "multimnist": functools.partial(images.multimnist, 3, CPU),
    "celeba": functools.partial(images.celeba, 2, 2, 2, 16, CPU),
}


@pytest.fixture(autouse=True)
def same_threads():
    """`run.main` sets torch's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def conflicting(network):
    """Draw the parameters until the two tasks conflict.

    Without a conflict every code makes the plain step.
    """
    for seed in range(100):
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in network.everything:
                p.copy_(
                    0.5
                    * torch.randn(p.shape, generator=draw)
                    * (p[0].numel() if p.dim() > 1 else 1) ** -0.5
                )
        one, two = (
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(loss, list(network.shared), retain_graph=True)
                ]
            )
            for loss in network.losses()
        )
        if torch.nn.functional.cosine_similarity(one, two, dim=0) < -0.1:
            return
    raise AssertionError("no conflict found")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_code_makes_the_same_step(name):
    made = []
    size, calls = steps.candidates(lambda: made.append(NETWORKS[name]()) or made[0])
    network = made[0]
    conflicting(network)
    assert size == sum(p.numel() for p in network.shared)
    found = {}
    with torch.random.fork_rng():  # torchjd draws from the global generator
        for code in [code for code in calls if code not in ("bound", "least", "pcgrad_taps")]:
            for _ in range(2):  # no code adds to what it left behind
                calls[code]()
            found[code] = [p.grad.clone() for p in network.everything]
    plain = found.pop("plain")
    shared = len(network.shared)
    assert not torch.allclose(plain[0], found["literal"][0], rtol=0.01)
    assert {"pcgrad", "literal", "torchjd", "conflictfree"} <= set(found)
    rough = found.pop("pcgrad_bfloat16", None)  # task gradients of 8 bits
    if rough is not None:
        assert torch.allclose(rough[0], found["literal"][0], rtol=0.1, atol=1e-3)
    for code, gradients in found.items():
        for k, (mine, theirs) in enumerate(zip(gradients, found["literal"], strict=True)):
            assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6), (code, k)
        for mine, theirs in zip(gradients[shared:], plain[shared:], strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6), (
                code
            )  # heads get plain gradients


def test_the_dense_network_takes_every_code():
    network = images.nyuv2(WIDTHS, 1, 32, 32, CPU)
    _, calls = steps.candidates(lambda: network)
    with torch.random.fork_rng():
        for code, call in calls.items():
            call()
            assert all(p.grad is not None for p in network.own[0]), code


@pytest.mark.parametrize("tasks", [2, 3])
def test_surgery_alone_is_algorithm_1_by_every_code(tasks):
    gradients = torch.randn(tasks, 50, generator=torch.Generator().manual_seed(1))
    if tasks == 3:
        gradients = gradients.abs()  # no conflict: any order, plain sum
    generator = torch.Generator().manual_seed(0)
    expected = peers.literal(
        gradients, torch.tensor([[j for j in range(tasks) if j != i] for i in range(tasks)])
    )
    for code, call in peers.surgeries(gradients.clone(), generator).items():
        with torch.random.fork_rng():
            found = call()
        if code != "libmtl":  # writes into a parameter's .grad and returns weights
            assert torch.allclose(found, expected, atol=1e-5), code


def test_bytes_are_those_held_at_once():
    def call():
        first = torch.zeros(1000)
        second = first + 1
        del first
        return second * 2

    assert 2 * 4000 <= peak(call)[0] <= 2 * 4000 + 100
    assert peak(lambda: None)[0] == 0


def test_bytes_that_a_call_keeps_for_the_next_one_count():
    kept = {}

    def call():
        if not kept:
            torch.zeros(9000)  # set-up of the first call alone
        return kept.setdefault("buffer", torch.zeros(1000)).sum()

    assert 4000 <= peak(call)[0] <= 2 * 4000 + 100


def test_candidates_take_turns_and_the_slow_ones_are_timed_three_times():
    called = []
    names = ("reference", "ours", "peer", "slow")
    candidates = {name: functools.partial(called.append, name) for name in names}
    times = interleaved(candidates, 7)
    twice = [name for name in names for _ in range(2)]
    assert called == [*names, *twice * 7]  # to warm up; then every timed call after an untimed one
    assert {len(t) for t in times.values()} == {7}
    times = interleaved(
        candidates, budget=50.0, first=dict.fromkeys(names[:3], 1.5) | {"slow": 60.0}
    )
    assert len(times["slow"]) == 3
    assert [len(times[name]) > 4 for name in names[:3]] == [True] * 3


def test_ratios_are_taken_within_a_turn():
    row = quartiles([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert row["ratio_low"] == row["ratio"] == row["ratio_high"] == 2
    assert row["median_ms"] == 20_000
    assert quartiles([6.0], [1.0, 2.0, 3.0])["ratio"] == 3


def test_gradients_beyond_two_gigabytes_are_left_out():
    names = [case.name for case in surgery.cases(CPU)]
    assert len(names) == len(set(names)) == 26
    assert "T=50 P=1e7" in names  # 2.0 GB
    assert all(
        4 * int(n.split("=")[1].split()[0]) * float(n.split("P=")[1]) <= surgery.MOST_BYTES
        for n in names
    )


def test_a_code_that_would_take_too_long_is_left_out_with_a_word():
    case = surgery.Case(
        "surgery", "T=2 P=1e2", 2, functools.partial(surgery.candidates, 2, 100, CPU)
    )
    table = run.measured(case, 0.1, CPU, {("literal", 2): 1.0}).set_index("code")
    assert table.loc["literal", "note"] == "left out"
    assert table.loc["literal", "repeats"] == 0
    assert table.loc["pcgrad", "repeats"] >= 5
    assert table.loc["floor", "ratio"] == 1


def test_a_run_writes_csv_table_and_figure(tmp_path, capsys):
    run.main(["--out", str(tmp_path), "--seconds", "0.05", "--cases", "T=2 P=1e4", "T=3 P=1e4"])
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {f"speed_cpu.{kind}" for kind in ("csv", "md", "png", "pdf")}
    table = report.read(tmp_path / "speed_cpu.csv")
    assert set(table["T"]) == {2, 3}
    assert (table.loc[table["code"] == "floor", "ratio"] == 1).all()
    words = (tmp_path / "speed_cpu.md").read_text()
    assert "two reads, ms" in words
    assert "literal Algorithm 1" in words
    assert "torchjd 0" in words


def test_no_such_case_ends_in_one_line(capsys):
    assert command.run(lambda: run.main(["--cases", "nonsense"])) == command.FAULT
    error = capsys.readouterr().err
    assert error.startswith("error: no case's name contains nonsense")
    assert error.count("\n") == 1


def test_table_prints_ratios_and_notes():
    common = {
        "kind": "step",
        "case": "a",
        "T": 2,
        "P": 1000,
        "device": "cpu",
        "threads": 1,
        "machine": "m",
    }
    common |= {"versions": "torch 2", "commit": "c", "date": "d"}
    rows = [
        {
            "code": "plain",
            "repeats": 9,
            "median_ms": 5.0,
            "ratio": 1,
            "ratio_low": 1,
            "ratio_high": 1,
            "beyond_TP": 0,
        },
        {
            "code": "pcgrad",
            "repeats": 9,
            "ratio": 1.25,
            "ratio_low": 1.2,
            "ratio_high": 1.301,
            "beyond_TP": 1.5,
        },
        {
            "code": "libmtl",
            "repeats": 3,
            "ratio": 35.04,
            "ratio_low": 35.04,
            "ratio_high": 35.04,
            "beyond_TP": 2.0,
        },
        {"code": "literal", "repeats": 0, "note": "out of memory"},
    ]
    table = pd.DataFrame([{**common, "note": "", **row} for row in rows])
    cells = report.shown(table, "step", "time").iloc[0]
    assert cells["ours"] == "1.25 (1.20 to 1.30)"
    assert cells["LibMTL"] == "35.0"
    assert cells["literal Algorithm 1"] == "out of memory"
    assert cells["plain step, ms"] == "5.00"
    assert report.shown(table, "step", "memory").iloc[0]["ours"] == "1.50"


def test_tables_and_figures_load_no_torch():
    code = "import sys; from benchmarks import report; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": "src:."}
        ).returncode
        == 0
    )


def test_a_faster_peer_is_named():
    rows = [
        {"case": "a", "code": "pcgrad", "median_ms": 1.15},
        {"case": "a", "code": "torchjd", "median_ms": 1.0},
        {"case": "b", "code": "pcgrad", "median_ms": 1.25},
        {"case": "b", "code": "torchjd", "median_ms": 1.0},
        {"case": "b", "code": "libmtl", "median_ms": 2.0},
    ]
    words = report.beaten(pd.DataFrame(rows).assign(kind="step", repeats=5))
    assert "in 1 of 2 cases; not in step b (torchjd 1.00 ms, ours 1.25 ms)." in words
