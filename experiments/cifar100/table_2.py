"""Table 2: average accuracy over the 20 tasks of CIFAR-100, ours and the paper's."""

from reporting.comparison import Comparison
from reporting.tables import UPDATES, Quantity

TUNED = (
    "one_fc",
    "all_fc",
    "cross_stitch",
    "routing",
    "independent",
    "pcgrad",
    "routing_pcgrad",
    "sum_pcgrad_length",
)

PAPER = {
    "one_fc": "Task specific, 1-fc",
    "all_fc": "Task specific, all-fc",
    "cross_stitch": "Cross-Stitch, all-fc",
    "routing": "Routing, all-fc + WPL",
    "independent": "Independent",
    "pcgrad": "PCGrad",
    "routing_pcgrad": "Routing, all-fc + WPL + PCGrad",
}

TABLE = Comparison(
    source="table_2",
    title="Table 2: CIFAR-100 as 20 tasks",
    experiment="cifar100",
    methods=(
        "one_fc",
        "all_fc",
        "cross_stitch",
        "routing",
        "independent",
        "pcgrad",
        "routing_pcgrad",
        "direction_only",
        "all_fc_pcgrad",
        "uncertainty",
        "mgda",
        "cagrad",
        "nash_mtl",
        "upgrad",
        "sum_pcgrad_length",
        "one_fc_mod5",
        "all_fc_mod5",
        "pcgrad_mod5",
        *(f"{name}_tuned" for name in TUNED),
    ),
    pairs=(
        *(
            ("pcgrad", other)
            for other in (
                "one_fc",
                "independent",
                "all_fc",
                "direction_only",
                "mgda",
                "uncertainty",
            )
        ),
        *(("pcgrad", other) for other in ("cagrad", "nash_mtl", "upgrad")),
        ("all_fc_pcgrad", "all_fc"),
        ("routing_pcgrad", "routing"),
        ("direction_only", "one_fc"),
        ("pcgrad", "sum_pcgrad_length"),
        *(("pcgrad_tuned", f"{name}_tuned") for name in TUNED if "pcgrad" not in name),
        ("pcgrad_tuned", "sum_pcgrad_length_tuned"),
        ("routing_pcgrad_tuned", "routing_tuned"),
    ),
    quantities=(
        Quantity(
            "all", "test_accuracy", "test accuracy, %", compare=True, reported="test accuracy"
        ),
        Quantity("all", "test_policy_entropy", "policy entropy, nats", 3, rare=True),
        *UPDATES,
    ),
    paper_rows={method + tuned: row for method, row in PAPER.items() for tuned in ("", "_tuned")},
    notes=(
        "1-fc: all but the last layer shared, trained by the sum of losses; "
        "it is the control of the PCGrad row, which trains the same network "
        "(the paper does not say which one that is)",
        (
            ("mgda", "cagrad", "nash_mtl", "upgrad"),
            "MGDA, CAGrad (c = 0.4), Nash-MTL (length at most 1) and UPGrad through torchjd, "
            "on the same network",
        ),
        (
            ("routing", "routing_pcgrad", "cross_stitch"),
            "routing: 3 modules in each dense layer, a policy per task and layer; "
            "cross-stitch: a column of dense layers per task "
            "(the paper gives no details of either: our choices)",
        ),
        (
            ("routing", "routing_pcgrad"),
            "policy entropy: mean over tasks and layers; log 3 = 1.099 where modules are drawn "
            "evenly, 0 where routes are fixed",
        ),
        (
            ("one_fc_mod5", "all_fc_mod5", "pcgrad_mod5"),
            "the paper's absolute numbers may be on labels fine % 5, "
            "which merge classes of a superclass (rows labels mod 5)",
        ),
    ),
)
