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
    headline,
    learned,
    learned_alone,
    rewards,
    second_task,
    step_of_theorem_2,
    theory,
)
from reporting.findings.questions import Answer, answers, markdown
from reporting.findings.results import RANK, Results, is_real, ledger, order, read, strongest
from reporting.findings.standings import compared, short_standing, standing

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
    "headline",
    "headlines",
    "is_real",
    "learned",
    "learned_alone",
    "ledger",
    "markdown",
    "order",
    "read",
    "rewards",
    "second_task",
    "short_standing",
    "standing",
    "step_of_theorem_2",
    "strongest",
    "tally",
    "theory",
    "untested",
    "verdict_words",
]
