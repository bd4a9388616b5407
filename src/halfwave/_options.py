"""What every initializer takes, and its checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from . import _arrays

Shape = int | Sequence[int]

LARGEST = {2: 65504.0, 4: float(np.finfo(np.float32).max), 8: float(np.finfo(np.float64).max)}
DEVICES = ("cpu", "cuda")
DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


class Common(TypedDict, total=False):
    """What every initializer takes; the random ones require `seed`."""

    seed: int
    stream: int | str
    dtype: Any
    device: str
    out: np.ndarray | None
    shard: Sequence[slice] | None


class Scaled(Common, total=False):
    """What every variance-scaling initializer takes."""

    groups: int
    transposed: bool
    layout: str


def dtypes(dtype: Any, device: Any) -> tuple[np.dtype, np.dtype]:
    """The dtype of the array and the one it is computed in; the device is checked on the way."""
    if type(device) is not str or device != "cpu":
        _arrays.choice(device, "device", DEVICES)
    if type(dtype) is str and dtype == "float32":  # the default
        return DTYPES[1], DTYPES[1]
    try:
        kind = np.dtype(object if dtype is None else dtype)  # to NumPy None means float64
    except (SyntaxError, TypeError, ValueError):
        kind = np.dtype(object)
    if kind not in DTYPES:
        raise TypeError(f"dtype must be float16, float32 or float64, not {_arrays.shown(dtype)}")
    return kind, np.dtype(np.float64 if kind == np.float64 else np.float32)


def real(value: Any, dtype: np.dtype, name: str, *, infinite: bool = False) -> float:
    """`value` rounded to `dtype`; finite, unless it may be `infinite`."""
    if infinite and isinstance(value, (float, np.floating)) and math.isinf(value):
        return float(value)
    number = _arrays.number(value, name)
    largest = LARGEST[dtype.itemsize]
    if abs(number) > largest:
        raise ValueError(f"{name} must be at most {largest} in size in {dtype}, not {number}")
    return float(dtype.type(number))
