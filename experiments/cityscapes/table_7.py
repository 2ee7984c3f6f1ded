"""Table 7: CityScapes, every architecture and loss weighting, without and with PCGrad.

The paper adds PCGrad to MTAN alone.
"""

import pandas as pd

from reporting.dense import (
    MULTI,
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
    number=7,
    experiment="cityscapes",
    title="CityScapes",
    methods=(*SINGLE, *rows(MULTI)),
    quantities=(SIZE, *SEGMENTATION, *depth(2), *UPDATES),
    sources=("table_7",),
)


def table_7(runs: Runs) -> pd.DataFrame:
    """The table in long form: a line per method and quantity, then the seed-paired differences."""
    return long_table(LAYOUT, runs)
