"""Table 8: NYUv2, every architecture and loss weighting, without and with PCGrad.

The paper adds PCGrad to MTAN alone.
"""

from reporting.dense import (
    MULTI,
    NORMALS,
    SEGMENTATION,
    SINGLE,
    SIZE,
    UPDATES,
    dense_table,
    depth,
    rows,
)

TABLE = dense_table(
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
