"""Activations on the GPU: kernels/cuda/activation.cu. Arrays are contiguous and of one dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import reduction, runtime

VARIANTS = [("activation", {})]  # what is compiled of kernels/cuda, for either number type
THREADS = 256
BYTES_A_BLOCK = THREADS * 4 * 16  # COVERED in activation.cu


def _kernel(name: str) -> runtime.Kernel:
    return runtime.Kernel("activation", name, THREADS, BYTES_A_BLOCK)


relu, relu_backward = _kernel("relu"), _kernel("relu_backward")
sigmoid, sigmoid_backward = _kernel("sigmoid"), _kernel("sigmoid_backward")
tanh, tanh_backward = _kernel("tanh_forward"), _kernel("tanh_backward")


def prelu(x: Any, alpha: Any, axis: int, y: Any) -> None:
    """y = x where x > 0, else alpha * x."""
    _, channels, inner = _sizes(x, alpha, axis)
    grid = runtime.blocks(x.nbytes, BYTES_A_BLOCK)
    numbers = map(np.int64, (x.size, channels, inner))
    runtime.launch("activation", "prelu", x.dtype, grid, THREADS, x, alpha, y, *numbers)


def prelu_backward(dy: Any, x: Any, alpha: Any, axis: int, dx: Any) -> Any:
    """Writes dx and returns the slopes' gradient, of alpha's shape."""
    arrays = runtime.device().arrays
    outer, channels, inner = _sizes(x, alpha, axis)
    dalpha = arrays.empty(alpha.shape, alpha.dtype)
    if not x.size:
        dalpha.fill(0)
        return dalpha
    chunks = runtime.blocks(outer * inner, reduction.CHUNK)
    flat = dalpha.reshape(channels)
    partial = flat if chunks == 1 else arrays.empty((channels, chunks), x.dtype)
    given = (dy, x, alpha, dx, partial)
    if inner == 1 < channels:
        name, threads = "prelu_backward_last", reduction.THREADS_OF_8
        grid = chunks * runtime.blocks(channels, reduction.CHANNELS_A_BLOCK)
        numbers = map(np.int64, (outer, channels, chunks))
    else:
        name, threads = "prelu_backward", 32 * reduction.WARPS
        grid = runtime.blocks(channels * chunks, reduction.WARPS)
        numbers = map(np.int64, (outer, channels, inner, chunks))
    runtime.launch("activation", name, x.dtype, grid, threads, *given, *numbers)
    reduction.fold(partial, flat)
    return dalpha


def _sizes(x: Any, alpha: Any, axis: int) -> tuple[int, int, int]:
    """x as (outer, channels, inner); a shared slope is one channel."""
    if alpha.size == 1:
        return 1, 1, x.size
    inner = 1
    for n in x.shape[axis + 1 :]:
        inner *= n
    channels = alpha.size
    return (x.size // (channels * inner) if x.size else 0), channels, inner
