"""Table 2, the 20 superclasses of CIFAR-100 as 20 tasks: the paper's settings."""

from dataclasses import dataclass
from typing import Literal

from multitask.settings import Supervised
from system.settings import given


@dataclass(frozen=True, kw_only=True)
class Settings(Supervised):
    """Table 2; Section 5.1."""

    data: Literal["generated", "cifar100"] = given(
        "cifar100",
        "",
        "Textured shapes generated in the set's file layout, "
        "or the real CIFAR-100 below data_root.",
    )
    data_seed: int = given(
        0,
        "",
        "Seed of the subset, of the validation split and of generated images; the same for all "
        "runs.",
        least=0,
    )
    labels: Literal["superclass", "mod5"] = given(
        "superclass",
        "mod5: the base code's fine % 5, which collide",
        "superclass: the place of a fine class among the five of its superclass; mod5: the base "
        "code's fine % 5, under which classes of a superclass collide.",
    )
    train_examples: int = given(
        0,
        "0: all (50,000: Section 5.1)",
        "Training (and validation) images, equally many of every fine class; 0 takes all.",
        least=0,
        step=100,
    )
    test_examples: int = given(
        0, "", "Test images, equally many of every fine class; 0 takes all.", least=0, step=100
    )
    validation_share: float = given(
        0, "", "Share of the training images held out for tuning.", least=0, below=0.5
    )
    filters: int = given(
        160,
        "Section 5.1: 160, in each of 3 convolutions",
        "Filters of each of the three convolutions.",
        least=1,
    )
    units: int = given(
        320,
        "Section 5.1: 320, in each of 2 fully connected layers",
        "Units of each of the two fully connected layers.",
        least=1,
    )
    batching: Literal["union", "balanced"] = given(
        "union",
        "union: drawn from all tasks' images (Section 5); balanced: equally many of every task",
        "Batches from the union of the tasks' images, or with equally many images of every task.",
    )
    task_loss: Literal["mean", "sum"] = given(
        "mean", "not given", "Mean or sum of the cross-entropy over a task's images of a batch."
    )
    epochs: int = given(50, "not given; base code: 50")
    batch_size: int = given(200, "not given; base code: 10")
    optimizer: Literal["sgd", "adam"] = given(
        "adam",
        "not given; base code: SGD, whose one rate would suit either the sum of 20 losses or the "
        "networks of one task",
    )
    learning_rate: float = given(0.0005, "not given")
    momentum: float = given(0.9, "not given")
    weight_decay: float = given(0.0, "not given")
    clip_norm: float = given(40.0, "not given; base code: 40")
    decay: float = given(0.5, "not given")
    decay_every: int = given(15)
    evaluate_every: int = given(5)
    log_every: int = given(50)
