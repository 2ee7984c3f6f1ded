"""CamVid (ours), segmentation and distance to class boundaries: the settings of CityScapes."""

from dataclasses import dataclass
from typing import Literal

from multitask.dense.settings import Dense
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Dense):
    """Not in the paper; as CityScapes (Tables 5 and 7), at the size of the set."""

    data: Literal["camvid"] = given("camvid", "", "The real scenes below data_root/camvid.")
    train_examples: int = given(468)
    test_examples: int = given(233)
    classes: int = given(7, "as CityScapes")
    height: int = given(96, "of the set")
    width: int = given(128, "of the set")
    epochs: int = given(200, "as CityScapes")
    batch_size: int = given(8, "as CityScapes")
    optimizer: Literal["sgd", "adam"] = given("adam", "as CityScapes")
    learning_rate: float = given(0.0001, "as CityScapes")
    weight_decay: float = given(0.0, "as CityScapes")
    clip_norm: float = given(0.0, "as CityScapes")
    decay: float = given(0.5, "as CityScapes")
    decay_every: int = given(100, "as CityScapes")
