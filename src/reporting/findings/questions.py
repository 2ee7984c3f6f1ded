"""The questions that a reader asks, with answers from the result files."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reporting.findings import experiments
from reporting.findings.claims import counted
from reporting.findings.results import RANK, Results, first, ledger, rank, strongest
from reporting.findings.standings import compared, differences, short_standing


@dataclass(frozen=True)
class Answer:
    """A question and its answer."""

    question: str
    answer: str  # empty if no result file gives one
    sources: tuple[str, ...]  # figures and tables whose claims support it, such as "Figure 1"
    where: str = ""  # the file that shows it: in the scale's folder, or in the repository
    scale: str = ""  # of the result files; empty if they belong to no scale


def answers(results: Sequence[Results], benchmarks: Path | None = None) -> list[Answer]:
    """The questions that the result files answer; questions without evidence are left out."""
    claims = ledger(results)
    found = []

    def ask(
        question: str, kind: str, template: Callable[[Results], str], where: str, *sources: str
    ) -> None:
        # The strongest scale that has the files of this kind.
        one = first(results, kind)
        if one:
            found.append(_answer(claims, question, template(one), one, where, *sources))

    figure_1, figure_3, figure_4 = (f"figures/figure_{number}.png" for number in (1, 3, 4))
    question = "Does PCGrad escape where Adam stalls?"
    ask(question, "landscape/summary.json", experiments.landscape, figure_1, "Figure 1")
    question = "Does PCGrad gain more than 30 points over SAC on MT10?"
    ask(question, "runs/metaworld_mt10", _on_mt10, figure_3, "Figure 3")
    # One question per table, answered at the strongest scale with real data; MT10 has its own.
    for name, one in strongest(results).items():
        if name == "table_mt10":
            continue
        source, _, rest = one.title(name).partition(": ")
        question = f"Does it help on {rest if source.startswith('Table') else source}?"
        text = _of_table(one, name)
        found.append(_answer(claims, question, text, one, f"tables/{name}.md", source))
    table = "tables/table_experts"
    ask(
        "Are the rewards of Meta-World those of the paper?",
        f"{table}.csv",
        experiments.rewards,
        f"{table}.md",
    )
    question = "Do conflict, curvature and the conditions of Theorem 2 occur in RL?"
    ask(question, "runs/triad", experiments.conditions, figure_4, "Figure 4")
    ask(
        "Does only PCGrad start to learn the second task?",
        "runs/triad",
        experiments.second_task,
        figure_4,
    )
    ask("Does Theorem 2 explain training?", "runs/triad", experiments.step_of_theorem_2, figure_4)
    statements = tuple(
        name for name in claims["source"].unique() if name.startswith(("Theorem", "Prop", "Cor"))
    )
    question, table = "Is the theory right as printed?", "tables/table_theory.md"
    ask(question, "claims.csv", lambda one: experiments.theory(claims), table, *statements)
    if benchmarks is not None:
        found.append(
            Answer("What does it cost?", experiments.cost(benchmarks), (), "benchmarks/README.md")
        )
    return [one for one in found if one.answer]


def _on_mt10(one: Results) -> str:
    text = experiments.headline(one) if rank(one.scale) < len(RANK) else ""
    if not text:
        return ""
    parts = [text, experiments.learned(one, "metaworld_mt10"), experiments.learned_alone(one)]
    return " ".join(filter(None, parts))


def _of_table(one: Results, name: str) -> str:
    table = one.table(name)
    text = " ".join(short_standing(table, method) for method in compared(table))
    text = f"{text} {_size(table, one.footer(name))}" if text else ""
    tasks = f"metaworld_{name.removeprefix('table_')}"
    ran = (one.folder / "runs" / tasks).is_dir()
    return f"{text} {experiments.learned(one, tasks)}" if text and ran else text


# Settings that say how large a run was, in words; a number 0 takes the whole set.
SIZES = {
    "train_examples": "training examples",
    "image_side": "pixels a side",
    "epochs": "epochs",
    "collections": "collections",
}


def _size(table: pd.DataFrame, footer: Sequence[str]) -> str:
    """How small a table's runs are: paired seeds, and sizes and tuning from the lines below it."""
    seeds = sorted({int(line["seeds"]) for line in differences(table)})
    parts = [f"{'–'.join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))} paired seeds"]
    for key, words in SIZES.items():
        line = next((line for line in footer if line.startswith(f"deviation: {key} ")), "")
        found = re.match(rf"deviation: {key} (\d+) instead of (\d+)", line)
        if found:
            ours, paper = (int(number) for number in found.groups())
            parts.append(f"{ours:,} {words} instead of {f'{paper:,}' if paper else 'all'}")
    tuned = any(line.startswith("chosen from: ") for line in footer)
    parts.append("tuned" if tuned else "one learning rate for all rows")
    return f"({'; '.join(parts)})"


def _answer(
    claims: pd.DataFrame, question: str, text: str, one: Results, where: str, *sources: str
) -> Answer:
    rows = claims[claims["source"].isin(sources)]
    opening = f"**Claims: {counted(rows)}.** " if len(rows) else ""
    return Answer(question, opening + text if text else "", sources, where, one.scale)


def markdown(found: Sequence[Answer], link: str = "results/published/{scale}/{where}") -> str:
    """The answers as a Markdown table with links to the files that show them."""
    lines = ["| question | answer |", "|---|---|"]
    for one in found:
        at = one.where if not one.scale else link.format(scale=one.scale, where=one.where)
        # A bar in the text would end the table's cell; chr(92) is the backslash.
        text = f"{one.answer} [{Path(one.where).stem.replace('_', ' ')}]({at})"
        lines.append(f"| {one.question} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
