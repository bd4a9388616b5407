"""Constants, identities and orthogonal matrices on the GPU: kernels/cuda/init.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import runtime

VARIANTS = [("init", {}), ("init", {"HW_REAL": "float", "HW_HALF": 1})]
FILLERS = 256
BYTES_A_BLOCK = FILLERS * 4 * 16  # of `out`; UNROLL in init.cu
PANEL = 32
THREADS = 9 * 32  # WARPS

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
TAKEN = np.dtype([(name, np.int64) for name in ("start", "step", "count", "stride")])
HOUSEHOLDER = np.dtype(
    [(name, np.uint64) for name in ("a", "v", "tau", "beta")]
    + [(name, np.int64) for name in ("rows", "columns")]
)


def _launch(name: str, dtype: np.dtype, grid: int, threads: int, *args: Any) -> None:
    """A kernel of init.cu that writes numbers of `dtype`."""
    macros = {"HW_HALF": 1} if dtype.itemsize == 2 else {}
    number = FLOAT64 if dtype.itemsize == 8 else FLOAT32
    runtime.launch("init", name, number, grid, threads, *args, **macros)


def constant(out: Any, value: float) -> None:
    """The same number everywhere in the contiguous `out`."""
    grid = runtime.blocks(out.nbytes, BYTES_A_BLOCK)
    _launch("constant", out.dtype, grid, FILLERS, out, np.int64(out.size), out.dtype.type(value))


def diagonal(
    out: Any, value: float, part: tuple[range, ...], to: int, of: int, period: int, at: dict
) -> None:
    """`value` where the index along `of` is that along `to` modulo the period, else 0.

    `part` holds the indices that the contiguous `out` has along each dimension, `at` the one index of
    each other dimension that there is a `value` at.
    """
    constant(out, 0)
    strides = [s // out.itemsize for s in out.strides]
    first = 0
    for d, index in at.items():
        if index not in part[d]:
            return
        first += part[d].index(index) * strides[d]
    ends = [
        runtime.record(np.array((part[d].start, part[d].step, len(part[d]), strides[d]), TAKEN))
        for d in (to, of)
    ]
    grid = runtime.blocks(len(part[to]), FILLERS)
    flat = out.reshape(-1)[first:]
    _launch("diagonal", out.dtype, grid, FILLERS, flat, out.dtype.type(value), *ends,
            np.int64(period))  # fmt: skip


def orthogonal(source: Any, target: Any, scale: float) -> None:
    """As halfwave._cpu.init.orthogonal; float32 or float64, or a float16 target of float32."""
    rows, columns = source.shape
    panels = runtime.blocks(columns, PANEL)
    sizes = panels * rows * PANEL, columns * rows, columns, columns
    work = runtime.device().arrays.empty((sum(sizes),), np.float64)
    addresses = [work.data.ptr + 8 * sum(sizes[:i]) for i in range(4)]
    job = runtime.record(np.array((*addresses, rows, columns), HOUSEHOLDER))

    def strides(x: Any) -> list[np.int64]:
        return [np.int64(s // x.itemsize) for s in x.strides]

    grid = runtime.blocks(sizes[0], FILLERS)
    _launch("load", target.dtype, grid, FILLERS, source, *strides(source), job)
    for p in range(panels):
        grid = panels - p if p else 1
        _launch("factor", target.dtype, grid, THREADS, job, np.int64(p))
    _launch("grow", target.dtype, panels, THREADS, job, np.float64(scale), target, *strides(target))
