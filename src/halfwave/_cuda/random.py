"""Random words and variates on the GPU: kernels/cuda/random.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import runtime

VARIANTS = [("random", {}), ("random", {"HW_REAL": "float", "HW_HALF": 1})]
THREADS = 256
UNROLL = {2: 2, 4: 4, 8: 4}  # as in random.cu: how many 16 bytes a thread writes, by their items

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
WHERE = np.dtype(
    [("seed", np.uint64), ("stream", np.uint64), ("base", np.int64), ("size", np.int64),
     ("counts", np.int64, 16), ("steps", np.int64, 16), ("dimensions", np.int32),
     ("whole_blocks", np.int32)]
)  # fmt: skip


def _structs(number: type, word: type) -> dict[str, np.dtype]:
    """The parameters of kernels/common/distributions.h."""
    fields = {"uniform": [number] * 3, "normal": [number] * 2,
              "truncated_normal": [number] * 8 + [word] * 2}  # fmt: skip
    return {
        name: np.dtype([(f"f{i}", kind) for i, kind in enumerate(kinds)])
        for name, kinds in fields.items()
    }


PARAMETERS = {
    FLOAT32: _structs(np.float32, np.uint32),
    FLOAT64: _structs(np.float64, np.uint64),
}


def fill(
    out: Any,
    distribution: str,
    parameters: tuple[float, ...],
    seed: int,
    stream: int,
    base: int,
    counts: tuple[int, ...],
    steps: tuple[int, ...],
) -> None:
    """Fills the contiguous `out` from the elements base + Σ jd·steps[d], jd < counts[d], in C order.

    As halfwave._cpu.random.fill; at most 16 dimensions.
    """
    words = 2 if out.itemsize == 8 else 1
    where = np.zeros((), WHERE)
    where["seed"], where["stream"] = seed, stream
    where["base"], where["size"] = base, out.size
    where["counts"][: len(counts)] = counts
    where["steps"][: len(steps)] = steps
    where["dimensions"] = len(counts)
    where["whole_blocks"] = (
        steps[-1] == 1
        and out.data.ptr % 16 == 0
        and (len(counts) == 1 or counts[-1] * out.itemsize % 16 == 0)
        and not any(first * words % 4 for first in (base, *steps[:-1]))
    )
    grid = runtime.blocks(out.nbytes, THREADS * 16 * UNROLL[out.itemsize])
    where = runtime.record(where)
    if distribution == "bits":
        runtime.launch("random", "bits", FLOAT32, grid, THREADS, where, out)
        return
    number = FLOAT64 if out.itemsize == 8 else FLOAT32
    macros = {"HW_HALF": 1} if out.itemsize == 2 else {}
    given = runtime.record(np.array(parameters, PARAMETERS[number][distribution]))
    runtime.launch("random", distribution, number, grid, THREADS, where, given, out, **macros)


def normals(words: Any, out: Any) -> None:
    """The standard normals of the given words, uint32 or, for float64, uint64: both contiguous."""
    given = runtime.record(np.array((0.0, 1.0), PARAMETERS[out.dtype]["normal"]))
    grid = runtime.blocks(out.size, THREADS)
    sizes = out, np.int64(out.size)
    runtime.launch("random", "normal_of_words", out.dtype, grid, THREADS, words, given, *sizes)
