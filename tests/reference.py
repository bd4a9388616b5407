"""Slow, obvious oracles: what CONTRACT.md says, computed one operation at a time.

Written from the contract, not from the kernels. The exact fused multiply-add is the C library's.
"""

import ctypes
import ctypes.util
import itertools

import numpy as np

_libm = ctypes.CDLL(ctypes.util.find_library("m"))
_libm.fmaf.argtypes, _libm.fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
_libm.fma.argtypes, _libm.fma.restype = [ctypes.c_double] * 3, ctypes.c_double
FMA = {np.dtype(np.float32): _libm.fmaf, np.dtype(np.float64): _libm.fma}

# ---- 3. contractions -----------------------------------------------------------------------------

SEGMENT = 512
SEGMENTS_A_SUPER = 32


def contract(a, b, bias=None):
    """Σ a[p]·b[p] (+ bias) of two vectors, by section 3."""
    dtype = a.dtype
    fma = FMA[dtype]
    segments = []
    for begin in range(0, len(a), SEGMENT):
        chain = 0.0
        for x, y in zip(
            a[begin : begin + SEGMENT].tolist(), b[begin : begin + SEGMENT].tolist(), strict=True
        ):
            chain = fma(x, y, chain)
        segments.append(dtype.type(chain))
    with np.errstate(all="ignore"):
        supers = [
            _fold(segments[i : i + SEGMENTS_A_SUPER])
            for i in range(0, len(segments), SEGMENTS_A_SUPER)
        ]
        total = _fold(supers) if supers else dtype.type(0)
        return total if bias is None else total + bias


def _fold(values):
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def matmul(a, b, bias=None):
    """Of two matrices."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    for i, j in np.ndindex(out.shape):
        out[i, j] = contract(a[i], b[:, j], None if bias is None else bias[j])
    return out


def _at(x, n, c, h, w):
    """x[n, c, h, w], or +0 beyond its border."""
    inside = 0 <= h < x.shape[2] and 0 <= w < x.shape[3]
    return x[n, c, h, w] if inside else x.dtype.type(0)


def conv2d(x, w, bias, stride, pads, dilation, groups):
    """NCHW; pads are (top, bottom, left, right)."""
    (outputs, channels, height, width), batch = w.shape, x.shape[0]
    size = [
        (n + before + after - (k - 1) * d - 1) // s + 1
        for n, before, after, k, d, s in zip(
            x.shape[2:], pads[::2], pads[1::2], (height, width), dilation, stride, strict=True
        )
    ]
    y = np.empty((batch, outputs, *size), x.dtype)
    taps = list(itertools.product(range(channels), range(height), range(width)))
    for n, o, i, j in np.ndindex(y.shape):
        first = o // (outputs // groups) * channels
        terms = [
            _at(x, n, first + c, i * stride[0] - pads[0] + r * dilation[0],
                j * stride[1] - pads[2] + s * dilation[1])
            for c, r, s in taps
        ]  # fmt: skip
        y[n, o, i, j] = contract(
            w[o].reshape(-1), np.array(terms, x.dtype), None if bias is None else bias[o]
        )
    return y


def conv2d_backward_input(dy, w, shape, stride, pads, dilation, groups):
    dx = np.empty(shape, dy.dtype)
    outputs, channels = w.shape[0] // groups, w.shape[1]
    for n, c, h, v in np.ndindex(shape):
        group = c // channels
        left, right = [], []
        for o, r, s in itertools.product(range(outputs), range(w.shape[2]), range(w.shape[3])):
            i, i_rest = divmod(h + pads[0] - r * dilation[0], stride[0])
            j, j_rest = divmod(v + pads[2] - s * dilation[1], stride[1])
            if i_rest == 0 and j_rest == 0:
                left.append(w[group * outputs + o, c % channels, r, s])
                right.append(_at(dy, n, group * outputs + o, i, j))
        dx[n, c, h, v] = contract(np.array(left, dy.dtype), np.array(right, dy.dtype))
    return dx


def conv2d_backward_weight(dy, x, shape, stride, pads, dilation, groups):
    dw = np.empty(shape, dy.dtype)
    for o, c, r, s in np.ndindex(shape):
        channel = o // (shape[0] // groups) * shape[1] + c
        positions = list(np.ndindex(dy.shape[0], *dy.shape[2:]))
        left = [dy[n, o, i, j] for n, i, j in positions]
        right = [
            _at(x, n, channel, i * stride[0] - pads[0] + r * dilation[0],
                j * stride[1] - pads[2] + s * dilation[1])
            for n, i, j in positions
        ]  # fmt: skip
        dw[o, c, r, s] = contract(np.array(left, dy.dtype), np.array(right, dy.dtype))
    return dw


# ---- 5. sums -------------------------------------------------------------------------------------


def sum_rule(x):
    """Of a vector."""
    if len(x) == 0:
        return x.dtype.type(0)
    if len(x) > 4096:
        chunks = [sum_rule(x[i : i + 4096]) for i in range(0, len(x), 4096)]
        return sum_rule(np.array(chunks, x.dtype))
    lanes = list(x[:1024])
    with np.errstate(all="ignore"):
        for i in range(1024, len(x)):
            lanes[i % 1024] = lanes[i % 1024] + x[i]
        for w in (512, 256, 128, 64, 32, 16, 8, 4, 2, 1):
            for lane in range(w):
                if lane + w < len(lanes):
                    lanes[lane] = lanes[lane] + lanes[lane + w]
    return lanes[0]


def channel_sums(x, axis):
    """sum_rule over all but one axis."""
    return np.array(
        [sum_rule(np.take(x, c, axis).reshape(-1)) for c in range(x.shape[axis])], x.dtype
    )


# ---- 7. activations ------------------------------------------------------------------------------


def relu(x):
    return np.where(x <= 0, x.dtype.type(0), x)


def relu_backward(dy, x):
    return np.where(x <= 0, x.dtype.type(0), dy)


def prelu(x, alpha, axis):
    """alpha: one slope, or one a channel."""
    slopes = _along(alpha, x.ndim, axis)
    with np.errstate(all="ignore"):
        return np.where(x > 0, x, slopes * x)


def prelu_backward(dy, x, alpha, axis):
    slopes = _along(alpha, x.ndim, axis)
    with np.errstate(all="ignore"):
        dx = np.where(x > 0, dy, slopes * dy)
        terms = np.where(x > 0, x.dtype.type(0), dy * x)
    if alpha.size == 1:
        return dx, sum_rule(terms.reshape(-1)).reshape(alpha.shape)
    return dx, channel_sums(terms, axis)


def _along(alpha, ndim, axis):
    if alpha.size == 1:
        return alpha.reshape(())
    return alpha.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])
