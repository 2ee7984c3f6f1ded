"""Tables of final success, conflicts and cost of every method on Meta-World's task sets.

The paper shows only curves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reporting.comparison import Comparison
from reporting.ledger.evidence import to_claimed
from reporting.runs import Runs, final
from reporting.statistics import NAN, interval, iqm
from reporting.tables import COLUMNS, EVALUATIONS, Quantity

METHODS = (
    "sac",
    "sac_pcgrad",
    "multihead_sac",
    "multihead_sac_pcgrad",
    "independent",
    "direction_only",
    "magnitude_only",
    "gradnorm",
    "cosreg",
    "sac_pcgrad_fixed",
    "sac_reward_normalized",
    "sac_pcgrad_reward_normalized",
    "sac_weight_decay",
)
ALONE = ("fixed_goal", "varied_goals")  # methods of the single task reach
FLOAT32, VERSION_2 = "_float32", "_v2"  # suffixes: checks of bfloat16, later version of rewards
SUCCESS = "evaluation_success"
IQM = f"{SUCCESS}_iqm"  # over all tasks and seeds at once, not over means of tasks


@dataclass(frozen=True)
class TaskSet(Comparison):
    """A comparison with a share of conflicts, and with an interquartile mean of success."""

    last: int = 1

    def table(self, runs: Runs) -> pd.DataFrame:
        """The lines of Comparison, then the interquartile means."""
        frame = to_claimed(runs.frame, [SUCCESS, "success", "success_last"])
        lines = super().table(Runs(with_minutes(with_shares(frame)), runs.infos))
        return pd.concat([lines, iqm_lines(frame, self.methods, self.last)], ignore_index=True)


def with_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `conflict_share_q1` of every collection, the ratio of the two recorded counts."""
    keys = ["experiment", "method", "seed", "step", "task"]
    conflicts, pairs = (
        frame[frame["metric"] == f"{count}_q1"].set_index(keys)["value"]
        for count in ("conflicts", "pairs")
    )
    shares = (conflicts / pairs).reset_index().assign(metric="conflict_share_q1")
    return pd.concat([frame, shares], ignore_index=True)


def with_minutes(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `run_minutes`, which are easier to read than seconds for runs of hours."""
    costs = frame[frame["metric"] == "run_seconds"]
    minutes = costs.assign(metric="run_minutes", value=costs["value"] / 60)
    return pd.concat([frame, minutes], ignore_index=True)


def iqm_lines(frame: pd.DataFrame, methods: Sequence[str], last: int) -> pd.DataFrame:
    """One line per method: the mean of the middle half of all tasks and seeds.

    It has an interval only for 10 or more seeds.
    """
    ends = final(frame[(frame["metric"] == SUCCESS) & (frame["task"] != "all")], last=last)
    lines = []
    for method in methods:
        tasks = ends[ends["method"] == method].pivot(index="task", columns="seed", values="value")
        if tasks.empty:
            continue
        # With few seeds the interval belongs to the mean over tasks, which has its own column.
        found = interval(tasks)
        low, high = (found.low, found.high) if found.estimator == "IQM" else (NAN, NAN)
        line = {
            "method": method,
            "task": "all",
            "metric": IQM,
            "mean": iqm(tasks),
            "ci_low": low,
            "ci_high": high,
        }
        lines.append({**line, "seeds": tasks.shape[1], "estimator": "IQM"})
    return pd.DataFrame(lines, columns=COLUMNS)


def table(tasks: str) -> TaskSet:
    """The table of `mt3`, `mt10`, `mt50` or `reach`."""
    methods = ALONE if tasks == "reach" else METHODS
    last = EVALUATIONS[f"metaworld_{tasks}"]
    checked = [(method, method + FLOAT32) for method in methods if tasks in ("reach", "mt3")]
    later = [method + VERSION_2 for method in ("sac_pcgrad", "sac") if tasks == "mt10"]
    methods = (*methods, *(second for _, second in checked), *later)
    name = {"mt3": "MT3 (ours)", "reach": "Reach (ours)"}.get(tasks, tasks.upper())
    # Returns of several tasks differ by orders of magnitude: one task would dominate a mean.
    one = Quantity("all", "return", "return in training", 0, last=last)
    alone = [one] if tasks == "reach" else []
    return TaskSet(
        source=f"table_{tasks}",
        title=f"{name}: the end of training",
        experiment=f"metaworld_{tasks}",
        methods=methods,
        last=last,
        pairs=(
            *(("sac_pcgrad", other) for other in METHODS if other != "sac_pcgrad"),
            ("multihead_sac_pcgrad", "multihead_sac"),
            *checked,
            *([(later[0], later[1])] if later else []),
        ),
        quantities=(
            Quantity("all", SUCCESS, "success", 3, last=last, compare=True),
            Quantity("all", IQM, "success, IQM", 3),
            Quantity("all", "success", "success in training", 3, last=last),
            Quantity("all", "success_last", "at the last step", 3, last=last),
            *alone,
            Quantity("all", "conflict_share_q1", "conflicts, critic 1", 3, over="all"),
            Quantity("all", "length_ratio_q1", "length ratio, critic 1", 3, over="all"),
            Quantity("all", "run_minutes", "minutes a run", 0),
            Quantity("all", "peak_memory_mb", "peak memory, MB", 0),
        ),
        notes=(
            "success: share of episodes with success at any step, mean over tasks and the last "
            f"{last} evaluation(s) or, in training, collection(s)",
            *(
                [
                    "the evaluations and collections are those up to 1 million samples, as in the "
                    "claims, once all runs are there; positions are fixed, so that all episodes of "
                    "one evaluation are equal"
                ]
                if tasks == "mt10"
                else []
            ),
            "success is that of the deterministic policy; in training, and at the last step, that "
            "of sampled actions",
            "IQM: mean of the middle half of all tasks and seeds; "
            "interval (bootstrap within tasks) from 10 seeds up",
            "the paper shows curves only; Figure 3 marks the ends that its text names",
        ),
    )


REACH, MT3, MT10, MT50 = table("reach"), table("mt3"), table("mt10"), table("mt50")
