"""Table 4: accuracy on the left and the right digit of MultiMNIST, ours and the paper's."""

from collections.abc import Sequence

from reporting import reported
from reporting.comparison import Comparison
from reporting.tables import UPDATES, Quantity

METHODS = (
    "single_task",
    "sum",
    "uncertainty",
    "mgda",
    "cagrad",
    "nash_mtl",
    "upgrad",
    "pcgrad",
    "direction_only",
)
TUNED = ("sum_tuned", "uncertainty_tuned", "mgda_tuned", "pcgrad_tuned")
PAIRS = (
    *(
        ("pcgrad", other)
        for other in ("sum", "mgda", "uncertainty", "single_task", "direction_only")
    ),
    *(("pcgrad", other) for other in ("cagrad", "nash_mtl", "upgrad")),
    ("direction_only", "sum"),  # isolates the direction: both updates have the sum's length
    *(("pcgrad_tuned", other) for other in TUNED[:-1]),
)
NOTES: tuple[str | tuple[Sequence[str], str], ...] = (
    "p: left, right",
    "MGDA: by Frank-Wolfe on the gradients as they are; CAGrad: c = 0.4; "
    "Nash-MTL: an update of length at most 1, solved from one start at every step; "
    "these and UPGrad through torchjd; CAGrad and UPGrad carry the factor 2 of the sum",
    (
        TUNED,
        "tuned: learning rate and L2 penalty by one grid and budget for every method, "
        "chosen on held-out training data; the seconds are without the grid's",
    ),
    "peak memory: of the job's process with libraries and data, on a GPU torch's; "
    "the seeds of a job share one number",
    "the paper's Sener & Koltun row is close to the uniform weights of their own paper",
)


TABLE = Comparison(
    source="table_4",
    title="Table 4: MultiMNIST",
    experiment="multimnist",
    methods=(*METHODS, *TUNED),
    pairs=PAIRS,
    quantities=(
        Quantity("left", "test_accuracy", "left, %", compare=True, reported="left accuracy"),
        Quantity("right", "test_accuracy", "right, %", compare=True, reported="right accuracy"),
        *UPDATES,
    ),
    paper_rows={"mgda": "Sener & Koltun", "pcgrad": "PCGrad"},
    notes=(*NOTES, *reported.later("MultiMNIST")),
)
