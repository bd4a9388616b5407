"""Max pooling and spatial pyramid pooling: CONTRACT.md, section 8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _arrays
from ._cpu import pooling as _cpu
from ._cuda import pooling as _cuda
from ._plan import LAYOUTS


class Windows(NamedTuple):
    """The windows along one axis: the part of each that lies in the array."""

    first: np.ndarray
    count: np.ndarray
    step: int


class Pooling(NamedTuple):
    """A max pooling, checked: what the CPU's kernel takes, then what the GPU's does."""

    rows: Windows
    columns: Windows
    width: int
    stride: int
    before: int
    channels_last: bool
    y_shape: tuple[int, ...]
    axes: tuple[_cuda.Axis, _cuda.Axis]


def max_pool2d(
    x: np.ndarray,
    size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    layout: str = "NCHW",
    ceil_mode: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Largest element of each window: ``y[n, c, i, j] = max over (r, s) of x[n, c, …]``.

    Window (i, j) has the rows ``i * stride - top + dilation * (0 … size - 1)`` that lie in x, and
    columns likewise; padding is never the largest. NaN is larger than any number.

    Parameters
    ----------
    x : array of float32 or float64, shape (N, C, H, W) or (N, H, W, C)
    size : int or pair
        Of a window: height, width.
    stride : int or pair, optional
        Between windows; `size` if not given.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same"
    dilation : int or pair
        Between the elements of a window.
    layout : {"NCHW", "NHWC"}
    ceil_mode : bool
        Whether windows may reach beyond the lower and right padding. Such a window still starts
        inside x or the padding before it.
    out : array, optional
        Where to write y; returned.

    Returns
    -------
    y : array of x's dtype, shape (N, C, H', W') or (N, H', W', C)
        ``H' = floor((H + top + bottom - dilation * (size - 1) - 1) / stride) + 1``, rounded up
        instead in ceil mode.

    Raises
    ------
    TypeError, ValueError
        For another dtype or shape, a number out of range, a window without an element of x, or an
        `out` as in `relu`.
    """
    x = _arrays.array(x, "x", ndim=4)
    plan = _pooling(x, size, stride, padding, dilation, layout, ceil_mode)
    y, finish = _arrays.output(out, plan.y_shape, x.dtype, [x])
    if y.size and _arrays.on_gpu(x):
        last = plan.channels_last
        _cuda.forward(
            _arrays.channels_second(x, layout), *plan.axes, last, _arrays.channels_second(y, layout)
        )
    elif y.size:
        _cpu.forward(_arrays.contiguous(x), *plan[:6], y)
    return finish()


def max_pool2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    layout: str = "NCHW",
    ceil_mode: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of `max_pool2d`: each dy goes to its window's largest element.

    The first of several largest ones in row-major order takes all of it (the first NaN, where there
    is one). Where windows overlap, an element sums what it gets, windows ascending.

    Parameters
    ----------
    dy : array of y's shape and x's dtype
        Gradient of the loss by y.
    x, size, stride, padding, dilation, layout, ceil_mode
        What `max_pool2d` was given.
    out : array of x's shape and dtype, optional
        Where to write dx; returned.

    Returns
    -------
    dx : array of x's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`, and where dy has another shape than y.
    """
    x = _arrays.array(x, "x", ndim=4)
    dy = _arrays.array(dy, "dy", ndim=4, beside=x, like="x is")
    plan = _pooling(x, size, stride, padding, dilation, layout, ceil_mode)
    if dy.shape != plan.y_shape:
        raise ValueError(f"dy must have shape {plan.y_shape}, as max_pool2d gives, not {dy.shape}")
    dx, finish = _arrays.output(out, x.shape, x.dtype, [dy, x])
    dy, x = _arrays.contiguous(dy), _arrays.contiguous(x)  # memory runs out before dx is touched
    dx.fill(0)
    if dy.size and _arrays.on_gpu(x):
        last = plan.channels_last
        arrays = (_arrays.channels_second(array, layout) for array in (dy, x))
        _cuda.backward(*arrays, *plan.axes, last, dx)
    elif dy.size:
        _cpu.backward(dy, x, *plan[:6], dx)
    return finish()


def spatial_pyramid_pool(
    x: np.ndarray,
    levels: Sequence[int] = (6, 3, 2, 1),
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Spatial pyramid pooling: the largest element of each of n × n bins, for every level n.

    Bin i of n spans the rows ``floor(i * H / n)`` to ``ceil((i + 1) * H / n) - 1``, columns likewise
    (He, Zhang, Ren and Sun, "Spatial pyramid pooling in deep convolutional networks", ECCV 2014).

    Parameters
    ----------
    x : array of float32 or float64, shape (N, C, H, W) or (N, H, W, C)
    levels : sequence of int
        Bins a side, each at least 1.
    layout : {"NCHW", "NHWC"}
    out : array, optional
        Where to write y; returned.

    Returns
    -------
    y : array of x's dtype, shape (N, C * sum of n²)
        Level after level; in a level channel after channel, of each its bins in row-major order,
        whatever the layout.

    Raises
    ------
    TypeError, ValueError
        For another dtype or shape, an x of no height or width, a level below 1, or an `out` as in
        `relu`.
    """
    x, sizes = _pyramid(x, levels, layout)
    last = layout == "NHWC"
    batch, height, width, channels = x.shape if last else (x.shape[i] for i in (0, 2, 3, 1))
    features = channels * sum(n * n for n in sizes)
    _arrays.shape((batch, features), "x and levels")
    y, finish = _arrays.output(out, (batch, features), x.dtype, [x])
    if y.size:
        for n, part in _levels(y, sizes, channels):
            if _arrays.on_gpu(x):
                rows, columns = _cuda.bins(height, n), _cuda.bins(width, n)
                _cuda.forward(_arrays.channels_second(x, layout), rows, columns, last, part)
                continue
            bins = np.empty((batch, n, n, channels) if last else part.shape, x.dtype)
            _cpu.forward(x, _bins(height, n), _bins(width, n), 0, 1, 0, last, bins)
            part[...] = bins.transpose(0, 3, 1, 2) if last else bins
    return finish()


def spatial_pyramid_pool_backward(
    dy: np.ndarray,
    x: np.ndarray,
    levels: Sequence[int] = (6, 3, 2, 1),
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of `spatial_pyramid_pool`: each dy goes to its bin's largest element.

    Ties and NaN as in `max_pool2d_backward`. An element sums what it gets level after level, bins in
    row-major order.

    Parameters
    ----------
    dy : array of y's shape and x's dtype
        Gradient of the loss by y.
    x, levels, layout
        What `spatial_pyramid_pool` was given.
    out : array of x's shape and dtype, optional
        Where to write dx; returned.

    Returns
    -------
    dx : array of x's shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `spatial_pyramid_pool`, and where dy has another shape than y.
    """
    given = _arrays.array(x, "x", ndim=4)
    x, sizes = _pyramid(given, levels, layout)
    last = layout == "NHWC"
    batch, height, width, channels = x.shape if last else (x.shape[i] for i in (0, 2, 3, 1))
    dy = _arrays.array(dy, "dy", beside=x, like="x is")
    y_shape = (batch, channels * sum(n * n for n in sizes))
    if dy.shape != y_shape:
        raise ValueError(
            f"dy must have shape {y_shape}, as spatial_pyramid_pool gives, not {dy.shape}"
        )
    dx, finish = _arrays.output(out, given.shape, x.dtype, [dy, given])
    dx.fill(0)
    if dy.size:
        for n, part in _levels(dy, sizes, channels):
            if _arrays.on_gpu(x):
                rows, columns = _cuda.bins(height, n), _cuda.bins(width, n)
                _cuda.backward(part, _arrays.channels_second(x, layout), rows, columns, last, dx)
                continue
            bins = np.ascontiguousarray(part.transpose(0, 2, 3, 1) if last else part)
            _cpu.backward(bins, x, _bins(height, n), _bins(width, n), 0, 1, 0, last, dx)
    return finish()


def _pooling(
    x: np.ndarray, size: Any, stride: Any, padding: Any, dilation: Any, layout: Any, ceil_mode: Any
) -> Pooling:
    kernel = _arrays.pair(size, "size")
    steps = kernel if stride is None else _arrays.pair(stride, "stride")
    dilations = _arrays.pair(dilation, "dilation")
    _arrays.choice(layout, "layout", LAYOUTS)
    if not isinstance(ceil_mode, (bool, np.bool_)):
        raise TypeError(f"ceil_mode must be a bool, not {type(ceil_mode).__name__}")
    batch, channels, *sizes = x.shape if layout == "NCHW" else (x.shape[i] for i in (0, 3, 1, 2))
    _check_plane(sizes)
    pads = _arrays.padding(padding, kernel, steps, dilations, (sizes[0], sizes[1]))
    axes = [(sizes[i], kernel[i], steps[i], dilations[i], pads[2 * i : 2 * i + 2]) for i in (0, 1)]
    pooled = tuple(_number(*axis, ceil_mode) for axis in axes)
    _arrays.shape((batch, channels, *pooled), "x and padding")
    rows, columns = (_windows(n, *axis) for n, axis in zip(pooled, axes, strict=True))
    y_shape = (batch, channels, *pooled) if layout == "NCHW" else (batch, *pooled, channels)
    last = layout == "NHWC"
    gpu_axes = tuple(
        (sizes[i], pooled[i], kernel[i], steps[i], dilations[i], pads[2 * i]) for i in (0, 1)
    )
    return Pooling(rows, columns, kernel[1], steps[1], pads[2], last, y_shape, gpu_axes)


def _number(
    length: int, size: int, stride: int, step: int, pads: tuple[int, ...], ceil_mode: bool
) -> int:
    """How many windows there are along an axis."""
    before, after = pads
    reach = step * (size - 1) + 1
    if max(before, after) >= reach:
        raise ValueError(
            f"padding must be less than a window's extent, {reach}, not {max(before, after)}"
        )
    room = length + before + after - reach
    if room < 0:
        name = "size" if size > length + before + after else "dilation"
        raise ValueError(
            f"{name} must give windows that fit: one extends over {reach} elements, "
            f"x with its padding over {length + before + after}"
        )
    number = room // stride + 1
    if ceil_mode and room % stride and number * stride < length + before:
        number += 1
    return number


def _windows(
    number: int, length: int, size: int, stride: int, step: int, pads: tuple[int, ...]
) -> Windows:
    first, count = np.empty(number, np.int64), np.empty(number, np.int64)
    bare = _cpu.windows(first, count, length, size, stride, step, pads[0])
    if bare >= 0:
        raise ValueError(
            f"padding and dilation must leave every window an element of x; window {bare} has none"
        )
    return Windows(first, count, step)


def _check_plane(sizes: Sequence[int]) -> None:
    if min(sizes) < 1:
        raise ValueError(f"x must have a height and width of at least 1, not {tuple(sizes)}")
    if sizes[0] * sizes[1] >= 2**31:
        raise ValueError(f"x must have planes of less than 2**31 elements, not {tuple(sizes)}")


def _pyramid(x: Any, levels: Any, layout: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    """x, contiguous, and the levels."""
    x = _arrays.array(x, "x", ndim=4)
    if isinstance(levels, (str, bytes)) or not isinstance(levels, Sequence):
        raise TypeError(f"levels must be a sequence of integers, not {type(levels).__name__}")
    sizes = tuple(_arrays.integer(n, "levels", minimum=1, maximum=2**15) for n in levels)
    if not sizes:
        raise ValueError("levels must name at least one level")
    _arrays.choice(layout, "layout", LAYOUTS)
    if not _arrays.on_gpu(x):  # whose kernel takes any strides
        x = _arrays.contiguous(x)
    _check_plane(x.shape[1:3] if layout == "NHWC" else x.shape[2:])
    return x, sizes


def _bins(length: int, number: int) -> Windows:
    i = np.arange(number, dtype=np.int64)
    first = i * length // number
    return Windows(first, -(-(i + 1) * length // number) - first, 1)


def _levels(
    y: np.ndarray, sizes: tuple[int, ...], channels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Each level and its part of y, as (N, C, n, n)."""
    begin = 0
    for n in sizes:
        end = begin + channels * n * n
        yield n, y[:, begin:end].reshape(-1, channels, n, n)
        begin = end
