"""Time multi-task SAC on Meta-World: making the environments, their steps, one update, and who
waits for whom.

    python -m benchmarks.rl --out results/benchmarks

- *update*: critics, actor, temperatures, targets on the networks and batches of Appendix J, as
  ratios to the plain update, which asks for no task gradients at all; repeats interleaved. (The
  loop's own SAC takes the task gradients too, because it records conflicts.)
- *environments*: seconds to make them, steps a second of all tasks together, by number of worker
  processes.
- *waiting*: the share of a collection's time in which the learner waits for the environments, at
  one update per step of every task: in turn, and overlapping (setting `overlap`).
- *buffers*: bytes of the replay buffers at paper scale.
Writes `rl.csv` and `rl.md`.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor

from benchmarks.environments import once
from benchmarks.measure import Candidates, interleaved
from multitask.rl.envs import MT10, MT50, MetaWorld
from multitask.rl.fleet import Fleet
from multitask.rl.replay import Batch, Replay
from multitask.rl.sac import (
    METHODS,
    Learner,
    actor_losses,
    collect,
    critic_losses,
    draw_orders,
    td_target,
)
from multitask.rl.sac.descent import Descent
from multitask.rl.sac.loop import STREAMS, Policies, learn, play_and_learn
from multitask.runs.seeding import generator

SETS = {"MT10": (MT10, 160), "MT50": (MT50, 300)}  # tasks, width: Appendix J
SETTINGS = {
    "layers": 6,
    "learning_rate": 3e-4,
    "discount": 0.99,
    "target_rate": 5e-3,
    "critic_surgery": "separate",
}
SETTINGS |= {
    "reduction": "sum",
    "gradnorm_alpha": 1.5,
    "gradnorm_rate": 0.025,
    "cosreg_weight": 0.1,
}
COMPARED = ("sac", "sac_pcgrad", "multihead_sac_pcgrad", "independent", "gradnorm", "cosreg")
SIZES, BATCH, EPISODE = (39, 4), 128, 150
PAPER_SCALE = Path(__file__).parents[1] / "config/paper.yaml"


class Plain(Learner):
    """The update by autograd without task gradients: what SAC costs where nobody asks about
    conflicts.
    """

    def update(
        self, batch: Batch, noise: Tensor, orders: Tensor, measure_curvature: bool
    ) -> dict[str, Tensor]:
        """One backward pass of the summed losses for each network."""
        alpha, codes = self.log_alpha().exp(), self.codes
        discount = self.settings["discount"]
        target = td_target(
            batch, codes, self.actor, self.targets, alpha, noise[0], discount=discount
        )
        of_critics = self.descend(
            self.critics_descent, lambda p: critic_losses(p, batch, codes, target)
        )
        densities: list[Tensor] = []

        def loss(parameters: list[Tensor]) -> Tensor:
            losses, density = actor_losses(parameters, self.critics, batch, codes, alpha, noise[1])
            densities.append(density)
            return losses

        of_actor = self.descend(self.actor_descent, loss)
        self.step_temperatures(densities[0].mean(-1) + self.target_entropy)
        self.networks.targets.approach(self.networks.critics, self.settings["target_rate"])
        return {"losses": torch.cat([of_actor, of_critics])}

    def descend(self, descent: Descent, loss: Callable[[list[Tensor]], Tensor]) -> Tensor:
        """Step along the gradient of the summed losses."""
        network = descent.network
        leaves = [p.detach().requires_grad_() for p in network.parameters]
        losses = loss(leaves)
        found = torch.autograd.grad(losses.sum(), leaves)
        for gradient, new in zip(network.gradients, found, strict=True):
            gradient.copy_(new)
        descent.optimizer.step()
        return losses.detach()


def new_learner(
    kind: type[Learner], method: str, tasks: int, width: int, device: torch.device
) -> Learner:
    """Networks of Appendix J."""
    return kind(
        {**SETTINGS, "width": width},
        torch.eye(tasks),
        SIZES,
        METHODS[method],
        0,
        device,
        torch.float32,
    )


def update_case(tasks: int, width: int, device: torch.device) -> Candidates:
    """One update of every method, all on the same batch."""
    draw = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=draw)
    shape = (tasks, BATCH)
    actions = torch.rand(*shape, SIZES[1], generator=draw) * 2 - 1
    parts = (
        normal(*shape, SIZES[0]),
        actions,
        normal(shape),
        normal(*shape, SIZES[0]),
        torch.zeros(shape),
    )
    batch = Batch(*(part.to(device) for part in parts))
    noise = normal(2, *shape, SIZES[1]).to(device)
    orders = draw_orders("random", tasks, 1, draw)[0].to(device)

    kinds = {"plain": (Plain, "sac")} | {name: (Learner, name) for name in COMPARED}
    learners = {
        name: new_learner(kind, method, tasks, width, device)
        for name, (kind, method) in kinds.items()
    }
    return {
        name: partial(one.update, batch, noise, orders, False) for name, one in learners.items()
    }


def waiting(device: torch.device, workers: int, overlap: bool) -> float:
    """Percent of a collection of MT10 (one episode, one update per step) in which SAC + PCGrad does
    not learn.
    """
    tasks, width = SETS["MT10"]
    settings: dict[str, Any] = {
        "samples_per_collection": EPISODE,
        "updates_per_collection": EPISODE,
    }
    settings |= {
        "horizon": EPISODE,
        "batch_per_task": BATCH,
        "order": "random",
        "reward_scale": 1.0,
    }
    settings |= {"curvature_every": 0, "overlap": overlap}
    make = partial(MetaWorld, seed=0, horizon=EPISODE, reward_function_version="v1", goals="fixed")
    learner = new_learner(Learner, "sac_pcgrad", len(tasks), width, device)
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

    with Fleet([partial(make, task) for task in tasks], workers) as fleet:
        policies = Policies(learner, fleet, streams["action"], torch.float32)
        collect(fleet, policies.explore, 1, replay.add)
        start = time.perf_counter()
        play_and_learn(fleet, policies, replay, update, settings)
        whole = time.perf_counter() - start
    return 100 * (1 - learning[0] / whole)


def buffer_bytes(experiment: str) -> int:
    """Bytes of an experiment's replay buffers at paper scale, in float32."""
    paper = yaml.safe_load(PAPER_SCALE.read_text(encoding="utf-8"))["experiments"][experiment]
    played = (
        paper["warm_up_paths"] * paper["horizon"]
        + paper["collections"] * paper["samples_per_collection"]
    )
    numbers = 2 * SIZES[0] + SIZES[1] + 2  # two observations, action, reward, terminated
    return 4 * numbers * min(paper["buffer_capacity"], played) * len(SETS[paper["tasks"]][0])


def measure(repeats: int, device: torch.device) -> pd.DataFrame:
    """All cases in long form: set, what, value, unit, ratio."""
    rows: list[tuple[str, str, float, str, float | None]] = []
    for name, (tasks, width) in SETS.items():
        times = interleaved(
            update_case(len(tasks), width, device), repeats, least=repeats, device=device
        )
        medians = {method: statistics.median(seconds) for method, seconds in times.items()}
        for method, median in medians.items():
            rows.append((name, f"update, {method}", 1e3 * median, "ms", median / medians["plain"]))
        for workers in (0, 1, 2):
            made, speed, _ = once(tasks, workers).values()
            rows.append((name, f"making the environments, {workers} workers", made, "s", None))
            rows.append((name, f"environments, {workers} workers", speed, "steps/s", None))
        rows.append(
            (
                name,
                "buffers at paper scale",
                buffer_bytes(f"metaworld_{name.lower()}") / 1e9,
                "GB",
                None,
            )
        )
    for overlap, word in ((False, "in turn"), (True, "overlapping")):
        for workers in (0, 1):
            share = waiting(device, workers, overlap)
            rows.append(("MT10", f"learner waiting, {word}, {workers} workers", share, "%", None))
    return pd.DataFrame(rows, columns=["tasks", "what", "value", "unit", "ratio to plain"])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rl", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    table = measure(args.repeats, device)
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "rl.csv", index=False, float_format="%.4g")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU thread"
    machine = f"The learner on {where}, torch {torch.__version__}, {platform.machine()}"
    text = table.to_markdown(index=False, floatfmt=".2f")
    (args.out / "rl.md").write_text(
        f"{text}\n\n{machine}; medians of {args.repeats} repeats.\n", encoding="utf-8"
    )
    print((args.out / "rl.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
