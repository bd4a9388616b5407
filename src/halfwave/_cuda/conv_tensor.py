"""Direct convolution on the tensor cores: kernels/cuda/conv_tensor.cu, and wgmma.cu on Hopper.

The passes are those of conv.py; how operands lie and how the terms are divided is decided here, from
shapes and strides alone, so that a result is the same from run to run.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from . import conv, hopper, runtime
from .matmul import ACROSS, ACROSS_16, ALONG, PRECISIONS, RESULT, _result, merged

ALONG_16 = 3  # HwLanes in contraction.h
STEP, STAGES, TABLES = 16, 4, 8  # as in conv_tensor.cu
PROCESSORS = 132  # of an H100 or H200: blocks of the terms' parts fill one twice
LEAST_PART = 256  # terms


class Tile(NamedTuple):
    """A tile of conv_tensor.cu, HW_TILE its place in TILES."""

    rows: int
    columns: int
    threads: int
    speed: float  # relative, of outputs a second; guesses until a GPU has been asked


TILES = (Tile(128, 128, 256, 1.0), Tile(64, 128, 128, 0.8))
WIDE = {"HW_TILE": 0, "HW_NARROW": 0, "HW_A_LANES": ALONG, "HW_B_LANES": ALONG}
# The last one serves all that lies like none of the others.
LANES = ((ACROSS_16, ACROSS), (ACROSS_16, ACROSS_16), (ACROSS_16, ALONG_16), (ALONG, ALONG))


def _shared(macros: dict[str, int]) -> int:
    """Bytes of shared memory: struct Shared in conv_tensor.cu, and a little more."""
    tile = TILES[macros["HW_TILE"]]
    place = 16 if macros["HW_NARROW"] else 24
    staged = STEP * (tile.rows + 8)
    if macros["HW_B_LANES"] == ALONG_16:
        staged += tile.columns * (STEP + (4 if macros["HW_PRECISION"] == PRECISIONS["tf32"] else 8))
    else:
        staged += STEP * (tile.columns + 8)
    listed = tile.columns + TABLES * STEP + tile.threads // 32 * STEP
    return STAGES * staged * 4 + listed * (place + 8) + 384


def _complete(macros: dict[str, int], precision: int) -> dict[str, int]:
    macros = {**macros, "HW_PRECISION": precision}
    return {**macros, "HW_SHARED": _shared(macros)}


VARIANTS = [
    ("conv_tensor", {"HW_REAL": "float", **_complete(macros, precision)})
    for precision in PRECISIONS.values()
    for macros in (
        WIDE,
        *(
            {"HW_TILE": tile, "HW_NARROW": 1, "HW_A_LANES": a, "HW_B_LANES": b}
            for tile in range(len(TILES))
            for a, b in LANES
        ),
    )
]


def forward(x: Any, w: Any, bias: Any, y: Any, *options: Any) -> None:
    """`conv.forward`; the last option is the precision."""
    _run("forward", w, x, y, bias, *options)


def backward_input(dy: Any, w: Any, dx: Any, *options: Any) -> None:
    _run("backward_input", w, dy, dx, None, *options)


def backward_weight(dy: Any, x: Any, dw: Any, *options: Any) -> None:
    _run("backward_weight", dy, x, dw, None, *options)


def _run(name: str, a: Any, b: Any, c: Any, bias: Any, *options: Any) -> None:
    *numbers, precision = options
    layouts = tuple(map(conv.layout, (a, b, c)))
    if hopper.serves():
        found = hopper_plan(name, precision, bias is not None, *layouts, tuple(numbers))
        if found:
            first, second = (a, b) if name == "backward_weight" else (b, a)  # pixels first
            hopper.run(found, first, second, bias, c, _result(*found.result))
            return
    passed = conv.described(name, *layouts, tuple(numbers))
    _contract(precision, name != "backward_weight", a, b, c, bias, **passed._asdict())


@lru_cache(1024)
def hopper_plan(
    name: str, precision: str, biased: bool, a: conv.Layout, b: conv.Layout, c: conv.Layout,
    options: tuple[int, ...],
) -> hopper.Plan | None:  # fmt: skip
    """The plan of a pass by wgmma; None: not for this.

    No gradient under a stride: that of the input is several products, and that of the weights would
    take every other pixel of those that lie side by side.
    """
    passed = conv.described(name, a, b, c, options)
    if passed.weight:
        return _hopper_weights(precision, passed, a, b)
    height, h, taps_h, stride_h, step_h, start_h = passed.axes[0]
    width, w, taps_w, stride_w, step_w, start_w = passed.axes[1]
    size = (w, h, passed.columns)
    if (
        passed.groups > 1 or any(map(any, passed.residues))
        or min(passed.rows, passed.terms) < hopper.LEAST_CHANNELS
        or math.prod(size) < hopper.LEAST or max(stride_h, stride_w) > hopper.MOST_STEP
    ):  # fmt: skip
        return None
    _, n, channel, *along = passed.b
    pixels = hopper.operand(precision, b.aligned, (passed.columns, height, width, passed.terms),
                            (n, *along, channel))  # fmt: skip
    _, row, term, _, tap = passed.a
    weights = hopper.operand(precision, a.aligned, (taps_h * taps_w, passed.rows, passed.terms),
                             (tap, row, term))  # fmt: skip
    _, of_row, *to = passed.c
    return hopper.plan(
        precision, pixels, weights, size=size, columns=passed.rows, terms=passed.terms,
        c=tuple(reversed(to)), c_column=of_row, aligned=c.aligned, bias_row=0,
        bias_column=int(biased), box=hopper.box_of(size, (stride_w, stride_h)),
        taps=(taps_w, taps_h), stride=(stride_w, stride_h), dilation=(step_w, step_h),
        start=(start_w, start_h),
    )  # fmt: skip


def _hopper_weights(
    precision: str, passed: conv.Pass, dy: conv.Layout, x: conv.Layout
) -> hopper.Plan | None:  # fmt: skip
    height, taps_h, h, dilation_h, stride_h, start_h = passed.axes[0]
    width, taps_w, w, dilation_w, stride_w, start_w = passed.axes[1]
    if (
        passed.groups > 1 or stride_h > 1 or stride_w > 1 or passed.terms * h * w < hopper.LEAST
        or min(passed.rows, passed.columns) < hopper.LEAST_CHANNELS
    ):  # fmt: skip
        return None

    def image(x: conv.Layout, channels: int, h: int, w: int, of: tuple[int, ...]) -> hopper.Operand:
        _, channel, n, *along = of
        strides = (n, *along, channel)
        return hopper.operand(precision, x.aligned, (passed.terms, h, w, channels), strides)

    _, row, column, _, tap = passed.c
    return hopper.plan_of_weights(
        precision, image(dy, passed.rows, h, w, passed.a),
        image(x, passed.columns, height, width, passed.b), taps=(taps_w, taps_h),
        dilation=(dilation_w, dilation_h), start=(start_w, start_h), c=(row, 0, tap),
        c_column=column,
    )  # fmt: skip


def choose(rows: int) -> int:
    """The tile's number."""
    costs = [runtime.blocks(rows, tile.rows) * tile.rows / tile.speed for tile in TILES]
    return costs.index(min(costs))


def part_terms(blocks: int, terms: int) -> int:
    """How many terms a block has, so that there are enough blocks."""
    parts = max(min(2 * PROCESSORS // blocks, terms // LEAST_PART), 1)
    return max(runtime.blocks(runtime.blocks(terms, parts), STEP), 1) * STEP


def _contract(
    precision: str, weights: bool, a_array: Any, b_array: Any, c_array: Any, bias: Any, *,
    groups: int, rows: int, columns: int, terms: int, a: tuple, b: tuple, c: tuple, axes: list,
    first_fastest: bool = False, residues: Any = ((0,) * 8,) * 2, classes: tuple = (1, 1),
    reach: int = 0, **_of_conv: Any,
) -> None:  # fmt: skip
    """Launch conv_tensor.cu for conv.h's struct Problem, which `conv` describes; a may be `weights`."""
    if weights:
        a_array, a, residues = _rows_innermost(a_array, groups, rows, terms, a, residues)
    for size, across, along, column_step, term_step, start in axes:
        reach = max(reach, size, across * column_step, along * abs(term_step), abs(start))
    macros = WIDE
    if max(reach, terms, columns) < conv.NARROW:
        a_lanes, b_lanes = _lanes(a_array, b_array, rows, columns, terms, a, b, first_fastest)
        macros = {"HW_TILE": choose(rows), "HW_NARROW": 1, "HW_A_LANES": a_lanes,
                  "HW_B_LANES": b_lanes}  # fmt: skip
    tile = TILES[macros["HW_TILE"]]
    sizes = (columns, axes[0][1], axes[1][1])
    all_columns, all_terms = math.prod(sizes), terms * axes[0][2] * axes[1][2]
    tiles = (runtime.blocks(rows, tile.rows), runtime.blocks(all_columns, tile.columns))
    blocks = groups * classes[0] * classes[1] * tiles[0] * tiles[1]
    part = all_terms or 1
    if classes == (1, 1):
        part = part_terms(blocks, all_terms)
    parts = max(runtime.blocks(all_terms, part), 1)
    order = (1, 2, 0) if first_fastest else (0, 1, 2)  # of a column's digits, the outermost first
    to, to_c, added, results = c_array, c, bias, groups * rows * all_columns
    if parts > 1:
        to, added = runtime.device().arrays.empty((parts * results,), c_array.dtype), None
        inner, digits = 1, [0, 0, 0]
        for i in reversed(order):
            digits[i] = inner
            inner *= sizes[i]
        to_c = (rows * all_columns, all_columns, *digits)
    numbers = (*classes, groups, rows, columns, terms, part, parts, *tiles, *a, *b, *to_c,
               first_fastest, *axes[0], *axes[1], *residues[0], *residues[1])  # fmt: skip
    problem = runtime.record(np.array(numbers, np.int64).view(conv.PROBLEM))
    macros = _complete(macros, PRECISIONS[precision])
    runtime.launch(
        "conv_tensor", "convolve", c_array.dtype, runtime.grid(blocks * parts), tile.threads,
        problem, np.int64(results), a_array, b_array, added, to, shared=macros["HW_SHARED"],
        **macros,
    )  # fmt: skip
    if parts > 1:
        kept, (strides,) = merged((groups, rows, *(sizes[i] for i in order)),
                                  ((c[0], c[1], *(c[2 + i] for i in order)),))  # fmt: skip
        result = np.zeros((), RESULT)
        result["dimensions"] = len(kept)
        result["shape"][: len(kept)] = kept
        result["stride"][: len(kept)] = strides
        # One slice, whose rows are those of all groups: so the bias is a number a row.
        numbers = map(np.int64, (1, parts, parts, results, all_columns, 1, 0))
        runtime.launch("fold", "fold_parts", c_array.dtype, runtime.blocks(results, 256), 256, to,
                       bias, c_array, *numbers, runtime.record(result))  # fmt: skip


def _lanes(a_array, b_array, rows, columns, terms, a, b, first_fastest) -> tuple[int, int]:
    """How threads go over a and b."""
    if a[1] != 1 or not _in_16_bytes(a_array, rows, a[0], *a[2:]):
        return ALONG, ALONG
    if b[2] == 1 and _in_16_bytes(b_array, terms, *b[:2], *b[3:]):
        return ACROSS_16, ALONG_16
    if first_fastest and b[1] == 1 and _in_16_bytes(b_array, columns, b[0], *b[2:]):
        return ACROSS_16, ACROSS_16
    return ACROSS_16, ACROSS


def _in_16_bytes(x: Any, count: int, *strides: int) -> bool:
    """Whether `count` neighbours are whole vectors of 16 bytes, aligned at any of the strides."""
    return x.data.ptr % 16 == 0 and not any(n % 4 for n in (count, *strides))


def _rows_innermost(w, groups, rows, terms, a, residues) -> tuple[Any, tuple, tuple]:
    """Weights as (groups, terms, taps, rows), rows in whole vectors; a's strides and residues' so."""
    taps = w.shape[2] * w.shape[3]
    width = runtime.blocks(rows, 4) * 4
    by_rows = a[1] >= a[2]  # they lie as (groups, rows, terms, taps); else rows and terms change
    shape = (groups, rows, terms, taps) if by_rows else (groups, terms, rows, taps)
    order = (0, 2, 3, 1) if by_rows else (0, 1, 3, 2)
    turned = runtime.device().arrays.empty((groups, terms, taps, width), w.dtype)
    turned[..., :rows] = w.reshape(shape).transpose(*order)
    strides = (terms * taps * width, 1, taps * width, a[3] * width, a[4] * width)
    return turned, strides, tuple((*r[:6], r[6] * width, r[7]) for r in residues)
