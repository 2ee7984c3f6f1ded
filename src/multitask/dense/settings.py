"""The settings of dense prediction (NYUv2, CityScapes)."""

from dataclasses import dataclass

from multitask.settings import Supervised
from system.settings import described, given


@dataclass(frozen=True, kw_only=True)
class Dense(Supervised):
    """The settings of dense prediction, in addition to those of the supervised loop."""

    data_seed: int = given(
        0, "", "Seed of generated scenes; the same data for all seeds and methods.", least=0
    )
    train_examples: int = described(
        "Scenes to train on; real data must have this number; 0 takes all.", least=0
    )
    test_examples: int = described(
        "Scenes to test on; real data must have this number; 0 takes all.", least=0
    )
    classes: int = described("Classes of the segmentation labels.", least=2, most=127)
    height: int = described("Rows of the images.", least=32, step=32)
    width: int = described("Columns of the images.", least=32, step=32)
    widths: tuple[int, int, int, int, int] = given(
        (64, 128, 256, 512, 512),
        "base code: [64, 128, 256, 512, 512]",
        "Channels of the five stages of SegNet's encoder.",
        least=1,
    )
