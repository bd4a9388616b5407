"""`compare.py --device cuda`: halfwave on a GPU beside cuBLAS, cuDNN, curand and PyTorch.

One process, for one GPU: everybody's arrays lie on it, and each call is timed by events around enough
calls to fill a turn; for what a call costs, by the clock, without waiting for the GPU. The turns go
round in random order. Arrays are larger than the L2 cache, or there are so many copies of them, taken
in turn, that no call finds its own there. What is measured is written in compare.py's form.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable

import cupy
import numpy as np
import peers
from gpu_cases import CACHE, Case, cases, torch

import halfwave as hw

SUITES = ["matmul", "conv", "activation", "init", "overhead"]
TURNS, QUICK_TURNS = 7, 3
TURN_SECONDS, QUICK_TURN_SECONDS = 0.03, 0.01
TOLERANCE = {"float32": 2e-4, "tf32": 5e-3, "bf16": 3e-2}

# ---- ceilings ------------------------------------------------------------------------------------

_FMA = r"""
extern "C" __global__ void multiply_add(float *out, int steps) {
    float x[8];
    for (int i = 0; i < 8; i++) x[i] = threadIdx.x + i;
    for (int s = 0; s < steps; s++)
        #pragma unroll
        for (int r = 0; r < 16; r++)
            #pragma unroll
            for (int i = 0; i < 8; i++) x[i] = fmaf(x[i], 0.999f, 0.5f);
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += x[i];
    if (sum == 12345.678f) out[threadIdx.x] = sum;
}
"""


def ceiling(resource: str) -> tuple[Callable, float]:
    """A call, and the flops or bytes that it moves."""
    if resource == "fma":
        kernel, steps = cupy.RawKernel(_FMA, "multiply_add"), 1000
        blocks = 8 * cupy.cuda.Device().attributes["MultiProcessorCount"]
        out = cupy.empty(256, cupy.float32)
        call = lambda: kernel((blocks,), (256,), (out, np.int32(steps)))  # noqa: E731
        return call, 2.0 * 8 * 16 * steps * 256 * blocks
    source, target = (cupy.ones(1 << 28, cupy.float32) for _ in range(2))
    if resource == "copy":
        return lambda: cupy.copyto(target, source), 2.0 * source.nbytes
    return lambda: target.data.memset_async(0, target.nbytes), float(target.nbytes)


# ---- timing --------------------------------------------------------------------------------------


def by_events(calls: list[Callable], seconds: float) -> float:
    """Seconds a call, over as many as fill the time; the calls take turns."""
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    count, taken = 1, 0.0
    while True:
        endless = itertools.islice(itertools.cycle(calls), count)
        begin.record()
        for call in endless:
            call()
        end.record()
        end.synchronize()
        taken = cupy.cuda.get_elapsed_time(begin, end) / 1e3
        if taken >= seconds or count >= 10_000:
            return taken / count
        count = max(count + 1, min(10 * count, int(1.2 * count * seconds / max(taken, 1e-6))))


def by_clock(calls: list[Callable], seconds: float) -> float:
    """Seconds until a call returns, which is when its kernel is in the stream."""
    (call,) = calls
    times = []
    for _ in range(5):
        cupy.cuda.Device().synchronize()
        begin = time.perf_counter()
        for _ in range(200):  # fewer than a stream holds
            call()
        times.append((time.perf_counter() - begin) / 200)
    return statistics.median(times)


def prepare(case: Case, notes: list[str]) -> dict[str, list[Callable]]:
    """The contestants' calls, a copy each; those that fail or compute something else are noted."""
    copies = 1 if case.by_clock else max(1, min(8, -(-CACHE // case.bytes)))
    ready: dict[str, list[Callable]] = {}
    reference = None
    for who, make in case.contestants.items():
        try:
            jobs = [make(copy) for copy in range(copies)]
            value = jobs[0].view(jobs[0].call())
        except Exception as error:  # a peer's or our own: the others go on
            notes.append(f"{case.name}: {who} failed: {type(error).__name__}: {error}")
            cupy.get_default_memory_pool().free_all_blocks()
            continue
        if "weights" not in case.kind:  # of which each draws its own
            value = peers.sample(np.ascontiguousarray(value))
            if reference is None:
                reference = value
            elif peers.difference(value, reference) > TOLERANCE[case.precision]:
                notes.append(f"{case.name}: {who} COMPUTES SOMETHING ELSE")
                continue
        ready[who] = [job.call for job in jobs]
    return ready


def measure(case: Case, ceilings: dict, quick: bool, notes: list[str]) -> dict[str, list[float]]:
    ready = prepare(case, notes)
    turns = QUICK_TURNS if quick else TURNS
    seconds = QUICK_TURN_SECONDS if quick else TURN_SECONDS
    times: dict[str, list[float]] = {who: [] for who in ready}
    for resource in case.bounds:
        times[f"ceiling {resource}"] = []
    for turn in range(turns):
        running = list(times)
        random.Random(turn).shuffle(running)
        for who in running:
            if who in ready:
                times[who].append((by_clock if case.by_clock else by_events)(ready[who], seconds))
            else:
                resource = who.split()[1]
                call, amount = ceilings[resource]
                times[who].append(by_events([call], seconds) * case.bounds[resource] / amount)
    return times


def run(suites: list[str], only: list[str], everything: bool, quick: bool, show: Callable) -> dict:
    """Everything that was measured, as compare.py writes it."""
    ceilings = {resource: ceiling(resource) for resource in ("fma", "copy", "write")}
    notes: list[str] = []
    found: dict[str, dict] = {}
    done = 0
    for suite in suites:
        found[suite] = {}
        for case in cases(suite, everything):
            if not all(part in case.name for part in only):
                continue
            show(done, f"{suite}: {case.name}")
            times = measure(case, ceilings, quick, notes)
            found[suite][case.name] = {
                "kind": case.kind or None, "unit": case.unit, "work": case.work, "reference": None,
                "bounds": case.bounds,
                "seconds": {who: [float(f"{t:.4g}") for t in ts] for who, ts in times.items()},
            }  # fmt: skip
            cupy.get_default_memory_pool().free_all_blocks()
            if torch:
                torch.cuda.empty_cache()
            done += 1
    card = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    versions = {"halfwave": hw.__version__, "CuPy": cupy.__version__}
    if torch:
        versions |= {"PyTorch": torch.__version__, "cuDNN": str(torch.backends.cudnn.version())}
    return {
        "machine": {"cpu": card, "cpus": 1}, "isa": "cuda", "threads": 1,
        "date": time.strftime("%Y-%m-%d"), "versions": versions,
        "missing": [] if torch else ["PyTorch"], "left_out": [], "notes": notes, "suites": found,
    }  # fmt: skip
