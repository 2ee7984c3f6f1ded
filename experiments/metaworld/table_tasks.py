"""Table of success in every single task at the end of training, which a mean over tasks hides."""

from collections.abc import Sequence

import pandas as pd

from reporting import render
from reporting.alone import ALONE, TASKS, beside_mt10, steps_of_a_task
from reporting.labels import label
from reporting.ledger.evidence import CLAIMED, to_claimed
from reporting.runs import Runs, final, footer, read_runs
from reporting.statistics import bounded, interval
from reporting.tables import EVALUATIONS, LEARNED

SETS = {"metaworld_mt3": "MT3", "metaworld_mt10": "MT10"}
# Tasks learned alone come first: a task that fails there cannot tell methods apart.
METHODS = (
    "independent",
    "sac",
    "sac_pcgrad",
    "multihead_sac",
    "multihead_sac_pcgrad",
    "direction_only",
    "magnitude_only",
    "gradnorm",
    "cosreg",
    "sac_pcgrad_fixed",
    "sac_reward_normalized",
    "sac_pcgrad_reward_normalized",
    "sac_weight_decay",
    "sac_v2",
    "sac_pcgrad_v2",
)
SUCCESS = "evaluation_success"
COLUMNS = ["set", "task", "method", "mean", "ci_low", "ci_high", "seeds", "solved"]
NOTES = (
    f"success: share of episodes with success at any step, of the policy without exploration, mean "
    f"over the last evaluations ({', '.join(f'{SETS[one]}: {EVALUATIONS[one]}' for one in SETS)}) "
    "and over seeds (MT10: of those up to 1 million samples, once all runs are there); "
    f"in parentheses: seeds with at least {LEARNED:g}, of all",
    "independent: one network per task, which learns from the samples of its task alone; a task "
    "that fails there as well is hard for SAC at that row's budget, with or without other tasks",
    "which tasks the scripted policy solves, and what the rewards pay for, is in table_experts",
)


def table(runs: Runs) -> pd.DataFrame:
    """One line per task set, task and method that has runs, with the columns COLUMNS."""
    rows = beside_mt10(Runs(to_claimed(runs.frame, [SUCCESS]), runs.infos)).frame
    rows = rows[(rows["metric"] == SUCCESS) & (rows["task"] != "all")]
    lines = []
    for experiment, name in SETS.items():
        mine = final(rows[rows["experiment"] == experiment], last=EVALUATIONS[experiment])
        for task in dict.fromkeys(mine["task"]):
            for method in METHODS:
                values = mine[(mine["task"] == task) & (mine["method"] == method)]["value"]
                if values.empty:
                    continue
                found = bounded(interval(list(values)), 0.0, 1.0)
                solved = int((values >= LEARNED).sum())
                numbers = [found.center, found.low, found.high, found.seeds, solved]
                lines.append([name, task, method, *numbers])
    return pd.DataFrame(lines, columns=COLUMNS)


def shown(lines: pd.DataFrame) -> pd.DataFrame:
    """The printed table: a row per task, a column per method."""
    rows = []
    present = [method for method in METHODS if (lines["method"] == method).any()]
    for (name, task), part in lines.groupby(["set", "task"], sort=False):
        row = {"task": f"{name}: {str(task).removesuffix('-v3')}"}
        for method in present:
            cells = part[part["method"] == method]
            row[label(method)] = render.DASH
            if len(cells):
                one = cells.iloc[0]
                row[label(method)] = f"{one['mean']:.2f} ({one['solved']} of {one['seeds']})"
        rows.append(row)
    return pd.DataFrame(rows, columns=["task", *map(label, present)])


def _budget(runs: Runs) -> list[str]:
    """The steps of each task that was learned alone; nothing if none was."""
    if not any(info["experiment"] == ALONE for info in runs.infos):
        return []
    least = steps_of_a_task(runs).groupby("method").max().min()
    return [
        f"MT10, independent: trained in parts (metaworld_alone), {least:,.0f} steps of a task; the "
        f"other rows have {CLAIMED / TASKS:,.0f} at 1 million samples; precisions below"
    ]


def write(paths: Sequence[str], **files: str) -> None:
    """Read the runs' `metrics.csv` and write the table; see `render.write_table`."""
    runs = read_runs(paths)
    below = [*NOTES, *_budget(runs), *footer(runs.infos)]
    lines = table(runs)
    scale = runs.infos[0]["scale"] if runs.infos else "none"
    title = f"Success in every task (scale: {scale})"
    render.write_table(lines, shown(lines), below, title, **files)
