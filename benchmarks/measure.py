"""Interleaved measurement of time and memory for alternative implementations."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

# The first is the reference of all ratios, the second is ours.
Candidates = dict[str, Callable[[], object]]

CPU = torch.device("cpu")
LEAST, MOST = 5, 101  # repeats
FEW = 3  # timed calls of what is too slow for the least number of turns
LONGEST = 20.0  # seconds of a call from which a code is left out
QUICK = 0.1  # seconds up to which the state of caches shows
SLOW = 1.0  # seconds from which a first call needs no other one as warm-up
ONCE = 1.0  # seconds from which the memory of a first call counts, set-up and all


def seconds(call: Callable[[], object], device: torch.device = CPU) -> float:
    """Return the seconds of one call.

    On a GPU it is the time between two events of its stream. On one CPU thread it is process time,
    which does not grow while other programs run. With several threads it is wall-clock time, since
    process time would be the sum over threads.
    """
    if device.type == "cpu":
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        call()
        return clock() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    call()
    last.record()
    last.synchronize()
    return 1e-3 * float(first.elapsed_time(last))


def interleaved(
    candidates: Candidates,
    most: int = MOST,
    *,
    budget: float = math.inf,
    least: int = LEAST,
    always: int = 2,
    first: Mapping[str, float] | None = None,
    device: torch.device = CPU,
) -> dict[str, list[float]]:
    """Time candidates in turn (A B C A B C ...), so that a drift of the machine affects all alike.

    A quick call is timed right after an untimed call of the same code, because training repeats a
    step and does not see caches and memory as other code left them.

    After `budget` seconds repeats stop, but not before the `least` number. If that does not fit
    into the budget, the slowest candidates but the first `always` leave the turns and are timed FEW
    times. `first` has the seconds of earlier calls, which serve slow candidates as warm-up.

    Returns:
        The seconds of every repeat of every candidate.
    """
    warm = {name: (first or {}).get(name, 0.0) for name in candidates}
    for name, call in candidates.items():
        if warm[name] < SLOW:
            warm[name] = seconds(call, device)
    turns = dict(candidates)
    optional = sorted(list(candidates)[always:], key=lambda name: warm[name])
    while optional and least * sum(warm[name] for name in turns) > budget:
        del turns[optional.pop()]
    times: dict[str, list[float]] = {name: [] for name in candidates}
    start = time.perf_counter()
    for repeat in range(most):
        if repeat >= least and time.perf_counter() - start > budget:
            break
        for name, call in turns.items():
            if warm[name] < QUICK:
                call()
            times[name].append(seconds(call, device))
    for _ in range(FEW):
        for name, call in candidates.items():
            if name not in turns:
                times[name].append(seconds(call, device))
    return times


@contextmanager
def quiet() -> Iterator[None]:
    """Discard what C++ code writes to the error stream, such as messages of torch's profiler."""
    # C++ bypasses sys.stderr, so the file descriptor itself is redirected.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak(call: Callable[[], object], device: torch.device = CPU) -> tuple[int, float]:
    """Return the peak memory of a call beyond what was allocated before, and its seconds.

    Quick calls run twice and the second one counts, because the first may check or set up; memory
    that the first call keeps is included. On the CPU, the peak is that of a running sum over the
    allocations that torch's profiler records, which excludes scratch memory inside kernels. On a
    GPU, the caching allocator reports it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats(device)
            took = seconds(call, device)
            if took >= ONCE:
                break
        return torch.cuda.max_memory_allocated(device) - before, took
    with quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        took = seconds(call)
        if took < ONCE:
            with record_function("second call"):
                took = seconds(call)
    results: Any = recorded.profiler
    # The events are read directly: exporting the trace as JSON is slow.
    events = sorted(results.kineto_results.events(), key=lambda event: event.start_ns())
    start = next((event.start_ns() for event in events if event.name() == "second call"), 0)
    memory = [event for event in events if event.name() == "[memory]"]
    held = np.cumsum([0, *(event.nbytes() for event in memory)], dtype=np.int64)
    during = [k for k, event in enumerate(memory) if event.start_ns() >= start]
    return int(held[during[0] :].max()) if during else 0, took


def quartiles(times: list[float], reference: list[float]) -> dict[str, float]:
    """Return median, quartiles and minimum in ms, and median and quartiles of ratios.

    Each ratio is to the reference of the same turn, or to its median if the numbers differ.
    """
    low, middle, high = 1e3 * np.quantile(times, [0.25, 0.5, 0.75])
    paired = len(times) == len(reference)
    ratios = np.array(times) / (np.array(reference) if paired else np.median(reference))
    ratio_low, ratio, ratio_high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {
        "median_ms": middle,
        "low_ms": low,
        "high_ms": high,
        "least_ms": 1e3 * min(times),
        "ratio": ratio,
        "ratio_low": ratio_low,
        "ratio_high": ratio_high,
    }
