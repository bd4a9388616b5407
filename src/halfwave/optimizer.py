"""Updates of parameters: CONTRACT.md, section 11."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays
from ._cpu import optimizer as _cpu
from ._cuda import optimizer as _cuda


def sgd_momentum(
    w: np.ndarray,
    dw: np.ndarray,
    velocity: np.ndarray,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> None:
    """One step of stochastic gradient descent with momentum, in place.

    ``velocity = momentum * velocity + learning_rate * (dw + weight_decay * w)``, then
    ``w = w - velocity``: He et al. 2015, section 2.1, which gives the slopes of PReLU no weight decay.

    Parameters
    ----------
    w : array of float32 or float64, any shape
        The weights, overwritten.
    dw : array of w's shape and dtype
        Gradient of the loss by w.
    velocity : array of w's shape and dtype
        Zeros before the first step; overwritten.
    learning_rate : float
        At least 0.
    momentum : float
        In [0, 1).
    weight_decay : float
        At least 0.

    Raises
    ------
    TypeError, ValueError
        For another dtype, shapes that differ, w or velocity that cannot be written or share memory,
        or a number outside its range.
    """
    numbers = (learning_rate, momentum, weight_decay)
    if _plain_rates(*numbers) and _cpu.sgd_momentum(w, dw, velocity, *numbers):
        return
    target = _arrays.array(w, "w")
    gradient = _arrays.array(dw, "dw", beside=target, like="w is")
    speed = _arrays.array(velocity, "velocity", beside=target, like="w is")
    for name, given in (("dw", gradient), ("velocity", speed)):
        if given.shape != target.shape:
            raise ValueError(f"{name} must have w's shape, {target.shape}, not {given.shape}")
    rates = (
        _rate(learning_rate, "learning_rate", target.dtype),
        _rate(momentum, "momentum", target.dtype),
        _rate(weight_decay, "weight_decay", target.dtype),
    )
    if rates[1] >= 1:
        raise ValueError(f"momentum must lie in [0, 1), not {momentum}")
    if _share_memory(w, velocity, target, speed):
        raise ValueError("velocity must not share memory with w")
    new_w, finish_w = _arrays.output(w, target.shape, target.dtype, [gradient], name="w")
    new_velocity, finish_velocity = _arrays.output(
        velocity, target.shape, target.dtype, [gradient], name="velocity"
    )
    gradient = _arrays.contiguous(gradient)
    if new_w is not w:
        new_w[...] = target
    if new_velocity is not velocity:
        new_velocity[...] = speed
    if _arrays.on_gpu(target):
        _cuda.sgd_momentum(new_w, gradient, new_velocity, *rates)
    elif not _cpu.sgd_momentum(new_w, gradient, new_velocity, *rates):
        raise AssertionError("the kernel refused plain arrays")
    finish_w()
    finish_velocity()


def _share_memory(w: Any, velocity: Any, target: np.ndarray, speed: np.ndarray) -> bool:
    if _arrays.on_gpu(target):
        return _arrays.overlap(target, speed)
    return np.may_share_memory(
        w, velocity, max_work=10_000
    )  # beyond the bounds: they may interleave


def _plain_rates(learning_rate: Any, momentum: Any, weight_decay: Any) -> bool:
    """Whether these are floats that are in order for either dtype."""
    return (
        type(learning_rate) is type(momentum) is type(weight_decay) is float
        and 0 <= learning_rate <= 1e30
        and 0 <= momentum <= 0.99999
        and 0 <= weight_decay <= 1e30
    )


def _rate(value: Any, name: str, dtype: np.dtype) -> float:
    number = _arrays.number(value, name)
    if not 0 <= number <= float(np.finfo(dtype).max):
        raise ValueError(f"{name} must be at least 0 and finite in {dtype}, not {number}")
    return number
