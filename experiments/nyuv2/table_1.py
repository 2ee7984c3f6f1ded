"""Table 1: NYUv2, Cross-Stitch, MTAN and MTAN with PCGrad: rows of Table 8."""

import pandas as pd

from reporting.dense import (
    NORMALS,
    PCGRAD,
    SEGMENTATION,
    SIZE,
    UPDATES,
    Layout,
    depth,
    long_table,
    rows,
)
from reporting.runs import Runs

LAYOUT = Layout(
    number=1,
    experiment="nyuv2",
    title="NYUv2",
    methods=(
        *(m for m in rows(("cross_stitch", "mtan")) if not m.endswith(PCGRAD)),
        "mtan_uncertainty_pcgrad",
    ),
    quantities=(SIZE, *SEGMENTATION, *depth(4), *NORMALS, *UPDATES),
    sources=("table_1",),
)


def table_1(runs: Runs) -> pd.DataFrame:
    """The table in long form: a line per method and quantity, then the seed-paired differences."""
    return long_table(LAYOUT, runs)
