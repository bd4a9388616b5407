"""Updates of parameters on the GPU: kernels/cuda/optimizer.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import runtime

VARIANTS = [("optimizer", {})]
THREADS = 256


def sgd_momentum(
    w: Any, dw: Any, velocity: Any, learning_rate: float, momentum: float, weight_decay: float
) -> None:
    """One step in place, over contiguous arrays."""
    rates = map(w.dtype.type, (learning_rate, momentum, weight_decay))
    grid = runtime.blocks(w.nbytes, 16 * THREADS)
    runtime.launch(
        "optimizer", "sgd_momentum", w.dtype, grid, THREADS, w, dw, velocity, *rates,
        np.int64(w.size),
    )  # fmt: skip
