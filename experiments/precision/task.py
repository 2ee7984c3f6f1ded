"""Compares bfloat16 with float32 (ours): PCGrad on the networks and data of four experiments.

A method is a data set and a precision. The runs are short and differ only in the precision. They
are paired by seed and show whether bfloat16 changes a metric by more than the seed does.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from experiments.camvid import task as camvid
from experiments.cifar100 import task as cifar100
from experiments.multimnist import task as multimnist
from experiments.ucmerced import task as ucmerced
from multitask.runs.checkpoint import Session
from multitask.runs.records import Records

Settings = Mapping[str, Any]

LOOP = {
    "data_seed": 0,
    "validation_share": 0,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "evaluate_every": 1,
    "reduction": "sum",
    "order": "random",
    "log_every": 50,
    "decay": 1.0,
    "decay_every": 1,
}
MULTIMNIST = {
    **LOOP,
    "data": "mnist",
    "test_examples": 0,
    "offset": 6,
    "resize": "nearest",
    "batch_size": 256,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "dropout": 0.5,
    "dropout_form": "base_code",
}
CIFAR100 = {
    **LOOP,
    "data": "cifar100",
    "labels": "superclass",
    "test_examples": 5000,
    "filters": 160,
    "units": 320,
    "batching": "union",
    "task_loss": "mean",
    "batch_size": 200,
    "optimizer": "adam",
    "learning_rate": 1e-3,
}
UCMERCED = {
    **LOOP,
    "data": "ucmerced",
    "image_side": 32,
    "train_examples": 0,
    "validation_examples": 0,
    "test_examples": 0,
    "width": 16,
    "blocks": 1,
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
}
CAMVID = {
    **LOOP,
    "data": "camvid",
    "train_examples": 468,
    "test_examples": 233,
    "classes": 7,
    "height": 96,
    "width": 128,
    "widths": [8, 16, 32, 64, 64],
    "batch_size": 8,
    "optimizer": "adam",
    "learning_rate": 1e-3,
}
# {data set: (task, its method, its settings)}.
SETS = {
    "multimnist": (multimnist, "pcgrad", MULTIMNIST),
    "cifar100": (cifar100, "pcgrad", CIFAR100),
    "ucmerced": (ucmerced, "pcgrad", UCMERCED),
    "camvid": (camvid, "mtan_equal_pcgrad", CAMVID),
}
METHODS = (
    "multimnist_float32",
    "multimnist_bfloat16",
    "cifar100_float32",
    "cifar100_bfloat16",
    "ucmerced_float32",
    "ucmerced_bfloat16",
    "camvid_float32",
    "camvid_bfloat16",
)


def settings_of(name: str, precision: str, settings: Settings) -> dict[str, Any]:
    """The settings of one data set: its defaults, then the sizes and machine of the config."""
    sizes = {
        key.removeprefix(f"{name}_"): value
        for key, value in settings.items()
        if key.startswith(f"{name}_")
    }
    places = {key: settings[key] for key in ("data_root", "device", "torch_threads")}
    return {**SETS[name][2], **places, **sizes, "precision": precision}


def fingerprint(settings: Settings) -> dict[str, Any]:
    """Names and one hash of the four data sets."""
    found = [
        task.fingerprint(settings_of(name, "float32", settings))
        for name, (task, _, _) in SETS.items()
    ]
    # One hash for all sets: a change of any of them makes the runs different.
    digest = hashlib.sha256("".join(part["sha256"] for part in found).encode()).hexdigest()
    return {"name": " + ".join(SETS), "real": True, "sha256": digest}


def train(method: str, seed: int, settings: Settings, session: Session) -> Records:
    """One run; resumable."""
    # A method names the data set and the precision: multimnist_bfloat16.
    name, _, precision = method.rpartition("_")
    task, row, _ = SETS[name]
    return task.train(row, seed, settings_of(name, precision, settings), session)
