"""Table 5: CityScapes with equal weights: rows of Table 7."""

from reporting.dense import MULTI, SEGMENTATION, SIZE, UPDATES, dense_table, depth

TABLE = dense_table(
    number=5,
    experiment="cityscapes",
    title="CityScapes",
    methods=(*(f"{architecture}_equal" for architecture in MULTI), "mtan_equal_pcgrad"),
    quantities=(SIZE, *SEGMENTATION, *depth(2), *UPDATES),
    sources=("table_5",),
)
