"""The settings of the supervised loop, and of the rows that are tuned."""

from dataclasses import dataclass
from typing import Literal

from system.settings import Block, described, given


@dataclass(frozen=True, kw_only=True)
class Supervised(Block):
    """The settings of the supervised loop, in every experiment."""

    epochs: int = described("Passes over the training images.", least=1)
    batch_size: int = described("Images per update.", least=1)
    precision: Literal["float32", "bfloat16"] = given(
        "float32",
        "",
        "Number format of the networks' convolutions and matrix products. Weights, losses, task "
        "gradients and Gramians stay in float32. A device without bfloat16 units runs in float32 "
        "and says so.",
    )
    optimizer: Literal["sgd", "adam"] = described(
        "SGD with momentum, or Adam with its usual constants."
    )
    learning_rate: float = described("Learning rate at the start.", above=0)
    momentum: float = given(
        0.0,
        "",
        "Momentum of SGD; Adam does not read it.",
        least=0,
        below=1,
        only=("optimizer", "sgd"),
    )
    weight_decay: float = given(
        0.0,
        "not given; base code: none",
        "Factor of the L2 penalty, added to the gradient by the optimizer after surgery.",
        least=0,
    )
    clip_norm: float = given(
        0.0,
        "not given; base code: none",
        "Upper limit of the whole gradient's norm, applied after surgery; 0 sets no limit.",
        least=0,
    )
    decay: float = described(
        "Factor on the learning rate every decay_every epochs.", most=1, above=0
    )
    decay_every: int = described("Epochs between two decays.", least=1)
    evaluate_every: int = given(
        1, "", "Epochs between two evaluations; the last epoch is always evaluated.", least=1
    )
    reduction: Literal["sum", "mean"] = given(
        "sum", "Algorithm 1", "Sum (Algorithm 1) or mean of the projected gradients."
    )
    order: Literal["random", "shared", "fixed"] = given(
        "random", "Algorithm 1", "Order in which the other tasks are visited."
    )
    log_every: int = given(
        100,
        "",
        "Updates between two checks that losses and gradients are finite.",
        least=1,
        most=100,
    )
