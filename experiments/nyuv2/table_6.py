"""Table 6: NYUv2, PCGrad on Cross-Stitch and Dense: rows and columns of Table 8."""

from reporting.dense import NORMALS, SEGMENTATION, dense_table, depth, rows

COLUMNS = ("test_mIoU_per_image", "test_AbsErr", "test_mean_angle", "test_within_11.25")
TABLE = dense_table(
    number=6,
    experiment="nyuv2",
    title="NYUv2",
    methods=rows(("cross_stitch", "dense"), ("uncertainty",)),
    quantities=[q for q in (*SEGMENTATION, *depth(4), *NORMALS) if q.metric in COLUMNS],
    notes=(
        "the paper names no weights for + PCGrad; its rows without it have uncertainty's, so ours "
        "have them",
    ),
)
