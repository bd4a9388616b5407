"""2-D convolution, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays, _plan
from ._cpu import conv as _cpu
from ._cpu import depthwise as _depthwise
from ._cpu import depthwise_first as _depthwise_first
from ._cpu import depthwise_last as _depthwise_last
from ._cpu import depthwise_weight as _depthwise_weight
from ._cpu import reduction as _reduction
from ._cpu import winograd as _winograd
from ._cpu import winograd_weight as _winograd_weight
from ._cuda import conv as _cuda
from ._cuda import conv_tensor as _cuda_tensor
from ._cuda import reduction as _cuda_reduction
from ._cuda import winograd as _cuda_winograd


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """2-D convolution (cross-correlation, as networks use the word).

    ``y[n, o, i, j] = Σ_{c,r,s} w[o, c, r, s] · x[n, c, i·stride - top + r·dilation, …] + bias[o]``,
    summed in the order (c, r, s) as CONTRACT.md section 3 says, the same in both layouts. Padding
    takes part as +0.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (N, H, W, C)
        float32 or float64, any strides.
    w : array, shape (O, C/groups, R, S)
        In both layouts.
    bias : array, shape (O,), optional
    stride, dilation : int or pair
        Vertical and horizontal, at least 1.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same"
        "same" gives ceil(size / stride) outputs, an odd pixel of padding at the bottom and right.
    groups : int
        Divides C and O; ``groups=C`` is a depthwise convolution.
    layout : {"NCHW", "NHWC"}
        Of `x` and of the result.
    algorithm : {"auto", "direct", "winograd"}
        "auto" is what `halfwave.plan` says for the shape, and with a `precision` "direct".
    precision : {None, "tf32", "bf16"}
        None for the same bits everywhere. The others, for float32 GPU arrays, round factors to TF32
        (11 bits) or bfloat16 (8 bits) and sum in float32 on the tensor cores: the same from run to
        run, and no more.
    out : array, optional
        Where to write; any strides. It may overlap the inputs.

    Returns
    -------
    array, shape (N, O, H', W') or (N, H', W', O)

    Raises
    ------
    TypeError
        If an array is not float32 or float64, dtypes differ, or an option is of a wrong type.
    ValueError
        If shapes or options do not fit each other.
    """
    x = _arrays.array(x, "x", ndim=4)
    w = _arrays.array(w, "w", ndim=4, beside=x, like="x is")
    g = _plan.geometry(
        x.shape, w.shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        layout=layout,
    )  # fmt: skip
    inputs = [x, w]
    if bias is not None:
        bias = _arrays.contiguous(_arrays.array(bias, "bias", ndim=1, beside=x, like="x is"))
        if bias.shape != (g.outputs,):
            raise ValueError(f"bias must have shape ({g.outputs},), not {bias.shape}")
        inputs.append(bias)
    precision = _arrays.precision(precision, x)
    chosen = _algorithm(algorithm, "conv2d", g, precision)
    target, finish = _arrays.output(out, g.y_shape(), x.dtype, inputs, strided=True)
    x, y = _arrays.channels_second(x, layout), _arrays.channels_second(target, layout)
    if y.size:
        _run("forward", chosen, precision, g, x, _arrays.contiguous(w), bias, y)
    return finish()


def conv2d_backward_input(
    dy: np.ndarray,
    w: np.ndarray,
    input_shape: tuple[int, int, int, int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of `conv2d` with respect to its input.

    ``dx[n, c, h, w] = Σ_{o,r,s} w[o, c, r, s] · dy[n, o, i, j]`` over the taps (r, s) that meet an
    output position, ``i · stride = h + top - r · dilation``; in the order (o, r, s). Positions
    beyond the border of dy take part as +0.

    Parameters
    ----------
    dy : array
        Gradient of the result, of its shape.
    w : array, shape (O, C/groups, R, S)
    input_shape : tuple of 4 int
        The shape of `x`, in the layout.
    stride, padding, dilation, groups, layout, algorithm, precision
        As of `conv2d`.
    out : array, optional
        Of `input_shape`; any strides. It may overlap the inputs.

    Returns
    -------
    array, of input_shape

    Raises
    ------
    TypeError, ValueError
        As `conv2d`, and if `dy` does not have the shape of the result.
    """
    dy = _arrays.array(dy, "dy", ndim=4)
    w = _arrays.array(w, "w", ndim=4, beside=dy, like="dy is")
    g = _plan.geometry(
        _arrays.shape(input_shape, "input_shape"), w.shape, stride=stride, padding=padding,
        dilation=dilation, groups=groups, layout=layout, x_name="input_shape",
    )  # fmt: skip
    _check_gradient(dy, g)
    precision = _arrays.precision(precision, dy)
    chosen = _algorithm(algorithm, "conv2d_backward_input", g, precision)
    target, finish = _arrays.output(out, g.x_shape(), dy.dtype, [dy, w], strided=True)
    dy, dx = _arrays.channels_second(dy, layout), _arrays.channels_second(target, layout)
    if dx.size:
        _run("backward_input", chosen, precision, g, dy, _arrays.contiguous(w), dx)
    return finish()


def conv2d_backward_weight(
    dy: np.ndarray,
    x: np.ndarray,
    weight_shape: tuple[int, int, int, int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of `conv2d` with respect to its weights.

    ``dw[o, c, r, s] = Σ_{n,i,j} dy[n, o, i, j] · x[n, c, i·stride - top + r·dilation, …]`` in the
    order (n, i, j). Padding takes part as +0.

    Parameters
    ----------
    dy : array
        Gradient of the result, of its shape.
    x : array, shape (N, C, H, W) or (N, H, W, C)
    weight_shape : tuple of 4 int
        (O, C/groups, R, S).
    stride, padding, dilation, groups, layout, algorithm, precision
        As of `conv2d`.
    out : array, optional
        Of `weight_shape`; any strides. It may overlap the inputs.

    Returns
    -------
    array, of weight_shape

    Raises
    ------
    TypeError, ValueError
        As `conv2d`, and if `dy` does not have the shape of the result.
    """
    dy = _arrays.array(dy, "dy", ndim=4)
    x = _arrays.array(x, "x", ndim=4, beside=dy, like="dy is")
    g = _plan.geometry(
        x.shape, _arrays.shape(weight_shape, "weight_shape"), stride=stride, padding=padding,
        dilation=dilation, groups=groups, layout=layout, w_name="weight_shape",
    )  # fmt: skip
    _check_gradient(dy, g)
    precision = _arrays.precision(precision, dy)
    chosen = _algorithm(algorithm, "conv2d_backward_weight", g, precision)
    target, finish = _arrays.output(out, g.w_shape(), dy.dtype, [dy, x], strided=True)
    dy, x = _arrays.channels_second(dy, layout), _arrays.channels_second(x, layout)
    if target.size:
        _run("backward_weight", chosen, precision, g, dy, x, target)
    return finish()


def conv2d_backward_bias(
    dy: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of `conv2d` with respect to its bias: the sum of ``dy`` over N, H and W.

    Parameters
    ----------
    dy : array, shape (N, O, H, W) or (N, H, W, O)
    layout : {"NCHW", "NHWC"}
    out : array, shape (O,), optional

    Returns
    -------
    array, shape (O,)
        Summed in the order (n, h, w) by CONTRACT.md section 5.

    Raises
    ------
    TypeError, ValueError
        If `dy` is not a float array of 4 dimensions, or `out` cannot be written.
    """
    dy = _arrays.array(dy, "dy", ndim=4)
    _arrays.choice(layout, "layout", _plan.LAYOUTS)
    outputs = dy.shape[1 if layout == "NCHW" else 3]
    target, finish = _arrays.output(out, (outputs,), dy.dtype, [dy])
    n, h, w = (dy.shape[i] for i in ((0, 2, 3) if layout == "NCHW" else (0, 1, 2)))
    sizes = (n, outputs, h * w) if layout == "NCHW" else (n * h * w, outputs, 1)
    reduction = _cuda_reduction if _arrays.on_gpu(dy) else _reduction
    reduction.channel_sums(_arrays.contiguous(dy).reshape(sizes), target)
    return finish()


def _check_gradient(dy: np.ndarray, g: _plan.Geometry) -> None:
    if dy.shape != g.y_shape():
        raise ValueError(f"dy must have shape {g.y_shape()}, as conv2d gives, not {dy.shape}")


def _algorithm(value: Any, operation: str, g: _plan.Geometry, precision: str | None) -> str:
    if precision is None:
        return _plan.algorithm(value, operation, g)
    if _arrays.choice(value, "algorithm", _plan.ALGORITHMS) == "winograd":
        raise ValueError(
            f"algorithm must be 'auto' or 'direct' with precision {precision!r}, not 'winograd'"
        )
    return "direct"


# In the order in which they are asked: which of them serves is a matter of memory layout.
_DEPTHWISE = {
    "forward": (_depthwise_last, _depthwise_first, _depthwise),
    "backward_input": (_depthwise_last, _depthwise_first, _depthwise),
    "backward_weight": (_depthwise_weight,),
}


def _run(
    name: str,
    algorithm: str,
    precision: str | None,
    g: _plan.Geometry,
    *arrays: np.ndarray | None,
) -> None:
    """The kernel of a pass: depthwise convolutions have their own, which does not take all of them."""
    gpu = _arrays.on_gpu(arrays[0])
    if algorithm == "winograd" and arrays[0].size and arrays[1].size:  # without terms both are +0
        cpu = _winograd_weight if name == "backward_weight" else _winograd
        module = _cuda_winograd if gpu else cpu
        getattr(module, name)(*arrays, g.pads[0], g.pads[2], g.groups)
        return
    numbers = (*g.stride, g.pads[0], g.pads[2], *g.dilation, g.groups)
    if precision is not None:
        getattr(_cuda_tensor, name)(*arrays, *numbers, precision)
        return
    if gpu:
        getattr(_cuda, name)(*arrays, *numbers)
        return
    if 1 < g.groups == g.channels:
        for own in _DEPTHWISE[name]:
            if getattr(own, name)(*arrays, *numbers):
                return
    getattr(_cpu, name)(*arrays, *numbers)
