"""Matrix products on the GPU: kernels/cuda/matmul.cu, and fold.cu where a long axis is divided.

Which tile serves, and whether the contracted axis is divided, depends on the shape alone and changes
no bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product as pairs
from typing import Any, NamedTuple

import numpy as np

from .._plan import SEGMENT, SUPER_SEGMENT
from . import hopper, runtime

ACROSS, ACROSS_16, ALONG = range(3)  # HwLanes in contraction.h
DIMENSIONS = 16  # of slices, in matmul.cu
MULTIPROCESSORS = 132  # of an H100 or H200: the grids are cut to fill one, on whatever GPU
GRID_Y = 65535
THREADS_FOLDING = 256


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
    double = itemsize == 8
    common = (
        Tile(128, 64 if double else 128, 256, 16 if double else 32, 1, 1.0, True),
        Tile(64, 64, 128, 32, 1, 0.8, True),
        Tile(32, 32, 64, 64, 1, 0.45, False),
        Tile(8, 128, 64, 64, 4, 0.2, False),
    )
    return common if double else (*common, Tile(128, 256, 256, 16, 1, 1.04, True))


class TensorTile(Tile):
    """That of the tensor cores: HwTensorTile's shared memory."""

    def shared(self, itemsize: int, terms: int) -> int:
        return self.staged * (self.rows + self.columns + 16) * itemsize


TENSOR = TensorTile(128, 128, 256, 96, 1, 8.0, True)
PRECISIONS = {"tf32": 0, "bf16": 1}  # HwPrecision in tensor.h
THIN, WIDE = 3, 4
FEW_ROWS = 16  # for which the thin one serves
# The wide one has a multiprocessor to itself, so that nothing is computed beside its stores: of so many
# terms they take 2% of its time.
WIDE_TERMS = 2048


def _variants() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "fold", {}
    for a, b in pairs((ACROSS, ACROSS_16, ALONG), repeat=2):
        ways = {"HW_A_LANES": a, "HW_B_LANES": b}
        for number, tile in enumerate(tiles(4)):
            if tile.vectors or ACROSS_16 not in (a, b):
                real = {"HW_REAL": "float"} if number == WIDE else {}
                yield "matmul", {"HW_TILE": number, **ways, **real}
        for precision in PRECISIONS.values():
            yield "matmul", {"HW_REAL": "float", "HW_PRECISION": precision, **ways}


VARIANTS = list(_variants())

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


class Matrices(NamedTuple):
    """How slices of matrices lie in memory: strides in numbers."""

    aligned: bool  # to 16 bytes
    slices: tuple[int, ...]
    row: int
    column: int

    def transposed(self) -> Matrices:
        return Matrices(self.aligned, self.slices, self.column, self.row)


class Plan(NamedTuple):
    """What is launched for a product of some shapes and strides."""

    unfit: str  # which of "a", "b", "c" to copy first: their rows or columns have no one stride
    turned: bool = False  # cᵀ = bᵀ aᵀ instead
    grid: tuple[int, ...] = ()
    threads: int = 0
    shared: int = 0
    macros: Any = None
    product: Any = None  # the kernel's PRODUCT
    workspace: int = 0  # numbers, of the parts of a divided axis
    folding: tuple[Any, ...] = ()  # the arguments of fold_parts after the arrays
    outputs: int = 0


def plain(a: Any, b: Any, out: Any) -> Any:
    """The product of two matrices that lie as most do, without other checks; None if they do not."""
    if not (runtime.plain(a, b) if out is None else runtime.plain(a, b, out)):
        return None
    left, right = a.shape, b.shape
    if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
        return None
    shape = left[0], right[1]
    if out is None:
        out = runtime.device().fresh(shape, a.dtype)
    elif out.shape != shape or runtime.overlap(out, a) or runtime.overlap(out, b):
        return None
    product(a, b, None, out, 0, 1, 1, 1)
    return out


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
    layouts = ((x.shape, x.strides, x.data.ptr % 16 == 0) for x in (a, b, out))
    asked = (slices, rows, contracted, bias is not None, precision, *layouts)
    if precision and hopper.serves() and (found := hopper_plan(*asked)):
        plan, turned = found
        hopper.run(plan, *((b, a) if turned else (a, b)), bias, out, _result(*plan.result))
        return
    plan = plan_of(out.itemsize, runtime.device().shared_memory(), *asked)
    if plan.unfit:
        a = _gathered(a, slices) if "a" in plan.unfit else a
        b = _gathered(b, slices) if "b" in plan.unfit else b
        to = runtime.device().arrays.empty(out.shape, out.dtype) if "c" in plan.unfit else out
        product(a, b, bias, to, slices, rows, columns, contracted, precision)
        if to is not out:
            out[...] = to
        return
    if plan.turned:
        a, b = b, a
    to, added = out, bias
    if plan.workspace:
        to, added = runtime.device().arrays.empty(plan.workspace, out.dtype), None
    runtime.launch(
        "matmul", "product", out.dtype, plan.grid, plan.threads, a, b, added, to, plan.product,
        shared=plan.shared, **plan.macros,
    )  # fmt: skip
    if plan.workspace:
        grid = runtime.blocks(plan.outputs, THREADS_FOLDING)
        runtime.launch(
            "fold", "fold_parts", out.dtype, grid, THREADS_FOLDING, to, bias, out, *plan.folding
        )


Layout = tuple[tuple[int, ...], tuple[int, ...], bool]  # shape, strides in bytes, 16-byte aligned


@lru_cache(1024)
def plan_of(
    itemsize: int, most: int, slices: int, rows: int, contracted: int, biased: bool,
    precision: str | None, a: Layout, b: Layout, c: Layout,
) -> Plan:  # fmt: skip
    """The plan of `product` on a GPU that gives a block at `most` so many bytes of shared memory."""
    groups = ((a, rows), (b, contracted), (c, rows))
    found = [_matrices(itemsize, layout, slices, down) for layout, down in groups]
    if unfit := "".join(name for name, x in zip("abc", found, strict=True) if x is None):
        return Plan(unfit)
    left, right, to = found
    shape, outputs = c[0][:slices], c[0][slices:]
    m, n, k = (math.prod(x) for x in (outputs[:rows], outputs[rows:], a[0][slices + rows :]))
    bias_row, bias_column = 0, int(biased)
    turned = abs(to.row) < abs(to.column) if min(m, n) > FEW_ROWS else n < m
    if turned:  # for few rows rather than columns, or the result's columns side by side
        left, right, to = right.transposed(), left.transposed(), to.transposed()
        m, n, bias_row, bias_column = n, m, bias_column, 0

    count = math.prod(shape)
    if precision:
        tile, macros = TENSOR, {"HW_PRECISION": PRECISIONS[precision]}
    else:
        number = choose(itemsize, most, count, m, n, k)
        tile, macros = tiles(itemsize)[number], {"HW_TILE": number}
    down, across = runtime.blocks(m, tile.rows), runtime.blocks(n, tile.columns)
    part = part_terms(count * down * across, tile.blocks * MULTIPROCESSORS, k)
    parts = runtime.blocks(k, part) if k else 1
    workspace, folding, bias = 0, (), (bias_row, bias_column)
    if parts > 1:
        workspace, bias = count * parts * m * n, (0, 0)
        per_super = SUPER_SEGMENT // part
        numbers = map(_int, (count, parts, per_super, m * n, n, bias_row, bias_column))
        folding = (*numbers, _result((*shape, m, n), (*to.slices, to.row, to.column)))
        to = Matrices(True, _contiguous(shape, parts * m * n), n, 1)

    sizes, strides = merged(shape, (left.slices, right.slices, to.slices))
    p = np.zeros((), PRODUCT)
    vectors = lanes(itemsize, to.transposed(), n, strides[2], True) == ACROSS_16
    numbers = (m, n, k, part, left.row, left.column, right.row, right.column, to.row, to.column,
               m * n, *bias, down, across, vectors, len(sizes), count)  # fmt: skip
    for name, value in zip(PRODUCT.names, numbers, strict=False):
        p[name] = value
    for name, values in zip(PRODUCT.names[len(numbers) :], (sizes, *strides), strict=True):
        p[name][: len(sizes)] = values
    macros["HW_A_LANES"] = lanes(itemsize, left, m, strides[0], tile.vectors)
    macros["HW_B_LANES"] = lanes(itemsize, right.transposed(), n, strides[1], tile.vectors)
    grid = (parts * down * across, min(count, GRID_Y), runtime.blocks(count, GRID_Y))
    shared = tile.shared(itemsize, min(part, k))
    return Plan(
        "", turned, grid, tile.threads, shared, macros, runtime.record(p), workspace, folding,
        count * m * n,
    )  # fmt: skip


@lru_cache(1024)
def hopper_plan(
    slices: int, rows: int, contracted: int, biased: bool, precision: str, a: Layout, b: Layout,
    c: Layout,
) -> tuple[hopper.Plan, bool] | None:  # fmt: skip
    """The plan of `product` by wgmma, and whether cᵀ = bᵀ aᵀ is computed; None: not for this."""
    groups = ((a, rows), (b, contracted), (c, rows))
    left, right, to = (_matrices(4, layout, slices, down) for layout, down in groups)
    if left is None or right is None or to is None:
        return None
    outputs = c[0][slices:]
    m, n, k = (math.prod(x) for x in (outputs[:rows], outputs[rows:], a[0][slices + rows :]))
    sizes, strides = merged(c[0][:slices], (left.slices, right.slices, to.slices))
    count, (of_a, of_b, of_c) = (sizes or [1])[0], ((s or [0])[0] for s in strides)
    if len(sizes) > 1 or m < hopper.LEAST or not hopper.worthwhile(count * m, n, k, hopper.LEAST):
        return None
    bias_row, bias_column = 0, int(biased)

    def operand(x: Matrices, size: int, apart: int) -> hopper.Operand:
        own, apart = (count, apart) if apart else (1, max(x.row, x.column))
        return hopper.operand(precision, x.aligned, (own, size, k), (apart, x.row, x.column))

    first, second = operand(left, m, of_a), operand(right.transposed(), n, of_b)
    turned = hopper.turned(first, second, abs(to.row) < abs(to.column))
    if turned:
        first, second, to = second, first, to.transposed()
        m, n, bias_row, bias_column = n, m, bias_column, 0
    found = hopper.plan(
        precision, first, second,
        size=(m, 1, count), columns=n, terms=k, c=(to.row, 0, of_c), c_column=to.column,
        aligned=to.aligned, bias_row=bias_row, bias_column=bias_column,
    )  # fmt: skip
    return (found, turned) if found else None


def _result(shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """fold.cu's description of where a result lies."""
    sizes, (steps,) = merged(shape, (strides,))
    result = np.zeros((), RESULT)
    result["dimensions"] = len(sizes)
    result["shape"][: len(sizes)] = sizes
    result["stride"][: len(sizes)] = steps
    return runtime.record(result)


def choose(itemsize: int, most: int, slices: int, m: int, n: int, k: int) -> int:
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

    all_tiles = tiles(itemsize)
    serving = list(range(THIN))
    if k >= WIDE_TERMS and len(all_tiles) > WIDE:
        wide = all_tiles[WIDE]
        blocks = slices * runtime.blocks(m, wide.rows) * runtime.blocks(n, wide.columns)
        if blocks >= MULTIPROCESSORS and wide.shared(itemsize, k) <= most:
            serving.append(WIDE)
    return min(serving, key=lambda number: cost(all_tiles[number]))


def part_terms(blocks: int, enough: int, k: int) -> int:
    """How many terms a block has: all, or a super-segment, or a segment, so that there are enough."""
    if blocks >= enough or k <= SEGMENT:
        return k
    if blocks * runtime.blocks(k, SUPER_SEGMENT) >= enough:
        return min(SUPER_SEGMENT, k)
    return SEGMENT


def lanes(
    itemsize: int, x: Matrices, count: int, slices: tuple[int, ...], vectors: bool
) -> int:  # fmt: skip
    """How threads go over an operand of (rows, k), of which there are `count` rows."""
    if x.row != 1 and count > 1:
        return ALONG if x.column == 1 else ACROSS
    apart = (count, x.column, *slices)
    if vectors and x.aligned and not any(s % (16 // itemsize) for s in apart):
        return ACROSS_16
    return ALONG if x.column == 1 else ACROSS


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


def _matrices(itemsize: int, x: Layout, slices: int, rows: int) -> Matrices | None:
    """None where the dimensions of rows, or of columns, are not as good as a single one."""
    shape, strides, aligned = x
    strides = tuple(s // itemsize for s in strides)
    row = _single(shape[slices : slices + rows], strides[slices : slices + rows])
    column = _single(shape[slices + rows :], strides[slices + rows :])
    if row is None or column is None:
        return None
    return Matrices(aligned, strides[:slices], row, column)


def _single(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    _, (kept,) = merged(shape, (strides,))
    return None if len(kept) > 1 else kept[0] if kept else 0


def _gathered(x: Any, slices: int) -> Any:
    """A contiguous copy, of one slice where x repeats it."""
    arrays = runtime.device().arrays
    once = tuple(slice(0, 1) if s == 0 else slice(None) for s in x.strides[:slices])
    return arrays.broadcast_to(arrays.ascontiguousarray(x[once]), x.shape)


def _contiguous(shape: tuple[int, ...], last: int) -> tuple[int, ...]:
    """Strides of dimensions in C order, the last of stride `last`."""
    strides: list[int] = []
    for size in reversed(shape):
        strides.insert(0, last)
        last *= size
    return tuple(strides)
