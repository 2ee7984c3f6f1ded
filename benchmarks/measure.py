"""Seconds and bytes of several ways to do one thing, in turn."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

Candidates = dict[
    str, Callable[[], object]
]  # the first is the reference of all ratios, the second is ours

CPU = torch.device("cpu")
LEAST, MOST = 5, 101  # repeats
FEW = 3  # timed calls of what is too slow for the least number of turns
LONGEST = 12.0  # seconds of a call from which a code is left out
QUICK = 0.1  # seconds up to which the state of caches shows
SLOW = 1.0  # seconds from which a first call needs no other one as warm-up
ONCE = 5.0  # seconds from which the memory of a first call counts, set-up and all


def seconds(call: Callable[[], object], device: torch.device = CPU) -> float:
    """Seconds of one call: on a GPU the time between two events of its stream.

    On one CPU thread the processor's time, which other programs cannot lengthen by taking turns;
    with more threads it would be a sum over them, and the wall clock counts.
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
    """Seconds of every repeat of every candidate, in turn (A B C A B C ...), so that a drift of the
    machine hits all.

    A quick call is timed right after an untimed one of the same code: training repeats a step, and
    what another code left in caches and freed memory is no part of it. Repeats go on until `budget`
    seconds are spent: at least `least`, at most `most`. Candidates for which `least` turns do not
    fit are timed FEW times, slowest first; the first `always` take their turns in any case. `first`:
    seconds of a call of every candidate that was made before, which then is the warm-up of the slow
    ones.
    """
    warm = {name: (first or {}).get(name, 0.0) for name in candidates}
    for name, call in candidates.items():
        if warm[name] < SLOW:
            warm[name] = seconds(call, device)
    turns, optional = (
        dict(candidates),
        sorted(list(candidates)[always:], key=lambda name: warm[name]),
    )
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
    """Without what C++ code writes to the error stream: torch 2.13's profiler announces its start
    and its end there.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak(call: Callable[[], object], device: torch.device = CPU) -> tuple[int, float]:
    """The most bytes that a call held at once beyond what was there before, and its seconds.

    Quick calls are made twice and the second counts, with what the first one keeps: a first call
    may check or set up. On the CPU a running sum over every allocation of torch's allocator, as its
    profiler records them (a kernel's own scratch memory is not among them); on a GPU the caching
    allocator's own peak."""
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
    events = sorted(
        results.kineto_results.events(), key=lambda event: event.start_ns()
    )  # the trace as JSON is slow
    start = next((event.start_ns() for event in events if event.name() == "second call"), 0)
    memory = [event for event in events if event.name() == "[memory]"]
    held = np.cumsum([0, *(event.nbytes() for event in memory)], dtype=np.int64)
    during = [k for k, event in enumerate(memory) if event.start_ns() >= start]
    return int(held[during[0] :].max()) if during else 0, took


def quartiles(times: list[float], reference: list[float]) -> dict[str, float]:
    """Median, quartiles and minimum in milliseconds, and the same of the ratio to the reference of
    the same turn.
    """
    low, middle, high = 1e3 * np.quantile(times, [0.25, 0.5, 0.75])
    paired = len(times) == len(reference)
    ratios = np.array(times) / (np.array(reference) if paired else np.median(reference))
    ratio_low, ratio, ratio_high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {
        **{"median_ms": middle, "low_ms": low, "high_ms": high, "least_ms": 1e3 * min(times)},
        **{"ratio": ratio, "ratio_low": ratio_low, "ratio_high": ratio_high},
    }
