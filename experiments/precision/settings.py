"""bfloat16 against float32 (ours): the sizes of the runs that are compared."""

from dataclasses import dataclass

from system.settings import Block, given


@dataclass(frozen=True, kw_only=True)
class Settings(Block):
    """Ours, not in the paper; the task sets everything but these sizes."""

    multimnist_train_examples: int = given(20_000, "ours", "MultiMNIST's training images.", least=1)
    multimnist_epochs: int = given(3, "ours", "Passes over MultiMNIST.", least=1)
    cifar100_train_examples: int = given(
        5_000, "ours", "CIFAR-100's training images, class-balanced.", least=100
    )
    cifar100_epochs: int = given(2, "ours", "Passes over CIFAR-100's subset.", least=1)
    ucmerced_epochs: int = given(2, "ours", "Passes over UC Merced.", least=1)
    camvid_epochs: int = given(1, "ours", "Passes over CamVid.", least=1)
