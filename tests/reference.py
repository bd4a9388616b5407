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


# ---- 6. exp (log: see reference_random.py) -------------------------------------------------------

EXP = {
    np.dtype(np.float32): {
        "magic": 1.5 * 2.0**23,
        "log2e": "0x1.715476p+0",
        "high": "0x1.62e4p-1",
        "low": "0x1.7f7d1cp-20",
        "bounds": (-104.0, 89.0),
        "q": "0x1p-1 0x1.55548ep-3 0x1.55545ep-5 0x1.123b54p-7 0x1.6db42p-10",
    },
    np.dtype(np.float64): {
        "magic": 1.5 * 2.0**52,
        "log2e": "0x1.71547652b82fep+0",
        "high": "0x1.62e42fefa38p-1",
        "low": "0x1.ef35793c7673p-45",
        "bounds": (-746.0, 710.0),
        "q": "0x1.000000000000bp-1 0x1.5555555555561p-3 0x1.555555555002fp-5 "
        "0x1.111111110d642p-7 0x1.6c16c185a7728p-10 0x1.a01a01badf7d5p-13 0x1.a0199693790d2p-16 "
        "0x1.71dddfd15a92ap-19 0x1.28b0494d25b8ep-22 0x1.af85802d17f80p-26",
    },
}


def _round(v):
    magic = v.dtype.type(EXP[v.dtype]["magic"])
    return (v + magic) - magic


def _exp_parts(x):
    """k and e of a vector."""
    real, constants = x.dtype.type, EXP[x.dtype]
    log2e, high, low = (real(float.fromhex(constants[n])) for n in ("log2e", "high", "low"))
    k = _round(x * log2e)
    r = (x - k * high) - k * low
    q = np.zeros_like(x)
    for coefficient in reversed(constants["q"].split()):
        q = real(float.fromhex(coefficient)) + r * q
    return k, r + (r * r) * q


def exp(x):
    with np.errstate(all="ignore"):
        low, high = EXP[x.dtype]["bounds"]
        x = np.where(x < low, x.dtype.type(low), x)
        x = np.where(x > high, x.dtype.type(high), x)
        k, e = _exp_parts(x)
        h = _round(k * x.dtype.type(0.5))
        result = np.ldexp(np.ldexp(1 + e, _integers(h)), _integers(k - h))
        return np.where(np.isnan(x), x, result)


def _integers(x):
    return np.where(np.isnan(x), 0, x).astype(np.int32)


# ---- 7. activations, smooth ones -----------------------------------------------------------------


def sigmoid(x):
    z = exp(np.where(x < 0, x, -x))
    return np.where(x < 0, z, x.dtype.type(1)) / (1 + z)


def sigmoid_backward(dy, y):
    with np.errstate(all="ignore"):
        return dy * (y * (1 - y))


def tanh(x):
    with np.errstate(all="ignore"):
        u = np.where(x < 0, x + x, -(x + x))
        u = np.where(u < -64, x.dtype.type(-64), u)
        k, e = _exp_parts(u)
        scale = np.ldexp(np.ones_like(x), _integers(k))
        t = scale * e + (scale - 1)
        return np.copysign(t / (t + 2), x)


def tanh_backward(dy, y):
    with np.errstate(all="ignore"):
        return dy * ((1 - y) * (1 + y))


# ---- 8. pooling ----------------------------------------------------------------------------------


def _maximum(plane, rows, columns):
    """Where the largest element of a window lies; rows and columns may lie outside the plane."""
    best = None
    for r, c in itertools.product(rows, columns):
        if not (0 <= r < plane.shape[0] and 0 <= c < plane.shape[1]):
            continue
        if best is None or not (plane[r, c] <= plane[best] or np.isnan(plane[best])):
            best = (r, c)
    return best


def _pool(x, windows, dy=None):
    """NCHW; windows: a list of row windows and one of column windows. y, or dx of dy."""
    y = np.empty((*x.shape[:2], len(windows[0]), len(windows[1])), x.dtype)
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(y.shape):
        where = _maximum(x[n, c], windows[0][i], windows[1][j])
        y[n, c, i, j] = x[n, c][where]
        if dy is not None:
            dx[n, c][where] += dy[n, c, i, j]
    return y if dy is None else dx


def max_pool2d(x, size, stride, pads, dilation, ceil_mode, dy=None):
    """NCHW; pads are (top, bottom, left, right). With dy: the backward pass."""
    windows = []
    for axis in (0, 1):
        length, before, after = x.shape[2 + axis], pads[2 * axis], pads[2 * axis + 1]
        windows.append([])
        for i in itertools.count():
            start = i * stride[axis] - before
            end = start + dilation[axis] * (size[axis] - 1) + 1
            if end > length + after:
                previous_end = end - stride[axis]
                if not (ceil_mode and previous_end < length + after and start < length):
                    break
            windows[axis].append(range(start, end, dilation[axis]))
    return _pool(x, windows, dy)


def spatial_pyramid_pool(x, levels, dy=None):
    """NCHW. With dy: the backward pass."""
    parts, begin, dx = [], 0, np.zeros_like(x)
    for n in levels:
        windows = [
            [range(i * length // n, -(-(i + 1) * length // n)) for i in range(n)]
            for length in x.shape[2:]
        ]
        parts.append(_pool(x, windows).reshape(len(x), x.shape[1] * n * n))
        end = begin + parts[-1].shape[1]
        if dy is not None:  # in order: the same additions as continuing from dx
            part = dy[:, begin:end].reshape(*x.shape[:2], n, n)
            for b, c, i, j in np.ndindex(part.shape):
                where = _maximum(x[b, c], windows[0][i], windows[1][j])
                dx[b, c][where] += part[b, c, i, j]
        begin = end
    return np.concatenate(parts, axis=1) if dy is None else dx


# ---- 9. loss -------------------------------------------------------------------------------------


def cross_entropy(logits, labels, log):
    """Of each row, and its gradient by the row's logits (not divided). `log`: section 6's."""
    losses, gradient = np.empty(len(logits), logits.dtype), np.empty_like(logits)
    with np.errstate(all="ignore"):
        for i, (x, label) in enumerate(zip(logits, labels, strict=True)):
            e = exp(x - x.max())
            s = sum_rule(e)
            losses[i] = log(np.array([s], x.dtype))[0] - (x[label] - x.max())
            gradient[i] = e / s
            gradient[i, label] -= 1
    return losses, gradient


# ---- 10. dropout ---------------------------------------------------------------------------------


def dropout(x, rate, words):
    """words: of the stream, one an element."""
    kept = (words >> 8).astype(np.float64) / 2.0**24 >= rate
    with np.errstate(all="ignore"):
        return np.where(kept, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))


# ---- 11. optimizer -------------------------------------------------------------------------------


def sgd_momentum(w, dw, velocity, learning_rate, momentum, weight_decay):
    """The new w and velocity."""
    rate, mu, decay = (w.dtype.type(v) for v in (learning_rate, momentum, weight_decay))
    with np.errstate(all="ignore"):
        gradient = dw if decay == 0 else dw + decay * w
        velocity = mu * velocity + rate * gradient
        return w - velocity, velocity
