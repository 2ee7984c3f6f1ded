"""Table 6: NYUv2, PCGrad on Cross-Stitch and Dense: rows and columns of Table 8."""

import pandas as pd

from reporting.dense import (
    NORMALS,
    SEGMENTATION,
    SIZE,
    UPDATES,
    Layout,
    depth,
    long_table,
    rows,
)
from reporting.runs import Runs

COLUMNS = ("test_mIoU_per_image", "test_AbsErr", "test_mean_angle", "test_within_11.25")
QUANTITIES = tuple(q for q in (*SEGMENTATION, *depth(4), *NORMALS) if q.metric in COLUMNS)
LAYOUT = Layout(
    number=6,
    experiment="nyuv2",
    title="NYUv2",
    methods=rows(("cross_stitch", "dense"), ("uncertainty",)),
    quantities=(SIZE, *QUANTITIES, *UPDATES),
    sources=("table_6",),
    notes=(
        "the paper names no weights for + PCGrad; its rows without it have uncertainty's, so ours "
        "have them",
    ),
)


def table_6(runs: Runs) -> pd.DataFrame:
    """The table in long form: a line per method and quantity, then the seed-paired differences."""
    return long_table(LAYOUT, runs)
