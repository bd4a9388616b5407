"""Activation functions and their backward passes: CONTRACT.md, section 7."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import _arrays
from ._cpu import activation as _cpu
from ._cuda import activation as _cuda
from ._cuda import runtime as _runtime
from ._elementwise import alike, elsewhere, run

_relu = partial(_cpu.map1, _cpu.RELU)
_relu_backward = partial(_cpu.map2, _cpu.RELU)
_sigmoid = partial(_cpu.map1, _cpu.SIGMOID)
_sigmoid_backward = partial(_cpu.map2, _cpu.SIGMOID)
_tanh = partial(_cpu.map1, _cpu.TANH)
_tanh_backward = partial(_cpu.map2, _cpu.TANH)


def relu(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Rectified linear unit, elementwise: ``y = max(0, x)``.

    Zeros of either sign give +0, NaN gives NaN.

    Parameters
    ----------
    x : array of float32 or float64, any shape
    out : array of x's shape and dtype, optional
        Where to write y; may be x itself. Returned.

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    TypeError, ValueError
        For another dtype, or an `out` that is read-only, of another shape or dtype, or has elements
        that share memory.
    """
    result = _relu(x, out)
    if result is None:
        return run(_relu, _cuda.relu, {"x": x}, out)
    return result


def relu_backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient of `relu`: ``dx = dy where x > 0, else 0``.

    The derivative at zero is 0; where x is NaN, dx is dy.

    Parameters
    ----------
    dy : array of x's shape and dtype
        Gradient of the loss by y.
    x : array of float32 or float64, any shape
        What `relu` was given; its result y serves as well.
    out : array of x's shape and dtype, optional
        Where to write dx; may be dy or x itself. Returned.

    Returns
    -------
    dx : array of x's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `relu`, and where dy and x differ in shape or dtype.
    """
    result = _relu_backward(dy, x, out)
    return (
        run(_relu_backward, _cuda.relu_backward, {"dy": dy, "x": x}, out)
        if result is None
        else result
    )


def prelu(
    x: np.ndarray, alpha: np.ndarray, *, axis: int = 1, out: np.ndarray | None = None
) -> np.ndarray:
    """Parametric rectified linear unit: ``y = max(0, x) + alpha * min(0, x)``.

    He et al. 2015, equation 1. Computed as x where x > 0, else alpha * x.

    Parameters
    ----------
    x : array of float32 or float64, any shape
    alpha : array of x's dtype
        The slopes: of size 1 (any shape) shared by all of x, else of shape ``(x.shape[axis],)``.
    axis : int
        The axis of the channels; not looked at where alpha is shared.
    out : array of x's shape and dtype, optional
        Where to write y; may be x itself. Returned.

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    TypeError, ValueError
        For another dtype, an alpha that fits neither way, an axis that x does not have, or an `out`
        as in `relu`.
    """
    y = _cpu.prelu(x, alpha, axis, out)
    if y is not None:
        return y
    result = _runtime.target(out, (x,))
    if result is not None:
        alpha, axis = _slopes(x, alpha, axis)
        if out is None or not _arrays.overlap(alpha, out):
            _cuda.prelu(x, alpha, axis, result)
            return result
    (x,) = alike({"x": x})
    alpha, axis = _slopes(x, alpha, axis)
    result, finish = _arrays.output(out, x.shape, x.dtype, [*elsewhere([x], out), alpha])
    if _arrays.on_gpu(x):
        _cuda.prelu(_arrays.contiguous(x), alpha, axis, result)
    elif _cpu.prelu(_arrays.contiguous(x), alpha, axis, result) is None:
        raise AssertionError("the kernel refused plain arrays")
    return finish()


def prelu_backward(
    dy: np.ndarray,
    x: np.ndarray,
    alpha: np.ndarray,
    *,
    axis: int = 1,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of `prelu`, both in one pass over memory.

    ``dx = dy where x > 0, else alpha * dy``, and ``dalpha = sum of dy * x where x <= 0`` over all
    positions of a channel, or over all of x where alpha is shared: He et al. 2015, equations 2, 3.

    Parameters
    ----------
    dy : array of x's shape and dtype
        Gradient of the loss by y.
    x : array of float32 or float64, any shape
        What `prelu` was given.
    alpha, axis
        As in `prelu`.
    out : array of x's shape and dtype, optional
        Where to write dx; may be dy or x itself.

    Returns
    -------
    dx : array of x's shape and dtype
    dalpha : array of alpha's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `prelu`, and where dy and x differ in shape or dtype.
    """
    gradients = _cpu.prelu_backward(dy, x, alpha, axis, out)
    if gradients is not None:
        return gradients
    dx = _runtime.target(out, (dy, x))
    if dx is not None:
        alpha, axis = _slopes(x, alpha, axis)
        if out is None or not _arrays.overlap(alpha, out):
            return dx, _cuda.prelu_backward(dy, x, alpha, axis, dx)
    dy, x = alike({"dy": dy, "x": x})
    alpha, axis = _slopes(x, alpha, axis)
    dx, finish = _arrays.output(out, x.shape, x.dtype, [*elsewhere([dy, x], out), alpha])
    given = _arrays.contiguous(dy), _arrays.contiguous(x), alpha, axis, dx
    if _arrays.on_gpu(x):
        dalpha = _cuda.prelu_backward(*given)
        return finish(), dalpha
    gradients = _cpu.prelu_backward(*given)
    if gradients is None:
        raise AssertionError("the kernel refused plain arrays")
    return finish(), gradients[1]


def sigmoid(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Logistic function, elementwise: ``y = 1 / (1 + exp(-x))``.

    The error is below 2.5 units in the last place of y, also where y is near 0.

    Parameters
    ----------
    x : array of float32 or float64, any shape
    out : array of x's shape and dtype, optional
        Where to write y; may be x itself. Returned.

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `relu`.
    """
    result = _sigmoid(x, out)
    if result is None:
        return run(_sigmoid, _cuda.sigmoid, {"x": x}, out)
    return result


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient of `sigmoid`: ``dx = dy * y * (1 - y)``.

    Parameters
    ----------
    dy : array of y's shape and dtype
        Gradient of the loss by y.
    y : array of float32 or float64, any shape
        What `sigmoid` returned.
    out : array of y's shape and dtype, optional
        Where to write dx; may be dy or y itself. Returned.

    Returns
    -------
    dx : array of y's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `relu_backward`.
    """
    result = _sigmoid_backward(dy, y, out)
    return (
        run(_sigmoid_backward, _cuda.sigmoid_backward, {"dy": dy, "y": y}, out)
        if result is None
        else result
    )


def tanh(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Hyperbolic tangent, elementwise.

    The error is below 3 units in the last place of y, also where y is near 0.

    Parameters
    ----------
    x : array of float32 or float64, any shape
    out : array of x's shape and dtype, optional
        Where to write y; may be x itself. Returned.

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `relu`.
    """
    result = _tanh(x, out)
    if result is None:
        return run(_tanh, _cuda.tanh, {"x": x}, out)
    return result


def tanh_backward(dy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient of `tanh`: ``dx = dy * (1 - y) * (1 + y)``.

    Parameters
    ----------
    dy : array of y's shape and dtype
        Gradient of the loss by y.
    y : array of float32 or float64, any shape
        What `tanh` returned.
    out : array of y's shape and dtype, optional
        Where to write dx; may be dy or y itself. Returned.

    Returns
    -------
    dx : array of y's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `relu_backward`.
    """
    result = _tanh_backward(dy, y, out)
    return (
        run(_tanh_backward, _cuda.tanh_backward, {"dy": dy, "y": y}, out)
        if result is None
        else result
    )


def _slopes(x: np.ndarray, alpha: Any, axis: Any) -> tuple[np.ndarray, int]:
    """alpha, contiguous, and the axis of the channels, 0 where it is of no account."""
    alpha = _arrays.array(alpha, "alpha", beside=x, like="x")
    if alpha.size == 1:
        _arrays.integer(axis, "axis")
        return _arrays.contiguous(alpha), 0
    axis = _arrays.axis(axis, x.ndim)
    if alpha.shape != (x.shape[axis],):
        raise ValueError(
            f"alpha must have size 1 or shape ({x.shape[axis]},), the length of x's axis {axis}, "
            f"not {alpha.shape}"
        )
    return _arrays.contiguous(alpha), axis
