"""Sums per channel on the GPU: kernels/cuda/reduction.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import runtime

CHUNK = 4096  # CONTRACT.md section 5
CHANNELS_A_BLOCK = 8
VARIANTS = [("reduction", {})]  # what is compiled of kernels/cuda, for either number type
THREADS_OF_8 = 256
WARPS = 4  # a block; HW_SUM_WARPS in sums.h


def channel_sums(x: Any, out: Any) -> None:
    """out[c] = sum of x[:, c, :], for contiguous x of shape (outer, channels, inner)."""
    outer, channels, inner = x.shape
    if not channels:
        return
    if not outer * inner:
        out[...] = 0
        return
    chunks = runtime.blocks(outer * inner, CHUNK)
    partial = out if chunks == 1 else runtime.device().arrays.empty((channels, chunks), x.dtype)
    sizes = map(np.int64, (outer, channels, inner, chunks))
    if inner == 1 < channels:
        grid = chunks * runtime.blocks(channels, CHANNELS_A_BLOCK)
        outer, channels, _, chunks = sizes
        runtime.launch(
            "reduction", "channel_sums_last", x.dtype, grid, THREADS_OF_8, x, partial, outer, channels,
            chunks,
        )  # fmt: skip
    else:
        grid = runtime.blocks(channels * chunks, WARPS)
        runtime.launch("reduction", "channel_sums", x.dtype, grid, 32 * WARPS, x, partial, *sizes)
    fold(partial, out)


def fold(partial: Any, out: Any) -> None:
    """out[c] = the sum of the chunks' sums partial[c, :], where it is not out itself."""
    if partial is not out:
        channel_sums(partial.reshape(1, *partial.shape), out)
