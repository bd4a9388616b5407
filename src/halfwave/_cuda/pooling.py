"""Max pooling on the GPU: kernels/cuda/pooling.cu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import runtime

VARIANTS = [("pooling", {})]
THREADS = 256

_AXIS = [(name, "<i8") for name in ("length", "number", "size", "stride", "dilation", "before")]
_POOLING = np.dtype([
    ("images", "<i8"), ("channels", "<i8"), ("rows", _AXIS), ("columns", _AXIS),
    ("x_strides", "<i8", 4), ("y_strides", "<i8", 4), ("channels_last", "<i8"),
])  # fmt: skip

Axis = tuple[int, int, int, int, int, int]  # as _AXIS


def bins(length: int, number: int) -> Axis:
    """The bins of a pyramid's level along one axis."""
    return (length, number, 0, 0, 0, 0)


def forward(x: Any, rows: Axis, columns: Axis, channels_last: bool, y: Any) -> None:
    """y[n, c, i, j] = max of window (i, j); x and y as (N, C, ·, ·), of any strides."""
    p = _pooling(x, rows, columns, channels_last, y)
    _each(y.size, "forward", x.dtype, x, y, p)


def backward(dy: Any, x: Any, rows: Axis, columns: Axis, channels_last: bool, dx: Any) -> None:
    """dx at each window's maximum += dy; dx as (N, C, H, W), contiguous in its layout."""
    p = _pooling(x, rows, columns, channels_last, dy)
    where = runtime.device().arrays.empty(dy.size, np.dtype(np.int32))
    _each(dy.size, "maxima", x.dtype, x, where, p)
    _each(x.size, "backward", x.dtype, dy, where, dx, p)


def _pooling(x: Any, rows: Axis, columns: Axis, channels_last: bool, y: Any) -> np.ndarray:
    strides = [tuple(s // a.itemsize for s in a.strides) for a in (x, y)]
    values = (*x.shape[:2], rows, columns, *strides, channels_last)
    return runtime.record(np.array(values, _POOLING))


def _each(count: int, name: str, dtype: np.dtype, *args: Any) -> None:
    runtime.launch("pooling", name, dtype, math.ceil(count / THREADS), THREADS, *args)
