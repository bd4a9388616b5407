"""Dropout: CONTRACT.md, section 10."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from . import _arrays
from ._cpu import dropout as _cpu
from ._cuda import dropout as _cuda
from ._elementwise import run
from .random import seed_number, stream_number


def dropout(
    x: np.ndarray,
    rate: float,
    *,
    seed: int,
    stream: int | str = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Set each element to zero with probability `rate` and scale the rest by ``1 / (1 - rate)``.

    The mask is a function of the seed, the stream and the element's index alone: nothing is stored,
    and `dropout_backward` computes it again. A new step of training takes a new stream or seed.

    Parameters
    ----------
    x : array of float32 or float64, any shape
    rate : float
        In [0, 1).
    seed : int
        In [0, 2**64).
    stream : int or str
        In [0, 2**64), or a name, of which a hash is taken.
    out : array of x's shape and dtype, optional
        Where to write y; may be x itself. Returned.

    Returns
    -------
    y : array of x's shape and dtype
        +0 where an element is dropped, also where it was NaN.

    Raises
    ------
    TypeError, ValueError
        For another dtype, a rate, seed or stream outside its range, or an `out` as in `relu`.
    """
    kernel = _kernel(rate, seed, stream)
    y = kernel(x, out)
    if y is None:
        return run(kernel, partial(_cuda.dropout, *kernel.args), {"x": x}, out)
    return y


def dropout_backward(
    dy: np.ndarray,
    rate: float,
    *,
    seed: int,
    stream: int | str = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of `dropout`: the same mask and scale applied to dy.

    Parameters
    ----------
    dy : array of float32 or float64
        Gradient of the loss by y.
    rate, seed, stream
        What `dropout` was given.
    out : array of dy's shape and dtype, optional
        Where to write dx; may be dy itself. Returned.

    Returns
    -------
    dx : array of dy's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `dropout`.
    """
    kernel = _kernel(rate, seed, stream)
    dx = kernel(dy, out)
    if dx is None:
        return run(kernel, partial(_cuda.dropout, *kernel.args), {"dy": dy}, out)
    return dx


def drop_rate(value: Any) -> float:
    """`value` as a probability less than one."""
    rate = _arrays.number(value, "rate")
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in [0, 1), not {rate}")
    return rate


def _kernel(rate: Any, seed: Any, stream: Any) -> partial[np.ndarray | None]:
    rate = drop_rate(rate)
    threshold, scale = math.ceil(rate * 2**24), 1 / (1 - rate)
    return partial(_cpu.dropout, seed_number(seed), stream_number(stream), threshold, scale)
