"""Table 5: CityScapes with equal weights: rows of Table 7."""

import pandas as pd

from reporting.dense import MULTI, SEGMENTATION, SIZE, UPDATES, Layout, depth, long_table
from reporting.runs import Runs

LAYOUT = Layout(
    number=5,
    experiment="cityscapes",
    title="CityScapes",
    methods=(*(f"{architecture}_equal" for architecture in MULTI), "mtan_equal_pcgrad"),
    quantities=(SIZE, *SEGMENTATION, *depth(2), *UPDATES),
    sources=("table_5",),
)


def table_5(runs: Runs) -> pd.DataFrame:
    """The table in long form: a line per method and quantity, then the seed-paired differences."""
    return long_table(LAYOUT, runs)
