"""Time the core beside its peers: one process, interleaved repeats, medians and ratios.

    python -m benchmarks.run --out results/benchmarks

Two questions, each as a ratio that survives a change of machine:
- *surgery*: from task gradients [T, P] to one update [P]; the reference is this core.
- *step*: losses to `.grad` of a whole model; the reference is the plain joint backward pass.
Writes `speed.csv` and `speed.md`. Repeats are interleaved (A B C A B C ...), so that a drift of the machine hits all
alike. Ours ends with the update added to `.grad`, the peers' with a new vector: a copy that their users make later.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from conflictfree.grad_operator import PCGradOperator
from torch import Tensor, nn
from torchjd.aggregation import PCGrad
from torchjd.autojac import jac_to_grad, mtl_backward

import pcgrad

Candidates = dict[str, Callable[[], object]]


def interleaved(candidates: Candidates, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat of every candidate, in turn, after one warm-up of each."""
    for call in candidates.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def literal(gradients: Tensor, orders: Tensor) -> Tensor:
    """Algorithm 1 word for word: a Python loop over pairs of vectors."""
    update = torch.zeros_like(gradients[0])
    for i, row in enumerate(orders.tolist()):
        g = gradients[i].clone()
        for j in row:
            product = g @ gradients[j]
            if product < 0:
                g -= product / (gradients[j] @ gradients[j]) * gradients[j]
        update += g
    return update


def surgery_case(tasks: int, size: int, generator: torch.Generator) -> Candidates:
    """Ways from [T, P] gradients to one update [P]; about half of the pairs conflict."""
    gradients = torch.randn(tasks, size, generator=generator)
    parameter = torch.zeros(size, requires_grad=True)
    peers = {"torchjd": PCGrad(), "conflictfree": PCGradOperator()}

    def ours() -> None:
        parameter.grad = None
        orders = pcgrad.random_orders(tasks, generator)
        weights = pcgrad.surgery(pcgrad.gramian([gradients], group=False), orders).weights
        pcgrad.apply_weights([parameter], [gradients], weights)

    return {
        "pcgrad": ours,
        "literal Algorithm 1": lambda: literal(gradients, pcgrad.random_orders(tasks, generator)),
        "torchjd": lambda: peers["torchjd"](gradients),
        "conflictfree": lambda: peers["conflictfree"].calculate_gradient(gradients),
    }


def step_case(generator: torch.Generator) -> Candidates:
    """Whole steps of the LeNet of MultiMNIST, batch 256, two tasks that share a trunk."""
    trunk = nn.Sequential(
        *(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(320, 50), nn.ReLU()),
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = [nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10)) for _ in range(2)]
    images = torch.randn(256, 1, 28, 28, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (2, 256), generator=generator)
    parameters = [*trunk.parameters(), *(p for head in heads for p in head.parameters())]
    aggregator = PCGrad()

    def losses(features: Tensor) -> list[Tensor]:
        return [nn.functional.cross_entropy(head(features), y) for head, y in zip(heads, labels, strict=True)]

    def clear() -> None:
        for parameter in parameters:
            parameter.grad = None

    def plain() -> None:
        clear()
        torch.stack(losses(trunk(images))).sum().backward()

    def ours() -> None:
        clear()
        pcgrad.backward(losses(trunk(images)), trunk.parameters(), generator=generator)

    def torchjd() -> None:
        clear()
        features = trunk(images)
        own = [list(head.parameters()) for head in heads]
        mtl_backward(losses(features), features, tasks_params=own, shared_params=trunk.parameters())
        jac_to_grad(trunk.parameters(), aggregator)

    return {"plain joint step": plain, "pcgrad": ours, "torchjd": torchjd}


def measure(repeats: int) -> pd.DataFrame:
    """All cases: median milliseconds and the ratio of medians to the case's first candidate."""
    generator = torch.Generator().manual_seed(0)
    cases = {
        f"surgery, T = {tasks}, P = {size:.0e}": surgery_case(tasks, size, generator)
        for tasks, size in ((2, 10**4), (2, 10**6), (10, 10**4), (10, 10**6), (50, 10**5))
    }
    cases["step, LeNet, T = 2, batch 256"] = step_case(generator)
    rows = []
    for case, candidates in cases.items():
        medians = {name: pd.Series(times).median() for name, times in interleaved(candidates, repeats).items()}
        reference = next(iter(medians.values()))
        rows += [
            {"case": case, "code": name, "milliseconds": 1e3 * median, "ratio": median / reference}
            for name, median in medians.items()
        ]
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--repeats", type=int, default=31)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = measure(args.repeats)
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "speed.csv", index=False, float_format="%.4g")
    machine = f"One CPU thread, torch {torch.__version__}, {platform.machine()}"
    note = f"{machine}; medians of {args.repeats} interleaved repeats."
    (args.out / "speed.md").write_text(
        f"{table.to_markdown(index=False, floatfmt='.2f')}\n\n{note}\n", encoding="utf-8"
    )
    print((args.out / "speed.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
