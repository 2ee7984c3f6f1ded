"""Time multi-task SAC on Meta-World: updates, whole training, the environments and waiting.

    python -m benchmarks.rl --out results/benchmarks

- *update*: one update of critics, actor, temperatures and targets at the sizes of Appendix J, by
  the routes of `benchmarks.learners`. Repeats are interleaved; ratios are to *plain* in the same
  run. For float32 and bfloat16, also the rate of the products, next to the machine's own rate.
- *cosine*, *error*: agreement of bfloat16 with float32 along a run, for gradients, losses, Gramians
  and weights.
- *training*: samples of all tasks per second of process time, at one update per step of a task,
  including the environments.
- *environments*: seconds to make them, and steps per second of all tasks together, by number of
  worker processes.
- *waiting*: the share of a collection's time in which the learner waits for the environments, in
  turn and overlapping (setting `overlap`).
- *buffers*: bytes of the replay buffers at paper scale.

Writes `rl.csv` and `rl.md`.
"""

import copy
import platform
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks import learners
from benchmarks.learners import BATCH, SIZES, SQUARE, new_learner
from benchmarks.measure import interleaved
from benchmarks.report import write_csv
from experiments import config as configs
from multitask.rl.envs import MT3, MT10, MT50, MetaWorld
from multitask.rl.fleet import Fleet
from multitask.rl.replay import Replay
from multitask.rl.sac import Learner, collect
from multitask.rl.sac.loop import STREAMS, Policies, learn, play_and_learn
from multitask.runs.devices import has_bfloat16_units
from multitask.runs.seeding import generator
from multitask.runs.startup import keep_freed_memory
from system import command
from system.writing import write_text

SETS = {"MT3": (MT3, 160), "MT10": (MT10, 160), "MT50": (MT50, 300)}  # width: Appendix J
EPISODE = 150
# Of one collection: an episode, and an update per step of a task.
LEARNING: dict[str, Any] = {
    "samples_per_collection": EPISODE, "updates_per_collection": EPISODE, "horizon": EPISODE,
    "batch_per_task": BATCH, "order": "random", "reward_scale": 1.0, "curvature_every": 0,
}  # fmt: skip
PAPER_SCALE = Path(__file__).parents[1] / "config/paper.yaml"
Row = tuple[str, str, float, str, float | None]  # tasks, what, value, unit, ratio to plain


def new_fleet(tasks: Sequence[str], workers: int) -> Fleet:
    """Return the environments of some tasks, with the horizon and the goals of the experiments."""
    make = partial(MetaWorld, seed=0, horizon=EPISODE, reward_function_version="v1", goals="fixed")
    return Fleet([partial(make, task) for task in tasks], workers)


def training(
    device: torch.device, precision: str, workers: int = 0, *, overlap: bool = False
) -> tuple[float, float]:
    """Time one collection of MT10 (one episode, one update per step) by SAC + PCGrad.

    Returns samples of all tasks per second of process time, and the percentage of wall-clock time
    in which the process does not learn.
    """
    tasks, width = SETS["MT10"]
    settings = {**LEARNING, "overlap": overlap}
    learner = new_learner(precision, "sac_pcgrad", len(tasks), width, device)
    replay = Replay(len(tasks), 3 * EPISODE, *SIZES, torch.float32, device)
    streams = {name: generator(0, name) for name in STREAMS}
    learning = []

    def update() -> list[dict[str, Tensor]]:
        start = time.perf_counter()
        logs = learn(learner, replay, streams, settings)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        learning.append(time.perf_counter() - start)
        return logs

    with new_fleet(tasks, workers) as fleet:
        policies = Policies(learner, fleet, streams["action"], torch.float32)
        # A first episode fills the replay buffer and warms the environments up.
        collect(fleet, policies.explore, 1, replay.add)
        start = time.perf_counter()
        start_of_process = time.process_time()
        play_and_learn(fleet, policies, replay, update, settings)
        of_process = time.process_time() - start_of_process
        whole = time.perf_counter() - start
    return EPISODE * len(tasks) / of_process, 100 * (1 - learning[0] / whole)


def agreement_rows(device: torch.device, collections: int = 5) -> list[Row]:
    """Compare bfloat16 with float32 along a run of SAC + PCGrad on MT3.

    After every collection, both precisions update the same parameters on the same batch.
    """
    tasks, width = SETS["MT3"]
    half, full = (
        new_learner(precision, "sac_pcgrad", len(tasks), width, device)
        for precision in ("bfloat16", "float32")
    )
    replay = Replay(len(tasks), (collections + 1) * EPISODE, *SIZES, torch.float32, device)
    streams = {name: generator(0, name) for name in STREAMS}
    cosines: dict[str, list[float]] = {"actor": [], "critics": []}
    errors: dict[str, list[float]] = {"losses": [], "gramians": [], "weights": []}
    with new_fleet(tasks, 0) as fleet:
        policies = Policies(full, fleet, streams["action"], torch.float32)
        collect(fleet, policies.explore, 1, replay.add)
        for _ in range(collections):
            collect(fleet, policies.sampled, 1, replay.add)
            learn(full, replay, streams, LEARNING)
            # Both learners start from one state and draw the same random numbers.
            half.load(copy.deepcopy(full.state()))
            before = {name: stream.get_state() for name, stream in streams.items()}
            logs = []
            for learner in (half, full):
                for name, stream in streams.items():
                    stream.set_state(before[name])
                logs += learn(learner, replay, streams, {**LEARNING, "updates_per_collection": 1})
            for name in cosines:
                cosines[name].append(cosine_of_gradients(half, full, name))
            for name in errors:
                difference = (logs[0][name] - logs[1][name]).abs().max()
                errors[name].append((difference / logs[1][name].abs().max()).item())
    rows: list[Row] = []
    for kind, found, worst in (("cosine to", cosines, min), ("error against", errors, max)):
        for name, values in found.items():
            what = f"{kind} float32, {name}"
            rows.append(("MT3", f"{what}, median", statistics.median(values), "", None))
            rows.append(("MT3", f"{what}, worst", worst(values), "", None))
    return rows


def cosine_of_gradients(one: Learner, other: Learner, network: str) -> float:
    """Return the cosine between the gradients of the last step of two learners."""
    first, second = (
        torch.cat([g.flatten().double() for g in getattr(learner.networks, network).gradients])
        for learner in (one, other)
    )
    return torch.nn.functional.cosine_similarity(first, second, dim=0).item()


def buffer_bytes(experiment: str) -> int:
    """Return the bytes of an experiment's replay buffers at paper scale, in float32."""
    paper = configs.read(str(PAPER_SCALE))["experiments"][experiment]
    # A buffer never holds more than a run plays.
    played = paper["warm_up_paths"] * paper["horizon"]
    played += paper["collections"] * paper["samples_per_collection"]
    numbers = 2 * SIZES[0] + SIZES[1] + 2  # two observations, action, reward, terminated
    return 4 * numbers * min(paper["buffer_capacity"], played) * len(SETS[paper["tasks"]][0])


def update_rows(name: str, repeats: int, device: torch.device) -> list[Row]:
    """Return the milliseconds of every route; on MT10 also those of the other methods."""
    tasks, width = len(SETS[name][0]), SETS[name][1]
    cases = learners.updates(tasks, width, device, learners.OTHERS if name == "MT10" else ())
    times = interleaved(cases, repeats, least=repeats, device=device)
    medians = {case: statistics.median(seconds) for case, seconds in times.items()}
    plain = medians["sac_pcgrad, plain"]
    rows: list[Row] = [
        (name, f"update, {case}", 1e3 * median, "ms", median / plain)
        for case, median in medians.items()
    ]
    for precision in ("float32", "bfloat16"):
        rate = learners.operations(tasks, width) / medians[f"sac_pcgrad, {precision}"] / 1e9
        rows.append((name, f"products of an update, {precision}", rate, "GFLOP/s", None))
    return rows


def machine_rows(repeats: int, device: torch.device) -> list[Row]:
    """Return the machine's rates of one large product."""
    times = interleaved(learners.products(device), repeats, least=repeats, device=device)
    rates = {precision: 2e-9 * SQUARE**3 / statistics.median(t) for precision, t in times.items()}
    return [
        ("", f"one product of {SQUARE} x {SQUARE}, {precision}", rate, "GFLOP/s", None)
        for precision, rate in rates.items()
    ]


def environment_rows(name: str) -> list[Row]:
    """Return the times of making and of stepping the environments, and the size of the buffers.

    Making includes the start and the imports of the worker processes.
    """
    tasks, rows = SETS[name][0], list[Row]()
    for workers in (0, 1, 2):
        start = time.perf_counter()
        with new_fleet(tasks, workers) as fleet:
            made = time.perf_counter() - start
            seconds_of_episode(fleet)  # warm-up
            speed = EPISODE * len(tasks) / seconds_of_episode(fleet)
        rows.append((name, f"making the environments, {workers} workers", made, "s", None))
        rows.append((name, f"environments, {workers} workers", speed, "steps/s", None))
    size = buffer_bytes(f"metaworld_{name.lower()}") / 1e9
    return [*rows, (name, "buffers at paper scale", size, "GB", None)]


def seconds_of_episode(fleet: Fleet) -> float:
    """Return the seconds of one reset and one episode under random actions."""
    shape = (EPISODE, len(fleet.names), fleet.action_size)
    actions = np.random.default_rng(0).uniform(-1, 1, shape)
    start = time.perf_counter()
    fleet.reset()
    for action in actions:
        fleet.step(action)
    return time.perf_counter() - start


def training_rows(device: torch.device) -> list[Row]:
    """Return the speed of whole training on MT10, and the share of time the learner waits."""
    rows: list[Row] = []
    for precision in ("float32", "bfloat16"):
        speed, _ = training(device, precision)
        rows.append(("MT10", f"training, {precision}", speed, "samples/s", None))
    for overlap, word in ((False, "in turn"), (True, "overlapping")):
        for workers in (0, 1):
            _, share = training(device, "bfloat16", workers, overlap=overlap)
            rows.append(("MT10", f"learner waiting, {word}, {workers} workers", share, "%", None))
    return rows


def measure(repeats: int, device: torch.device) -> pd.DataFrame:
    """Return all cases in long form: set, what, value, unit, ratio."""
    rows = machine_rows(repeats, device)
    for name in SETS:
        rows += update_rows(name, repeats, device)
    rows += agreement_rows(device)
    rows += training_rows(device)
    for name in ("MT10", "MT50"):
        rows += environment_rows(name)
    return pd.DataFrame(rows, columns=["tasks", "what", "value", "unit", "ratio to plain"])


def main() -> None:
    """Run the benchmark and write its table."""
    parser = command.Parser(prog="python -m benchmarks.rl", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    table = measure(args.repeats, device)
    write_csv(table, args.out / "rl.csv")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU thread"
    machine = f"The learner on {where}, torch {torch.__version__}, {platform.machine()}"
    if not has_bfloat16_units(device):
        machine += "; no units for bfloat16: what is called bfloat16 ran in float32"
    shown = table.astype(object).where(table.notna(), "")
    text = shown.to_markdown(index=False, floatfmt=".4g")
    text += f"\n\n{machine}; medians of {args.repeats} repeats.\n"
    write_text(args.out / "rl.md", text)
    print(text)


if __name__ == "__main__":
    command.leave(main)
