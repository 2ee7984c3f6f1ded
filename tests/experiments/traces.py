"""Golden traces: records of about 50 steps in float64.

Only a deliberate change of the numbers may alter them.
"""

import json
from pathlib import Path

import pytest

from multitask.runs.provenance import machine

FOLDER = Path(__file__).resolve().parents[1] / "golden"
RECORDED = {"Intel(R) Xeon(R) Processor": FOLDER, "AMD EPYC": FOLDER / "amd_epyc"}
EXACT, ELSEWHERE = 1e-9, 1e-6  # relative, on a recorded processor and on another
# torchjd takes these weights from solvers that stop at a tolerance of their own: rounding that
# differs between processors of one name moved a length by 6e-7.
SOLVED = {"cagrad": 1e-5, "nash_mtl": 1e-5}


def read(folder, experiment, method):
    """The golden rows [step, task, metric, value], or None where none are recorded."""
    path = folder / f"{experiment}.json"
    traces = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return traces.get(method)


def check(experiment, method, rows):
    """The rows (step, task, metric, value) equal the golden ones to 1e-9, or as SOLVED says."""
    golden, other = (read(folder, experiment, method) for folder in RECORDED.values())
    processor, tolerance = machine()["processor"], EXACT
    if other is not None and RECORDED.get(processor) == FOLDER / "amd_epyc":
        golden = other
    elif other is not None and processor not in RECORDED:
        tolerance = ELSEWHERE
    tolerance = max(tolerance, SOLVED.get(method, 0.0))
    assert len(golden) >= 20
    assert [list(row[:3]) for row in rows] == [row[:3] for row in golden]
    compared = 0
    for place, ((step, name, metric, value), (*_, expected)) in enumerate(
        zip(rows, golden, strict=True)
    ):
        if tolerance == ELSEWHERE and other[place][3] != pytest.approx(expected, rel=EXACT):
            continue
        compared += 1
        assert value == pytest.approx(expected, rel=tolerance, abs=1e-12), (step, name, metric)
    assert compared


def write(experiment, traces):
    """Write the golden file from {method: rows}."""
    blocks = {
        method: ",\n".join(json.dumps(list(row)) for row in rows) for method, rows in traces.items()
    }
    text = ",\n".join(f'"{method}": [\n{lines}\n]' for method, lines in blocks.items())
    (FOLDER / f"{experiment}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
