"""Table of CamVid (ours): segmentation and distance to class boundaries of real street images."""

from reporting.comparison import Comparison
from reporting.tables import UPDATES, Quantity

LAST = 3  # last epochs over which a run is averaged
TABLE = Comparison(
    source="table_camvid",
    title="CamVid (ours): segmentation and distance to class boundaries",
    experiment="camvid",
    methods=("cross_stitch_equal", "cross_stitch_equal_pcgrad", "mtan_equal", "mtan_equal_pcgrad"),
    pairs=(
        ("mtan_equal_pcgrad", "mtan_equal"),
        ("cross_stitch_equal_pcgrad", "cross_stitch_equal"),
    ),
    quantities=(
        Quantity("segmentation", "test_mIoU_per_image", "mIoU, %", last=LAST, compare=True),
        Quantity("segmentation", "test_PixAcc_per_image", "PixAcc, %", last=LAST, compare=True),
        Quantity("boundary", "test_AbsErr", "boundary AbsErr", 4, last=LAST, compare=True),
        Quantity("boundary", "test_RelErr", "boundary RelErr", 3, last=LAST, compare=True),
        *UPDATES,
    ),
    notes=(
        f"a run's number: mean over its last {LAST} epochs; higher is better for mIoU and PixAcc, "
        "lower for errors",
        "not in the paper: tests the claim of Tables 5 and 7 on real images with another second "
        "task",
        "boundary: distance of a pixel to the nearest class boundary of the annotation, "
        "1 from 16 pixels on; no depth",
        "equal weights; mIoU and PixAcc are means over images",
    ),
)
