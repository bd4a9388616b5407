"""Direct convolution on the GPU: kernels/cuda/conv.cu, which says what the three passes share.

Arrays arrive as N × C × H × W views of any strides, whatever their layout; w is contiguous.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from itertools import product as pairs
from typing import Any, NamedTuple

import numpy as np

from .._plan import SEGMENT, SUPER_SEGMENT
from . import depthwise, runtime
from .matmul import ACROSS, ACROSS_16, ALONG

PROCESSORS = 132  # what the choice of tiles counts on; of an H100 or H200
NARROW = 2**29  # coordinates below this fit the kernels that count in 32 bits
MOST_PARTIAL = 2**28  # bytes of segments' sums beside a result, where fewer blocks would do
FOLDING = 5000  # cycles of a launch


class Tile(NamedTuple):
    """A tile of conv.cu, HW_TILE its place in TILES."""

    rows: int
    columns: int
    threads: int
    speed: float  # multiply-adds a cycle of a multiprocessor full of them; guesses


SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
TILES = {
    SINGLE: (Tile(128, 128, 256, 100), Tile(64, 128, 128, 95), Tile(16, 256, 128, 64)),
    DOUBLE: (Tile(128, 64, 256, 50), Tile(64, 64, 128, 44), Tile(16, 256, 128, 32)),
}
THIN = 2  # without loaders of 16 bytes for a
WIDE = {"HW_TILE": 1, "HW_NARROW": 0, "HW_A_LANES": ALONG, "HW_B_LANES": ACROSS}


def _shared(dtype: np.dtype, macros: dict[str, int]) -> int:
    """Bytes of shared memory: struct Shared in conv.cu, and a little more."""
    tile = TILES[dtype][macros["HW_TILE"]]
    steps = 2 * 16  # stages of so many terms
    place = 16 if macros["HW_NARROW"] else 24
    staged = steps * (tile.rows + tile.columns + 2 * 16 // dtype.itemsize) * dtype.itemsize
    return staged + (tile.columns + 2 * 16) * (place + 8) + 768


VARIANTS = [
    ("conv", {**macros, "HW_SHARED": _shared(dtype, macros), "HW_REAL": runtime.REAL[dtype]})
    for dtype in TILES
    for macros in (
        WIDE,
        *(
            {"HW_TILE": tile, "HW_NARROW": 1, "HW_A_LANES": a, "HW_B_LANES": b}
            for tile in range(len(TILES[dtype]))
            for a, b in pairs((ACROSS_16, ALONG), (ACROSS, ACROSS_16, ALONG))
            if tile != THIN or a == ALONG
        ),
    )
]


@lru_cache(4096)
def choose(dtype: np.dtype, slices: int, rows: int, columns: int, terms: int) -> tuple[int, int]:
    """The tile's number, and how many terms a block contracts: all, a super-segment or a segment.

    The estimate is in cycles; blocks that reach beyond the border cost what others do.
    """
    best = (math.inf, 0, 1)
    whole = max(min(terms, SUPER_SEGMENT), 1)
    for number, tile in enumerate(TILES[dtype]):
        blocks = slices * runtime.blocks(rows, tile.rows) * runtime.blocks(columns, tile.columns)
        outputs = tile.rows * tile.columns
        for part in {whole, min(whole, SEGMENT)}:
            parts = max(runtime.blocks(terms, part), 1)
            size = blocks * outputs * parts * dtype.itemsize if parts > 1 else 0
            if part < whole and size > MOST_PARTIAL:
                continue
            cycles = runtime.blocks(blocks * parts, PROCESSORS) * outputs * part / tile.speed
            if parts > 1:
                cycles += FOLDING + 2 * size / (PROCESSORS * 15)
            best = min(best, (cycles, number, part))
    return best[1:]


def forward(x, w, bias, y, stride_h, stride_w, top, left, dilation_h, dilation_w, groups) -> None:
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
    plain = taps == stride_w == 1 and not left
    _contract(
        w, x, y, bias, groups=groups, rows=outputs // groups, columns=x.shape[0], terms=inputs,
        a=(inputs * taps * (outputs // groups), inputs * taps, taps, kernel[1], 1),
        b=(inputs * xs[1], xs[0], xs[1], *xs[2:]),
        c=(outputs // groups * ys[1], ys[1], ys[0], *ys[2:]),
        axes=axes, b_lanes=_pixels(x, xs, y.shape[3], plain), one_channel=inputs == 1,
    )  # fmt: skip


def backward_input(
    dy, w, dx, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
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
        # The most of any class: conv.cu works out each class's own, if there are several.
        most = (runtime.blocks(size, stride), runtime.blocks(kernel[i], step))
        axes.append((dy.shape[2 + i], *most, 1, -(step * dilation // stride), pad))
        residues.append(
            (size, kernel[i], stride, dilation, pad, step, a_tap, xs[2 + i])
            if stride > 1
            else (0,) * 8
        )
        steps.append(step)
    plain = taps == stride_h == stride_w == 1 and not left
    _contract(
        w, dy, dx, None, groups=groups, rows=inputs, columns=dx.shape[0], terms=outputs,
        a=(outputs * inputs * taps, taps, inputs * taps, steps[0] * kernel[1], steps[1]),
        b=(outputs * ys[1], ys[0], ys[1], *ys[2:]),
        c=(inputs * xs[1], xs[1], xs[0], stride_h * xs[2], stride_w * xs[3]),
        axes=axes, b_lanes=_pixels(dy, ys, dx.shape[3], plain), one_channel=inputs == 1,
        residues=residues,
        classes=(min(stride_h, dx.shape[2]), min(stride_w, dx.shape[3])),
        reach=max(
            dx.shape[2] + top + kernel[0] * dilation_h, dx.shape[3] + left + kernel[1] * dilation_w
        ),
    )  # fmt: skip


def backward_weight(
    dy, x, dw, stride_h, stride_w, top, left, dilation_h, dilation_w, groups
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
    last = xs[1] == 1 != xs[3]  # channels: then the columns go along them
    b_lanes = ALONG
    if last:
        b_lanes = ACROSS_16 if _in_16_bytes(x, inputs, xs[0], *xs[2:]) else ACROSS
    _contract(
        dy, x, dw, None, groups=groups, rows=outputs, columns=inputs, terms=x.shape[0],
        a=(outputs * ys[1], ys[1], ys[0], *ys[2:]),
        b=(inputs * xs[1], xs[1], xs[0], *xs[2:]),
        c=(outputs * ws[0], *ws),
        axes=axes, b_lanes=b_lanes, one_channel=inputs == 1, weight=True,
        first_fastest=last,
    )  # fmt: skip


def _pixels(x: Any, strides: list[int], width: int, plain: bool) -> int:
    """How to go over pixels of x, `width` in a row; `plain` if they are those of the result."""
    if strides[1] == 1 != strides[3]:
        return ALONG  # the channels
    if plain and strides[3] == 1 and _in_16_bytes(x, width, x.shape[3], *strides[:3]):
        return ACROSS_16
    return ACROSS


def _in_16_bytes(x: Any, *sizes: int) -> bool:
    """Whether an array of these strides, or of rows so long, begins anew at 16 bytes only."""
    return x.data.ptr % 16 == 0 and not any(n % runtime.PER_16[x.dtype] for n in sizes)


def _strides(x: Any) -> list[int]:
    """In elements."""
    return [stride // x.itemsize for stride in x.strides]


def _contract(
    a_array, b_array, c_array, bias, *, groups, rows, columns, terms, a, b, c, axes, b_lanes,
    one_channel,
    weight=False, first_fastest=False, residues=((0,) * 8,) * 2, classes=(1, 1), reach=0,
) -> None:  # fmt: skip
    """Launch conv.cu's kernels for its struct Problem; coordinates go up to `reach` and the axes'."""
    dtype = c_array.dtype
    all_columns = columns * axes[0][1] * axes[1][1]
    all_terms = terms * axes[0][2] * axes[1][2]
    for size, across, along, column_step, term_step, start in axes:
        reach = max(reach, size, across * column_step, along * abs(term_step), -start)
    narrow = max(reach, terms, columns) < NARROW

    def problem(*blocks: int) -> Any:
        numbers = (*classes, groups, rows, columns, terms, *blocks, *a, *b, *c, first_fastest,
                   *axes[0], *axes[1], *residues[0], *residues[1])  # fmt: skip
        return np.array(numbers, np.int64).view(PROBLEM)[0]

    if narrow and one_channel and groups > 1:
        if weight:
            segments = problem(0, runtime.blocks(all_terms, SEGMENT), 0, 0)
            if depthwise.correlate_weight(
                segments, all_terms, rows, first_fastest, a_array, b_array, c_array
            ):
                return
        elif all_terms <= SEGMENT:
            sizes = (axes[1][1], axes[0][1], groups * rows, columns)
            last = c[1] == 1 != c[4]
            if depthwise.correlate(
                problem(0, 0, 0, 0), sizes, rows, classes, last, a_array, b_array, bias, c_array
            ):
                return
    slices = groups * classes[0] * classes[1]
    number, part = choose(dtype, slices, rows, all_columns, all_terms)
    vectors = number != THIN and a[1] == 1 and _in_16_bytes(a_array, rows, *a[2:])
    a_lanes = ACROSS_16 if vectors else ALONG
    macros = WIDE
    if narrow:
        macros = {"HW_TILE": number, "HW_NARROW": 1, "HW_A_LANES": a_lanes, "HW_B_LANES": b_lanes}
    tile = TILES[dtype][macros["HW_TILE"]]
    parts = max(runtime.blocks(all_terms, part), 1)
    tiles = (runtime.blocks(rows, tile.rows), runtime.blocks(all_columns, tile.columns))
    blocks = slices * tiles[0] * tiles[1]
    sums = None
    if parts > 1:
        count = parts * blocks * tile.rows * tile.columns
        sums = runtime.device().arrays.empty((count,), dtype)
    shared = _shared(dtype, macros)
    launch = partial(runtime.launch, "conv", shared=shared, HW_SHARED=shared, **macros)
    given = problem(part, parts, *tiles)
    launch("convolve", dtype, runtime.grid(blocks * parts), tile.threads, given, a_array, b_array,
           bias, c_array, sums)  # fmt: skip
    if parts > 1:
        launch("fold", dtype, runtime.grid(blocks), tile.threads, given, bias, c_array, sums)


PROBLEM = np.dtype([("numbers", np.int64, 54)])  # struct Problem: all of it 64-bit integers
