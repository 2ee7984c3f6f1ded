"""Figure 10's data: builds the tasks of MT50 and pictures the start of an episode, each in half a
second.

    python -m experiments.metaworld_gallery.render results/quick/gallery            # all 50
    python -m experiments.metaworld_gallery.render results/quick/gallery reach-v3   # some

Writes tasks.npz (`pictures`, uint8 [tasks, HEIGHT, WIDTH, 3]) and tasks.json: `pictured`, the
number of tasks that were built and whose picture is like no other, and for each task its name,
whether it is built, why not, and the seconds."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.metaworld_gallery.raycamera import Marker, View, render
from multitask.rl.envs import MT10, MT50, MetaWorld, check_names
from multitask.runs.errors import UserError
from multitask.runs.provenance import commit, machine, versions
from system import command
from system.writing import whole, write_json

WIDTH, HEIGHT = 192, 128
VIEW = View(eye=(0.95, 0.04, 0.87), target=(0.06, 0.67, 0.12), degrees=35)
OTHER_VIEWS = {
    "peg-unplug-side-v3": View(eye=(1.0, 0.4, 0.85), target=(0.03, 0.67, 0.13), degrees=35)
}  # hand in front
LAMP = (0.6, -0.3, 1.9)
GOAL_RADIUS, GOAL_COLOR = 0.025, (1.0, 0.15, 0.75)  # no object of any task is magenta
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "horizon": 150,
    "reward_function_version": "v1",
    "goals": "fixed",
}


def picture(task: str) -> np.ndarray:
    """The start of an episode of one task, with its goal as a ball: uint8 [HEIGHT, WIDTH, 3]."""
    env = MetaWorld(task, **SETTINGS)
    env.reset()
    goal = Marker(np.array(env.env._target_pos), GOAL_RADIUS, GOAL_COLOR)
    view = OTHER_VIEWS.get(task, VIEW)
    return render(
        env.env.model, env.env.data, view, width=WIDTH, height=HEIGHT, lamp=LAMP, markers=[goal]
    )


def gallery(tasks: Sequence[str]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Pictures [tasks, HEIGHT, WIDTH, 3] (white: not built) and a line about each; UserError for an
    unknown task.

    A task that cannot be built is a result, not a fault: the claim is that all of them can.
    """
    check_names(list(tasks), SETTINGS["reward_function_version"], SETTINGS["goals"])
    pictures = np.full((len(tasks), HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    lines = []
    for index, task in enumerate(tasks):
        start, fault = time.perf_counter(), ""
        try:
            pictures[index] = picture(task)
        except Exception as error:  # whatever Meta-World or MuJoCo raise
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
        seconds = round(time.perf_counter() - start, 3)
        lines.append(
            {
                "name": task,
                "mt10": task in MT10,
                "built": not fault,
                "fault": fault,
                "seconds": seconds,
            }
        )
        print(f"{task}: {fault or 'pictured'}, {seconds} s", flush=True)
    return pictures, lines


def different(pictures: np.ndarray) -> int:
    """How many pictures there are, each counted once and none of a single color (a task that is not
    built).
    """
    return len({one.tobytes() for one in pictures if np.ptp(one)})


def write(folder: Path, tasks: Sequence[str] = MT50) -> None:
    """Render and write tasks.npz and tasks.json."""
    core = time.process_time()
    pictures, lines = gallery(tasks)
    with whole(folder / "tasks.npz", "w+b") as file:
        np.savez_compressed(file, pictures=pictures)
    content = {"pictured": different(pictures), "tasks": lines, "settings": SETTINGS}
    core = round(time.process_time() - core, 1)
    origin = {"versions": versions(), "machine": machine(), "commit": commit()}
    write_json(folder / "tasks.json", {**content, "core_seconds": core, **origin})


def main() -> None:
    """The same as a command."""
    if not sys.argv[1:]:
        raise UserError("where to? give a folder, and tasks if not all of MT50")
    write(Path(sys.argv[1]), sys.argv[2:] or MT50)


if __name__ == "__main__":
    command.leave(main)
