"""Convolutions of one input channel a group on the GPU: kernels/cuda/depthwise.cu.

conv.py describes the passes, here as there; what these kernels do not take is left to conv.cu's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._plan import SEGMENT, SUPER_SEGMENT
from . import matmul, runtime

RUN, THREADS = 8, 256  # as in depthwise.cu
GRID_Y = 65535
FAR = 2**29  # less than NOWHERE in conv.h is away
MOST = 2**31 - 1  # threads, which a kernel counts in 32 bits
MOST_PARTIAL = 2**28  # segments' sums in memory: many only of kernels as large as images
VARIANTS = [("depthwise", {"HW_NARROW": 1})]

DIVISOR = np.dtype([(name, np.uint32) for name in ("by", "magic", "shift", "unused")])
GIVEN = np.dtype([("divisors", DIVISOR, 4), ("count", np.int64), ("order", np.uint32, 4)])


def plan_of(passed: Any, problem: Any, c: Any, terms: int) -> tuple[list[runtime.Step], int] | None:
    """conv.plan_of for these kernels: None if a pass is not for them."""
    outputs = passed.groups * passed.rows
    down, across = passed.axes
    classes = passed.classes[0] * passed.classes[1]
    if passed.weight:
        segments = runtime.blocks(terms, SEGMENT)
        threads = _threads((across[1], down[1], outputs, segments), passed.rows,
                           (2, 0, 1, 3) if passed.first_fastest else (0, 1, 3, 2))  # fmt: skip
        count = outputs * down[1] * across[1]
        if threads is None or count * segments > MOST_PARTIAL:
            return None
        return [
            _step("correlate_weight", threads, 1,
                  (problem(passed, SEGMENT, segments, 0, 0), runtime.record(threads), "a", "b",
                   "parts")),
            _fold(c, outputs, (down[1], across[1]), segments),
        ], count * segments  # fmt: skip
    last = passed.c[1] == 1 != passed.c[4]
    runs = runtime.blocks(down[1], RUN)
    threads = _threads((across[1], runs, outputs, passed.columns), passed.rows,
                       (2, 0, 1, 3) if last else (0, 1, 2, 3))  # fmt: skip
    apart = RUN * down[3] * abs(passed.b[3])  # rows of b that a thread's outputs need
    if threads is None or terms > SEGMENT or classes > GRID_Y or apart > MOST:
        return None
    given = (problem(passed, terms, 1, 0, 0), runtime.record(threads), "a", "b", "bias", "c")
    straight = not any(residues[2] for residues in passed.residues)
    rows_meet = abs(down[4]) == abs(down[3]) and (RUN + 2) * abs(down[4]) < FAR
    three = straight and rows_meet and down[2] == across[2] == 3
    return [_step("correlate_3_by_3" if three else "correlate", threads, classes, given)], 0


def _step(kernel: str, threads: Any, classes: int, given: tuple[Any, ...]) -> runtime.Step:
    grid = (runtime.blocks(int(threads["count"]), THREADS), classes)
    return runtime.Step("depthwise", kernel, grid, THREADS, given, {"HW_NARROW": 1})


def _fold(c: Any, outputs: int, kernel: tuple[int, int], segments: int) -> runtime.Step:
    """dw, laid out as `c`, from parts[o, segment, r, s]."""
    result = np.zeros((), matmul.RESULT)
    result["dimensions"] = 3
    result["shape"][:3] = outputs, *kernel
    result["stride"][:3] = [c.strides[i] for i in (0, 2, 3)]
    taps = kernel[0] * kernel[1]
    numbers = map(np.int64, (outputs, segments, SUPER_SEGMENT // SEGMENT, taps, taps, 0, 0))
    grid = (runtime.blocks(outputs * taps, THREADS),)
    return runtime.Step("fold", "fold_parts", grid, THREADS,
                        ("parts", None, "c", *numbers, runtime.record(result)), {})  # fmt: skip


def _threads(sizes: tuple[int, ...], rows: int, order: tuple[int, ...]) -> Any:
    """struct Threads for places of these sizes, the fastest first in `order`; None if too many."""
    count = 1
    for size in sizes:
        count *= size
    if not 0 < count <= MOST:
        return None
    given = np.zeros((), GIVEN)
    given["divisors"] = [_divisor(sizes[place]) for place in order[:3]] + [_divisor(rows)]
    given["count"], given["order"] = count, order
    return given


def _divisor(by: int) -> tuple[int, int, int, int]:
    """Granlund and Montgomery's: n // by = (high half of magic · n + n) >> shift for n < 2**31."""
    shift = (by - 1).bit_length()
    return by, ((2**shift - by) << 32) // by + 1, shift, 0
