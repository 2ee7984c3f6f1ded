"""UC Merced (ours), 17 binary labels of aerial photographs: the settings of CelebA."""

from dataclasses import dataclass
from typing import Literal

from multitask.settings import Supervised
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Supervised):
    """Not in the paper; as CelebA (Table 3), at the size of the set."""

    data: Literal["ucmerced"] = given(
        "ucmerced", "", "The real photographs below data_root/ucmerced."
    )
    data_seed: int = given(0, "", "Seed of the subset; the same for all runs.", least=0)
    image_side: int = given(
        64,
        "of the set",
        "Height and width in pixels to which a photograph is reduced.",
        least=16,
        step=16,
    )
    train_examples: int = given(
        0, "", "Photographs of the train split (1,470); 0 takes all.", least=0
    )
    validation_examples: int = given(
        0, "", "Photographs of the validation split (210); 0 takes all.", least=0
    )
    test_examples: int = given(0, "", "Photographs of the test split (420); 0 takes all.", least=0)
    width: int = given(
        64,
        "CelebA's base code: 64",
        "Filters of the first stage; each of the next three doubles them.",
        least=1,
    )
    blocks: int = given(
        2,
        "CelebA's base code: 2 (ResNet-18)",
        "Basic blocks of each of the four stages; two make ResNet-18.",
        least=1,
    )
    epochs: int = given(100, "CelebA's base code: 100")
    batch_size: int = given(64, "ours; CelebA's base code has 256 of 110 times as many images")
    optimizer: Literal["sgd", "adam"] = given("adam", "CelebA's base code: Adam")
    learning_rate: float = given(0.001, "ours, for batches of 64")
    momentum: float = given(0.9)
    decay: float = given(0.85, "CelebA's base code: 0.85")
    decay_every: int = given(10, "CelebA's base code: 10 of 100")
    evaluate_every: int = given(5)
    log_every: int = given(20)
