"""Direct convolution on the GPU: kernels/cuda/conv.cu, of passes as conv.h describes them.

Arrays arrive as N × C × H × W views of any strides, whatever their layout; w is contiguous.
"""

from __future__ import annotations

import math
from functools import lru_cache
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


class Layout(NamedTuple):
    """How an array lies: strides in numbers."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    aligned: bool  # to 16 bytes


class Pass(NamedTuple):
    """One of the passes as conv.h describes it: a, b and c as tuples of its struct Problem's numbers."""

    groups: int
    rows: int
    columns: int
    terms: int
    a: tuple[int, ...]
    b: tuple[int, ...]
    c: tuple[int, ...]
    axes: list[tuple[int, ...]]
    lanes: int  # of b
    one_channel: bool  # of x, in a group
    weight: bool = False
    first_fastest: bool = False
    residues: tuple[tuple[int, ...], ...] = ((0,) * 8,) * 2
    classes: tuple[int, int] = (1, 1)
    reach: int = 0  # coordinates go so far, if no axis goes further


def forward(x: Any, w: Any, bias: Any, y: Any, *options: int) -> None:
    """Fill y. The options are (stride, padding before, dilation) down and across, and the groups."""
    _run("forward", w, x, y, bias, options)


def backward_input(dy: Any, w: Any, dx: Any, *options: int) -> None:
    """Fill dx."""
    _run("backward_input", w, dy, dx, None, options)


def backward_weight(dy: Any, x: Any, dw: Any, *options: int) -> None:
    """Fill dw."""
    _run("backward_weight", dy, x, dw, None, options)


def _run(name: str, a: Any, b: Any, c: Any, bias: Any, options: tuple[int, ...]) -> None:
    steps, parts = plan_of(name, c.dtype, *map(layout, (a, b, c)), options)
    arrays = {"a": a, "b": b, "c": c, "bias": bias, "parts": None}
    if parts:
        arrays["parts"] = runtime.device().arrays.empty((parts,), c.dtype)
    runtime.follow(steps, c.dtype, arrays)


def layout(x: Any) -> Layout:
    size = x.itemsize
    return Layout(x.shape, tuple([s // size for s in x.strides]), x.data.ptr % 16 == 0)


def described(name: str, a: Layout, b: Layout, c: Layout, options: tuple[int, ...]) -> Pass:
    """A pass of such float32 arrays."""
    return _PASSES[name](a, b, c, 4, *options)


@lru_cache(1024)
def plan_of(
    name: str, dtype: np.dtype, a: Layout, b: Layout, c: Layout, options: tuple[int, ...]
) -> tuple[list[runtime.Step], int]:
    """The launches of a pass, and how many numbers its parts' memory has."""
    width = 16 // dtype.itemsize
    passed = _PASSES[name](a, b, c, width, *options)
    coordinates = [passed.reach, passed.terms, passed.columns]
    columns, terms = passed.columns, passed.terms
    for size, across, along, column_step, term_step, start in passed.axes:
        coordinates += [size, across * column_step, along * abs(term_step), -start]
        columns *= across
        terms *= along
    narrow = max(coordinates) < NARROW
    if narrow and passed.one_channel and passed.groups > 1:
        own = depthwise.plan_of(passed, _problem, a, b, c, terms, width)
        if own is not None:
            return own
    slices = passed.groups * math.prod(passed.classes)
    number, part = choose(dtype, slices, passed.rows, columns, terms)
    vectors = number != THIN and passed.a[1] == 1
    vectors = vectors and _in_16_bytes(a, width, passed.rows, *passed.a[2:])
    macros = WIDE
    if narrow:
        macros = {"HW_TILE": number, "HW_NARROW": 1, "HW_B_LANES": passed.lanes,
                  "HW_A_LANES": ACROSS_16 if vectors else ALONG}  # fmt: skip
    tile = TILES[dtype][macros["HW_TILE"]]
    parts = max(runtime.blocks(terms, part), 1)
    tiles = (runtime.blocks(passed.rows, tile.rows), runtime.blocks(columns, tile.columns))
    blocks = slices * math.prod(tiles)
    problem = _problem(passed, part, parts, *tiles)
    shared = _shared(dtype, macros)
    macros = {"shared": shared, "HW_SHARED": shared, **macros}
    outputs = tile.rows * tile.columns
    shares = min(max(8 * PROCESSORS // blocks, 1), outputs // tile.threads)
    steps = [
        runtime.Step("conv", "convolve", runtime.grid(blocks * parts), tile.threads,
             (problem, "a", "b", "bias", "c", "parts"), macros),
        runtime.Step("conv", "fold", (*(*runtime.grid(blocks), 1)[:2], shares), tile.threads,
             (problem, "bias", "c", "parts"), macros),
    ]  # fmt: skip
    return (steps, parts * blocks * outputs) if parts > 1 else (steps[:1], 0)


def _problem(passed: Pass, *blocks: int) -> Any:
    """struct Problem in conv.h; `blocks` are its part, parts, row_tiles and column_tiles."""
    numbers = (
        *passed.classes, passed.groups, passed.rows, passed.columns, passed.terms, *blocks,
        *passed.a, *passed.b, *passed.c, passed.first_fastest, *passed.axes[0], *passed.axes[1],
        *passed.residues[0], *passed.residues[1],
    )  # fmt: skip
    return runtime.record(np.array(numbers, np.int64).view(PROBLEM))


def _forward(
    w: Layout, x: Layout, y: Layout, width: int, stride_h: int, stride_w: int, top: int, left: int,
    dilation_h: int, dilation_w: int, groups: int,
) -> Pass:  # fmt: skip
    outputs, inputs, height, across = w.shape
    outputs //= groups
    xs, ys, taps = x.strides, y.strides, height * across
    return Pass(
        groups, outputs, x.shape[0], inputs,
        a=(inputs * taps * outputs, inputs * taps, taps, across, 1),
        b=(inputs * xs[1], xs[0], xs[1], *xs[2:]),
        c=(outputs * ys[1], ys[1], ys[0], *ys[2:]),
        axes=[(x.shape[2], y.shape[2], height, stride_h, dilation_h, -top),
              (x.shape[3], y.shape[3], across, stride_w, dilation_w, -left)],
        lanes=_pixels(x, y, width, taps == stride_w == 1 and not left), one_channel=inputs == 1,
    )  # fmt: skip


def _backward_input(
    w: Layout, dy: Layout, dx: Layout, width: int, stride_h: int, stride_w: int, top: int,
    left: int, dilation_h: int, dilation_w: int, groups: int,
) -> Pass:  # fmt: skip
    outputs, inputs, *kernel = w.shape
    outputs //= groups
    xs, ys, taps = dx.strides, dy.strides, math.prod(kernel)
    axes, residues, steps, reach = [], [], [], []
    for i, (stride, dilation, pad) in enumerate(
        ((stride_h, dilation_h, top), (stride_w, dilation_w, left))
    ):
        step = stride // math.gcd(stride, dilation)  # of taps that meet one class
        size, a_tap = dx.shape[2 + i], (kernel[1], 1)[i]
        # The most of any class: conv.h works out each class's own, if there are several.
        most = (runtime.blocks(size, stride), runtime.blocks(kernel[i], step))
        axes.append((dy.shape[2 + i], *most, 1, -(step * dilation // stride), pad))
        own = (size, kernel[i], stride, dilation, pad, step, a_tap, xs[2 + i])
        residues.append(own if stride > 1 else (0,) * 8)
        steps.append(step)
        reach.append(size + pad + kernel[i] * dilation)
    return Pass(
        groups, inputs, dx.shape[0], outputs,
        a=(outputs * inputs * taps, taps, inputs * taps, steps[0] * kernel[1], steps[1]),
        b=(outputs * ys[1], ys[0], ys[1], *ys[2:]),
        c=(inputs * xs[1], xs[1], xs[0], stride_h * xs[2], stride_w * xs[3]),
        axes=axes, residues=tuple(residues), reach=max(reach),
        classes=(min(stride_h, dx.shape[2]), min(stride_w, dx.shape[3])),
        lanes=_pixels(dy, dx, width, taps == stride_h == stride_w == 1 and not left),
        one_channel=inputs == 1,
    )  # fmt: skip


def _backward_weight(
    dy: Layout, x: Layout, dw: Layout, width: int, stride_h: int, stride_w: int, top: int,
    left: int, dilation_h: int, dilation_w: int, groups: int,
) -> Pass:  # fmt: skip
    outputs, inputs, height, across = dw.shape
    outputs //= groups
    xs, ys, ws = x.strides, dy.strides, dw.strides
    last = xs[1] == 1 != xs[3]  # channels: then the columns go along them
    lanes = ALONG
    if last:
        lanes = ACROSS_16 if _in_16_bytes(x, width, inputs, xs[0], *xs[2:]) else ACROSS
    return Pass(
        groups, outputs, inputs, x.shape[0],
        a=(outputs * ys[1], ys[1], ys[0], *ys[2:]),
        b=(inputs * xs[1], xs[1], xs[0], *xs[2:]),
        c=(outputs * ws[0], *ws),
        axes=[(x.shape[2], height, dy.shape[2], dilation_h, stride_h, -top),
              (x.shape[3], across, dy.shape[3], dilation_w, stride_w, -left)],
        lanes=lanes, one_channel=inputs == 1, weight=True, first_fastest=last,
    )  # fmt: skip


def _pixels(x: Layout, result: Layout, width: int, plain: bool) -> int:
    """How to go over pixels of x; `plain` if those of a row are the result's."""
    if x.strides[1] == 1 != x.strides[3]:
        return ALONG  # the channels
    plain = plain and x.strides[3] == 1
    vectors = plain and _in_16_bytes(x, width, result.shape[3], x.shape[3], *x.strides[:3])
    return ACROSS_16 if vectors else ACROSS


def _in_16_bytes(x: Layout, width: int, *sizes: int) -> bool:
    """Whether what has such strides, and rows so long, begins anew at 16 bytes only."""
    return x.aligned and not any(n % width for n in sizes)


_PASSES = {
    "forward": _forward, "backward_input": _backward_input, "backward_weight": _backward_weight
}  # fmt: skip
PROBLEM = np.dtype([("numbers", np.int64, 54)])  # struct Problem: all of it 64-bit integers
