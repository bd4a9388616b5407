"""Dropout on the GPU: kernels/cuda/dropout.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import runtime

VARIANTS = [("dropout", {})]
THREADS = 256
BYTES_A_BLOCK = THREADS * 4 * 16  # COVERED in dropout.cu


def dropout(seed: int, stream: int, threshold: int, scale: float, x: Any, y: Any) -> None:
    """y = x with its mask; both contiguous, of one dtype and shape."""
    numbers = np.int64(x.size), np.uint64(seed), np.uint64(stream), np.uint32(threshold)
    grid = runtime.blocks(x.nbytes, BYTES_A_BLOCK)
    runtime.launch(
        "dropout", "dropout", x.dtype, grid, THREADS, x, y, *numbers, x.dtype.type(scale)
    )
