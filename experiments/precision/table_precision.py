"""Table of precisions (ours): metrics in bfloat16 minus those in float32, paired by seed."""

from reporting.comparison import Comparison
from reporting.tables import Quantity

SETS = ("multimnist", "cifar100", "ucmerced", "camvid")
TABLE = Comparison(
    source="table_precision",
    title="Precision (ours): bfloat16 against float32",
    experiment="precision",
    methods=tuple(f"{name}_{kind}" for name in SETS for kind in ("float32", "bfloat16")),
    pairs=tuple((f"{name}_bfloat16", f"{name}_float32") for name in SETS),
    quantities=(
        Quantity("left", "test_accuracy", "left digit, %", compare=True),
        Quantity("right", "test_accuracy", "right digit, %", compare=True),
        Quantity("all", "test_accuracy", "CIFAR-100 accuracy, %", compare=True),
        Quantity("all", "test_error", "UC Merced error, %", compare=True),
        Quantity("segmentation", "test_mIoU_per_image", "CamVid mIoU, %", compare=True),
        Quantity("boundary", "test_AbsErr", "CamVid boundary AbsErr", 4, compare=True),
        Quantity("all", "conflict_share", "conflicts", 3, over="all", compare=True),
        Quantity("all", "length_ratio", "length ratio", 3, over="all", compare=True),
        Quantity("all", "run_seconds", "seconds a run", 0),
    ),
    notes=(
        "PCGrad on each experiment's network, a few epochs; a row's name says its precision; "
        "the seeds share initial values, batches and orders",
        "in bfloat16: convolutions and matrix products; "
        "losses, Gramians, weights and metrics are in float32",
    ),
)
