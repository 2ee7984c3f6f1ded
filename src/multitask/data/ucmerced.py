"""UC Merced Land Use: 2,100 aerial photographs with 17 binary labels each.

The images are by Yang and Newsam (2010; USGS National Map, public domain), reduced to 64x64; the
labels are by Chaudhuri et al. (2018). The files are in CelebA's list format below the data root:
`ucmerced/ucmerced/img/<class><nn>.png`, `list_attr.txt`, `list_eval_partition.txt`.

The set has no official split. In each of its 21 scene classes, numbers 00 to 69 train, 70 to 79
validate and 80 to 99 test. Neighboring numbers may show one place, so a split by blocks keeps them
together.
"""

from multitask.data.celeba import Collection

FOLDER = "ucmerced/ucmerced"
# The second line of the list of labels.
_NAMES = (
    "airplane bare-soil buildings cars chaparral court dock field grass mobile-home pavement sand "
    "sea ship tanks trees water"
)
LABELS = tuple(_NAMES.split())
UC_MERCED = Collection(
    "img",
    "list_attr.txt",
    LABELS,
    (64, 64),
    (1470, 210, 420),
    "put UC Merced's photographs at 64x64 and its label lists there",
    "put img/, list_attr.txt, list_eval_partition.txt of UC Merced Land Use there (images: Yang "
    "and Newsam 2010, public domain; labels: Chaudhuri et al. 2018; both to be cited)",
)
