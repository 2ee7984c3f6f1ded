"""Table 5: CityScapes with equal weights: rows of Table 7."""

from reporting.dense import MULTI, SEGMENTATION, dense_table, depth

TABLE = dense_table(
    number=5,
    experiment="cityscapes",
    title="CityScapes",
    methods=(*(f"{architecture}_equal" for architecture in MULTI), "mtan_equal_pcgrad"),
    quantities=(*SEGMENTATION, *depth(2)),
)
