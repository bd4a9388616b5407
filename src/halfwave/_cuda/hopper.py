"""Products by wgmma with the bulk tensor copy, on Hopper: kernels/cuda/wgmma.cu, and pack.cu before it.

How an operand lies, the tile and how the terms are divided are chosen from shapes and strides alone,
so that a result is the same from run to run.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import runtime


class Tile(NamedTuple):
    """A tile of wgmma.cu."""

    rows: int  # 256: those of a lie side by side, instead of its k's
    columns: int
    stages: int
    speed: float  # relative, of outputs a second; guesses


ALONG = (Tile(128, 256, 4, 1.0), Tile(128, 128, 6, 0.8), Tile(128, 64, 8, 0.5))
ACROSS = (Tile(256, 128, 4, 1.0),)
THREADS = 384
PIXELS = 128  # of a tile
BOX_ROWS = 32  # of rows side by side
PAIRS, ROWS_OF_16 = 1, 2  # of Product.vectors
ROW_BYTES = 128  # of k a step
MULTIPROCESSORS = 132  # of an H100 or H200: what the division of terms counts on
LEAST = 64  # rows, columns and terms: smaller products are left to matmul.cu
LEAST_ACROSS = 129  # rows side by side: fewer are packed, for smaller tiles
LEAST_CHANNELS = 32  # of either image: fewer would leave most of a step, or of a tile, empty
LEAST_STEPS = 8  # of a part
NUMBERS = {"tf32": (0, runtime.TFLOAT32, 4), "bf16": (1, runtime.BFLOAT16, 2)}
MOST_STEP, MOST_BOX = 8, 256  # every how many-th element, and elements along a box, a map may say
MOST = 2**31 - 2**16  # that coordinates reach
PACK_SIDE, PACK_THREADS, FOLDING_THREADS = 64, 256, 256


def _macros(precision: str, tile: Tile, weights: bool) -> dict[str, int]:
    return {"HW_PRECISION": NUMBERS[precision][0], "HW_ROWS": tile.rows, "HW_COLUMNS": tile.columns,
            "HW_STAGES": tile.stages, "HW_WEIGHTS": int(weights)}  # fmt: skip


def _shared(tile: Tile) -> int:
    """Bytes of shared memory: stages from a multiple of 1024 on, two barriers each."""
    return tile.stages * ((tile.rows + tile.columns) * ROW_BYTES + 16) + 1024


ARCHITECTURES = ("sm_90a",)  # the only ones with wgmma
CHOICES = [
    *(("tf32", tile) for tile in (*ALONG, *ACROSS)),
    *(("bf16", tile) for tile in ALONG),
]
VARIANTS = [
    *(("wgmma", {"HW_REAL": "float", **_macros(*choice, weights)})
      for choice in CHOICES for weights in (False, True)),
    *(("pack", {"HW_REAL": "float", "HW_PRECISION": number}) for number, *_ in NUMBERS.values()),
]  # fmt: skip

_int = np.int32
PRODUCT = np.dtype(
    [("c", np.int64, 3)]
    + [(name, np.int64) for name in ("c_column", "c_part", "bias_row", "bias_column")]
    + [("size", _int, 3), ("columns", _int), ("box", _int, 3), ("tiles", _int, 3)]
    + [(name, _int) for name in ("column_tiles", "parts", "steps", "part_steps", "channel_steps",
                                 "taps_w")]
    + [(name, _int, 2) for name in ("stride", "dilation", "start")]
    + [("k_box", _int, 3), ("k_tiles", _int, 2)]
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
    along: bool  # the bulk copies can have it where it is, along k
    across: bool  # or along its rows instead, which a of matrices alone may be


def operand(
    precision: str, aligned: bool, sizes: tuple[int, ...], strides: tuple[int, ...]
) -> Operand:  # fmt: skip
    """One that begins at a multiple of 16 bytes, if it is `aligned`."""

    def rest(inner: int) -> bool:
        """Whether, but for the dimension that is dense, a tensor map can have it."""
        others = [s for i, s in enumerate(strides, -len(strides)) if i != inner]
        return strides[inner] == 1 and all(0 < s < 2**37 and s % 4 == 0 for s in others)

    there = precision == "tf32" and aligned
    across = there and sizes[-2] >= LEAST_ACROSS and rest(-2) and not rest(-1)
    return Operand(sizes, strides, there and rest(-1), across)


def turned(a: Operand, b: Operand, rows_side_by_side: bool) -> bool:
    """Whether bᵀ aᵀ is the better product, for a result that lies like this."""
    if a.across and b.across:  # one of them is packed: then 16 bytes of the result are written
        return not rows_side_by_side
    return b.across or (rows_side_by_side and not a.across)


class Source(NamedTuple):
    """How an operand gets to the bulk copies."""

    packing: tuple[Any, int, int] | None  # that pack.cu does before
    layout: tuple[tuple[int, ...], ...]  # sizes, strides, box and steps of runtime.TensorMap


class Plan(NamedTuple):
    """What is launched."""

    precision: str
    tile: Tile
    weights: bool  # the product is HW_WEIGHTS
    sources: tuple[Source, Source]  # of a and b
    count: int  # of tiles, times parts
    product: Any  # the kernel's struct Product
    result: tuple[tuple[int, ...], tuple[int, ...]]  # its shape and strides, (n, h, w, columns)
    workspace: int  # numbers, of the parts of divided terms
    folding: tuple[np.int64, ...]  # of fold.cu, which takes the result's description after them


def serves() -> bool:
    """Whether the device has these instructions, and the driver tensor maps."""
    device = runtime.device()
    return device.capability() == "90" and device.tensor_maps()


def choose(
    tiles: tuple[Tile, ...], rows: Callable[[Tile], int], columns: int, steps: int
) -> tuple[Tile, int]:  # fmt: skip
    """The tile, of which `rows` go down, and the steps of a part."""

    def parts(tile: Tile) -> int:
        count = rows(tile) * runtime.blocks(columns, tile.columns)
        return max(min(MULTIPROCESSORS // count, steps // LEAST_STEPS), 1)

    def cost(tile: Tile) -> float:
        count = rows(tile) * runtime.blocks(columns, tile.columns) * parts(tile)
        rounds = runtime.blocks(count, MULTIPROCESSORS) / parts(tile)
        return rounds * tile.rows * tile.columns / tile.speed

    best = min(tiles, key=cost)
    return best, max(runtime.blocks(steps, parts(best)), 1)


def box_of(size: tuple[int, int, int], stride: tuple[int, int]) -> tuple[int, int, int]:
    """The pixels of a tile, along w, h and n: that which covers a result by the fewest tiles."""
    w, h, n = size
    widest, highest = (min(x, PIXELS, MOST_BOX // s) for x, s in zip((w, h), stride, strict=True))
    best = (math.inf, 0, (1, 1, 1))
    for across in range(1, widest + 1):
        for down in range(1, min(highest, PIXELS // across) + 1):
            box = (across, down, min(n, PIXELS // (across * down)))
            tiles = math.prod(map(runtime.blocks, size, box))
            best = min(best, (tiles, -across, box))  # long rows at the same count
    return best[2]


def plan(
    precision: str, a: Operand, b: Operand, *, size: tuple[int, int, int], columns: int, terms: int,
    c: tuple[int, int, int], c_column: int, aligned: bool, bias_row: int, bias_column: int,
    box: tuple[int, int, int] | None = None, taps: tuple[int, int] = (1, 1),
    stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1),
    start: tuple[int, int] = (0, 0),
) -> Plan | None:  # fmt: skip
    """The plan for wgmma.cu's struct Product, whose pairs and triples go along w, h(, n).

    `terms` are those of a tap; `aligned` is the result, to 16 bytes. None where numbers go beyond what
    coordinates hold.
    """
    channel_steps = runtime.blocks(terms, ROW_BYTES // NUMBERS[precision][2])
    across = box is None and a.across
    if len(a.sizes) == 3:
        a = a._replace(sizes=(a.sizes[0], 1, *a.sizes[1:]), strides=(a.strides[0], *a.strides))
    axes = zip(size, stride, taps, dilation, start, strict=False)
    reach = (n * s + t * abs(d) + abs(p) for n, s, t, d, p in axes)
    if max(*reach, *a.sizes, *b.sizes) > MOST:
        return None

    def sources(tile: Tile) -> tuple[Source, Source]:
        strided = tuple(map(operator.mul, box or (tile.rows, 1, 1), (*stride, 1)))
        of_a = _rows(a) if across else _source(precision, a, strided, (*stride, 1))
        return of_a, _source(precision, b, (tile.columns, 1), (1, 1))

    return _tiled(
        precision, ACROSS if across else ALONG, sources, size=size, columns=columns,
        steps=channel_steps * math.prod(taps), box=box, c=c, c_column=c_column, aligned=aligned,
        bias_row=bias_row, bias_column=bias_column, channel_steps=channel_steps, taps_w=taps[0],
        stride=stride, dilation=dilation, start=start, a_slices=a.sizes[0] > 1,
        b_slices=taps == (1, 1) and b.sizes[0] > 1,
    )  # fmt: skip


def plan_of_weights(
    precision: str, dy: Operand, x: Operand, *, taps: tuple[int, int], dilation: tuple[int, int],
    start: tuple[int, int], c: tuple[int, int, int], c_column: int,
) -> Plan | None:  # fmt: skip
    """That of a gradient, whose size goes along rows, nothing, and taps; pairs along w, h.

    The operands are (n, h, w, channels), of which k is the pixels of dy.
    """
    n, h, w, rows = dy.sizes
    k_box = _pixels_of_step((w, h, n), NUMBERS[precision][2])
    k_tiles = tuple(map(runtime.blocks, (w, h, n), k_box))
    reach = (n + t * d + abs(p) for n, t, d, p in zip((w, h), taps, dilation, start, strict=True))
    if max(*reach, *dy.sizes, *x.sizes) > MOST:
        return None

    def sources(tile: Tile) -> tuple[Source, Source]:
        if tile in ACROSS:
            of_a = _pixels(precision, dy, k_box, BOX_ROWS)
        else:
            of_a = _pixels(precision, dy._replace(along=False), k_box, tile.rows)
        return of_a, _pixels(precision, x._replace(along=False), k_box, tile.columns)

    return _tiled(
        precision, (*ALONG, *(ACROSS if dy.along else ())), sources, size=(rows, 1, math.prod(taps)),
        columns=x.sizes[-1], steps=math.prod(k_tiles), box=None, c=c, c_column=c_column,
        aligned=False, bias_row=0, bias_column=0, taps_w=taps[0], dilation=dilation, start=start,
        k_box=k_box, k_tiles=k_tiles[:2], channel_steps=1,
    )  # fmt: skip


def _tiled(
    precision: str, candidates: tuple[Tile, ...], sources: Callable[[Tile], tuple[Source, Source]],
    *, size: tuple[int, int, int], columns: int, steps: int, box: tuple[int, int, int] | None,
    c: tuple[int, int, int], c_column: int, aligned: bool, bias_row: int, bias_column: int,
    **others: Any,
) -> Plan | None:  # fmt: skip
    """The plan of the best tile; `others` are the numbers of struct Product that are just given."""

    def down(tile: Tile) -> tuple[int, ...]:
        return tuple(map(runtime.blocks, size, box or (tile.rows, 1, 1)))

    tile, part_steps = choose(candidates, lambda tile: math.prod(down(tile)), columns, steps)
    parts = max(runtime.blocks(steps, part_steps), 1)
    column_tiles, outputs = runtime.blocks(columns, tile.columns), size[0] * size[1] * columns
    count = math.prod(down(tile)) * column_tiles * parts
    if max(count, columns, steps, *size) > MOST:
        return None
    shape, strides = (*reversed(size), columns), (*reversed(c), c_column)
    folding = tuple(map(np.int64, (size[2], parts, parts, outputs, columns, bias_row, bias_column)))
    if parts > 1:  # to a workspace, as (n, parts, h, w, columns)
        c, c_column = (columns, columns * size[0], parts * outputs), 1
        aligned, bias_row, bias_column = True, 0, 0
    vectors = 0
    if aligned and c_column == 1 and not any(n % 2 for n in (columns, *c)):
        vectors = PAIRS
    elif (
        tile in ACROSS
        and aligned
        and c[0] == 1
        and not any(n % 4 for n in (size[0], c_column, c[2]))
    ):
        vectors = ROWS_OF_16
    given = {
        "c": c, "c_column": c_column, "c_part": outputs, "bias_row": bias_row,
        "bias_column": bias_column, "size": size, "columns": columns,
        "box": box or (tile.rows, 1, 1), "tiles": down(tile), "column_tiles": column_tiles,
        "parts": parts, "steps": steps, "part_steps": part_steps, "vectors": vectors, **others,
    }  # fmt: skip
    p = np.zeros(1, PRODUCT)
    for name, value in given.items():
        p[name] = value
    workspace = parts * math.prod(shape) if parts > 1 else 0
    weights = "k_box" in others
    return Plan(precision, tile, weights, sources(tile), count, runtime.record(p), (shape, strides),
                workspace, folding)  # fmt: skip


def _pixels_of_step(size: tuple[int, int, int], itemsize: int) -> tuple[int, int, int]:
    """A box of just 128 bytes of pixels, of whole 16 bytes along w: that which covers w, h, n best."""
    all_, least = ROW_BYTES // itemsize, 16 // itemsize
    powers = [2**i for i in range(all_.bit_length())]
    boxes = ((w, h, all_ // (w * h)) for w in powers if w >= least for h in powers if w * h <= all_)
    return min(boxes, key=lambda box: (math.prod(map(runtime.blocks, size, box)), -box[0]))


def _pixels(precision: str, of: Operand, box: tuple[int, int, int], channels: int) -> Source:
    """Pixels for the weights' gradient: of channels side by side, if along; else packed to rows of w."""
    itemsize = NUMBERS[precision][2]
    (n, h, w, all_), ones = of.sizes, (1, 1, 1, 1)
    if of.along:
        strides = tuple(s * itemsize for s in reversed(of.strides[:-1]))
        return Source(None, ((all_, w, h, n), strides, (channels, *box), ones))
    pitch = runtime.blocks(w, 16 // itemsize) * 16 // itemsize
    by_n, by_h, by_w, by_channel = of.strides
    packing = _packing(
        of._replace(sizes=(n, h, all_, w), strides=(by_n, by_h, by_channel, by_w)), pitch
    )
    strides = tuple(s * pitch * itemsize for s in (all_, h * all_, 1))
    return Source(packing, ((w, h, n, all_), strides, (*box, channels), ones))


def _source(
    precision: str, of: Operand, box: tuple[int, ...], steps: tuple[int, ...]
) -> Source:  # fmt: skip
    """Of an operand along k, by boxes of 128 bytes; packed before, if it is not so."""
    itemsize = NUMBERS[precision][2]
    *outer, k = of.sizes
    strides, packing = of.strides[:-1], None
    if not of.along:
        pitch = runtime.blocks(k, 16 // itemsize) * 16 // itemsize
        strides = [math.prod(outer[i + 1 :]) * pitch for i in range(len(outer))]
        packing = _packing(of, pitch)
    bytes_ = tuple(s * itemsize for s in reversed(strides))
    box = (ROW_BYTES // itemsize, *box)
    return Source(packing, ((k, *reversed(outer)), bytes_, box, (1, *steps)))


def _rows(of: Operand) -> Source:
    """Of a TF32 operand whose rows lie side by side: (rows, k, slices)."""
    slices, *_, rows, k = of.sizes
    strides = of.strides[-1] * 4, of.strides[0] * 4
    return Source(None, ((rows, k, slices), strides, (BOX_ROWS, BOX_ROWS, 1), (1, 1, 1)))


def _packing(of: Operand, pitch: int) -> tuple[Any, int, int]:
    """pack.cu's struct, blocks, and how many numbers it writes: in C order, rows of `pitch`."""
    sizes, strides = list(of.sizes), list(of.strides)
    for i in reversed(range(len(sizes) - 2)):  # neighbours as one, so that there are many rows
        if sizes[i] == 1 or strides[i] == sizes[i + 1] * strides[i + 1]:
            sizes[i : i + 2], strides[i : i + 2] = [sizes[i] * sizes[i + 1]], [strides[i + 1]]
    p = np.zeros(1, PACKING)
    missing = 4 - len(sizes)
    p["size"], p["stride"] = (1,) * missing + tuple(sizes), (0,) * missing + tuple(strides)
    row_tiles, k_tiles = (runtime.blocks(n, PACK_SIDE) for n in (sizes[-2], pitch))
    p["pitch"], p["row_tiles"], p["k_tiles"] = pitch, row_tiles, k_tiles
    p["across"] = abs(strides[-2]) < abs(strides[-1])
    blocks = row_tiles * k_tiles * math.prod(sizes[:-2])
    return runtime.record(p), blocks, math.prod(sizes[:-1]) * pitch


def run(plan: Plan, a: Any, b: Any, bias: Any, out: Any, result: Any) -> None:
    """Fill out, which fold.cu takes as `result`."""
    empty, map_of = runtime.device().arrays.empty, runtime.device().tensor_map
    macro, kind, itemsize = NUMBERS[plan.precision]
    maps, kept = [], []  # a map does not keep its memory
    for source, x in zip(plan.sources, (a, b), strict=True):
        if source.packing:
            packing, blocks, count = source.packing
            packed = empty((count,), np.dtype(np.float32 if itemsize == 4 else np.uint16))
            runtime.launch("pack", "pack", x.dtype, runtime.grid(blocks), PACK_THREADS, x, packed,
                           packing, HW_PRECISION=macro)  # fmt: skip
            x = packed
        kept.append(x)
        maps.append(map_of(kind, x.data.ptr, *source.layout))
    to, added = out, bias
    if plan.workspace:
        to, added = empty((plan.workspace,), out.dtype), None
    grid = min(plan.count, runtime.device().multiprocessors())
    macros = _macros(plan.precision, plan.tile, plan.weights)
    runtime.launch("wgmma", "multiply", out.dtype, grid, THREADS, *maps, added, to, plan.product,
                   shared=_shared(plan.tile), **macros)  # fmt: skip
    if plan.workspace:
        blocks = runtime.blocks(math.prod(plan.result[0]), FOLDING_THREADS)
        runtime.launch("fold", "fold_parts", out.dtype, blocks, FOLDING_THREADS, to, bias, out,
                       *plan.folding, result)  # fmt: skip
