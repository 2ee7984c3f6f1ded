"""Writes sentences about single experiments, the theory and the benchmarks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from reporting import render
from reporting.alone import TASKS, steps_of_a_task
from reporting.findings.claims import by_id, in_short, standing_of
from reporting.findings.results import Results, read_table
from reporting.labels import label, seeds_text
from reporting.ledger.claims import is_ours
from reporting.ledger.evidence import CLAIMED, samples, up_to
from reporting.ledger.verdicts import FALSE, HOLDS, READING
from reporting.runs import Runs, final
from reporting.statistics import interval, spread
from reporting.tables import EVALUATIONS, LEARNED

PAIR = ("sac", "sac_pcgrad")  # the methods whose difference is the paper's claim on MT10
THEORY = ("Theorem", "Proposition", "Corollary", "Section 2")  # beginnings of sources
PEERS = ("conflictfree", "libmtl", "torchjd", "literal")  # other implementations of the step


def landscape(one: Results) -> str:
    """The number of Figure 1's starts from which each method reaches the joint optimum."""
    found = one.file("landscape/summary.json")
    if not found:
        return ""
    reached = found["reached_joint_optimum"]
    return (
        f"Of {reached['starts']} starts Adam reaches the joint optimum from {reached['adam']}, "
        f"with PCGrad from {reached['adam_pcgrad']}."
    )


def geometry(one: Results) -> str:
    """Where the two paths of Figure 1 end, and the geometry at Adam's end."""
    found = one.file("landscape/summary.json")
    if not found:
        return ""
    adam, surgery = (found["runs"][name][0] for name in ("adam", "adam_pcgrad"))
    tail = adam["last_tenth"]
    # Adam swings across a valley, so that rounding can decide on which side of one half a share is.
    ends = found["runs"]["adam"]
    stalled = [run["last_tenth"] for run in ends if run["verdict"] != "joint optimum"] or [tail]
    shares = [end["conflict_share"] for end in stalled]
    others = f"of its {len(shares)} ends in one valley {min(shares):.0%} to {max(shares):.0%}"
    along_update, along_gradient = (
        render.significant(tail[name], np.nan, np.nan)
        for name in ("median_curvature_remainder", "median_plain_step_curvature_remainder")
    )
    return (
        f"From (0.5, −3) Adam ends in: {adam['verdict']}; with PCGrad: {surgery['verdict']}. "
        f"Where Adam ends, {tail['conflict_share']:.0%} of the updates conflict ({others}), "
        f"the gradients' lengths differ {tail['median_norm_ratio']:.0f}-fold, and the median "
        f"curvature is {along_update} along Adam's update and {along_gradient} along the plain "
        "gradient."
    )


def second_task(one: Results) -> str:
    """Figure 4: the number of seeds in which each method ever succeeds on the second task."""
    runs = one.runs("triad")
    if not runs.infos:
        return ""
    parts = []
    for method, success, _ in _on_second_task(runs):
        won = success[success["value"] > 0]["seed"].nunique()
        parts.append(f"{label(method)} in {won} of {success['seed'].nunique()} seeds")
    settings = runs.infos[0]["settings"]
    return (
        f"On {_task(settings['tasks'][1])} some episode of {settings['collections']} collections "
        f"succeeds with {', with '.join(parts)} ({_conditions_of(runs)})."
    )


def returns_on_second_task(one: Results) -> str:
    """Figure 4: when each method succeeds on the second task, and its highest return there."""
    runs = one.runs("triad")
    parts = []
    for method, success, returns in _on_second_task(runs) if runs.infos else []:
        # A stable sort picks the same run among equal returns on every machine.
        best = returns.sort_values("value", kind="stable").iloc[-1]
        ever = success[success["value"] > 0]
        when = "" if ever.empty else f" succeeds in collections {_range(ever['step'])};"
        parts.append(
            f"{label(method)}{when or ' never succeeds;'} its highest return is "
            f"{best['value']:,.0f} (seed {best['seed']}, collection {best['step']})."
        )
    return " ".join(parts)


def _on_second_task(runs: Runs) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Each method with its success and its return on the second task of Figure 4."""
    task = runs.infos[0]["settings"]["tasks"][1]
    for method in sorted({info["method"] for info in runs.infos}):
        rows = runs.select(method=method, task=task)
        yield method, rows[rows["metric"] == "success"], rows[rows["metric"] == "return"]


def _range(steps: "pd.Series[int]") -> str:
    return f"{steps.min()}" if steps.nunique() == 1 else f"{steps.min()} to {steps.max()}"


def conditions(one: Results) -> str:
    """Figure 4: two conditions of Theorem 2 along training with PCGrad."""
    claims, runs = by_id(one.claims), one.runs("triad")
    parts = []
    for name, words in (
        (
            "figure-4-condition-a",
            "Until half of task 2's episodes succeed, PCGrad's conflicts meet condition (a), "
            "cos φ ≤ −Φ, in a share of",
        ),
        ("figure-4-xi", "and ξ ≤ 1, which (b) needs, in"),
    ):
        if name in claims and np.isfinite(claims[name]["ours"]):
            line = claims[name]
            parts.append(
                f"{words} {render.significant(line['ours'], line['ours_low'], line['ours_high'])}"
            )
    if not parts:
        return ""
    seeds = {seed for info in runs.infos for seed in info["seeds"]}
    return f"{' '.join(parts)} ({seeds_text(len(seeds))}; {_conditions_of(runs)})."


def curvatures(one: Results) -> str:
    """Figure 4: the curvature along training without PCGrad."""
    rows = one.runs("triad").select(method="sac", task="all")
    parts = []
    # Curvatures of seeds differ by orders of magnitude, so their mean would be that of one seed.
    for names, words in ((("actor",), "the actor"), (("q1", "q2"), "the critics")):
        own = rows[rows["metric"].isin([f"curvature_remainder_{name}" for name in names])]
        if len(own):
            found = spread(own.groupby("seed")["value"].mean())
            middle, low, high = (
                render.significant(value, np.nan, np.nan)
                for value in (found.center, found.low, found.high)
            )
            parts.append(f"for {words} {middle} in the median seed ({low} to {high})")
    if not parts:
        return ""
    return f"Without PCGrad the mean curvature over a run is {', '.join(parts)}."


def shares_on_mt10(one: Results) -> str:
    """MT10: the shares of the conflicts in which two conditions of Theorem 2 hold, by network."""
    runs = one.runs("metaworld_mt10")
    parts = []
    for metric, words in (("condition_a_share", "condition (a)"), ("xi_le_1_share", "ξ ≤ 1")):
        for names, network in ((("actor",), "actor"), (("q1", "q2"), "critics")):
            levels = []
            for method in ("sac", "sac_pcgrad"):
                rows = runs.select(method=method, task="all")
                rows = rows[rows["metric"].isin([f"{metric}_{name}" for name in names])]
                if rows["value"].notna().any():
                    levels.append(f"{label(method)} {rows['value'].mean():.2f}")
            parts += [f"{words}, {network}: {', '.join(levels)}"] if levels else []
    if not parts:
        return ""
    return f"On MT10 the shares, means over whole runs, are: {'; '.join(parts)}."


def step_of_theorem_2(one: Results) -> str:
    """The length of step that condition (c) of Theorem 2 asks for in Figure 4's runs.

    ξ is the median over the medians of all collections, networks and seeds of a method.
    """
    parts = []
    for method, xi in _medians_of_xi(one):
        middle = float(xi.median())
        # Condition (c): t ≥ 2/(ℓ − ξL) ≥ (2/L) / (1 − ξ), because ℓ ≤ L.
        words = f"{1 / (1 - middle):,.0f} times 2/L" if middle < 1 else "no step"
        parts.append(f"{words} ({label(method)})")
    if not parts:
        return ""
    return (
        "Its condition (c), t ≥ 2/(ℓ − ξL), asks at the median ξ, even with ℓ = L, for a step of "
        f"{' and '.join(parts)}. Theorem 1 allows at most 1/L."
    )


def xi_of_theorem_2(one: Results) -> str:
    """The median ξ of Figure 4's runs, and how often no step meets condition (c)."""
    parts = [
        f"{label(method)}: ξ = {xi.median():.4f}; in {(xi >= 1).mean():.0%} of the collections the "
        "median is above 1, and no step is long enough."
        for method, xi in _medians_of_xi(one)
    ]
    return " ".join(parts)


def _medians_of_xi(one: Results) -> Iterator[tuple[str, "pd.Series[float]"]]:
    """Each method of Figure 4 with its medians of ξ over a collection, where there are any."""
    runs = one.runs("triad")
    for method in sorted({info["method"] for info in runs.infos}):
        rows = runs.select(method=method, task="all")
        xi = rows[rows["metric"].str.startswith("xi_median")]["value"].dropna()
        if len(xi):
            yield method, xi


def equal_samples(frame: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """The rows of every run up to the number of samples that all runs have, and that number.

    Runs of MT10 are compared where the ledger reads its claims, as soon as all are there.
    """
    most = float(samples(frame).groupby(["method", "seed"])["value"].max().min())
    mt10 = (frame["experiment"] == "metaworld_mt10").all()
    budget = CLAIMED if mt10 and most >= CLAIMED else most
    return up_to(frame, budget), budget


def learned(one: Results, experiment: str) -> str:
    """The number of seeds in which each method learns each task, after equally many samples.

    A task is learned if its mean success over the last evaluations is at least LEARNED.
    """
    runs = one.runs(experiment)
    methods = dict.fromkeys(info["method"] for info in runs.infos)
    frame, _ = equal_samples(runs.frame)
    frame = frame[(frame["metric"] == "evaluation_success") & (frame["task"] != "all")]
    parts, never = [], set[str]()
    for method in methods:
        rows = frame[frame["method"] == method]
        ends = rows.sort_values("step").groupby(["task", "seed"])
        # Average each run's end before comparing: single evaluations have few episodes.
        means = ends["value"].apply(lambda values: values.tail(EVALUATIONS[experiment]).mean())
        counts = (means >= LEARNED).groupby("task").agg(["sum", "size"])
        learned = counts[counts["sum"] > 0]
        words = [f"{_task(task)} ({won} of {size})" for task, (won, size) in learned.iterrows()]
        parts.append(f"{label(method)}: {', '.join(words) or 'none'}")
        others = {_task(task) for task in counts.index.difference(learned.index)}
        never = never & others if len(parts) > 1 else others
    if not parts:
        return ""
    rest = f" No seed of any method learns {', '.join(sorted(never))}." if never else ""
    return (
        f"Tasks with a success of at least {LEARNED:g} in the last evaluations (number of seeds): "
        f"{'; '.join(parts)}.{rest}"
    )


def learned_alone(one: Results) -> str:
    """Which of MT10's tasks SAC learns when each has a network and samples of its own."""
    runs = one.runs("metaworld_alone")
    rows = runs.frame
    rows = rows[(rows["metric"] == "evaluation_success") & (rows["task"] != "all")]
    if rows.empty:
        return ""
    ends = final(rows, last=EVALUATIONS["metaworld_alone"])
    won = ends.assign(won=ends["value"] >= LEARNED).groupby("task")["won"].agg(["sum", "size"])
    words = [f"{_task(task)} ({n} of {size})" for task, (n, size) in won.iterrows() if n]
    never = ", ".join(_task(task) for task in won.index[won["sum"] == 0])
    steps = steps_of_a_task(runs).groupby("method").max().min()
    rest = f"; not {never}" if never else ""
    size = f"{steps:,.0f} steps of each instead of {CLAIMED / TASKS:,.0f}"
    conditions = f"{size}; {seeds_text(won['size'].max())}; {_conditions_of(runs)}"
    return (
        f"Each task alone, with a network of its own ({conditions}): SAC learns "
        f"{', '.join(words) or 'none'}{rest}."
    )


def _task(name: object) -> str:
    return str(name).removesuffix("-v3")


def headline(one: Results) -> str:
    """MT10: how far SAC gets with and without PCGrad, in paired seeds after equally many samples.

    A level is the mean of the last evaluations up to there, as in the ledger.
    """
    levels, budget = _levels(one)
    if levels.empty:
        return ""
    ends = levels[levels["task"] == "all"].set_index(["method", "seed"])["value"]
    gains = ends[PAIR[1]] - ends[PAIR[0]]
    gain = interval(gains.to_list())
    words = [f"{label(method)} {ends[method].mean():.2f}" for method in PAIR]
    runs = one.runs("metaworld_mt10")
    return (
        f"{in_short(one)}Share of the ten tasks solved after {budget / 1e6:.2g} million "
        "environment steps (the paper's curves end at 5 million): "
        f"{', '.join(words)}; difference "
        f"{render.significant(gain.center, gain.low, gain.high)} "
        f"({len(gains)} paired {'seed' if len(gains) == 1 else 'seeds'}; {_conditions_of(runs)})."
        f"{standing_of(one, gain.center)}"
    )


def gains_of_tasks(one: Results) -> str:
    """MT10: the gain of PCGrad over SAC in single tasks, which an average could hide."""
    levels, _ = _levels(one)
    levels = levels[levels["task"] != "all"]
    if levels.empty:
        return ""
    means = levels.groupby(["task", "method"])["value"].mean().unstack()
    gains = (means[PAIR[1]] - means[PAIR[0]]).sort_values(key=abs, ascending=False)
    single = [
        f"{_task(task)} {render.number(value, 2, sign=True)}"
        for task, value in gains.items()
        if abs(value) >= 0.005
    ]
    return f"Differences of single tasks: {', '.join(single) or 'none'}; of the others 0."


def _levels(one: Results) -> tuple[pd.DataFrame, float]:
    """The success of SAC with and without PCGrad at the end of their paired seeds on MT10.

    One row per method, seed and task, and the number of samples at which they are read.
    """
    frame = one.runs("metaworld_mt10").frame
    seeds = [set(frame[frame["method"] == method]["seed"]) for method in PAIR]
    frame = frame[frame["method"].isin(PAIR) & frame["seed"].isin(seeds[0] & seeds[1])]
    if frame.empty:
        return frame, 0.0
    frame, budget = equal_samples(frame)
    rows = frame[frame["metric"] == "evaluation_success"]
    return final(rows, last=EVALUATIONS["metaworld_mt10"]), budget


def _conditions_of(runs: Runs) -> str:
    """What a reader must know beside the numbers: the simulator and the precision."""
    info = runs.infos[0]
    precision = info["settings"].get("precision", "float32")
    return f"Meta-World {info['data']['metaworld']}, {precision}"


def rewards(one: Results) -> str:
    """In how many tasks version 1 of Meta-World's rewards pays the scripted policy too little."""
    groups = _badly_paid(one)
    if not groups:
        return ""
    table = one.table("table_experts")
    solved = table[table["success_step_v1"] > 0]
    parts = [f"{words} in {len(part)}" for words, part in groups.items()]
    return (
        "Version 1 of the rewards has the formulas of 2019, but today's constants and geometry. "
        f"Meta-World's scripted policy solves {len(solved)} of {len(table)} tasks; "
        f"version 1 pays it {' and '.join(parts)}."
    )


def rewards_of_mt10(one: Results) -> str:
    """The tasks of MT10 in which version 1 of the rewards pays the scripted policy too little."""
    parts = [
        f"{words}: " + (", ".join(map(_task, part[part["mt10"]]["task"])) or "none")
        for words, part in _badly_paid(one).items()
    ]
    return f"The tasks of MT10 among them: {'; '.join(parts)}." if parts else ""


def _badly_paid(one: Results) -> dict[str, pd.DataFrame]:
    """{how little version 1 of the rewards pays the scripted policy: the tasks}."""
    table = one.table("table_experts")
    if table.empty:
        return {}
    paid, others = table["expert_reward_v1"], table[["random_reward_v1", "still_reward_v1"]]
    # A policy that solves a task should earn more than one that ignores it.
    return {
        "nothing": table[paid <= 0],
        "less than standing still or random actions": table[paid < others.max(axis=1)],
    }


def theory(claims: pd.DataFrame) -> str:
    """The sources with a statement that is false, and how many hold in a part or a reading."""
    rows = claims[claims["source"].str.startswith(THEORY)]
    wrong = list(dict.fromkeys(rows[(rows["verdict"] == FALSE) & ~is_ours(rows)]["source"]))
    if not wrong:
        return "No statement is false as stated."
    # A source can be false as stated in one part and hold in another part or reading.
    held = set(rows[rows["verdict"].isin([HOLDS, READING])]["source"])
    rescued = [name for name in wrong if name in held]
    return (
        f"No: each of {', '.join(wrong)} has a statement that is false as stated. In "
        f"{'each' if rescued == wrong else len(rescued)} of them another part or a reading holds."
    )


def cost(benchmarks: Path) -> str:
    """The cost of a step with PCGrad, read from the benchmarks' table."""
    path = benchmarks / "speed_cpu.csv"
    if not path.is_file():
        return ""
    table = read_table(path)
    # A ratio compares a step with the same step without surgery, on the same machine.
    steps = table[(table["kind"] == "step") & table["ratio"].notna()]
    ours = steps[steps["code"] == "pcgrad"].set_index("case")
    peers = steps[steps["code"].isin(PEERS)]
    faster = [
        case
        for case, line in ours.iterrows()
        if (peers[peers["case"] == case]["ratio"] > line["ratio"]).all()
    ]
    by_ratio = ours.sort_values("ratio")
    low, high = by_ratio.iloc[0], by_ratio.iloc[-1]
    return (
        f"One training step takes {low['ratio']:.2f} times ({low['T']} tasks) to "
        f"{high['ratio']:.1f} times ({high['T']} tasks) the step without surgery; in {len(faster)} "
        f"of {len(ours)} cases less than every other implementation measured."
    )
