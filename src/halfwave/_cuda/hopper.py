"""Products by wgmma with the bulk tensor copy, on Hopper: kernels/cuda/wgmma.cu, and pack.cu before it.

How an operand lies, the tile and how the terms are divided are chosen from shapes and strides alone,
so that a result is the same from run to run.
"""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np

from . import runtime

ROWS, THREADS = 128, 384  # of a tile, of a block; as in wgmma.cu
STAGES = {256: 4, 128: 6, 64: 8}  # by the columns of a tile
SPEED = {256: 1.0, 128: 0.8, 64: 0.5}  # relative, of outputs a second; guesses
ROW_BYTES = 128  # of k a step
MULTIPROCESSORS = 132  # of an H100 or H200: what the division of terms counts on
LEAST = 64  # rows, columns and terms: smaller products are left to matmul.cu
LEAST_CHANNELS = 32  # of either image: fewer would leave most of a step, or of a tile, empty
LEAST_STEPS = 8  # of a part
NUMBERS = {"tf32": (0, runtime.TFLOAT32, 4), "bf16": (1, runtime.BFLOAT16, 2)}
MOST_STEP, MOST_BOX = 8, 256  # every how many-th element, and elements along a box, a map may say
MOST = 2**31 - 2**16  # that coordinates reach
PACK_SIDE, PACK_THREADS = 64, 256


def _macros(precision: str, columns: int) -> dict[str, int]:
    return {"HW_PRECISION": NUMBERS[precision][0], "HW_COLUMNS": columns,
            "HW_STAGES": STAGES[columns]}  # fmt: skip


def _shared(columns: int) -> int:
    """Bytes of shared memory: stages from a multiple of 1024 on, two barriers each."""
    return STAGES[columns] * ((ROWS + columns) * ROW_BYTES + 16) + 1024


ARCHITECTURES = ("sm_90a",)  # the only ones with wgmma
VARIANTS = [
    *(("wgmma", {"HW_REAL": "float", **_macros(precision, columns)})
      for precision in NUMBERS for columns in STAGES),
    *(("pack", {"HW_REAL": "float", "HW_PRECISION": NUMBERS[precision][0]})
      for precision in NUMBERS),
]  # fmt: skip

_int = np.int32
PRODUCT = np.dtype(
    [("c", np.int64, 3)]
    + [(name, np.int64) for name in ("c_column", "c_part", "bias_row", "bias_column")]
    + [("size", _int, 3), ("columns", _int), ("box", _int, 3), ("tiles", _int, 3)]
    + [(name, _int) for name in ("column_tiles", "parts", "steps", "part_steps", "channel_steps",
                                 "taps_w")]
    + [(name, _int, 2) for name in ("stride", "dilation", "start")]
    + [(name, _int) for name in ("a_slices", "b_slices", "vectors")], align=True,
)  # fmt: skip
PACKING = np.dtype(
    [("size", np.int64, 4), ("stride", np.int64, 4), ("pitch", np.int64), ("row_tiles", np.uint32),
     ("k_tiles", np.uint32), ("across", _int)], align=True,
)  # fmt: skip


class Operand(NamedTuple):
    """a or b, by its dimensions from the outermost on; the last is k, the last but one the rows."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers
    direct: bool  # the bulk copies can have it where it is; else pack.cu copies it before


def operand(
    precision: str, aligned: bool, sizes: tuple[int, ...], strides: tuple[int, ...]
) -> Operand:  # fmt: skip
    """One that begins at a multiple of 16 bytes, if it is `aligned`."""
    *outer, along = strides
    direct = precision == "tf32" and aligned and along == 1
    return Operand(sizes, strides, direct and all(0 < s < 2**37 and s % 4 == 0 for s in outer))


class Plan(NamedTuple):
    """What is launched."""

    precision: str
    columns: int
    a: Operand
    b: Operand
    tiles: int
    boxes: tuple[tuple[int, ...], tuple[int, ...]]  # of a and b, w or columns first; without k
    steps: tuple[tuple[int, ...], tuple[int, ...]]  # every how many-th element of them
    product: Any  # the kernel's struct Product
    result: tuple[tuple[int, ...], tuple[int, ...]]  # its shape and strides, (n, h, w, columns)
    workspace: int  # numbers, of the parts of divided terms
    folding: tuple[np.int64, ...]  # of fold.cu, which takes the result's description after them


def serves() -> bool:
    """Whether the device has these instructions, and the driver tensor maps."""
    device = runtime.device()
    return device.capability() == "90" and device.tensor_maps()


def choose(row_tiles: int, columns: int, steps: int) -> tuple[int, int]:
    """The columns of a tile, and the steps of a part."""

    def cost(tile: int) -> float:
        tiles = row_tiles * runtime.blocks(columns, tile)
        rounds = runtime.blocks(tiles, MULTIPROCESSORS)
        if 2 * tiles <= MULTIPROCESSORS:  # then the terms are divided
            rounds = 1 / max(min(MULTIPROCESSORS // tiles, steps // LEAST_STEPS), 1)
        return rounds * tile / SPEED[tile]

    tile = min(STAGES, key=cost)
    tiles = row_tiles * runtime.blocks(columns, tile)
    parts = max(min(MULTIPROCESSORS // tiles, steps // LEAST_STEPS), 1)
    return tile, max(runtime.blocks(steps, parts), 1)


def box_of(size: tuple[int, int, int], stride: tuple[int, int]) -> tuple[int, int, int]:
    """The pixels of a tile, along w, h and n: that which covers a result by the fewest tiles."""
    w, h, n = size
    widest, highest = (min(x, ROWS, MOST_BOX // s) for x, s in zip((w, h), stride, strict=True))
    best = (math.inf, 0, (1, 1, 1))
    for across in range(1, widest + 1):
        for down in range(1, min(highest, ROWS // across) + 1):
            box = (across, down, min(n, ROWS // (across * down)))
            tiles = math.prod(map(runtime.blocks, size, box))
            best = min(best, (tiles, -across, box))  # long rows at the same count
    return best[2]


def plan(
    precision: str, a: Operand, b: Operand, *, size: tuple[int, int, int], columns: int, terms: int,
    c: tuple[int, int, int], c_column: int, aligned: bool, bias_row: int, bias_column: int,
    box: tuple[int, int, int] = (ROWS, 1, 1), taps: tuple[int, int] = (1, 1),
    stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1),
    start: tuple[int, int] = (0, 0),
) -> Plan | None:  # fmt: skip
    """The plan for wgmma.cu's struct Product, whose pairs and triples go along w, h(, n).

    `terms` are those of a tap; `aligned` is the result, to 16 bytes. None where numbers go beyond what
    coordinates hold.
    """
    row_terms = ROW_BYTES // NUMBERS[precision][2]
    channel_steps = runtime.blocks(terms, row_terms)
    steps = channel_steps * math.prod(taps)
    tiles = tuple(map(runtime.blocks, size, box))
    tile, part_steps = choose(math.prod(tiles), columns, steps)
    parts = max(runtime.blocks(steps, part_steps), 1)
    across, outputs = runtime.blocks(columns, tile), size[0] * size[1] * columns
    count = math.prod(tiles) * across * parts
    axes = zip(size, stride, taps, dilation, start, strict=False)
    reach = (n * s + t * abs(d) + abs(p) for n, s, t, d, p in axes)
    if max(count, columns, *size, *reach, *a.sizes, *b.sizes) > MOST:
        return None
    shape, strides = (*reversed(size), columns), (*reversed(c), c_column)
    folding = tuple(map(np.int64, (size[2], parts, parts, outputs, columns, bias_row, bias_column)))
    if parts > 1:  # to a workspace, as (n, parts, h, w, columns)
        c, c_column = (columns, columns * size[0], parts * outputs), 1
        aligned, bias_row, bias_column = True, 0, 0
    slices = taps == (1, 1) and b.sizes[0] > 1
    vectors = aligned and c_column == 1 and not any(n % 2 for n in (columns, *c))
    p = np.zeros(1, PRODUCT)
    values = (
        c, c_column, outputs, bias_row, bias_column, size, columns, box, tiles, across, parts,
        steps, part_steps, channel_steps, taps[0], stride, dilation, start, a.sizes[0] > 1, slices,
        vectors,
    )  # fmt: skip
    for name, value in zip(PRODUCT.names, values, strict=True):
        p[name] = value
    boxes = tuple(map(operator.mul, box, (*stride, 1))), (tile, 1)
    workspace = parts * math.prod(shape) if parts > 1 else 0
    return Plan(precision, tile, a, b, count, boxes, ((*stride, 1), (1, 1)),
                runtime.record(p), (shape, strides),
                workspace, folding)  # fmt: skip


def run(plan: Plan, a: Any, b: Any, bias: Any, out: Any, result: Any) -> None:
    """Fill out, which fold.cu takes as `result`."""
    maps, kept = [], []  # a map holds no memory
    for of, x, box, steps in zip((plan.a, plan.b), (a, b), plan.boxes, plan.steps, strict=True):
        map_, memory = _map(plan.precision, of, x, box, steps)
        maps.append(map_)
        kept.append(memory)
    to, added = out, bias
    if plan.workspace:
        to, added = runtime.device().arrays.empty((plan.workspace,), out.dtype), None
    grid = min(plan.tiles, runtime.device().multiprocessors())
    runtime.launch("wgmma", "multiply", out.dtype, grid, THREADS, *maps, added, to, plan.product,
                   shared=_shared(plan.columns), **_macros(plan.precision, plan.columns))  # fmt: skip
    if plan.workspace:
        blocks = runtime.blocks(math.prod(plan.result[0]), 256)
        runtime.launch(
            "fold", "fold_parts", out.dtype, blocks, 256, to, bias, out, *plan.folding, result
        )


def _map(
    precision: str, of: Operand, x: Any, box: tuple[int, ...], steps: tuple[int, ...]
) -> tuple[np.ndarray, Any]:  # fmt: skip
    """The tensor map of an operand, and the memory that it is of: a copy where it has to be."""
    _, number, itemsize = NUMBERS[precision]
    *outer, k = of.sizes
    strides = of.strides[:-1]
    if not of.direct:
        pitch = runtime.blocks(k, 16 // itemsize) * 16 // itemsize
        strides = [pitch]
        for n in reversed(outer[1:]):
            strides.insert(0, strides[0] * n)
        x = _packed(precision, of, x, pitch)
    map_ = runtime.device().tensor_map(
        number, x.data.ptr, (k, *reversed(outer)), tuple(s * itemsize for s in reversed(strides)),
        (ROW_BYTES // itemsize, *box), (1, *steps),
    )  # fmt: skip
    return map_, x


def _packed(precision: str, operand: Operand, x: Any, pitch: int) -> Any:
    """A copy by pack.cu: dimensions in C order, rows of `pitch` numbers."""
    sizes, strides = list(operand.sizes), list(operand.strides)
    for i in reversed(range(len(sizes) - 2)):  # neighbours as one, so that there are many rows
        if sizes[i] == 1 or strides[i] == sizes[i + 1] * strides[i + 1]:
            sizes[i : i + 2], strides[i : i + 2] = [sizes[i] * sizes[i + 1]], [strides[i + 1]]
    p = np.zeros(1, PACKING)
    missing = 4 - len(sizes)
    p["size"], p["stride"] = (1,) * missing + tuple(sizes), (0,) * missing + tuple(strides)
    p["pitch"] = pitch
    p["row_tiles"] = runtime.blocks(sizes[-2], PACK_SIDE)
    p["k_tiles"] = runtime.blocks(pitch, PACK_SIDE)
    p["across"] = abs(strides[-2]) < abs(strides[-1])
    blocks = int(p["row_tiles"][0]) * int(p["k_tiles"][0]) * math.prod(sizes[:-2])
    dtype = np.dtype(np.float32 if precision == "tf32" else np.uint16)
    to = runtime.device().arrays.empty((math.prod(sizes[:-1]) * pitch,), dtype)
    runtime.launch("pack", "pack", x.dtype, runtime.grid(blocks), PACK_THREADS, x, to,
                   runtime.record(p), HW_PRECISION=NUMBERS[precision][0])  # fmt: skip
    return to
