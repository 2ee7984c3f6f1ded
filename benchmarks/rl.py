"""Time multi-task SAC on Meta-World: making the environments, their steps, one update, and who waits for whom.

    python -m benchmarks.rl --out results/benchmarks

- *update*: critics, actor, temperatures, targets on the networks and batches of Appendix J, as ratios to the plain
  update, which asks for no task gradients at all; repeats interleaved. (The loop's own SAC takes the task gradients
  too, because it records conflicts.)
- *environments*: seconds to make them, steps a second of all tasks together, by number of worker processes.
- *waiting*: the share of the time in which the learner waits for environments, at one update per step of every task.
Writes `rl.csv` and `rl.md`.
"""

import argparse
import platform
import statistics
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.environments import once
from benchmarks.run import Candidates, interleaved
from multitask.envs import MT10, MT50
from multitask.replay import Batch
from multitask.sac import METHODS, Learner, draw_orders
from multitask.sac.learner import Loss

SETS = {"MT10": (MT10, 160), "MT50": (MT50, 300)}  # tasks, width: Appendix J
SETTINGS = {"layers": 6, "learning_rate": 3e-4, "discount": 0.99, "target_rate": 5e-3, "critic_surgery": "separate"}
SETTINGS |= {"reduction": "sum", "gradnorm_alpha": 1.5, "gradnorm_rate": 0.025, "cosreg_weight": 0.1}
COMPARED = ("sac", "sac_pcgrad", "multihead_sac_pcgrad", "independent", "gradnorm", "cosreg")
SIZES, BATCH = (39, 4), 128


class Plain(Learner):
    """The update without task gradients: what SAC costs where nobody asks about conflicts."""

    def descend(
        self, rows: slice, parameters: list[Tensor], loss: Loss, orders: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One backward pass of the summed losses."""
        leaves = [p.detach().requires_grad_() for p in parameters]
        losses = loss(leaves, [])
        for parameter, gradient in zip(parameters, torch.autograd.grad(losses.sum(), leaves), strict=True):
            parameter.grad = gradient
        self.optimizers[rows.start].step()
        none = torch.zeros(len(losses), self.tasks, dtype=torch.float64)
        return losses.detach(), torch.diag_embed(none), none


def update_case(tasks: int, width: int) -> Candidates:
    """One update of every method, all on the same batch."""
    draw = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=draw)
    shape = (tasks, BATCH)
    actions = torch.rand(*shape, SIZES[1], generator=draw) * 2 - 1
    batch = Batch(normal(*shape, SIZES[0]), actions, normal(shape), normal(*shape, SIZES[0]), torch.zeros(shape))
    noise, orders = normal(2, *shape, SIZES[1]), draw_orders("random", tasks, 1, draw)[0]

    def learner(kind: type[Learner], method: str) -> Learner:
        settings = {**SETTINGS, "width": width}
        return kind(settings, torch.eye(tasks), SIZES, METHODS[method], 0, torch.device("cpu"), torch.float32)

    learners = {"plain": learner(Plain, "sac")} | {name: learner(Learner, name) for name in COMPARED}
    return {name: partial(one.update, batch, noise, orders, False) for name, one in learners.items()}


def measure(repeats: int) -> pd.DataFrame:
    """All cases in long form: set, what, value, unit, ratio."""
    rows: list[tuple[str, str, float, str, float | None]] = []
    for name, (tasks, width) in SETS.items():
        times = interleaved(update_case(len(tasks), width), repeats)
        medians = {method: statistics.median(seconds) for method, seconds in times.items()}
        for method, median in medians.items():
            rows.append((name, f"update, {method}", 1e3 * median, "ms", median / medians["plain"]))
        speeds = {}
        for workers in (0, 1, 2):
            made, speeds[workers], _ = once(tasks, workers).values()
            rows.append((name, f"making the environments, {workers} workers", made, "s", None))
            rows.append((name, f"environments, {workers} workers", speeds[workers], "steps/s", None))
        acting = len(tasks) / speeds[0]  # one step of every task, then one update
        rows.append((name, "waiting, 0 workers", 100 * acting / (acting + medians["sac_pcgrad"]), "%", None))
    return pd.DataFrame(rows, columns=["tasks", "what", "value", "unit", "ratio to plain"])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rl", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--repeats", type=int, default=11)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = measure(args.repeats)
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "rl.csv", index=False, float_format="%.4g")
    machine = f"One CPU thread for the learner, torch {torch.__version__}, {platform.machine()}"
    text = table.to_markdown(index=False, floatfmt=".2f")
    (args.out / "rl.md").write_text(f"{text}\n\n{machine}; medians of {args.repeats} repeats.\n", encoding="utf-8")
    print((args.out / "rl.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
