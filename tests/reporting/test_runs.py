"""Reading result files: long form, refusals of mixtures, footers."""

import hashlib
import json
import random

import numpy as np
import pytest

from reporting.runs import COLUMNS, final, footer, read_runs, seed_values


def one(value):
    return [(1, "left", "test_accuracy", value)]


def test_long_form_of_two_jobs(write_job):
    paths = [
        write_job("multimnist", "sum", {0: one(90.0), 1: one(91.0)}),
        write_job("multimnist", "pcgrad", {0: one(92.0)}),
    ]
    runs = read_runs(paths)
    assert list(runs.frame.columns) == COLUMNS
    measured = runs.select(metric="test_accuracy")
    assert measured[["method", "seed", "value"]].values.tolist() == [
        ["pcgrad", 0, 92.0],
        ["sum", 0, 90.0],
        ["sum", 1, 91.0],
    ]
    assert [info["method"] for info in runs.infos] == ["pcgrad", "sum"]
    assert seed_values(runs.select(method="sum", metric="test_accuracy")) == {0: 90.0, 1: 91.0}
    assert seed_values(runs.select(method="sum", metric="run_seconds")) == {
        0: 10.0,
        1: 11.0,
    }  # from run.json
    with pytest.raises(ValueError, match="several values"):
        seed_values(runs.select(method="sum"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scale": "quick"}, "scales"),
        ({"data": {"name": "digits"}}, r"data do not .*\(name, sha256\)"),
        ({"data": {"name": "mnist", "sha256": "b" * 64}}, r"\(sha256\)"),
        ({"settings": {"epochs": 3}}, r"settings do not .*\(epochs\)"),
    ],
)
def test_mixtures_are_refused_in_one_line(write_job, change, named):
    paths = [
        write_job("multimnist", "sum", {0: one(1.0)}),
        write_job("multimnist", "pcgrad", {0: one(1.0)}, **change),
    ]
    with pytest.raises(ValueError, match=named) as caught:
        read_runs(paths)
    assert "\n" not in str(caught.value)
    assert all(str(path) in str(caught.value) for path in paths)


def test_costs_become_metrics_and_older_runs_lack_some(write_job):
    paths = [
        write_job("multimnist", "sum", {0: one(90.0), 1: one(91.0)}, peak_memory_mb=300),
        write_job("multimnist", "pcgrad", {0: one(92.0)}),
    ]
    runs = read_runs(paths)
    assert seed_values(runs.select(method="sum", task="all", metric="peak_memory_mb")) == {
        0: 300.0,
        1: 300.0,
    }
    assert runs.select(method="pcgrad", metric="peak_memory_mb").empty
    assert seed_values(runs.select(method="pcgrad", metric="run_seconds")) == {0: 10.0}


def tuned(rate, epochs=10):
    budget = {"metric": "validation_accuracy", "seeds": [0], "validation_share": 0.1}
    budget |= {"epochs": epochs, "learning_rate": [0.1, 0.2]}
    return {
        "chosen": {"learning_rate": rate},
        "tuning": {"budget": budget, "value": 90.0, "edges": []},
    }


def test_rows_tuned_by_other_budgets_do_not_mix(write_job):
    first = write_job("multimnist", "sum_tuned", {0: one(1.0)}, **tuned(0.1))
    assert (
        len(
            read_runs(
                [first, write_job("multimnist", "pcgrad_tuned", {0: one(1.0)}, **tuned(0.2))]
            ).infos
        )
        == 2
    )
    other = write_job("multimnist", "pcgrad_tuned", {0: one(1.0)}, **tuned(0.2, epochs=20))
    with pytest.raises(ValueError, match=r"different tuning .*\(epochs\)"):
        read_runs([first, other])


def test_one_row_has_one_choice(write_job):
    paths = [
        write_job("multimnist", "sum_tuned", {k: one(1.0)}, **tuned(rate))
        for k, rate in enumerate((0.1, 0.2))
    ]
    with pytest.raises(ValueError, match=r"different tuned values .*\(learning_rate\)"):
        read_runs(paths)


def test_devices_may_differ_and_are_named(write_job):
    runs = read_runs(
        [
            write_job("multimnist", "sum", {0: one(1.0)}),
            write_job(
                "multimnist",
                "pcgrad",
                {0: one(1.0)},
                device="A GPU",
                settings={"epochs": 2, "device": "cuda"},
            ),
        ]
    )
    text = "\n".join(footer(runs.infos, deviations=["digits are small"]))
    for part in (
        "scale: laptop",
        "mnist",
        "A GPU",
        "CPU, 1 thread(s)",
        "torch 2.11.0",
        "0123456789abcdef",
        "seeds: 0",
    ):
        assert part in text
    assert text.endswith("deviation: digits are small")
    assert "a" * 64 not in text  # checksums are cut


def test_two_experiments_may_have_their_own_data(write_job):
    first = write_job("multimnist", "sum", {0: one(1.0)})
    second = write_job(
        "triad", "sac", {0: one(1.0)}, data={"name": "metaworld"}, settings={"width": 3}
    )
    runs = read_runs([first, second])
    assert runs.of("triad").frame["method"].unique().tolist() == ["sac"]
    assert len(runs.of("triad").infos) == 1


def test_a_seed_counts_once(write_job):
    paths = [
        write_job("multimnist", "sum", {0: one(1.0)}),
        write_job("multimnist", "sum", {0: one(1.0), 1: one(2.0)}),
    ]
    with pytest.raises(ValueError, match="seed 0 twice"):
        read_runs(paths)


def test_damaged_files_are_named(write_job):
    path = write_job("multimnist", "sum", {0: one(1.0)})
    path.with_name("run.json").write_text('{"experiment":')
    with pytest.raises(ValueError, match="no JSON"):
        read_runs([path])
    path.with_name("run.json").write_text('{"experiment": "multimnist"}')
    with pytest.raises(ValueError, match="has no method, scale, seeds, data"):
        read_runs([path])
    path.with_name("run.json").unlink()
    with pytest.raises(ValueError, match=r"no .*run\.json"):
        read_runs([path])


def rows_of_two_seeds():
    return {
        seed: [(step, "left", "test_accuracy", 90.0 + step) for step in range(60)]
        for seed in (0, 1)
    }


def lines_changed(change):
    def damage(path):
        header, *lines = path.read_text().splitlines()
        path.write_text("\n".join([header, *change(lines)]) + "\n")

    return damage


DAMAGES = {
    "all rows gone": lines_changed(lambda lines: []),
    "one seed gone": lines_changed(lambda lines: lines[:60]),
    "last rows gone": lines_changed(lambda lines: lines[:-40]),
    "one row gone": lines_changed(lambda lines: lines[:5] + lines[6:]),
    "rows of another seed": lines_changed(lambda lines: [*lines, "99,1,left,test_accuracy,1.0"]),
    "a row twice": lines_changed(lambda lines: [*lines, lines[-1]]),
    "one digit": lines_changed(lambda lines: [line.replace("103.0", "113.0") for line in lines]),
    "metric misspelt": lines_changed(
        lambda lines: [line.replace("accuracy", "acuracy") for line in lines]
    ),
    "task renamed": lines_changed(lambda lines: [line.replace("left", "right") for line in lines]),
    "seeds renamed": lines_changed(lambda lines: ["2" + line[1:] for line in lines]),
    "order": lines_changed(lambda lines: lines[::-1]),
    "no newline": lambda path: path.write_text(path.read_text().rstrip()),
    "bytes": lambda path: path.write_bytes(path.read_bytes() + b"\xff"),
    "empty": lambda path: path.write_text(""),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damaged_metrics_are_ever_used(write_job, damage):
    """Each of these changed a mean in silence."""
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    other = write_job("multimnist", "pcgrad", rows_of_two_seeds())
    DAMAGES[damage](path)
    with pytest.raises(ValueError, match=r"sum.*metrics\.csv") as caught:
        read_runs([path, other])
    assert "\n" not in str(caught.value)


def test_no_flipped_bit_and_no_cut_is_ever_used(write_job):
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    content, draw = path.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        if draw.random() < 0.7:
            bit = draw.randrange(8 * len(content))
            damaged[bit // 8] ^= 1 << bit % 8
        else:
            del damaged[draw.randrange(len(content)) :]
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"metrics\.csv"):
            read_runs([path])


def test_another_methods_run_in_the_place_of_one_is_named(write_job):
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    other = write_job(
        "multimnist", "pcgrad", {seed + 2: rows for seed, rows in rows_of_two_seeds().items()}
    )
    for name in ("metrics.csv", "run.json"):
        path.with_name(name).write_bytes(other.with_name(name).read_bytes())
    with pytest.raises(ValueError, match="another place than that of multimnist/pcgrad"):
        read_runs([path])


@pytest.mark.parametrize(
    "text",
    [
        b"5",
        b"[]",
        b"\xff\xfe\x00",
        b"",
        b"null",
        b'{"seeds": NaN}',
    ],
)
def test_a_run_json_of_another_kind_is_one_line(write_job, text):
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    path.with_name("run.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"run\.json|metrics\.csv") as caught:
        read_runs([path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", "0"),
        ("seeds", [0.0]),
        ("seeds", []),
        ("seeds", [True]),
        ("seconds", [1]),
        ("seconds", {"0": "1"}),
        ("seconds", {"x": 1}),
        ("metrics", 5),
        ("metrics", {}),
        ("experiment", 5),
        ("data", 7),
        ("settings", []),
        ("peak_memory_mb", "1"),
        ("peak_memory_mb", True),
        ("seeds", [0, 0]),
        ("seeds", [0, -1]),
        ("seconds", {"0": -1.0}),
        ("seconds", {"7": 1.0}),
        ("seconds", {"0": True}),
        ("unfinished", 5),
        ("unfinished", {"0": "x"}),
        ("unfinished", {"9": 3}),
        ("accepted_code_changes", {"0": 5}),
        ("accepted_code_changes", {"0": [5]}),
        ("deviations", 5),
        ("deviations", [1]),
        ("numeric_settings", {"MKL_CBWR": 1}),
        ("versions", ["torch"]),
        ("machine", "A CPU"),
        ("code_hash", None),
        ("precision", ["float32"]),
        ("scale", "laptop\n"),
        ("method", ""),
        ("experiment", "\u0000"),
        ("point", {"learning_rate": "0.1"}),
        ("chosen", {"learning_rate": "0.1"}),
        ("chosen", [0.1]),
        ("tuning", {}),
        ("tuning", {**tuned(0.1)["tuning"], "edges": 5}),
        ("tuning", {**tuned(0.1)["tuning"], "budget": []}),
        ("tuning", {**tuned(0.1)["tuning"], "budget": {"learning_rate": ["x"]}}),
        ("metrics", {"sha256": 5, "rows": "x", "seeds": 0}),
    ],
)
def test_an_entry_of_another_kind_is_named(write_job, key, value):
    """Bug: the tables that read it fail later, or a seed that nobody trained is averaged."""
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    read_runs([path])
    info = json.loads(path.with_name("run.json").read_text())
    path.with_name("run.json").write_text(json.dumps({**info, key: value}))
    with pytest.raises(ValueError, match=rf"run\.json.*{key}") as caught:
        read_runs([path])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"seed\nx,1\n",
        b"a,b\n1.5,2\n",
        b"seed\n" + b"9" * 5000,
        b'seed\n"' + b"x" * 200_000,
        *(
            b"seed,step,task,metric,value\n" + row
            for row in (b"0,1,a,b\n", b"0,1,a,b,high\n", b"0,1.5,a,b,2\n", b"0,1,a,b,1,2\n", b"\n")
        ),
        b"seed,step,metric,task,value\n0,1,b,a,2\n",
        b"0,1,a,b,2.0\n",
        b"seed,step,task,metric,value\n" + b"9" * 30 + b",1,a,b,1_0\n",
    ],
)
def test_rows_that_are_no_rows_are_named_even_with_a_sound_checksum(write_job, content):
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    info = json.loads(path.with_name("run.json").read_text())
    path.write_bytes(content)
    info["metrics"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.with_name("run.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"run\.json|metrics\.csv") as caught:
        read_runs([path])
    assert str(caught.value).isprintable()


def test_a_run_without_a_checksum_is_named(write_job):
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    info = json.loads(path.with_name("run.json").read_text())
    del info["metrics"]
    path.with_name("run.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"has no digest of its metrics\.csv; train the run again"):
        read_runs([path])


def test_what_can_change_numbers_stands_in_the_footer(write_job):
    """Bug: a run resumed under other code, or under other instructions, looks like any other."""
    path = write_job(
        "multimnist",
        "sum",
        {0: one(1.0)},
        numeric_settings={"cpu_capability": "AVX2", "MKL_CBWR": "COMPATIBLE"},
        accepted_code_changes={"0": ["aa", "bb"]},
    )
    lines = footer(read_runs([path]).infos)
    assert "set in the environment: MKL_CBWR=COMPATIBLE" in lines
    assert "resumed under changed code: sum, seed 0, aa then bb" in lines


def test_hidden_folders_do_not_count(write_job):
    path = write_job("multimnist", "sum", rows_of_two_seeds())
    hidden = path.parent.with_name(".seeds0-1.partial")
    path.parent.rename(hidden)
    assert read_runs([hidden / "metrics.csv"]).infos == []


def test_final_is_the_mean_of_the_last_steps_and_keeps_nan(write_job):
    rows = [
        (3, "all", "return", 9.0),
        (1, "all", "return", 1.0),
        (2, "all", "return", 5.0),
        (1, "all", "cosine", "nan"),
        (2, "all", "cosine", 1.0),
    ]
    frame = read_runs([write_job("triad", "sac", {0: rows})]).frame
    assert final(frame[frame.metric == "return"])["value"].tolist() == [9.0]
    assert final(frame[frame.metric == "return"], last=2)["value"].tolist() == [7.0]
    cosine = frame[frame.metric == "cosine"]
    assert final(cosine)["value"].tolist() == [1.0]
    assert np.isnan(final(cosine, last=2)["value"]).all()


def test_no_runs_is_an_empty_frame():
    runs = read_runs([])
    assert list(runs.frame.columns) == COLUMNS
    assert footer(runs.infos) == ["no runs"]
