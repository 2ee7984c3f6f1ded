"""Writes the sentences about results from templates that read the result files.

`read` collects the result files of one or more scales. `answers` returns the questions with their
answers, `claim_sentence` a sentence for one claim of the ledger, and `headlines` the numbers that
open the report. A template whose files are missing returns an empty text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reporting import render
from reporting.labels import label
from reporting.ledger.verdicts import (
    FALSE,
    HOLDS,
    NOT_TESTED,
    READING,
    SIGNIFICANCE,
    VERDICTS,
)
from reporting.runs import Runs, metrics_below, read_runs
from reporting.statistics import LEAST_SEEDS, interval

RANK = ("paper", "gpu", "laptop")  # scales whose numbers are evidence, strongest first
LOWER = ("error", "Err", "angle", "loss", "distance")  # parts of metrics where lower is better
PEERS = ("conflictfree", "libmtl", "torchjd", "literal")  # other implementations of the step
LAST = 10  # collections averaged at the end of a run, as in claims.yaml
EVALUATIONS = 5  # evaluations averaged at the end of MT10's runs, as in claims.yaml
LEARNED = 0.5  # a task is learned if its success at the end is at least this share
# Claims that open the report. An untested one is shown with the paper's number alone.
HEADLINES = (
    "figure-3-mt10-solved",
    "figure-3-mt50-70",
    "table-1-miou",
    "table-1-depth",
    "table-2-independent",
    "table-2-routing",
    "table-3",
    "table-4-left",
    "table-4-right",
    "table-5-miou",
)


@dataclass(frozen=True)
class Results:
    """The result files of one scale: `results/<scale>` or `results/published/<scale>`."""

    folder: Path

    @property
    def scale(self) -> str:
        """The scale's name."""
        return str(self.claims["scale"].iloc[0]) if len(self.claims) else self.folder.name

    @cached_property
    def claims(self) -> pd.DataFrame:
        """`claims.csv`."""
        return pd.read_csv(self.folder / "claims.csv", dtype={"agrees": str, "reason": str})

    def table(self, name: str) -> pd.DataFrame:
        """`tables/<name>.csv`; empty if the scale has none."""
        path = self.folder / "tables" / f"{name}.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame()

    def tables(self) -> list[str]:
        """The names of the scale's tables."""
        return sorted(path.stem for path in (self.folder / "tables").glob("table_*.csv"))

    def footer(self, name: str) -> list[str]:
        """The lines below a table, read from its Markdown file."""
        path = self.folder / "tables" / f"{name}.md"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [line[2:] for line in lines if line.startswith("- ")]

    def title(self, name: str) -> str:
        """A table's title, read from its HTML page; its name if there is no page."""
        path = self.folder / "tables" / f"{name}.html"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return text.partition("<title>")[2].partition(" (scale")[0] or name.replace("_", " ")

    def runs(self, experiment: str) -> Runs:
        """The runs of one experiment."""
        # Thinned runs kept the rows that sentences read.
        return read_runs(metrics_below(self.folder, experiment), thinned=True)

    def file(self, name: str) -> dict[str, Any]:
        """The content of a JSON file of the scale; empty if there is none."""
        path = self.folder / name
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def read(folders: Iterable[str | Path]) -> list[Results]:
    """The results of the folders that hold a ledger, strongest scale first."""
    found = [Results(Path(folder)) for folder in folders if (Path(folder) / "claims.csv").is_file()]
    return sorted(found, key=lambda one: _rank(one.scale))


def _rank(scale: str) -> int:
    return RANK.index(scale) if scale in RANK else len(RANK)


def ledger(results: Sequence[Results]) -> pd.DataFrame:
    """One line per claim, taken from the strongest scale that tested the claim."""
    lines: dict[str, Any] = {}
    for one in results:
        for line in one.claims.to_dict("records"):
            # Results are sorted by strength: a later scale only replaces an untested line.
            known = lines.get(line["id"])
            if known is None or (known["verdict"] == NOT_TESTED and line["verdict"] != NOT_TESTED):
                lines[line["id"]] = line
    return pd.DataFrame(list(lines.values()))


# ------------------------------------------------------------------ sentences about claims


def claim_sentence(line: Mapping[Any, Any]) -> str:
    """One claim with its verdict and the numbers behind it."""
    text = f"{line['claim'][:1].upper()}{line['claim'][1:]}: **{line['verdict']}**"
    if line["verdict"] == NOT_TESTED:
        return f"{text} ({line['reason']})."
    parts = []
    # Names of files' keys, such as conflict_share, become words.
    reason = str(line["reason"] or "").replace("_", " ")
    if np.isfinite(line["effect"]):
        effect = render.significant(line["effect"], line["ci_low"], line["ci_high"])
        parts.append(
            f"effect {effect} over {int(line['seeds'])} seeds, above 0 on the claimed side"
        )
    if reason:
        parts.append(reason)
    if np.isfinite(line["ours"]):
        ours = render.significant(line["ours"], line["ours_low"], line["ours_high"], 4)
        against = f" against {line['paper']:g} in the paper" if np.isfinite(line["paper"]) else ""
        parts.append(f"ours {ours}{against}")
    return f"{text} ({'; '.join(parts)}; scale {line['scale']})."


def count(claims: pd.DataFrame) -> dict[str, int]:
    """{verdict: number of claims}, in the order of the verdicts."""
    numbers = claims["verdict"].value_counts()
    # Published results can hold words of an earlier version; count them after the others.
    earlier = [word for word in numbers.index if word not in VERDICTS]
    return {word: int(numbers.get(word, 0)) for word in (*VERDICTS, *earlier)}


def verdict_words(claims: pd.DataFrame) -> str:
    """The verdicts in words, for example "5 claims: 3 replicated, 2 inconclusive"."""
    parts = [f"{number} {word}" for word, number in count(claims).items() if number]
    word = "claim" if len(claims) == 1 else "claims"
    return f"{len(claims)} {word}: {', '.join(parts)}"


def by_id(claims: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    """The ledger as {claim's id: its line}."""
    return {str(line["id"]): line for line in claims.to_dict("records")}


def headlines(results: Sequence[Results]) -> pd.DataFrame:
    """The numbers that open the report: columns claim, paper, ours, verdict, scale."""
    claims = by_id(ledger(results))
    rows = []
    for line in (claims[name] for name in HEADLINES if name in claims):
        tested = line["verdict"] != NOT_TESTED
        ours = render.significant(line["ours"], line["ours_low"], line["ours_high"], 4)
        rows.append(
            {
                "claim": f"{line['source']}: {line['claim']}",
                "paper": f"{line['paper']:g}",
                "ours": ours if tested else render.DASH,
                "verdict": line["verdict"],
                "scale": line["scale"] if tested else render.DASH,
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ sentences about tables


def better_low(metric: str) -> bool:
    """Whether a low value of the metric is good."""
    return any(word in metric for word in LOWER)


def differences(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The lines "a - b" of a table that have enough seeds.

    Each line gets the keys left (a), right (b), gain (positive if a is better) and ends (the
    interval of the gain, ascending).
    """
    # Tables of other things than methods have no differences.
    if not {"method", "task", "metric", "mean", "ci_low", "ci_high", "seeds"} <= set(table.columns):
        return
    for line in table.to_dict("records"):
        left, minus, right = str(line["method"]).partition(" - ")
        if not minus or line["seeds"] < LEAST_SEEDS or not np.isfinite(line["mean"]):
            continue
        # Turn the difference so that a positive gain is an improvement.
        sign = -1.0 if better_low(line["metric"]) else 1.0
        ends = sorted((sign * line["ci_low"], sign * line["ci_high"]))
        named: dict[str, Any] = {str(key): value for key, value in line.items()}
        yield {**named, "left": left, "right": right, "gain": sign * line["mean"], "ends": ends}


def standing(table: pd.DataFrame, left: str) -> str:
    """For every metric, the methods that `left` beats, loses to, or is not told apart from."""
    lines = [line for line in differences(table) if line["left"] == left]
    sentences = []
    for task, metric in dict.fromkeys((line["task"], line["metric"]) for line in lines):
        part = [line for line in lines if (line["task"], line["metric"]) == (task, metric)]
        own = table[
            (table["method"] == left) & (table["task"] == task) & (table["metric"] == metric)
        ]
        mean, low, high = own[["mean", "ci_low", "ci_high"]].to_numpy(dtype=float)[0]
        level = render.significant(mean, low, high, 4)
        where = "" if task == "all" else f" ({task})"
        words = metric.removeprefix("test_").replace("_", " ")
        groups = _groups(part)
        seeds = sorted({int(line["seeds"]) for line in part})
        paired = f"{'–'.join(map(str, seeds))} paired seeds"
        sentences.append(f"{label(left)} has {words}{where} {level}, {groups} ({paired})")
    return ". ".join(sentences) + "." * bool(sentences)


def _groups(lines: Sequence[Mapping[str, Any]]) -> str:
    better = [_named(line) for line in lines if line["ends"][0] > 0]
    worse = [_named(line) for line in lines if line["ends"][1] < 0]
    open_ = [label(line["right"]) for line in lines if line["ends"][0] <= 0 <= line["ends"][1]]
    parts = [
        f"better than {', '.join(better)}" if better else "",
        f"worse than {', '.join(worse)}" if worse else "",
        f"not told apart from {', '.join(open_)}" if open_ else "",
    ]
    return "; ".join(filter(None, parts))


def _named(line: Mapping[str, Any]) -> str:
    """The other method with the difference; a star if it is not significant after Holm."""
    star = "" if line["p_holm"] < SIGNIFICANCE else "*"
    return f"{label(line['right'])} ({render.significant(line['mean'], np.nan, np.nan, 2)}{star})"


def compared(table: pd.DataFrame) -> list[str]:
    """The methods with PCGrad that a table compares with others, in the order of the table."""
    names = dict.fromkeys(line["left"] for line in differences(table))
    return [name for name in names if "pcgrad" in name]


def short_standing(table: pd.DataFrame, left: str) -> str:
    """A shorter `standing` for the table of answers: counts of comparisons without numbers."""
    lines = [line for line in differences(table) if line["left"] == left]
    better = [line for line in lines if line["ends"][0] > 0]
    worse = [line for line in lines if line["ends"][1] < 0]
    firm = [line for line in (*better, *worse) if line["p_holm"] < SIGNIFICANCE]
    found, rest = len(better) + len(worse), len(lines) - len(better) - len(worse)
    if not found:
        return f"{label(left)}: no difference to another method is told apart from zero."
    names = [
        f"{words} than {_names(part)}"
        for words, part in (("better", better), ("worse", worse))
        if part
    ]
    kept = f"{len(firm)} of these {found} differences remain"
    if found == 1:
        kept = "it remains" if firm else "it does not remain"
    elif len(firm) in (0, found):
        kept = "all of them remain" if firm else "none of them remains"
    return (
        f"{label(left)} is {', and '.join(names)}; after Holm's correction {kept}. "
        f"{rest} of {len(lines)} comparisons {'is' if rest == 1 else 'are'} undecided."
    )


def _names(lines: Sequence[Mapping[str, Any]]) -> str:
    tasks: dict[str, list[str]] = {}
    for line in lines:
        tasks.setdefault(label(line["right"]), []).append(line["task"])
    # Labels contain commas.
    return " · ".join(
        name if set(found) == {"all"} else f"{name} ({', '.join(dict.fromkeys(found))})"
        for name, found in tasks.items()
    )


# ------------------------------------------------------------------ sentences about single files


def landscape(one: Results) -> str:
    """Where the two paths of Figure 1 end, and the geometry at Adam's end."""
    found = one.file("landscape/summary.json")
    if not found:
        return ""
    reached = found["reached_joint_optimum"]
    adam, surgery = (found["runs"][name][0] for name in ("adam", "adam_pcgrad"))
    tail = adam["last_tenth"]
    curvature = render.significant(tail["median_curvature_remainder"], np.nan, np.nan)
    return (
        f"From (0.5, −3) Adam ends in: {adam['verdict']}; with PCGrad: {surgery['verdict']}. "
        f"Of {reached['starts']} starts Adam reaches the joint optimum from {reached['adam']}, "
        f"with PCGrad from {reached['adam_pcgrad']}. Where Adam ends, "
        f"{tail['conflict_share']:.0%} of the updates conflict, the gradients' lengths differ "
        f"{tail['median_norm_ratio']:.0f}-fold, and "
        f"the median curvature along the update is {curvature}."
    )


def second_task(one: Results) -> str:
    """Figure 4: each method's successes on the second task, and its highest return."""
    runs = one.runs("triad")
    if not runs.infos:
        return ""
    task = runs.infos[0]["settings"]["tasks"][1]
    parts = []
    for method in sorted({info["method"] for info in runs.infos}):
        success = runs.select(method=method, task=task, metric="success")
        returns = runs.select(method=method, task=task, metric="return")
        # A stable sort picks the same run among equal returns on every machine.
        best = returns.sort_values("value", kind="stable").iloc[-1]
        ever = success[success["value"] > 0]
        when = "" if ever.empty else f" (collections {_range(ever['step'])})"
        parts.append(
            f"{label(method)} succeeds in {ever['seed'].nunique()} of {success['seed'].nunique()} "
            f"seeds{when}; its highest return is {render.number(best['value'], 0)} (seed "
            f"{best['seed']}, collection {best['step']})"
        )
    collections = runs.infos[0]["settings"]["collections"]
    name = task.removesuffix("-v3")
    return f"On {name}, in {collections} collections: {'. '.join(parts)}."


def _range(steps: "pd.Series[int]") -> str:
    return f"{steps.min()}" if steps.nunique() == 1 else f"{steps.min()} to {steps.max()}"


def conditions(one: Results) -> str:
    """Figure 4: the curvature and two conditions of Theorem 2 along training."""
    claims = by_id(one.claims)
    parts = []
    for name, words in (
        ("figure-4-condition-a", "(a) holds for a share of the conflicts of"),
        ("figure-4-xi", "ξ ≤ 1 for"),
        ("figure-4-curvature-actor", "the actor's mean curvature is"),
        ("figure-4-curvature-critic", "the critics'"),
    ):
        if name in claims and np.isfinite(claims[name]["ours"]):
            line = claims[name]
            parts.append(
                f"{words} {render.significant(line['ours'], line['ours_low'], line['ours_high'])}"
            )
    return f"{'; '.join(parts)} ({_seeds(one)} seeds).".replace("(a)", "Condition (a)", 1) * bool(
        parts
    )


def _seeds(one: Results) -> int:
    return len({seed for info in one.runs("triad").infos for seed in info["seeds"]})


def step_of_theorem_2(one: Results) -> str:
    """The length of step that condition (c) of Theorem 2 asks for in Figure 4's runs.

    ξ is the median over all steps and seeds of a method.
    """
    runs = one.runs("triad")
    parts = []
    for method in sorted({info["method"] for info in runs.infos}):
        rows = runs.select(method=method, task="all")
        xi = rows[rows["metric"].str.startswith("xi_median")]["value"].dropna()
        if xi.empty:
            continue
        middle = float(xi.median())
        # Condition (c): t ≥ 2/(ℓ − ξL) ≥ (2/L) / (1 − ξ), because ℓ ≤ L.
        words = (
            f"even with ℓ = L (c) asks for a step of {1 / (1 - middle):,.0f} times 2/L"
            if middle < 1
            else "no step satisfies (b) and (c)"
        )
        parts.append(f"{label(method)}: median ξ {middle:.4f}, so {words}")
    return "; ".join(parts) + "." * bool(parts)


def learned(one: Results, experiment: str, last: int = LAST) -> str:
    """The number of seeds in which each method learns each task.

    A task is learned if its mean success over the last evaluations is at least LEARNED.
    """
    runs = one.runs(experiment)
    metric = "evaluation_success"
    parts, never = [], set[str]()
    for method in dict.fromkeys(info["method"] for info in runs.infos):
        rows = runs.select(method=method, metric=metric)
        ends = rows[rows["task"] != "all"].sort_values("step").groupby(["task", "seed"])
        # Average each run's end before comparing: single evaluations have few episodes.
        means = ends["value"].apply(lambda values: values.tail(last).mean())
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
        f"Tasks with a success of at least {LEARNED:g} at the end (number of seeds): "
        f"{'; '.join(parts)}.{rest}"
    )


def _task(name: object) -> str:
    return str(name).removesuffix("-v3")


def headline(one: Results) -> str:
    """MT10: how far SAC gets with and without PCGrad, in paired seeds after equally many samples.

    Where a run has not ended, all are compared where the shortest one is.
    """
    runs, pair = one.runs("metaworld_mt10"), ("sac", "sac_pcgrad")
    rows = runs.select(task="all", metric="evaluation_success")
    seeds = [set(rows[rows["method"] == method]["seed"]) for method in pair]
    both = sorted(seeds[0] & seeds[1])
    if not both:
        return ""
    steps = runs.select(task="all", metric="environment_steps")
    steps = steps[steps["method"].isin(pair) & steps["seed"].isin(both)]
    last = steps.groupby(["method", "seed"])["step"].max().min()
    reached = steps[steps["step"] <= last]["value"].max()
    rows = rows[rows["step"] <= last].sort_values("step")
    ends = {
        method: rows[rows["method"] == method]
        .groupby("seed")["value"]
        .apply(lambda values: values.tail(EVALUATIONS).mean())
        for method in pair
    }
    gain = interval([ends["sac_pcgrad"][seed] - ends["sac"][seed] for seed in both])
    levels = [f"{label(method)} {values[both].mean():.2f}" for method, values in ends.items()]
    return (
        f"Share of the ten tasks that is solved after {reached / 1e6:.2g} million samples (the "
        f"paper's curves end at 5 million): {', '.join(levels)}; difference "
        f"{render.significant(gain.center, gain.low, gain.high, 2)} "
        f"({len(both)} paired {'seed' if len(both) == 1 else 'seeds'}).{standing_of(one)}"
    )


def standing_of(one: Results, claim: str = "figure-3-mt10-gain-1m") -> str:
    """The verdict on a claim and why, as a sentence; empty if the ledger has no such claim."""
    line = by_id(one.claims).get(claim)
    if line is None:
        return ""
    return f" The claim at 1 million samples is {line['verdict']} ({line['reason']})."


def rewards(one: Results) -> str:
    """In how many tasks version 1 of Meta-World's rewards pays the scripted policy too little."""
    table = one.table("table_experts")
    if table.empty:
        return ""
    paid, others = table["expert_reward_v1"], table[["random_reward_v1", "still_reward_v1"]]
    # A policy that solves a task should earn more than one that ignores it.
    groups = (
        ("nothing", table[paid <= 0]),
        ("less than standing still or random actions", table[paid < others.max(axis=1)]),
    )
    parts = [
        f"{words} in {len(part)} of {len(table)} tasks, of MT10 in "
        + (", ".join(part[part["mt10"]]["task"].str.removesuffix("-v3")) or "none")
        for words, part in groups
    ]
    return (
        "Version 1 has the formulas of 2019 in the present Meta-World, not its constants and "
        f"geometry: it pays the scripted policy, which solves the tasks, {'; '.join(parts)}."
    )


def theory(claims: pd.DataFrame) -> str:
    """How many statements hold as printed, in a named reading, or not at all."""
    rows = claims[claims["source"].str.contains("Theorem|Proposition|Corollary")]
    by_word = {
        word: list(dict.fromkeys(rows[rows["verdict"] == word]["source"]))
        for word in (HOLDS, FALSE, READING)
    }
    counted = ", ".join(f"{number} {word}" for word, number in count(rows).items() if number)
    # A source can be false as stated in one part and hold in another part or reading.
    rescued = [name for name in by_word[FALSE] if name in by_word[READING] + by_word[HOLDS]]
    return (
        f"Of {len(rows)} statements: {counted}. Some statement is false as stated in: "
        f"{', '.join(by_word[FALSE]) or 'none'}; of these, a part or a reading holds in "
        f"{len(rescued)}."
    )


def cost(benchmarks: Path) -> str:
    """The cost of a step with PCGrad, read from the benchmarks' table."""
    path = benchmarks / "speed_cpu.csv"
    if not path.is_file():
        return ""
    table = pd.read_csv(path)
    # A ratio compares a step with the same step without surgery, on the same machine.
    steps = table[(table["kind"] == "step") & table["ratio"].notna()]
    ours = steps[steps["code"] == "pcgrad"].set_index("case")
    peers = steps[steps["code"].isin(PEERS)]
    faster = [
        case
        for case, line in ours.iterrows()
        if (peers[peers["case"] == case]["ratio"] > line["ratio"]).all()
    ]
    low, high = ours["ratio"].idxmin(), ours["ratio"].idxmax()
    return (
        f"One training step takes {ours['ratio'].min():.2f} ({low}) to {ours['ratio'].max():.1f} "
        f"({high}) times the step without surgery; in {len(faster)} of {len(ours)} cases less than "
        f"every other implementation measured."
    )


# ------------------------------------------------------------------ the questions


@dataclass(frozen=True)
class Answer:
    """A question and its answer.

    Attributes:
        question: The question.
        answer: The answer; empty if no result file gives one.
        sources: Figures and tables whose claims support the answer, for example "Figure 1".
        where: The file that shows it: relative to the scale's folder, or to the repository.
        scale: The scale of the result files; empty if they belong to no scale.
    """

    question: str
    answer: str
    sources: tuple[str, ...]
    where: str = ""
    scale: str = ""


def answers(results: Sequence[Results], benchmarks: Path | None = None) -> list[Answer]:
    """The questions that the result files answer; questions without evidence are left out."""
    claims = ledger(results)
    found = []
    first = {kind: _first(results, kind) for kind in ("landscape/summary.json", "runs/triad")}
    one = first["landscape/summary.json"]
    if one:
        found.append(
            _answer(
                claims,
                "Does PCGrad escape where Adam stalls?",
                landscape(one),
                one,
                "figures/figure_1.png",
                "Figure 1",
            )
        )
    one = _first(results, "runs/metaworld_mt10")
    if one and _rank(one.scale) < len(RANK) and headline(one):
        text = f"{headline(one)} {learned(one, 'metaworld_mt10', EVALUATIONS)}"
        question = "Does PCGrad gain more than 30 points over SAC on MT10?"
        found.append(_answer(claims, question, text, one, "figures/figure_3.png"))
    # One question per table, answered at the strongest scale with real data.
    for name, one in strongest(results).items():
        table = one.table(name)
        text = " ".join(short_standing(table, method) for method in compared(table))
        tasks = f"metaworld_{name.removeprefix('table_')}"
        ran = tasks != "metaworld_mt10" and (one.folder / "runs" / tasks).is_dir()
        text += f" {learned(one, tasks)}" if text and ran else ""
        if text:
            source, _, rest = one.title(name).partition(": ")
            question = f"Does it help on {rest if source.startswith('Table') else source}?"
            found.append(_answer(claims, question, text, one, f"tables/{name}.md", source))
    one = _first(results, "tables/table_experts.csv")
    if one:
        where = "tables/table_experts.md"
        question = "Are the rewards of Meta-World those of the paper?"
        found.append(Answer(question, rewards(one), (), where, one.scale))
    one = first["runs/triad"]
    if one:
        found.append(
            _answer(
                claims,
                "Do conflict, curvature and the conditions of Theorem 2 occur in RL?",
                conditions(one),
                one,
                "figures/figure_4.png",
                "Figure 4",
            )
        )
        found.append(
            _answer(
                claims,
                "Does only PCGrad start to learn the second task?",
                second_task(one),
                one,
                "figures/figure_4.png",
            )
        )
        found.append(
            _answer(
                claims,
                "Does Theorem 2 explain training?",
                step_of_theorem_2(one),
                one,
                "figures/figure_4.png",
            )
        )
    statements = tuple(
        name for name in claims["source"].unique() if name.startswith(("Theorem", "Prop", "Cor"))
    )
    found.append(
        _answer(
            claims,
            "Is the theory right as printed?",
            theory(claims),
            results[0],
            "tables/table_theory.md",
            *statements,
        )
    )
    if benchmarks is not None and cost(benchmarks):
        found.append(Answer("What does it cost?", cost(benchmarks), (), "benchmarks/README.md"))
    return [one for one in found if one.answer]


def _answer(
    claims: pd.DataFrame, question: str, text: str, one: Results, where: str, *sources: str
) -> Answer:
    rows = claims[claims["source"].isin(sources)]
    opening = f"**Claims: {_opening(rows)}** " if len(rows) else ""
    return Answer(question, opening + text if text else "", sources, where, one.scale)


def _opening(rows: pd.DataFrame) -> str:
    return ", ".join(f"{number} {word}" for word, number in count(rows).items() if number) + "."


def _first(results: Sequence[Results], name: str) -> Results | None:
    # Prefer scales whose numbers are evidence; fall back on any scale that has the file.
    return next(
        (one for one in results if (one.folder / name).exists() and _rank(one.scale) < len(RANK)),
        next((one for one in results if (one.folder / name).exists()), None),
    )


def strongest(results: Sequence[Results]) -> dict[str, Results]:
    """{table: the strongest scale with real data for it}, in the paper's order."""
    found: dict[str, Results] = {}
    for one in results:
        # Results are sorted by strength, so the first scale with real data is the strongest.
        for name in one.tables() if _rank(one.scale) < len(RANK) else ():
            if name not in found and is_real(one.footer(name)):
                found[name] = one
    return dict(sorted(found.items(), key=lambda item: order(item[0])))


def is_real(footer: Sequence[str]) -> bool:
    """Whether the line "data:" below a table names real rather than generated data."""
    data = next((line for line in footer if line.startswith("data:")), "")
    return bool(data) and "real False" not in data and "generated" not in data


def order(name: str) -> tuple[int, str]:
    """Sort key of tables and figures: the paper's by number, then ours by name."""
    number = name.rpartition("_")[2]
    return (int(number), "") if number.isdigit() else (99, name)


def untested(results: Sequence[Results]) -> str:
    """The sources of claims that no scale tested, with the number of such claims."""
    claims = ledger(results)
    rows = claims[claims["verdict"] == NOT_TESTED]
    parts = [f"{source} ({len(part)})" for source, part in rows.groupby("source", sort=False)]
    return ", ".join(parts)


def markdown(found: Sequence[Answer], link: str = "results/published/{scale}/{where}") -> str:
    """The answers as a Markdown table with links to the files that show them."""
    lines = ["| question | answer |", "|---|---|"]
    for one in found:
        at = one.where if not one.scale else link.format(scale=one.scale, where=one.where)
        # A bar in the text would end the table's cell; chr(92) is the backslash.
        text = f"{one.answer} [{Path(one.where).stem.replace('_', ' ')}]({at})"
        lines.append(f"| {one.question} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
