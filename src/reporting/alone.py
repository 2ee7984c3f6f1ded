"""MT10's tasks learned alone, shown beside the methods that learn them together."""

import pandas as pd

from reporting.runs import Runs

ALONE, TOGETHER = "metaworld_alone", "metaworld_mt10"
METHOD = "independent"  # MT10's row of the same networks
TASKS = 10  # of MT10


def beside_mt10(runs: Runs) -> Runs:
    """The runs, with those of tasks learned alone as MT10's row of independent networks.

    Each of their runs has a part of the tasks. Its samples of all tasks are therefore scaled to ten
    tasks, and its means over tasks are left out. Where MT10 has runs of that row, those of tasks
    learned alone are left out.
    """
    infos = [info for info in runs.infos if info["experiment"] != ALONE]
    others = runs.frame[runs.frame["experiment"] != ALONE]
    if len(infos) == len(runs.infos):
        return runs
    if any((info["experiment"], info["method"]) == (TOGETHER, METHOD) for info in infos):
        return Runs(others, infos)
    infos += [
        {**info, "experiment": TOGETHER, "method": METHOD}
        for info in runs.infos
        if info["experiment"] == ALONE
    ]
    single = runs.frame[(runs.frame["experiment"] == ALONE) & (runs.frame["task"] != "all")]
    steps = steps_of_a_task(runs).rename("value").mul(TASKS).reset_index()
    # The parts have equally many steps of a task, so one line per step serves all tasks.
    samples = steps.drop(columns="method").drop_duplicates(["seed", "step"])
    both = [single, samples.assign(task="all", metric="environment_steps")]
    shown = pd.concat(both, ignore_index=True).assign(experiment=TOGETHER, method=METHOD)
    return Runs(pd.concat([others, shown[others.columns]], ignore_index=True), infos)


def steps_of_a_task(runs: Runs) -> "pd.Series[float]":
    """The environment steps of each task learned alone, by method, seed and step."""
    frame = runs.frame[runs.frame["experiment"] == ALONE]
    tasks = frame[frame["task"] != "all"].groupby("method")["task"].nunique()
    rows = frame[(frame["task"] == "all") & (frame["metric"] == "environment_steps")]
    taken = rows.set_index(["method", "seed", "step"])["value"]
    return taken.div(tasks, level="method")
