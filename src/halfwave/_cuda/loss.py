"""Softmax cross-entropy on the GPU: kernels/cuda/loss.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import reduction, runtime

VARIANTS = [("loss", {})]
THREADS = 32 * reduction.WARPS


def cross_entropy(logits: Any, labels: Any, losses: Any) -> None:
    """losses[i] of the contiguous logits (rows, classes) and int64 labels."""
    rows, classes = logits.shape
    sizes = np.int64(rows), np.int64(classes)
    if not classes:  # no label is a column
        losses.fill(np.nan)
        return
    if classes <= reduction.CHUNK:
        _warps("cross_entropy", logits, labels, losses, *sizes)
        return
    maxima, sums = _sums(logits)
    grid = runtime.blocks(rows, THREADS)
    runtime.launch("loss", "losses_of_sums", logits.dtype, grid, THREADS, logits, labels, maxima,
                   sums, losses, *sizes)  # fmt: skip


def cross_entropy_backward(logits: Any, labels: Any, divisor: int, gradient: Any) -> None:
    """The losses' gradient, divided by `divisor`."""
    rows, classes = logits.shape
    sizes = np.int64(rows), np.int64(classes)
    number = logits.dtype.type(divisor)
    if classes <= reduction.CHUNK:
        _warps("cross_entropy_backward", logits, labels, number, gradient, *sizes)
        return
    maxima, sums = _sums(logits)
    _warps("gradients_of_sums", logits, labels, maxima, sums, number, gradient, *sizes)


def divide(total: Any, divisor: int) -> None:
    """total /= divisor, of one number."""
    runtime.launch("loss", "divide", total.dtype, 1, 32, total, total.dtype.type(divisor))


def _sums(logits: Any) -> tuple[Any, Any]:
    """Each row's maximum m, and its sum of exp(x - m)."""
    rows, classes = logits.shape
    arrays = runtime.device().arrays
    maxima, sums = (arrays.empty(rows, logits.dtype) for _ in range(2))
    e = arrays.empty(logits.shape, logits.dtype)
    _warps("exponentials", logits, maxima, e, np.int64(rows), np.int64(classes))
    reduction.channel_sums(e.reshape(1, rows, classes), sums)
    return maxima, sums


def _warps(name: str, logits: Any, *args: Any) -> None:
    grid = runtime.blocks(logits.shape[0], reduction.WARPS)
    runtime.launch("loss", name, logits.dtype, grid, THREADS, logits, *args)
