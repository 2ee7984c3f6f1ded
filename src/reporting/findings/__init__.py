"""Writes the sentences about results from templates that read the result files.

`read` collects the result files of one or more scales. `answers` returns the questions with their
answers, `claim_sentence` a sentence for one claim of the ledger, and `headlines` the numbers that
open the report. A template whose files are missing returns an empty text.
"""

from reporting.findings.claims import (
    claim_sentence,
    count,
    counted,
    headlines,
    tally,
    untested,
    verdict_words,
)
from reporting.findings.experiments import (
    conditions,
    cost,
    curvatures,
    gains_of_tasks,
    headline,
    learned,
    learned_alone,
    returns_on_second_task,
    rewards,
    rewards_of_mt10,
    second_task,
    step_of_theorem_2,
    theory,
    xi_of_theorem_2,
)
from reporting.findings.questions import Answer, answers, markdown, place, sources_of
from reporting.findings.results import RANK, Results, is_real, ledger, order, read, strongest
from reporting.findings.standings import compared, short_standing, standing
from reporting.ledger.claims import is_ours

__all__ = [
    "RANK",
    "Answer",
    "Results",
    "answers",
    "claim_sentence",
    "compared",
    "conditions",
    "cost",
    "count",
    "counted",
    "curvatures",
    "gains_of_tasks",
    "headline",
    "headlines",
    "is_ours",
    "is_real",
    "learned",
    "learned_alone",
    "ledger",
    "markdown",
    "order",
    "place",
    "read",
    "returns_on_second_task",
    "rewards",
    "rewards_of_mt10",
    "second_task",
    "short_standing",
    "sources_of",
    "standing",
    "step_of_theorem_2",
    "strongest",
    "tally",
    "theory",
    "untested",
    "verdict_words",
    "xi_of_theorem_2",
]
