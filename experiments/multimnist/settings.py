"""Table 4, two digits in one image: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.settings import Supervised
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Supervised):
    """Table 4; Section 5.1."""

    data: Literal["digits", "mnist", "fashion_mnist", "mnist_fashion"] = given(
        "mnist",
        "",
        "Source of both images: scikit-learn's embedded digits, MNIST, Fashion-MNIST, or a digit "
        "and a garment.",
    )
    data_seed: int = given(
        0,
        "one set of pairs for all runs, as the base code stores one",
        "Seed of the pairs of digits and of the validation split; the same data for all seeds and "
        "methods.",
        least=0,
    )
    train_examples: int = given(
        0,
        "0: one composite for every source image (60,000: Section 5.1)",
        "Composite images to train (and validate) on; 0 takes one for every source image.",
        least=0,
    )
    test_examples: int = given(
        0, "", "Composite images to test on; 0 takes one for every source image.", least=0
    )
    validation_share: float = given(
        0,
        "",
        "Share of the training digits held out for tuning; they are paired among themselves.",
        least=0,
        below=0.5,
    )
    offset: int = given(
        6,
        "not given; base code: 6",
        "Row and column of the right digit on the 36x36 canvas.",
        least=0,
        most=8,
    )
    resize: Literal["nearest", "bilinear"] = given(
        "nearest",
        "not given; base code: nearest neighbor",
        "How the 36x36 canvas is reduced to 28x28.",
    )
    dropout: float = given(
        0.5,
        "not given; base code: 0.5",
        "Drop probability of the second convolution's channels and of the heads' hidden units.",
        least=0,
        below=1,
    )
    dropout_form: Literal["base_code", "standard"] = given(
        "base_code",
        "not given; base_code: channels masked for the whole batch, nothing rescaled",
        "base_code: channels are masked for the whole batch and nothing is rescaled; standard: a "
        "mask per example, kept units rescaled in training.",
    )
    epochs: int = given(100, "not given; base code: 100")
    batch_size: int = given(256, "not given; base code: 256")
    optimizer: Literal["sgd", "adam"] = given(
        "sgd",
        "not given; base code, by its author: SGD (issue 14 of isl-org/MultiObjectiveOptimization)",
    )
    learning_rate: float = given(0.05, "not given; base code, by its author: 0.05")
    momentum: float = given(0.9, "not given; base code: 0.9")
    decay: float = given(0.85, "not given; base code: 0.85")
    decay_every: int = given(10, "not given; base code: 10 of 100")
