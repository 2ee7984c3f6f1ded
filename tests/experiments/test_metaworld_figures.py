"""Figures 3, 6 to 9 and the tables of Meta-World's task sets draw what the runs hold."""

import json

import pandas as pd
import pytest

from experiments.goal_conditioned import figure_6
from experiments.metaworld import (
    figure_3,
    figure_7,
    figure_8,
    figure_9,
    figure_conflicts,
    figure_tasks,
    table_tasks,
)
from experiments.metaworld.table_metaworld import METHODS, iqm_lines, table
from reporting import findings
from reporting.alone import beside_mt10, steps_of_a_task
from reporting.figures import color
from reporting.learning_curves import figure
from reporting.runs import COLUMNS, Runs, read_runs
from reporting.tables import EVALUATIONS
from system.results import describe

STEPS = range(1, 16)
SETTINGS = {"samples_per_collection": 600, "updates_per_collection": 7, "collections": len(STEPS)}


def end(method: str, seed: int) -> float:
    """What the synthetic runs reach: a level per method and a common effect per seed."""
    return 0.05 * list(METHODS).index(method) + 0.01 * seed


def seal(path):
    """Let run.json vouch for the metrics beside it."""
    beside = path.with_name("run.json")
    content = {**json.loads(beside.read_text()), "metrics": describe(path.read_bytes())}
    beside.write_text(json.dumps(content))


def write_runs(
    folder, experiment, methods=METHODS, seeds=(0, 1, 2), metrics=("evaluation_success", "success")
):
    """Curves that rise linearly to their end in the first five collections.

    Every task but "all" is 0.1 lower.
    """
    paths = []
    for method in methods:
        rows = []
        for seed in seeds:
            for step in STEPS:
                value = end(method, seed) * min(1.0, step / 5)
                for metric in metrics:
                    shift = 0.0 if metric.startswith("evaluation") else 0.5
                    rows += [
                        (seed, step, task, metric, value + shift - 0.1 * (task != "all"))
                        for task in ("all", "a-v3")
                    ]
                rows.append((seed, step, "all", "environment_steps", 1000.0 * step))
                rows += [
                    (seed, step, "all", f"{m}_{c}", value)
                    for m in ("cosine", "xi_median")
                    for c in ("actor", "q1")
                ]
        path = folder / experiment / method / "metrics.csv"
        path.parent.mkdir(parents=True)
        pd.DataFrame(rows, columns=["seed", "step", "task", "metric", "value"]).to_csv(
            path, index=False
        )
        info = {"experiment": experiment, "method": method, "scale": "laptop", "seeds": list(seeds)}
        info |= {
            "data": {"metaworld": "3"},
            "settings": SETTINGS,
            "seconds": dict.fromkeys(map(str, seeds), 3.0),
        }
        path.with_name("run.json").write_text(json.dumps(info))
        seal(path)
        paths.append(path)
    return paths


def lines(ax):
    whole = [
        line
        for line in ax.get_lines()
        if len(line.get_xdata()) == len(STEPS) and line.get_gid() is None
    ]
    return {line.get_color(): line for line in whole}


def test_figure_3_holds_the_curves_and_the_papers_ends(tmp_path):
    runs = read_runs(write_runs(tmp_path, "metaworld_mt10") + write_runs(tmp_path, "metaworld_mt3"))
    fig = figure(figure_3.PANELS, runs)
    mt10, ablations, mt3 = fig.axes  # MT50 has no runs
    assert set(lines(mt10)) == {color(method) for method in figure_3.COMPARED}
    assert set(lines(ablations)) == {color(method) for method in figure_3.ABLATIONS}
    assert len(lines(mt3)) == 4
    drawn = lines(mt10)[color("independent")]
    assert list(drawn.get_xdata()) == [1000.0 * step for step in STEPS]
    expected = end(
        "independent", 1
    )  # the seeds' mean is the middle one's; evaluation, not training
    assert drawn.get_ydata()[0] == pytest.approx(expected / 5)
    tail = [min(1.0, step / 5) for step in STEPS][-EVALUATIONS["metaworld_mt10"] :]
    assert drawn.get_ydata()[-1] == pytest.approx(expected * sum(tail) / len(tail))
    paper = {line.get_color(): line for line in mt10.get_lines() if len(line.get_xdata()) == 2}
    assert list(paper[color("sac_pcgrad")].get_ydata()) == [1.0, 1.0]
    assert list(paper[color("sac")].get_ydata()) == [0.5, 0.5]
    beside = {(text.get_color(), text.get_text()) for text in mt10.texts}
    assert (color("sac_pcgrad"), "paper at\n5M: 1.0") in beside
    assert (color("sac"), "paper at\n5M: < 0.5") in beside
    # Nothing of the paper's stands at a place of our axis.
    assert all(line.get_marker() in ("", "None", None) for line in paper.values())
    right = mt10.get_window_extent().x1
    assert all(text.get_window_extent().x0 >= right for text in mt10.texts)


def test_training_success_where_nothing_is_evaluated(tmp_path):
    runs = read_runs(write_runs(tmp_path, "metaworld_mt50", metrics=("success",)))
    (ax,) = figure(figure_8.PANELS, runs).axes
    assert lines(ax)[color("sac_pcgrad_fixed")].get_ydata()[4] > 0.5


@pytest.mark.parametrize(
    ("module", "methods"),
    [(figure_7, ("sac_pcgrad", "cosreg")), (figure_9, ("multihead_sac", "multihead_sac_pcgrad"))],
)
def test_pairs_of_methods(tmp_path, module, methods):
    (ax,) = figure(module.PANELS, read_runs(write_runs(tmp_path, "metaworld_mt10"))).axes
    assert set(lines(ax)) == {color(method) for method in methods}


def test_figure_6_draws_distances_from_zero(tmp_path):
    paths = write_runs(
        tmp_path,
        "goal_conditioned",
        ("sac", "sac_pcgrad"),
        metrics=("evaluation_distance", "distance"),
    )
    (ax,) = figure(figure_6.PANELS, read_runs(paths)).axes
    assert ax.get_ylim()[0] == 0
    assert len(lines(ax)) == 2


def test_a_panel_for_every_task_and_every_measure(tmp_path):
    runs = read_runs(write_runs(tmp_path, "metaworld_mt10"))
    (panel,) = figure_tasks.panels(runs)
    assert (panel.task, panel.title) == ("a-v3", "MT10: a")
    shown = figure_conflicts.panels(runs)
    fig = figure(shown, runs, columns=3)
    titles = [ax.get_title() for ax in fig.axes if ax.axison]
    assert titles == ["MT10, actor"] * 2 + ["MT10, critic 1"] * 2
    drawn = {ax.get_title(): len(lines(ax)) for ax in fig.axes if lines(ax)}
    assert drawn == {"MT10, actor": 4, "MT10, critic 1": 4}
    nothing = figure(figure_conflicts.panels(read_runs([])), read_runs([]), columns=3)
    assert [ax.texts[0].get_text() for ax in nothing.axes] == ["no runs at this scale"]


def test_no_runs_at_all_is_still_a_figure_and_a_table(tmp_path):
    figure_tasks.write([], png=str(tmp_path / "a.png"), pdf=str(tmp_path / "a.pdf"))
    assert (tmp_path / "a.png").stat().st_size > 1000
    names = {kind: str(tmp_path / f"t.{kind}") for kind in ("csv", "md", "tex", "html")}
    table("mt50").write([], **names)
    assert len(pd.read_csv(names["csv"])) == 0


def test_the_table_pairs_the_ends_by_seed(tmp_path):
    runs = read_runs(write_runs(tmp_path, "metaworld_mt10"))
    found = table("mt10").table(runs)
    success = found[found["metric"] == "evaluation_success"].set_index("method")
    assert success.loc["cosreg", "mean"] == pytest.approx(end("cosreg", 1))
    difference = success.loc["sac_pcgrad - cosreg"]
    assert difference["mean"] == pytest.approx(end("sac_pcgrad", 0) - end("cosreg", 0))
    assert difference["ci_high"] == pytest.approx(
        difference["ci_low"], abs=1e-9
    )  # the seeds' effects cancel
    assert "sac_pcgrad - sac" in success.index


def ends(values, method="sac"):
    """Runs of one method whose last collection holds values[task][seed]."""
    rows = [
        ("metaworld_mt10", method, seed, 1, f"{task}-v3", "evaluation_success", value)
        for task, seeds in enumerate(values)
        for seed, value in enumerate(seeds)
    ]
    rows += [
        ("metaworld_mt10", method, seed, 1, "all", "evaluation_success", 99.0)
        for seed in range(len(values[0]))
    ]
    return pd.DataFrame(
        rows, columns=["experiment", "method", "seed", "step", "task", "metric", "value"]
    )


def test_the_iqm_is_over_tasks_and_seeds_and_has_an_interval_from_ten_seeds_up():
    few = iqm_lines(
        ends([[0.0, 0.1], [0.2, 0.4], [0.4, 0.6], [0.9, 1.0]]), ("sac", "cosreg"), last=1
    )
    assert few["mean"].tolist() == pytest.approx([0.4])  # of 0.2, 0.4, 0.4, 0.6; "all" is no task
    assert few[["ci_low", "ci_high"]].isna().all(axis=None)
    many = iqm_lines(
        ends([[0.0] * 10, [0.4, 0.6] * 5, [0.4, 0.6] * 5, [1.0] * 10]), ("sac",), last=1
    ).iloc[0]
    assert many["mean"] == pytest.approx(0.5)
    assert 0.4 < many["ci_low"] < 0.5 < many["ci_high"] < 0.6
    assert many["seeds"] == 10


def test_the_table_shows_the_iqm_and_conflicts_as_a_share(tmp_path):
    paths = write_runs(tmp_path, "metaworld_mt10", ("sac", "sac_pcgrad"))
    for path in paths:
        frame = pd.read_csv(path)
        counts = [
            (s, k, "all", f"{c}_q1", n)
            for s in range(3)
            for k in STEPS
            for c, n in (("pairs", 40), ("conflicts", 10))
        ]
        pd.concat([frame, pd.DataFrame(counts, columns=frame.columns)]).to_csv(path, index=False)
        seal(path)
    names = {kind: str(tmp_path / f"t.{kind}") for kind in ("csv", "md", "tex", "html")}
    table("mt10").write([str(path) for path in paths], **names)
    found = pd.read_csv(names["csv"]).set_index(["method", "task", "metric"])["mean"]
    assert found["sac", "all", "conflict_share_q1"] == pytest.approx(0.25)
    assert found["sac_pcgrad", "all", "evaluation_success_iqm"] == pytest.approx(
        end("sac_pcgrad", 1) - 0.1
    )
    with open(names["md"], encoding="utf-8") as file:
        head = file.readline()
    assert "success, IQM" in head


def test_the_table_of_tasks_counts_the_seeds_that_solve_each(tmp_path):
    """Fails where tasks, seeds or methods are mixed, or the mean over tasks counts as a task."""
    paths = write_runs(tmp_path, "metaworld_mt10", ("sac", "independent"))
    lines = table_tasks.table(read_runs(paths))
    assert list(lines["task"].unique()) == ["a-v3"]
    alone = lines[lines["method"] == "independent"].iloc[0]
    assert alone["mean"] == pytest.approx(end("independent", 1) - 0.1)
    assert (alone["seeds"], alone["solved"]) == (3, 0)
    shown = table_tasks.shown(lines)
    assert list(shown.columns) == ["task", "Independent", "SAC"]
    assert shown["Independent"][0] == f"{alone['mean']:.2f} (0 of 3)"


def test_a_success_in_half_of_the_evaluations_counts_as_learned():
    """The README counts seeds of at least one half; the table once counted those above it."""
    rows = [
        ("metaworld_mt3", "sac", 0, step, "a-v3", "evaluation_success", step % 2)
        for step in range(10)
    ]
    runs = Runs(pd.DataFrame(rows, columns=COLUMNS), [])
    assert list(table_tasks.table(runs)["solved"]) == [1]


def test_costs_are_in_minutes(tmp_path):
    found = table("mt10").table(read_runs(write_runs(tmp_path, "metaworld_mt10", ("sac",))))
    minutes = found[found["metric"] == "run_minutes"].iloc[0]
    assert (minutes["mean"], minutes["estimator"]) == (0.05, "median")


def alone(part, task, reached):
    """A run of one of MT10's tasks alone, which takes 100 steps a collection."""
    rows = [
        ("metaworld_alone", part, 0, step, name, metric, value)
        for step in (1, 2)
        for name, metric, value in (
            (task, "evaluation_success", reached),
            ("all", "evaluation_success", 99.0),
            ("all", "environment_steps", 100.0 * step),
        )
    ]
    info = {
        "experiment": "metaworld_alone",
        "method": part,
        "scale": "laptop",
        "seeds": [0],
        "data": {"metaworld": "3.1.1"},
        "settings": SETTINGS,
    }
    return pd.DataFrame(rows, columns=COLUMNS), info


def test_tasks_learned_alone_stand_beside_mt10_at_equal_steps_of_a_task(tmp_path):
    parts = [alone("first_half", "a-v3", 1.0), alone("second_half", "b-v3", 0.0)]
    together = read_runs(write_runs(tmp_path, "metaworld_mt10", ("sac",)))
    frame = pd.concat([together.frame, *(rows for rows, _ in parts)], ignore_index=True)
    runs = Runs(frame, [*together.infos, *(info for _, info in parts)])
    assert steps_of_a_task(runs).groupby("method").max().tolist() == [200.0, 200.0]
    found = beside_mt10(runs)
    steps = found.select(method="independent", task="all")
    # Ten tasks take ten times the steps of one; no mean over a part of the tasks is left.
    assert steps[["step", "value"]].to_numpy().tolist() == [[1, 1000.0], [2, 2000.0]]
    assert {info["experiment"] for info in found.infos} == {"metaworld_mt10"}
    lines = table_tasks.table(runs)
    row = lines[lines["method"] == "independent"].set_index("task")
    assert row["solved"].to_dict() == {"a-v3": 1, "b-v3": 0}
    assert any("200 steps of a task" in line for line in table_tasks._budget(runs))
    fig = figure(figure_tasks.panels(found), found, columns=4)
    (panel,) = [ax for ax in fig.axes if ax.get_title() == "MT10: a"]
    assert color("independent") in {line.get_color() for line in panel.get_lines()}


def test_mt10s_own_independent_runs_replace_tasks_learned_alone(tmp_path):
    rows, info = alone("first_half", "a-v3", 1.0)
    together = read_runs(write_runs(tmp_path, "metaworld_mt10", ("sac", "independent")))
    runs = Runs(pd.concat([together.frame, rows]), [*together.infos, info])
    found = beside_mt10(runs)
    assert len(found.frame) == len(together.frame)
    assert found.infos == together.infos


def test_the_sentence_says_which_tasks_are_learned_alone(tmp_path):
    for part, task, reached in (("first_half", "a-v3", 1.0), ("second_half", "b-v3", 0.0)):
        rows, info = alone(part, task, reached)
        path = tmp_path / "runs" / "metaworld_alone" / part / "seeds0-0" / "metrics.csv"
        path.parent.mkdir(parents=True)
        rows.drop(columns=["experiment", "method"]).to_csv(path, index=False)
        path.with_name("run.json").write_text(json.dumps(info))
        seal(path)
    text = findings.learned_alone(findings.Results(tmp_path))
    assert "SAC learns a (1 of 1); not b." in text
    assert "(200 steps of each instead of 100,000; 1 seed; Meta-World 3.1.1, float32)" in text
    assert findings.learned_alone(findings.Results(tmp_path / "nothing")) == ""
