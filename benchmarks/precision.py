"""Compare one supervised update in float32 and in bfloat16, interleaved in one run.

    python -m benchmarks.precision --out results/benchmarks
    python -m benchmarks.precision --cases LeNet

The update is that of the training loop: losses, task gradients, Gramian, PCGrad and optimizer.
Operations are those of convolutions and matrix products (`torch.utils.flop_counter`), including all
task gradients. Their rate is compared with that of a square matrix product in the same precision
and run, which is no limit. Times are process time on one thread. Writes `precision.csv` and
`precision.md`.
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import seconds
from multitask import attributes
from multitask.data.scenes import Scenes
from multitask.dense import problem as dense
from multitask.methods import METHODS
from multitask.models.convnet import ConvNet
from multitask.models.lenet import Dropout, LeNet
from multitask.runs.devices import has_bfloat16_units
from multitask.runs.precision import PRECISIONS, full
from multitask.runs.provenance import commit, machine
from multitask.runs.seeding import initialization
from multitask.runs.startup import keep_freed_memory
from multitask.supervised import Data, Fit, Problem, epoch_orders
from reporting.render import write_csv, write_text
from system import command

SIDE = 1024  # of the matrices whose product the rates are compared with
SETTINGS: dict[str, Any] = {
    "device": "cpu", "optimizer": "adam", "learning_rate": 1e-4, "momentum": 0.9,
    "weight_decay": 0.0, "clip_norm": 0.0, "reduction": "sum", "width": 64, "blocks": 2,
    "classes": 13, "widths": [64, 128, 256, 512, 512], "batch_size": 2,
}  # fmt: skip


def _problem(model: Any, tasks: int, data: Data, losses: Any) -> Problem:
    """Return a problem for updates alone, without an evaluation."""
    model = model.to(memory_format=torch.channels_last)
    names = tuple(f"task {k}" for k in range(tasks))
    return Problem(names, model, model.shared_parameters(), data, {}, losses, lambda _: {})


def cifar100(draw: Generator) -> Problem:
    """Return Section 5.1's CIFAR-100 problem: 20 tasks, 200 images."""
    with initialization(0):
        model = ConvNet("one_fc", 20, 5)
    images = torch.randn(200, 3, 32, 32, generator=draw)
    labels = torch.randint(5, (200,), generator=draw)

    def losses(batch: Data, _: Generator) -> list[Tensor]:
        groups = zip(batch[0].split(10), batch[1].split(10), strict=True)
        return [functional.cross_entropy(full(model(x, k)), y) for k, (x, y) in enumerate(groups)]

    data = (images.contiguous(memory_format=torch.channels_last), labels)
    return _problem(model, 20, data, losses)


def lenet(draw: Generator) -> Problem:
    """Return the MultiMNIST problem: LeNet, two tasks, 256 images."""
    with initialization(0):
        model = LeNet(2, Dropout(0.5, "base_code"))
    labels = [torch.randint(10, (256,), generator=draw) for _ in range(2)]

    def losses(batch: Data, masks: Generator) -> list[Tensor]:
        logits = model(batch[0], masks)
        return [
            functional.cross_entropy(full(x), y) for x, y in zip(logits, batch[1:], strict=True)
        ]

    return _problem(model, 2, (torch.randn(256, 1, 28, 28, generator=draw), *labels), losses)


def mtan(draw: Generator) -> Problem:
    """Return MTAN at NYUv2's widths: three tasks, two images of 64x96."""
    size = (2, 64, 96)
    normals = torch.randn(2, 3, 64, 96, generator=draw)
    data = (
        torch.rand(2, 3, 64, 96, generator=draw),
        torch.randint(13, size, generator=draw).to(torch.int8),
        torch.rand(2, 1, 64, 96, generator=draw),
        functional.normalize(normals, dim=1),
    )
    return dense.problem("mtan_equal_pcgrad", 0, SETTINGS, Scenes(data, data, ""))


def celeba(draw: Generator) -> Problem:
    """Return a part of the CelebA problem: ResNet-18, 10 of 40 tasks, 8 images of 64x64."""
    images = torch.randint(256, (8, 3, 64, 64), generator=draw, dtype=torch.uint8)
    labels = torch.randint(2, (8, 10), generator=draw)
    splits = ("train", "validation", "test")
    tasks = [f"attribute {k}" for k in range(10)]
    return attributes.problem(
        tasks, dict.fromkeys(splits, images), dict.fromkeys(splits, labels), 0, SETTINGS
    )


CASES: dict[str, tuple[Callable[[Generator], Problem], int]] = {  # and turns
    "CIFAR-100's network, 200 images": (cifar100, 5),
    "LeNet, 256 images": (lenet, 40),
    "MTAN, 2 images of 64x96": (mtan, 3),
    "ResNet-18, 10 tasks, 8 images of 64x64": (celeba, 2),
}


def square_rate(precision: str, turns: int = 7) -> float:
    """Return the best rate of a square matrix product over some turns, in operations per second."""
    a, b = (torch.randn(SIDE, SIDE).to(getattr(torch, precision)) for _ in range(2))
    return 2 * SIDE**3 / min(seconds(lambda: a @ b) for _ in range(turns))


def measure(name: str, make: Callable[[Generator], Problem], turns: int) -> list[dict[str, Any]]:
    """Return one row per precision: time, rate, and rate relative to a square product's."""
    updates: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        problem = make(torch.Generator().manual_seed(0))
        fit = Fit(problem, METHODS["pcgrad"], 0, {**SETTINGS, "precision": precision})
        problem.model.train()
        orders = epoch_orders("random", len(problem.tasks), 1, 0, 1)[0]
        updates[precision] = lambda fit=fit, orders=orders: fit.update(fit.problem.train, orders)  # type: ignore[misc]
    # The counted call is also the warm-up.
    with FlopCounterMode(display=False) as counter:
        updates["float32"]()
    updates["bfloat16"]()
    times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(turns):
        for precision, update in updates.items():
            times[precision].append(seconds(update))
    rows = []
    for precision in PRECISIONS:
        middle, rate = statistics.median(times[precision]), square_rate(precision)
        rows.append(
            {
                "case": name,
                "precision": precision,
                "turns": turns,
                "milliseconds": 1e3 * middle,
                "speed_up": statistics.median(times["float32"]) / middle,
                "gflop": counter.get_total_flops() / 1e9,
                "gflops": counter.get_total_flops() / middle / 1e9,
                "square_gflops": rate / 1e9,
                "relative_rate": counter.get_total_flops() / middle / rate,
            }
        )
    return rows


def markdown(table: pd.DataFrame) -> str:
    """Return the published table as Markdown."""
    shown = pd.DataFrame(
        {
            "update": table["case"],
            "precision": table["precision"],
            "ms": table["milliseconds"].map("{:.1f}".format),
            "times as fast": table["speed_up"].map("{:.2f}".format),
            "GFLOP/s": table["gflops"].map("{:.0f}".format),
            "GFLOP/s of a square product": table["square_gflops"].map("{:.0f}".format),
            "of the rate of a square product": table["relative_rate"].map("{:.0%}".format),
        }
    )
    where = f"{machine()['processor']}, one thread, process time, torch {torch.__version__}"
    lines = [
        f"measured on {where}, commit {commit()}",
        "times as fast: as in float32, in turn in one run; "
        "square product: of 1024x1024 matrices, a comparison and no limit",
    ]
    return "\n".join([shown.to_markdown(index=False), "", *(f"- {line}" for line in lines), ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and write its table."""
    parser = command.Parser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--cases", nargs="*", default=[""], help="whose name contains a word")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    if not has_bfloat16_units(torch.device("cpu")):
        print("this processor has no bfloat16 units: both precisions run in float32")
    rows: list[dict[str, Any]] = []
    for name, (make, turns) in CASES.items():
        if any(word in name for word in args.cases):
            rows += measure(name, make, turns)
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    write_csv(table, args.out / "precision.csv")
    write_text(markdown(table), args.out / "precision.md")


if __name__ == "__main__":
    command.leave(main)
