"""The questions that a reader asks, with answers from the result files."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reporting.findings import experiments
from reporting.findings.claims import counted
from reporting.findings.results import RANK, Results, first, ledger, rank, strongest
from reporting.findings.standings import against_plain, compared, differences, short_standing
from reporting.ledger.claims import is_ours
from reporting.render import DASH

SECOND_TASK = ("figure-4-return", "figure-4-pcgrad-learns", "figure-4-sac-does-not")  # claims
Ids = tuple[str, ...]
Template = Callable[[Results], str]  # makes sentences from the result files of a scale


@dataclass(frozen=True)
class Answer:
    """A question and its answer."""

    question: str
    answer: str  # short; empty if no result file gives one
    details: str  # further sentences
    claims: str  # the verdicts of the claims that support it, in words
    ids: tuple[str, ...]  # of these claims
    where: str = ""  # the file that shows it: in the scale's folder, or in the repository
    scale: str = ""  # of the result files; empty if they belong to no scale


def answers(results: Sequence[Results], benchmarks: Path | None = None) -> list[Answer]:
    """The questions that the result files answer; questions without evidence are left out."""
    claims = ledger(results)
    found = []

    def of(*sources: str) -> Ids:
        return tuple(claims[claims["source"].isin(sources)]["id"])

    def ask(
        question: str, kind: str, short: Template, details: Template, where: str, ids: Ids = ()
    ) -> None:
        # The strongest scale that has the files of this kind.
        one = first(results, kind)
        if one:
            texts = short(one), details(one)
            found.append(_answer(claims, question, *texts, where, ids, one.scale))

    figure_1, figure_3, figure_4 = (f"figures/figure_{number}.png" for number in (1, 3, 4))
    question, kind = "Does PCGrad escape where Adam stalls?", "landscape/summary.json"
    ask(question, kind, experiments.landscape, experiments.geometry, figure_1, of("Figure 1"))
    question, kind = "Does PCGrad gain more than 30 points over SAC on MT10?", "runs/metaworld_mt10"
    ask(question, kind, _on_mt10, _details_on_mt10, figure_3, of("Figure 3"))
    # One question per table, answered at the strongest scale with real data; MT10 has its own.
    for name, one in strongest(results).items():
        if name == "table_mt10":
            continue
        source, _, rest = one.title(name).partition(": ")
        question = f"Does it help on {rest if source.startswith('Table') else source}?"
        texts = _of_table(one, name), _details_of_table(one, name)
        place = f"tables/{name}.md"
        ids = of(*sources_of(claims, one.title(name)))
        found.append(_answer(claims, question, *texts, place, ids, one.scale))
    question, table = "Are the rewards of Meta-World those of the paper?", "tables/table_experts"
    sentences = experiments.rewards, experiments.rewards_of_mt10
    ask(question, f"{table}.csv", *sentences, f"{table}.md")
    question = "Do conflict, curvature and the conditions of Theorem 2 occur in RL?"
    ids = tuple(name for name in of("Figure 4") if name not in SECOND_TASK)
    ask(question, "runs/triad", experiments.conditions, _details_on_conditions, figure_4, ids)
    question = "Does only PCGrad start to learn the second task?"
    sentences = experiments.second_task, experiments.returns_on_second_task
    ids = tuple(name for name in of("Figure 4") if name in SECOND_TASK)
    ask(question, "runs/triad", *sentences, figure_4, ids)
    question = "Does Theorem 2 explain training?"
    sentences = experiments.step_of_theorem_2, experiments.xi_of_theorem_2
    ask(question, "runs/triad", *sentences, figure_4)
    statements = [name for name in claims["source"].unique() if name.startswith(experiments.THEORY)]
    question, table = "Is the theory right as printed?", "tables/table_theory.md"
    text = experiments.theory(claims)
    ask(question, "claims.csv", lambda one: text, lambda one: "", table, of(*statements))
    if benchmarks is not None:
        text, where = experiments.cost(benchmarks), "benchmarks/README.md"
        found.append(_answer(claims, "What does it cost?", text, "", where, (), ""))
    return [one for one in found if one.answer]


def sources_of(claims: pd.DataFrame, title: str) -> list[str]:
    """The sources of the claims about a table: "Table 2", "Ours, CIFAR-100"."""
    own = [name for name in claims["source"].unique() if name.startswith("Ours, ")]
    return [
        title.partition(": ")[0],
        *(name for name in own if name.removeprefix("Ours, ") in title),
    ]


def _on_mt10(one: Results) -> str:
    if rank(one.scale) >= len(RANK):
        return ""
    # An average alone would hide that a gain is one task's.
    return " ".join(filter(None, [experiments.headline(one), experiments.gains_of_tasks(one)]))


def _details_on_mt10(one: Results) -> str:
    parts = [experiments.learned(one, "metaworld_mt10"), experiments.learned_alone(one)]
    return " ".join(filter(None, parts))


def _details_on_conditions(one: Results) -> str:
    parts = [experiments.curvatures(one), experiments.shares_on_mt10(one)]
    return " ".join(filter(None, parts))


def _of_table(one: Results, name: str) -> str:
    table = one.table(name)
    text = " ".join(short_standing(table, method) for method in compared(table))
    return f"{text} {_size(table, one.footer(name))}" if text else ""


def _details_of_table(one: Results, name: str) -> str:
    table, short = one.table(name), _of_table(one, name)
    parts = [against_plain(table, method) for method in compared(table)]
    # The short answer may have them already.
    parts = [text for text in parts if text not in short]
    tasks = f"metaworld_{name.removeprefix('table_')}"
    ran = (one.folder / "runs" / tasks).is_dir()
    return " ".join(filter(None, [*parts, experiments.learned(one, tasks) if ran else ""]))


# Settings that say how large a run was, in words; a number 0 takes the whole set.
SIZES = {
    "train_examples": "training examples",
    "image_side": "pixels a side",
    "epochs": "epochs",
    "collections": "collections",
}
# Settings of networks and images that make a run smaller, by the config's own words.
WIDTHS = ("height", "width", "widths", "filters", "units", "layers", "blocks")


def _size(table: pd.DataFrame, footer: Sequence[str]) -> str:
    """How small a table's runs are: paired seeds, and sizes and tuning from the lines below it."""
    lines = list(differences(table))
    seeds = sorted({int(line["seeds"]) for line in lines})
    percent = all(re.search("accuracy|error", line["metric"]) for line in lines)
    parts = ["differences in percentage points"] if percent else []
    parts += [f"{'–'.join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))} paired seeds"]
    for key in (*SIZES, *WIDTHS):
        pattern = rf"deviation: {key} (.+) instead of (.+) at paper scale"
        found = next(filter(None, (re.fullmatch(pattern, line) for line in footer)), None)
        if found and key in WIDTHS:
            parts.append(f"{key} {found[1]} instead of {found[2]}")
        elif found:
            ours, paper = (int(number) for number in found.groups())
            parts.append(f"{ours:,} {SIZES[key]} instead of {f'{paper:,}' if paper else 'all'}")
    tuned = any(line.startswith("chosen from: ") for line in footer)
    parts.append("tuned" if tuned else "one learning rate for all rows")
    return f"({'; '.join(parts)})"


def _answer(
    claims: pd.DataFrame,
    question: str,
    answer: str,
    details: str,
    where: str,
    ids: Ids,
    scale: str,
) -> Answer:
    rows = claims[claims["id"].isin(ids)]
    mine = is_ours(rows)
    paper, ours = counted(rows[~mine]), counted(rows[mine])
    verdicts = f"{paper}; ours: {ours}" if paper and ours else paper or ours
    return Answer(question, answer, details, verdicts, ids, where, scale)


def place(one: Answer) -> str:
    """The name of the file that shows an answer: "figure 1", "benchmarks"."""
    path = Path(one.where)
    return (path.parent.name if path.stem == "README" else path.stem).replace("_", " ")


def markdown(found: Sequence[Answer], link: str = "results/published/{scale}/{where}") -> str:
    """The short answers as a Markdown table with links to the files that show them."""
    lines = ["| question | answer | claims | shown in |", "|---|---|---|---|"]
    for one in found:
        at = one.where if not one.scale else link.format(scale=one.scale, where=one.where)
        shown = f"[{place(one)}]({at})"
        # A bar in the text would end the table's cell; chr(92) is the backslash.
        text = one.answer.replace("|", chr(92) + "|")
        lines.append(f"| **{one.question}** | {text} | {one.claims or DASH} | {shown} |")
    return "\n".join(lines)
