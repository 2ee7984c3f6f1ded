"""Table 7: CityScapes, every architecture and loss weighting, without and with PCGrad.

The paper adds PCGrad to MTAN alone.
"""

from reporting.dense import MULTI, SEGMENTATION, SINGLE, dense_table, depth, rows

TABLE = dense_table(
    number=7,
    experiment="cityscapes",
    title="CityScapes",
    methods=(*SINGLE, *rows(MULTI)),
    quantities=(*SEGMENTATION, *depth(2)),
)
