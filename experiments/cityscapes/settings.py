"""Tables 5 and 7, segmentation and inverse depth of street scenes: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.dense.settings import Dense
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Dense):
    """Tables 5 and 7; Section 5.1."""

    data: Literal["generated", "cityscapes"] = given("cityscapes", "", "Source of the scenes.")
    train_examples: int = given(2975)
    test_examples: int = given(500)
    classes: int = given(7, "Table 7: 7")
    height: int = given(128, "Table 5: 128")
    width: int = given(256, "Table 5: 256")
    epochs: int = given(200, "not given; base code (for NYUv2): 200")
    batch_size: int = given(8, "not given; later public code (CAGrad): 8")
    optimizer: Literal["sgd", "adam"] = given("adam", "not given; base code (for NYUv2): Adam")
    learning_rate: float = given(0.0001, "not given; base code (for NYUv2): 1e-4")
    weight_decay: float = given(0.0, "not given; base code (for NYUv2): none")
    clip_norm: float = given(0.0, "not given; base code (for NYUv2): none")
    decay: float = given(0.5, "not given; base code (for NYUv2): 0.5")
    decay_every: int = given(100, "not given; base code (for NYUv2): 100 of 200")
