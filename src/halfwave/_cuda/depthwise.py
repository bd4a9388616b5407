"""Convolutions of one input channel a group on the GPU: kernels/cuda/depthwise.cu.

conv.py describes the passes, here as there; what these kernels do not take is left to conv.cu's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._plan import SEGMENT, SUPER_SEGMENT
from . import matmul, runtime

RUN, THREADS = 4, 256  # as in depthwise.cu
MOST = 2**31 - 1  # threads, which a kernel counts in 32 bits
VARIANTS = [("depthwise", {"HW_NARROW": 1})]

DIVISOR = np.dtype([(name, np.uint32) for name in ("by", "magic", "shift", "unused")])
GIVEN = np.dtype([("divisors", DIVISOR, 4), ("count", np.int64), ("order", np.uint32, 4)])


def correlate(
    problem: Any, sizes: tuple[int, ...], rows: int, classes: tuple[int, int], last: bool, a: Any,
    b: Any, bias: Any, c: Any,
) -> bool:  # fmt: skip
    """The forward pass, or backward input; False if this is too large for it.

    `sizes` are columns, rows, channels and images of c, of one class; `rows` the channels of a group;
    `last` tells that channels lie side by side.
    """
    across, down, channels, images = sizes
    threads = _threads((across, runtime.blocks(down, RUN), channels, images), rows,
                       (2, 0, 1, 3) if last else (0, 1, 2, 3))  # fmt: skip
    classes_ = classes[0] * classes[1]
    if threads is None or classes_ > 65535:
        return False
    grid = (runtime.blocks(int(threads["count"]), THREADS), classes_)
    runtime.launch("depthwise", "correlate", c.dtype, grid, THREADS, problem, threads, a, b, bias, c,
                   HW_NARROW=1)  # fmt: skip
    return True


def correlate_weight(
    problem: Any, terms: int, rows: int, last: bool, dy: Any, x: Any, dw: Any
) -> bool:
    """The weights' gradient of `terms` terms an element; False if this is too large."""
    outputs, _, *kernel = dw.shape
    segments = runtime.blocks(terms, SEGMENT)
    threads = _threads((kernel[1], kernel[0], outputs, segments), rows,
                       (2, 0, 1, 3) if last else (0, 1, 3, 2))  # fmt: skip
    if threads is None:
        return False
    parts = runtime.device().arrays.empty((outputs, segments, *kernel), dw.dtype)
    runtime.launch(
        "depthwise", "correlate_weight", dw.dtype, runtime.blocks(int(threads["count"]), THREADS),
        THREADS, problem, threads, dy, x, parts, HW_NARROW=1,
    )  # fmt: skip
    result = np.zeros((), matmul.RESULT)
    result["dimensions"] = 3
    result["shape"][:3] = outputs, *kernel
    result["stride"][:3] = [dw.strides[i] // dw.itemsize for i in (0, 2, 3)]
    taps = kernel[0] * kernel[1]
    numbers = map(np.int64, (outputs, segments, SUPER_SEGMENT // SEGMENT, taps, taps, 0, 0))
    runtime.launch("fold", "fold_parts", dw.dtype, runtime.blocks(outputs * taps, THREADS), THREADS,
                   parts, None, dw, *numbers, result[()])  # fmt: skip
    return True


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
    return given[()]


def _divisor(by: int) -> tuple[int, int, int, int]:
    """Granlund and Montgomery's: n // by = (high half of magic · n + n) >> shift for n < 2**31."""
    shift = (by - 1).bit_length()
    return by, ((2**shift - by) << 32) // by + 1, shift, 0
