"""Tables 1, 6 and 8 and Figure 5, dense prediction of indoor scenes: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.dense.settings import Dense
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Dense):
    """Tables 1, 6 and 8, Figure 5; Section 5.1."""

    data: Literal["generated", "nyuv2"] = given("nyuv2", "", "Source of the scenes.")
    train_examples: int = given(795)
    test_examples: int = given(654)
    classes: int = given(13, "Table 8: 13")
    height: int = given(288, "base code: 288")
    width: int = given(384, "base code: 384")
    epochs: int = given(200, "not given; base code: 200")
    batch_size: int = given(2, "base code: 2")
    optimizer: Literal["sgd", "adam"] = given("adam", "not given; base code: Adam")
    learning_rate: float = given(0.0001, "not given; base code: 1e-4")
    decay: float = given(0.5, "not given; base code: 0.5")
    decay_every: int = given(100, "not given; base code: 100 of 200")
