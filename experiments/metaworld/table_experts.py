"""Table of the scripted policy's success and reward in every task, which show what is solvable."""

from pathlib import Path
from typing import Any

import pandas as pd

from reporting import render
from system.reading import read_json

VERSIONS = ("v1", "v2")
ACTORS = {"expert": "scripted", "random": "random", "still": "standing still"}


def experts(found: dict[str, Any]) -> pd.DataFrame:
    """One line per task: MT10's tasks first, then the others in the order of their names."""
    frame = pd.DataFrame(found["tasks"])
    return frame.sort_values(["mt10", "task"], ascending=[False, True], ignore_index=True)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The printed table."""
    columns = {
        "task": [short(task) for task in table["task"]],
        "in MT10": ["yes" if one else "" for one in table["mt10"]],
        "draw": [str(draw) for draw in table["draw"]],
    }
    for version in VERSIONS:
        steps = table[f"success_step_{version}"]
        columns[f"{version}: solved at step"] = [str(s) if s else render.DASH for s in steps]
        for actor, words in ACTORS.items():
            values = table[f"{actor}_reward_{version}"]
            columns[f"{version}: {words}"] = [render.number(value, 1) for value in values]
    return pd.DataFrame(columns)


def short(task: str) -> str:
    """A task's name without its version."""
    return task.removesuffix("-v3")


def names(tasks: pd.DataFrame) -> str:
    """The names of the tasks; those of MT10 are marked."""
    marked = (
        short(line["task"]) + (" (MT10)" if line["mt10"] else "")
        for line in tasks.to_dict("records")
    )
    return ", ".join(marked) or "none"


def unpaid(table: pd.DataFrame, version: str) -> pd.DataFrame:
    """The tasks in which the scripted policy earns less than standing still or random actions."""
    others = table[[f"random_reward_{version}", f"still_reward_{version}"]].max(axis=1)
    return table[table[f"expert_reward_{version}"] < others]


def notes(found: dict[str, Any], table: pd.DataFrame) -> list[str]:
    """The lines below the table: how to read it, and the faults of version 1 in numbers."""
    horizon, count = found["horizon"], len(table)
    solved = {v: int(table[f"success_step_{v}"].between(1, horizon).sum()) for v in VERSIONS}
    redrawn, replaced = table[table["draw"] > 0], table[table["success_of_v2"]]
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items())
    lines = [
        "one episode per task, version of the reward functions and policy, at the positions that "
        f"every run with fixed goals has; rewards: mean of {horizon} steps",
        f"the scripted policy solves {solved['v1']} of {count} tasks within {horizon} steps where "
        f"version 1 is rewarded, {solved['v2']} where version 2 is; it goes on to "
        f"{found['long_horizon']} steps where it has not",
        "draw: positions are the first of a task's seeded draws at which the scripted policy "
        f"succeeds within {horizon} steps under both versions; drawn again: {names(redrawn)}",
    ]
    nothing = table[table["expert_reward_v1"] <= 0]
    lines.append(
        f"version 1 pays the scripted policy nothing (0 or less a step) in {len(nothing)} of "
        f"{count} tasks: {names(nothing)}"
    )
    lines += [
        f"version {version[1]} pays the scripted policy less than standing still or random actions "
        f"in {len(unpaid(table, version))} of {count} tasks: {names(unpaid(table, version))}"
        for version in VERSIONS
    ]
    lines += [
        f"version 1 in Meta-World {found['versions']['metaworld']} has the formulas of 2019, not "
        "the constants and geometry of that time: most of it is paid only while the middle of the "
        "fingers is within 5 cm of the object, and the scripted policy may push from farther away",
        "under version 1 too, success is that of version 2 in tasks where version 1's own is "
        f"impossible or nearly so: {names(replaced)}",
        "in window-close, Meta-World's reset returns the observation from before the window is "
        "moved, 0.2 m off; the next observation is right",
    ]
    data = f"data: Meta-World {found['versions']['metaworld']}"
    return [*lines, f"scale: {found['scale']}", data, f"versions: {versions}"]


def write(path: str, **files: str) -> None:
    """Read the file of `experiments.metaworld.experts`, write the table; see `write_table`."""
    found = read_json(Path(path), "delete it, its rule makes it again")
    table = experts(found)
    title = f"Scripted policies in Meta-World's tasks (scale: {found['scale']})"
    render.write_table(table, shown(table), notes(found, table), title, **files)
