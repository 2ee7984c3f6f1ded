"""Table 3, the 40 attributes of CelebA: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.settings import Supervised
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Supervised):
    """Table 3; Section 5.1."""

    data: Literal["generated", "celeba"] = given(
        "celeba",
        "",
        "Cartoon faces generated in the set's file layout, or the real CelebA below data_root.",
    )
    data_seed: int = given(
        0, "", "Seed of the subset and of generated faces; the same for all runs.", least=0
    )
    image_side: int = given(
        64,
        "not given; base code: 64",
        "Height and width in pixels to which a face is reduced.",
        least=16,
        step=16,
    )
    train_examples: int = given(
        0,
        "Section 5.1: 200 K faces in all)",
        "Faces of the official train split, chosen by data_seed; 0 takes all; "
        "generated data need a number.",
        least=0,
    )
    validation_examples: int = given(
        0,
        "",
        "Faces of the official validation split, chosen by data_seed; 0 takes all; "
        "generated data need a number.",
        least=0,
    )
    test_examples: int = given(
        0,
        "",
        "Faces of the official test split, chosen by data_seed; 0 takes all; "
        "generated data need a number.",
        least=0,
    )
    width: int = given(
        64,
        "not given; base code: 64",
        "Filters of the first stage; each of the next three doubles them.",
        least=1,
    )
    blocks: int = given(
        2,
        "not given; base code: 2 (ResNet-18)",
        "Basic blocks of each of the four stages; two make ResNet-18.",
        least=1,
    )
    epochs: int = given(100, "not given; base code: 100")
    batch_size: int = given(256, "not given; base code: 256")
    optimizer: Literal["sgd", "adam"] = given("adam", "not given; base code: Adam")
    learning_rate: float = given(0.0005, "not given; base code: 5e-4")
    momentum: float = given(0.9)
    decay: float = given(0.85, "not given; base code: 0.85")
    decay_every: int = given(10, "not given; base code: 10 of 100")
    evaluate_every: int = given(5)
    log_every: int = given(50)
