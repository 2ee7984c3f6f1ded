"""Table 3: average classification error over CelebA's 40 attributes, ours and the paper's."""

from reporting import reported
from reporting.comparison import Comparison
from reporting.tables import UPDATES, Quantity

METHODS = ("sum", "uncertainty", "mgda", "pcgrad", "direction_only")
PAPER = "average classification error"
NOTES = (
    "error: share of wrong answers in %, averaged over the 40 attributes; lower is better",
    "the paper does not say which split its numbers are of; its base code reports validation: "
    "both are compared",
    "MGDA: by Frank-Wolfe on the shared parameters' gradients as they are (torchjd); "
    "the base code takes those at the features and divides each by its task's loss and length",
    "no row of one network per attribute: the paper has none, and it would be 40 ResNets",
)


TABLE = Comparison(
    source="table_3",
    title="Table 3: CelebA",
    experiment="celeba",
    methods=METHODS,
    pairs=(
        *(("pcgrad", other) for other in ("mgda", "sum", "uncertainty", "direction_only")),
        ("direction_only", "sum"),
    ),
    quantities=(
        Quantity("all", "validation_error", "validation error, %", compare=True, reported=PAPER),
        Quantity("all", "test_error", "test error, %", compare=True, reported=PAPER),
        *UPDATES,
    ),
    paper_rows={"mgda": "Sener & Koltun", "pcgrad": "PCGrad"},
    notes=(*NOTES, *reported.later("CelebA")),
)
