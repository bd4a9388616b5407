"""Matrix products on the GPU: kernels/cuda/matmul.cu, and fold.cu where a long axis is divided.

Which tile serves, and whether the contracted axis is divided, depends on the shape alone and changes
no bit.
"""

from __future__ import annotations

import math
from itertools import product as pairs
from typing import Any, NamedTuple

import numpy as np

from .._plan import SEGMENT, SUPER_SEGMENT
from . import runtime

ACROSS, ACROSS_16, ALONG = range(3)  # HwLanes in contraction.h
DIMENSIONS = 16  # of slices, in matmul.cu
MULTIPROCESSORS = 132  # of an H100 or H200: the grids are cut to fill one, on whatever GPU
GRID_Y = 65535


class Tile(NamedTuple):
    """A tile of matmul.cu, HW_TILE its place in TILES; HwTile works the same out."""

    rows: int
    columns: int
    threads: int
    staged: int  # k's in shared memory: STEP * STAGES
    blocks: int  # that a multiprocessor should have to be busy
    speed: float  # relative, of outputs a second; guesses until a GPU has been asked
    vectors: bool  # whether it has loaders of 16 bytes

    def shared(self, itemsize: int, terms: int) -> int:
        """Bytes of shared memory."""
        staged = self.staged * (self.rows + self.columns + 2 * (16 // itemsize))
        totals = self.rows * self.columns
        return (staged + totals if terms > SEGMENT else max(staged, totals)) * itemsize


def tiles(itemsize: int) -> tuple[Tile, ...]:
    return (
        Tile(128, 128 if itemsize == 4 else 64, 256, 32, 1, 1.0, True),
        Tile(64, 64, 128, 32, 1, 0.8, True),
        Tile(32, 32, 64, 64, 1, 0.45, False),
        Tile(8, 128, 64, 64, 4, 0.2, False),
    )


class TensorTile(Tile):
    """That of the tensor cores: HwTensorTile's shared memory."""

    def shared(self, itemsize: int, terms: int) -> int:
        return self.staged * (self.rows + self.columns + 16) * itemsize


TENSOR = TensorTile(128, 128, 256, 96, 1, 8.0, True)
PRECISIONS = {"tf32": 0, "bf16": 1}  # HwPrecision in tensor.h
THIN = 3
FEW_ROWS = 16  # for which it serves
VARIANTS = (
    [("fold", {})]
    + [
        ("matmul", {"HW_TILE": tile, "HW_A_LANES": a, "HW_B_LANES": b})
        for tile, kind in enumerate(tiles(4))
        for a, b in pairs((ACROSS, ACROSS_16, ALONG), repeat=2)
        if kind.vectors or ACROSS_16 not in (a, b)
    ]
    + [
        (
            "matmul",
            {"HW_REAL": "float", "HW_PRECISION": precision, "HW_A_LANES": a, "HW_B_LANES": b},
        )
        for precision in PRECISIONS.values()
        for a, b in pairs((ACROSS, ACROSS_16, ALONG), repeat=2)
    ]
)

_int = np.int64
PRODUCT = np.dtype(
    [(name, _int) for name in ("rows", "columns", "terms", "part_terms", "a_row", "a_k", "b_k",
                               "b_column", "c_row", "c_column", "c_part", "bias_row",
                               "bias_column")]
    + [(name, np.uint32) for name in ("row_tiles", "column_tiles", "vectors", "dimensions")]
    + [("slices", _int)]
    + [(name, _int, DIMENSIONS) for name in ("shape", "a_slice", "b_slice", "c_slice")]
)  # fmt: skip
RESULT = np.dtype([("dimensions", _int), ("shape", _int, 18), ("stride", _int, 18)])


class Operand(NamedTuple):
    """An array as matrices in slices: strides in elements."""

    array: Any
    slices: tuple[int, ...]
    row: int
    column: int

    def transposed(self) -> Operand:
        return Operand(self.array, self.slices, self.column, self.row)


class Bias(NamedTuple):
    array: Any  # or None
    row: int = 0
    column: int = 0


def product(
    a: Any, b: Any, bias: Any, out: Any, slices: int, rows: int, columns: int, contracted: int,
    precision: str | None = None,
) -> None:  # fmt: skip
    """out = a b (+ bias along the columns), all of any strides.

    The dimensions are those of a as (slices…, rows…, contracted…), of b as (slices…, contracted…,
    columns…), of out as (slices…, rows…, columns…). Another precision is that of the tensor cores.
    """
    if not out.size:
        return
    c = _operand(out, slices, rows)
    if c is None:
        fresh = runtime.device().arrays.empty(out.shape, out.dtype)
        product(a, b, bias, fresh, slices, rows, columns, contracted, precision)
        out[...] = fresh
        return
    left, right = _readable(a, slices, rows), _readable(b, slices, contracted)
    m, n = _size(out.shape[slices : slices + rows]), _size(out.shape[slices + rows :])
    k = _size(a.shape[slices + rows :])
    along = Bias(bias, 0, 1)
    turned = abs(c.row) < abs(c.column) if min(m, n) > FEW_ROWS else n < m
    if turned:  # fewer rows than columns, or the result's columns side by side
        left, right, c = right.transposed(), left.transposed(), c.transposed()
        m, n, along = n, m, Bias(bias, 1, 0)
    multiply(left, right, along, c, out.shape[:slices], m, n, k, precision)


def multiply(
    a: Operand, b: Operand, bias: Bias, c: Operand, shape: tuple[int, ...], m: int, n: int, k: int,
    precision: str | None = None,
) -> None:  # fmt: skip
    """c[slice] = a[slice] b[slice] + bias: m × k by k × n, for slices of `shape`."""
    dtype, itemsize, count = c.array.dtype, c.array.itemsize, _size(shape)
    if precision:
        tile, macros = TENSOR, {"HW_PRECISION": PRECISIONS[precision]}
    else:
        number = choose(itemsize, count, m, n, k)
        tile, macros = tiles(itemsize)[number], {"HW_TILE": number}
    down, across = runtime.blocks(m, tile.rows), runtime.blocks(n, tile.columns)
    part = part_terms(count * down * across, tile.blocks * MULTIPROCESSORS, k)
    parts = runtime.blocks(k, part) if k else 1
    to, added = c, bias
    if parts > 1:
        workspace = runtime.device().arrays.empty(count * parts * m * n, dtype)
        to, added = Operand(workspace, _contiguous(shape, parts * m * n), n, 1), Bias(None)
    sizes, strides = merged(shape, (a.slices, b.slices, to.slices))
    lanes_a = lanes(a.array, a.row, a.column, m, strides[0], tile.vectors)
    lanes_b = lanes(b.array, b.column, b.row, n, strides[1], tile.vectors)
    vectors = lanes(to.array, to.column, to.row, n, strides[2], True) == ACROSS_16
    p = np.zeros((), PRODUCT)
    numbers = (m, n, k, part, a.row, a.column, b.row, b.column, to.row, to.column, m * n, added.row,
               added.column, down, across, vectors, len(sizes), count)  # fmt: skip
    for name, value in zip(PRODUCT.names, numbers, strict=False):
        p[name] = value
    for name, values in zip(PRODUCT.names[len(numbers) :], (sizes, *strides), strict=True):
        p[name][: len(sizes)] = values
    grid = (parts * down * across, min(count, GRID_Y), runtime.blocks(count, GRID_Y))
    runtime.launch(
        "matmul", "product", dtype, grid, tile.threads, a.array, b.array, added.array, to.array, p,
        shared=tile.shared(itemsize, min(part, k)), HW_A_LANES=lanes_a, HW_B_LANES=lanes_b,
        **macros,
    )  # fmt: skip
    if parts > 1:
        fold(workspace, parts, part, bias, c, shape, m, n)


def fold(
    workspace: Any, parts: int, part: int, bias: Bias, c: Operand, shape: tuple[int, ...], m: int,
    n: int,
) -> None:  # fmt: skip
    """c[slice, i, j] = the parts workspace[slice, :, i, j] of `part` terms, folded (+ bias)."""
    sizes, (strides,) = merged((*shape, m, n), ((*c.slices, c.row, c.column),))
    result = np.zeros((), RESULT)
    result["dimensions"] = len(sizes)
    result["shape"][: len(sizes)] = sizes
    result["stride"][: len(sizes)] = strides
    count = _size(shape)
    per_super = 1 if part > SEGMENT else SUPER_SEGMENT // SEGMENT
    numbers = map(_int, (count, parts, per_super, m * n, n, bias.row, bias.column))
    runtime.launch(
        "fold", "fold_parts", c.array.dtype, runtime.blocks(count * m * n, 256), 256, workspace,
        bias.array, c.array, *numbers, result,
    )  # fmt: skip


def choose(itemsize: int, slices: int, m: int, n: int, k: int) -> int:
    """The tile that should be quickest: by its speed and by how many rounds of blocks it takes."""
    if m <= FEW_ROWS and n >= 64:
        return THIN
    segments = max(runtime.blocks(k, SEGMENT), 1)

    def cost(tile: Tile) -> float:
        blocks = slices * runtime.blocks(m, tile.rows) * runtime.blocks(n, tile.columns)
        if blocks < MULTIPROCESSORS:  # then the axis is divided
            rounds = max(blocks * segments / MULTIPROCESSORS, 1) / segments
        else:
            rounds = runtime.blocks(blocks, MULTIPROCESSORS)
        return rounds * tile.rows * tile.columns / tile.speed

    costs = [cost(tile) for tile in tiles(itemsize)[:THIN]]
    return costs.index(min(costs))


def part_terms(blocks: int, enough: int, k: int) -> int:
    """How many terms a block has: all, or a super-segment, or a segment, so that there are enough."""
    if blocks >= enough or k <= SEGMENT:
        return k
    if blocks * runtime.blocks(k, SUPER_SEGMENT) >= enough:
        return min(SUPER_SEGMENT, k)
    return SEGMENT


def lanes(
    array: Any, stride: int, k_stride: int, count: int, slices: tuple[int, ...], vectors: bool
) -> int:
    """How threads go over an operand of that stride over its `count` rows (columns), and over k."""
    width = 16 // array.itemsize
    if stride == 1 or count == 1:
        apart = (count, k_stride, *slices)
        fits = vectors and array.data.ptr % 16 == 0 and not any(s % width for s in apart)
        return ACROSS_16 if fits else ALONG if k_stride == 1 else ACROSS
    return ALONG if k_stride == 1 else ACROSS


def merged(
    shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]
) -> tuple[list[int], list[list[int]]]:
    """Dimensions of the same order in fewer: without those of size 1, and neighbours as one."""
    sizes: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for i, size in enumerate(shape):
        if size == 1:
            continue
        steps = [s[i] for s in strides]
        if sizes and all(k[-1] == step * size for k, step in zip(kept, steps, strict=True)):
            sizes[-1] *= size
            for k, step in zip(kept, steps, strict=True):
                k[-1] = step
        else:
            sizes.append(size)
            for k, step in zip(kept, steps, strict=True):
                k.append(step)
    return sizes, kept


def _operand(x: Any, slices: int, rows: int) -> Operand | None:
    """x as slices of matrices; None where the dimensions of rows, or columns, are no single one."""
    strides = tuple(s // x.itemsize for s in x.strides)
    row = _single(x.shape[slices : slices + rows], strides[slices : slices + rows])
    column = _single(x.shape[slices + rows :], strides[slices + rows :])
    if row is None or column is None:
        return None
    return Operand(x, strides[:slices], row, column)


def _readable(x: Any, slices: int, rows: int) -> Operand:
    """x likewise, or a copy (of one slice, where x repeats it)."""
    operand = _operand(x, slices, rows)
    if operand is None:
        arrays = runtime.device().arrays
        once = tuple(slice(0, 1) if s == 0 else slice(None) for s in x.strides[:slices])
        x = arrays.broadcast_to(arrays.ascontiguousarray(x[once]), x.shape)
        operand = _operand(x, slices, rows)
    return operand


def _single(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The stride of dimensions that are as good as one; None if they are not."""
    _, (kept,) = merged(shape, (strides,))
    return None if len(kept) > 1 else kept[0] if kept else 0


def _contiguous(shape: tuple[int, ...], last: int) -> tuple[int, ...]:
    """Strides of dimensions in C order, the last of stride `last`."""
    strides: list[int] = []
    for size in reversed(shape):
        strides.insert(0, last)
        last *= size
    return tuple(strides)


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
