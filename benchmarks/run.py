"""Measure time and memory of gradient surgery and its peers in one run (benchmarks/README.md).

    python -m benchmarks.run --out results/benchmarks
    python -m benchmarks.run --cases MT10 LeNet --seconds 2   # a part of it, sooner
    python -m benchmarks.run --device cuda

- *surgery*: from task gradients [T, P] to an update [P]; the reference reads the gradients twice
  and does nothing else.
- *step*: forward pass, backward pass and `.grad` of a whole network; the reference is the plain
  joint step.

Writes `speed_<device>.csv`, then its table (Markdown) and figure through `benchmarks.report`.
"""

import gc
import sys
import time
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks import report, steps, surgery
from benchmarks.measure import FEW, LONGEST, interleaved, peak, quartiles
from benchmarks.surgery import Case
from multitask.runs.devices import choose_device
from multitask.runs.errors import UserError
from multitask.runs.provenance import commit, machine
from system import command

PEERS = ("torchjd", "conflictfree", "LibMTL")


def measured(
    case: Case, budget: float, device: torch.device, before: dict[tuple[str, int], float]
) -> pd.DataFrame:
    """Measure one case: a row per code with milliseconds, ratios to the first code, and bytes.

    `before` has the seconds per shared value of each code at the same T and a smaller P, and is
    updated. A code whose FEW calls are predicted to exceed the budget of seconds more than three
    times is left out, and its row says so.
    """
    size, candidates = case.make()
    absent = {
        name: "left out"
        for name in candidates
        if FEW * size * before.get((name, case.tasks), 0) > 3 * budget
    }
    reference = next(iter(candidates))
    # Run the reference once, so that every code starts with another one's `.grad`, which it frees.
    candidates[reference]()
    peaks: dict[str, int] = {}
    first: dict[str, float] = {}
    for name in [name for name in candidates if name not in absent]:
        try:
            peaks[name], first[name] = peak(candidates[name], device)
        except torch.OutOfMemoryError:
            absent[name] = "out of memory"
    absent |= {name: "left out" for name, took in first.items() if took > LONGEST}
    present = {name: candidates[name] for name in peaks if name not in absent}
    # The reference, ours and, where it exists, the task gradients alone come first.
    always = 3 if "bound" in candidates else 2
    times = interleaved(present, budget=budget, always=always, first=first, device=device)
    rows: list[dict[str, Any]] = []
    for name in candidates:
        row: dict[str, Any] = {"kind": case.kind, "case": case.name, "code": name}
        row |= {"T": case.tasks, "P": size}
        if name in absent:
            rows.append({**row, "repeats": 0, "note": absent[name]})
            continue
        ours = times.get("pcgrad")
        row["ours_over"] = quartiles(ours, times[name])["ratio"] if ours else float("nan")
        beyond = peaks[name] - peaks[reference]
        row |= {
            "repeats": len(times[name]),
            **quartiles(times[name], times[reference]),
            "peak_bytes": peaks[name],
            "beyond": beyond,
            "beyond_TP": beyond / (4 * case.tasks * size),
        }
        rows.append(row)
        # Only surgery alone is measured at several P for one T.
        if case.kind == "surgery":
            before[name, case.tasks] = row["median_ms"] / 1e3 / size
    return pd.DataFrame(rows)


def circumstances(device: torch.device) -> dict[str, str]:
    """Return the columns that are the same in every row, such as machine and versions."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()["processor"]
    versions = {"torch": str(torch.__version__)}
    for name in PEERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            words = "is not installed and left out; `make bench` installs it"
            print(f"{name} {words}", file=sys.stderr)
    return {
        "device": device.type,
        "threads": str(torch.get_num_threads()),
        "machine": where,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def measure(cases: Sequence[Case], budget: float, device: torch.device, path: Path) -> None:
    """Measure all cases, each with its own budget of seconds."""
    # The CSV is written after every case, so that an interrupted run keeps its measurements.
    tables, same, before = [], circumstances(device), dict[tuple[str, int], float]()
    for case in cases:
        start = time.perf_counter()
        table = measured(case, budget, device, before)
        gc.collect()
        tables.append(table.assign(**same))
        report.write_csv(pd.concat(tables, ignore_index=True), path)
        ratios = "  ".join(
            f"{row['code']} {row['ratio']:.2f}" for _, row in table.iterrows() if row["repeats"]
        )
        print(f"{case.kind} {case.name}, {time.perf_counter() - start:.0f} s: {ratios}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and write its table and figure."""
    parser = command.Parser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    seconds = "per case, for repeats beyond the least number"
    parser.add_argument("--seconds", type=float, default=3.0, help=seconds)
    words = "only those whose name contains one of these words"
    parser.add_argument("--cases", nargs="*", default=[""], help=words)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    # torchjd's vmap of batch norm warns about its speed.
    warnings.filterwarnings("ignore", message="There is a performance drop because")
    device = choose_device(args.device)
    every = {
        f"{one.kind} {one.name}": one for one in (*steps.cases(device), *surgery.cases(device))
    }
    cases = [case for name, case in every.items() if any(word in name for word in args.cases)]
    if not cases:
        known = ", ".join(every)
        raise UserError(f"no case's name contains {' or '.join(args.cases)}; there are: {known}")
    path = args.out / f"speed_{device.type}.csv"
    measure(cases, args.seconds, device, path)
    print(report.write(path))


if __name__ == "__main__":
    command.leave(main)
