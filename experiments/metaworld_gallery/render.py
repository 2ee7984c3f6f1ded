"""Figure 10's data: builds the tasks of MT50 and renders the start of an episode of each.

    python -m experiments.metaworld_gallery.render results/quick/gallery            # all 50
    python -m experiments.metaworld_gallery.render results/quick/gallery reach-v3   # some

The command writes tasks.npz (`pictures`, uint8 [tasks, HEIGHT, WIDTH, 3]) and tasks.json. The
latter has `pictured`, the number of built tasks with a unique picture, and for each task its name,
whether it is built, the error if not, and the seconds.
"""

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
from system.writing import probe, whole, write_json

WIDTH, HEIGHT = 192, 128
VIEW = View(eye=(0.95, 0.04, 0.87), target=(0.06, 0.67, 0.12), degrees=35)
# In the common view the robot's hand hides the object of this task.
OTHER_VIEWS = {
    "peg-unplug-side-v3": View(eye=(1.0, 0.4, 0.85), target=(0.03, 0.67, 0.13), degrees=35)
}
LAMP = (0.6, -0.3, 1.9)
GOAL_RADIUS, GOAL_COLOR = 0.025, (1.0, 0.15, 0.75)  # no object of any task is magenta
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "horizon": 150,
    "reward_function_version": "v1",
    "goals": "fixed",
}


def picture(task: str) -> np.ndarray:
    """Render the start of an episode, uint8 [HEIGHT, WIDTH, 3], with the goal as a ball."""
    env = MetaWorld(task, **SETTINGS)
    env.reset()
    goal = Marker(np.array(env.env._target_pos), GOAL_RADIUS, GOAL_COLOR)
    view = OTHER_VIEWS.get(task, VIEW)
    return render(
        env.env.model, env.env.data, view, width=WIDTH, height=HEIGHT, lamp=LAMP, markers=[goal]
    )


def gallery(tasks: Sequence[str]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Render all tasks.

    A task that cannot be built is a result, because the claim is that all of them can be built.

    Returns:
        Pictures [tasks, HEIGHT, WIDTH, 3], white for tasks that are not built, and one entry of
        tasks.json per task.

    Raises:
        UserError: A task is unknown.
    """
    check_names(list(tasks), SETTINGS["reward_function_version"], SETTINGS["goals"])
    pictures = np.full((len(tasks), HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    lines = []
    for index, task in enumerate(tasks):
        start, fault = time.perf_counter(), ""
        try:
            pictures[index] = picture(task)
        # Meta-World and MuJoCo raise no common class of errors.
        except Exception as error:
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
    """The number of distinct pictures, without those of one color (tasks that are not built)."""
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
    """Run the command."""
    if not sys.argv[1:]:
        raise UserError("where to? give a folder, and tasks if not all of MT50")
    # A folder that cannot be written is reported before minutes of work.
    probe(Path(sys.argv[1]))
    write(Path(sys.argv[1]), sys.argv[2:] or MT50)


if __name__ == "__main__":
    command.leave(main)
