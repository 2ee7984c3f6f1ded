"""Table 1: NYUv2, Cross-Stitch, MTAN and MTAN with PCGrad: rows of Table 8."""

from reporting.dense import NORMALS, PCGRAD, SEGMENTATION, dense_table, depth, rows

TABLE = dense_table(
    number=1,
    experiment="nyuv2",
    title="NYUv2",
    methods=(
        *(m for m in rows(("cross_stitch", "mtan")) if not m.endswith(PCGRAD)),
        "mtan_uncertainty_pcgrad",
    ),
    quantities=(*SEGMENTATION, *depth(4), *NORMALS),
)
