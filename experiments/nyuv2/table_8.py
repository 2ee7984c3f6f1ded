"""Table 8: NYUv2, every architecture and loss weighting, without and with PCGrad.

The paper adds PCGrad to MTAN alone.
"""

from reporting.dense import MULTI, NORMALS, SEGMENTATION, SINGLE, dense_table, depth, rows

TABLE = dense_table(
    number=8,
    experiment="nyuv2",
    title="NYUv2",
    methods=(*SINGLE, *rows(MULTI)),
    quantities=(*SEGMENTATION, *depth(4), *NORMALS),
    also=("table_6",),
    notes=(
        "Cross-Stitch and Dense with PCGrad: the paper's numbers are Table 6's, which names no "
        "weights",
    ),
)
