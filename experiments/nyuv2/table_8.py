"""Table 8: NYUv2, every architecture and loss weighting, without and with PCGrad.

The paper adds PCGrad to MTAN alone.
"""

import pandas as pd

from reporting.dense import (
    MULTI,
    NORMALS,
    SEGMENTATION,
    SINGLE,
    SIZE,
    UPDATES,
    Layout,
    depth,
    long_table,
    rows,
)
from reporting.runs import Runs

LAYOUT = Layout(
    number=8,
    experiment="nyuv2",
    title="NYUv2",
    methods=(*SINGLE, *rows(MULTI)),
    quantities=(SIZE, *SEGMENTATION, *depth(4), *NORMALS, *UPDATES),
    sources=("table_8", "table_6"),
    notes=(
        "Cross-Stitch and Dense with PCGrad: the paper's numbers are Table 6's, which names no "
        "weights",
    ),
)


def table_8(runs: Runs) -> pd.DataFrame:
    """The table in long form: a line per method and quantity, then the seed-paired differences."""
    return long_table(LAYOUT, runs)
