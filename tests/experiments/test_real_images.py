"""UC Merced and CamVid: read in their own layouts and reported under their own names.

They are trained by CelebA's and CityScapes' parts.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.camvid import task as camvid
from experiments.ucmerced import task as ucmerced
from multitask.data import ucmerced as photographs
from multitask.runs.errors import UserError
from multitask.supervised import Fit, epoch_orders

LOOP = {
    "device": "cpu",
    "data_seed": 0,
    "epochs": 1,
    "precision": "bfloat16",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "decay": 1.0,
    "decay_every": 1,
    "evaluate_every": 1,
    "reduction": "sum",
    "order": "random",
    "log_every": 10,
}


def write_photographs(root, labels=photographs.LABELS):
    """Twelve photographs of noise: eight to train on, two of each other split."""
    folder = root / photographs.FOLDER
    (folder / "img").mkdir(parents=True)
    draw = np.random.default_rng(0)
    lines, parts = ["12", " ".join(labels)], []
    for k in range(12):
        name = f"harbor{k:02}.png"
        pixels = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img" / name)
        lines.append(" ".join([name, *map(str, draw.choice([-1, 1], len(labels)))]))
        parts.append(f"{name} {0 if k < 8 else 1 + k % 2}")
    (folder / "list_attr.txt").write_text("\n".join(lines) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")


@pytest.fixture
def merced(tmp_path, monkeypatch):
    small = {**vars(photographs.UC_MERCED), "published": (8, 2, 2)}
    monkeypatch.setattr(ucmerced, "UC_MERCED", type(photographs.UC_MERCED)(**small))
    return {
        **LOOP,
        "data": "ucmerced",
        "data_root": str(tmp_path),
        "image_side": 16,
        "train_examples": 0,
        "validation_examples": 0,
        "test_examples": 0,
        "width": 2,
        "blocks": 1,
        "batch_size": 8,
    }


def test_ucmerced_has_17_tasks_and_is_not_celeba(merced, tmp_path):
    """Bug: read as CelebA (40 names, 178x218 pixels), or a fingerprint that says CelebA."""
    write_photographs(tmp_path)
    found = ucmerced.fingerprint(merced)
    assert (found["name"], found["train"], found["validation"], found["test"]) == (
        "ucmerced",
        8,
        2,
        2,
    )
    made = ucmerced.problem("pcgrad", 0, merced)
    assert made.tasks == photographs.LABELS
    assert len(made.tasks) == 17
    fit = Fit(made, ucmerced.ROWS["pcgrad"], 0, merced)
    before = [p.detach().clone() for p in made.shared]
    fit.update(made.train, epoch_orders("random", 17, 1, 0, 1)[0])
    fit.check()
    assert any(not torch.equal(p, old) for p, old in zip(made.shared, before, strict=True))


def test_ucmerced_names_what_is_wrong(merced, tmp_path):
    """Bug: a message that sends the user to CelebA's files."""
    with pytest.raises(UserError, match="UC Merced Land Use") as missing:
        ucmerced.source(merced)
    assert "CelebA" not in str(missing.value)
    write_photographs(tmp_path, labels=(*photographs.LABELS[:-1], "lake"))
    with pytest.raises(UserError, match=r"17 attributes in their order .lake for water.*UC Merced"):
        ucmerced.source(merced)


def test_camvid_names_its_second_task_by_what_it_is(tmp_path):
    """Bug: the distance to class boundaries passes for a depth."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for part, shape in (("image", (96, 128, 3)), ("label", (96, 128)), ("depth", (96, 128, 1))):
            folder = tmp_path / "camvid" / "camvid" / split / part
            folder.mkdir(parents=True)
            for i in range(count):
                values = draw.random(shape).astype(np.float16)
                np.save(
                    folder / f"{i}.npy",
                    draw.integers(-1, 7, shape).astype(np.int8) if part == "label" else values,
                )
    settings = {
        **LOOP,
        "data": "camvid",
        "data_root": str(tmp_path),
        "classes": 7,
        "height": 96,
        "width": 128,
        "train_examples": 2,
        "test_examples": 1,
        "widths": [2, 2, 4, 4, 4],
        "batch_size": 2,
    }
    made = camvid.problem("mtan_equal_pcgrad", 0, settings)
    assert made.tasks == ("segmentation", "boundary")
    assert camvid.fingerprint(settings)["name"] == "camvid"
    fit = Fit(made, camvid.dense.ROWS["mtan_equal_pcgrad"][1], 0, settings)
    fit.update(made.train, epoch_orders("random", 2, 1, 0, 1)[0])
    fit.evaluate(1)
    tasks = {row[1] for row in fit.records.rows}
    assert tasks == {"segmentation", "boundary"}
    assert {row[2] for row in fit.records.rows if row[1] == "boundary"} >= {"test_AbsErr"}
