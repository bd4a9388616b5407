"""Direct convolution on the GPU: kernels/cuda/conv.cu, which says what the three passes share.

Arrays arrive as N × C × H × W views of any strides, whatever their layout; w is contiguous.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._plan import SEGMENT, SUPER_SEGMENT
from . import runtime

STEP, STAGES = 16, 3  # as in conv.cu: terms a tile, tiles in flight
PROCESSORS = 132  # what the choice of tiles counts on; of an H100 or H200
NARROW = 2**29  # coordinates below this fit the kernels that count in 32 bits
MOST_PARTIAL = 2**28  # bytes of segments' sums beside a result, where fewer blocks would do


class Tile(NamedTuple):
    """What a block computes, and each of its threads; blocks that share a multiprocessor."""

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    blocks: int
    speed: float  # multiply-adds a cycle, roughly, of a multiprocessor full of them


SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
TILES = {
    SINGLE: (
        Tile(128, 128, 8, 8, 2, 96), Tile(64, 64, 4, 4, 3, 64), Tile(16, 256, 4, 4, 2, 56),
    ),
    DOUBLE: (Tile(64, 64, 4, 4, 2, 44), Tile(16, 128, 2, 4, 2, 28)),
}  # fmt: skip


def _macros(dtype: np.dtype, tile: Tile, narrow: bool, a_along: bool, b_along: bool) -> dict:
    place = 16 if narrow else 24
    spare = runtime.PER_16[dtype]
    shared = (
        STAGES * STEP * (tile.rows + tile.columns + 2 * spare) * dtype.itemsize
        + (tile.columns + 2 * STEP) * (place + 8) + 512 + (256 if narrow else 512)
    )  # fmt: skip
    return {
        "HW_ROWS": tile.rows, "HW_COLUMNS": tile.columns, "HW_THREAD_ROWS": tile.thread_rows,
        "HW_THREAD_COLUMNS": tile.thread_columns, "HW_BLOCKS": tile.blocks, "HW_SHARED": shared,
        "HW_INDEX": "int" if narrow else "int64_t", "HW_A_ALONG_TERMS": int(a_along),
        "HW_B_ALONG_TERMS": int(b_along),
    }  # fmt: skip


def _wide(dtype: np.dtype) -> dict:
    return _macros(dtype, TILES[dtype][0], False, True, False)


VARIANTS = [
    ("conv", {"HW_REAL": runtime.REAL[dtype], **macros})
    for dtype in TILES
    for macros in [
        _wide(dtype),
        *(
            _macros(dtype, tile, True, a_along, b_along)
            for tile in TILES[dtype]
            for a_along in (True, False)
            for b_along in (True, False)
        ),
    ]
]


@lru_cache(4096)
def choose(dtype: np.dtype, slices: int, rows: int, columns: int, terms: int) -> tuple[Tile, int]:
    """The tile, and how many terms a block contracts: all, a super-segment or a segment.

    The estimate is in cycles; tiles that have nothing to do beyond the border cost what others do.
    """
    best = (math.inf, TILES[dtype][0], 1)
    for tile in TILES[dtype]:
        blocks = slices * -(-rows // tile.rows) * -(-columns // tile.columns)
        whole = max(min(terms, SUPER_SEGMENT), 1)
        for part in (whole, SEGMENT) if terms > SEGMENT else (whole,):
            parts = max(-(-terms // part), 1)
            size = blocks * tile.rows * tile.columns * parts * dtype.itemsize if parts > 1 else 0
            if part < whole and size > MOST_PARTIAL:
                continue
            waves = -(-blocks * parts // PROCESSORS)
            cycles = waves * tile.rows * tile.columns * part / tile.speed
            if parts > 1:
                cycles += 5000 + 2 * size / (PROCESSORS * 15)
            if cycles < best[0]:
                best = (cycles, tile, part)
    return best[1:]


def forward(
    x, w, bias, y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups, run=None
) -> None:
    """Fill y."""
    outputs, inputs, *kernel = w.shape
    xs, ys, taps = _strides(x), _strides(y), kernel[0] * kernel[1]
    axes = [
        (size, out, taps, stride, dilation, -pad)
        for size, out, taps, stride, dilation, pad in zip(
            x.shape[2:], y.shape[2:], kernel, (stride_h, stride_w), (dilation_h, dilation_w),
            (top, left), strict=True,
        )
    ]  # fmt: skip
    (run or _contract)(
        w, x, y, bias, groups=groups, rows=outputs // groups, columns=x.shape[0], terms=inputs,
        a=(inputs * taps * (outputs // groups), inputs * taps, taps, kernel[1], 1),
        b=(inputs * xs[1], xs[0], xs[1], *xs[2:]),
        c=(outputs // groups * ys[1], ys[1], ys[0], *ys[2:]),
        axes=axes, a_along=True, b_along=xs[1] == 1 != xs[3],
    )  # fmt: skip


def backward_weight(
    dy, x, dw, stride_h, stride_w, top, left, dilation_h, dilation_w, groups, run=None
) -> None:
    """Fill dw."""
    outputs, inputs, *kernel = dw.shape
    outputs //= groups
    xs, ys, ws = _strides(x), _strides(dy), _strides(dw)
    axes = [
        (size, taps, out, dilation, stride, -pad)
        for size, out, taps, stride, dilation, pad in zip(
            x.shape[2:], dy.shape[2:], kernel, (stride_h, stride_w), (dilation_h, dilation_w),
            (top, left), strict=True,
        )
    ]  # fmt: skip
    last = xs[1] == 1 != xs[3]
    (run or _contract)(
        dy, x, dw, None, groups=groups, rows=outputs, columns=inputs, terms=x.shape[0],
        a=(outputs * ys[1], ys[1], ys[0], *ys[2:]),
        b=(inputs * xs[1], xs[1], xs[0], *xs[2:]),
        c=(outputs * ws[0], *ws),
        axes=axes, a_along=not ys[1] == 1 != ys[3], b_along=not last, first_fastest=last,
    )  # fmt: skip


def backward_input(
    dy, w, dx, stride_h, stride_w, top, left, dilation_h, dilation_w, groups, run=None
) -> None:
    """Fill dx."""
    outputs, inputs, *kernel = w.shape
    outputs //= groups
    xs, ys, taps = _strides(dx), _strides(dy), kernel[0] * kernel[1]
    axes, residues, steps = [], [], []
    for i, (stride, dilation, pad) in enumerate(
        ((stride_h, dilation_h, top), (stride_w, dilation_w, left))
    ):
        step = stride // math.gcd(stride, dilation)  # of taps that meet one class
        size, a_tap = dx.shape[2 + i], (kernel[1], 1)[i]
        # The most of any class: conv.cu works out each class's own.
        most = (-(-size // stride), -(-kernel[i] // step))
        axes.append((dy.shape[2 + i], *most, 1, -(step * dilation // stride), 0))
        residues.append((size, kernel[i], stride, dilation, pad, step, a_tap, xs[2 + i]))
        steps.append(step)
    (run or _contract)(
        w, dy, dx, None, groups=groups, rows=inputs, columns=dx.shape[0], terms=outputs,
        a=(outputs * inputs * taps, taps, inputs * taps, steps[0] * kernel[1], steps[1]),
        b=(outputs * ys[1], ys[0], ys[1], *ys[2:]),
        c=(inputs * xs[1], xs[1], xs[0], stride_h * xs[2], stride_w * xs[3]),
        axes=axes, a_along=taps > 1, b_along=ys[1] == 1 != ys[3], residues=residues,
        classes=(min(stride_h, dx.shape[2]), min(stride_w, dx.shape[3])),
        reach=max(r[0] + r[4] + r[1] * r[3] for r in residues),
    )  # fmt: skip


def _strides(x: Any) -> list[int]:
    """In elements."""
    return [stride // x.itemsize for stride in x.strides]


def _contract(
    a_array, b_array, c_array, bias, *, groups, rows, columns, terms, a, b, c, axes, a_along,
    b_along, first_fastest=False, residues=((0,) * 8,) * 2, classes=(1, 1), reach=0,
) -> None:  # fmt: skip
    """Launch conv.cu's kernels for its struct Problem; numbers of b reach no further than `reach`."""
    dtype = c_array.dtype
    all_columns = columns * axes[0][1] * axes[1][1]
    all_terms = terms * axes[0][2] * axes[1][2]
    slices = groups * classes[0] * classes[1]
    tile, part = choose(dtype, slices, rows, all_columns, all_terms)
    for size, across, along, column_step, term_step, start in axes:
        reach = max(reach, size, across * column_step, along * abs(term_step), -start)
    if max(reach, terms, columns) < NARROW:
        macros = _macros(dtype, tile, True, a_along, b_along)
    else:
        tile, macros = TILES[dtype][0], _wide(dtype)
    parts = max(-(-all_terms // part), 1)
    tiles = (-(-rows // tile.rows), -(-all_columns // tile.columns))
    numbers = (*classes, groups, rows, columns, terms, part, parts, *tiles, *a, *b, *c,
               first_fastest, *axes[0], *axes[1], *residues[0], *residues[1])  # fmt: skip
    problem = np.array(numbers, np.int64).view(PROBLEM)[0]
    threads = tile.rows * tile.columns // (tile.thread_rows * tile.thread_columns)
    blocks = slices * tiles[0] * tiles[1]
    partial = None
    if parts > 1:
        count = parts * blocks * tile.rows * tile.columns
        partial = runtime.device().arrays.empty((count,), dtype)
    options = {"shared": macros["HW_SHARED"], **macros}
    runtime.launch("conv", "convolve", dtype, runtime.grid(blocks * parts), threads, problem,
                   a_array, b_array, bias, c_array, partial, **options)  # fmt: skip
    if parts > 1:
        runtime.launch("conv", "fold", dtype, runtime.grid(blocks), threads, problem, bias, c_array,
                       partial, **options)  # fmt: skip


PROBLEM = np.dtype([("numbers", np.int64, 54)])  # struct Problem: all of it 64-bit integers
