"""Slow, obvious oracle of Winograd's convolution: CONTRACT.md section 4, from its text alone.

Each step is one operation on whole arrays. Tiles and squares are (…, rows, columns).
"""

import numpy as np
from reference import FMA, SEGMENT, SEGMENTS_A_SUPER

_fma64 = np.frompyfunc(FMA[np.dtype(np.float64)], 3, 1)


def fma(a, b, c):
    """a·b + c with one rounding, elementwise."""
    a, b, c = np.broadcast_arrays(*(np.asarray(v) for v in (a, b, c)))
    dtype = np.result_type(a, b, c)
    if dtype == np.float64:
        return _fma64(a, b, c).astype(dtype)
    # float32, some 20 times as fast: the exact product, its float64 sum with c rounded to odd, and
    # that to float32 (Boldo and Melquiond 2008). test_winograd.py compares with libm.
    with np.errstate(all="ignore"):
        product, c = a.astype(np.float64) * b, c.astype(np.float64)
        total = product + c
        part = total - product
        lost = (product - (total - part)) + (c - part)
        bits = total.reshape(-1).view(np.int64).reshape(total.shape)
        move = np.isfinite(total) & (lost != 0) & (bits % 2 == 0)
        outwards = (lost > 0) == (total > 0)
        odd = (bits + np.where(outwards, 1, -1)).reshape(-1).view(np.float64).reshape(total.shape)
        return np.where(move, odd, total).astype(dtype)


def contract(a, b):
    """Section 3, of terms along the first axis; the rest are independent sums."""
    shape = np.broadcast_shapes(a.shape[1:], b.shape[1:])
    total = folded = np.zeros(shape, a.dtype)  # no terms
    super_length = SEGMENT * SEGMENTS_A_SUPER
    for first in range(0, len(a), super_length):
        for begin in range(first, min(first + super_length, len(a)), SEGMENT):
            chain = np.zeros(shape, a.dtype)
            for p in range(begin, min(begin + SEGMENT, len(a))):
                chain = fma(a[p], b[p], chain)
            folded = folded + chain if begin > first else chain
        total = total + folded if first > 0 else folded
    return total


# ---- lines: lists of arrays, one an element ------------------------------------------------------


def _powers(real):
    """1, a, a², a³ and b likewise: exact."""
    return [real((5 / 8) ** i) for i in range(4)], [real((3 / 2) ** i) for i in range(4)]


def _scales(real):
    """g0, ga, gb: quotients of integers, each rounded once."""
    return real(256) / real(225), real(-2048) / real(2975), real(128) / real(1071)


def b_transposed(d):
    a, b = _powers(d[0].dtype.type)
    v = [None] * 6
    e, o = fma(-b[2], d[2], d[4]), fma(-b[2], d[1], d[3])
    v[1], v[2] = fma(a[1], o, e), fma(-a[1], o, e)
    e, o = fma(-a[2], d[2], d[4]), fma(-a[2], d[1], d[3])
    v[3], v[4] = fma(b[1], o, e), fma(-b[1], o, e)
    v[0] = fma(a[2] * b[2], d[0], fma(-(a[2] + b[2]), d[2], d[4]))
    v[5] = fma(a[2] * b[2], d[1], fma(-(a[2] + b[2]), d[3], d[5]))
    return v


def g(d):
    real = d[0].dtype.type
    (a, b), (g0, ga, gb) = _powers(real), _scales(real)
    v = [None] * 6
    e = fma(a[2], d[2], d[0])
    v[1], v[2] = fma(a[1], d[1], e) * ga, fma(-a[1], d[1], e) * ga
    e = fma(b[2], d[2], d[0])
    v[3], v[4] = fma(b[1], d[1], e) * gb, fma(-b[1], d[1], e) * gb
    v[0], v[5] = d[0] * g0, d[2]
    return v


def a_transposed(d):
    a, b = _powers(d[0].dtype.type)
    s, t, p, q = d[1] + d[2], d[1] - d[2], d[3] + d[4], d[3] - d[4]
    return [
        (d[0] + s) + p,
        fma(b[1], q, a[1] * t),
        fma(b[2], p, a[2] * s),
        fma(b[3], q, fma(a[3], t, d[5])),
    ]


def a(d):
    a, b = _powers(d[0].dtype.type)
    v = [None] * 6
    e, o = fma(a[2], d[2], d[0]), fma(a[2], d[3], d[1])
    v[1], v[2] = fma(a[1], o, e), fma(-a[1], o, e)
    e, o = fma(b[2], d[2], d[0]), fma(b[2], d[3], d[1])
    v[3], v[4] = fma(b[1], o, e), fma(-b[1], o, e)
    v[0], v[5] = d[0], d[3]
    return v


def g_transposed(d):
    real = d[0].dtype.type
    (a, b), (g0, ga, gb) = _powers(real), _scales(real)
    s, t = ga * (d[1] + d[2]), ga * (d[1] - d[2])
    p, q = gb * (d[3] + d[4]), gb * (d[3] - d[4])
    return [
        fma(g0, d[0], s + p),
        fma(b[1], q, a[1] * t),
        fma(b[2], p, fma(a[2], s, d[5])),
    ]


def square(line, d):
    """Down the columns, then along the rows."""
    with np.errstate(all="ignore"):
        for axis in (-2, -1):
            d = np.stack(line(list(np.moveaxis(d, axis, 0))), axis)
    return d


# ---- passes, NCHW --------------------------------------------------------------------------------


def tiles(x, size, top, left, down, across):
    """(t, channel, size, size): tile (n, i, j) begins at row 4i - top and column 4j - left."""
    result = np.zeros((len(x) * down * across, x.shape[1], size, size), x.dtype)
    for t, (n, i, j) in enumerate(np.ndindex(len(x), down, across)):
        for r, s in np.ndindex(size, size):
            h, w = 4 * i - top + r, 4 * j - left + s
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                result[t, :, r, s] = x[n, :, h, w]
    return result


def conv2d(x, w, bias, size, top, left, groups):
    """`size` is y's (rows, columns)."""
    down, across = (-(-n // 4) for n in size)
    outputs, channels = len(w) // groups, w.shape[1]
    y = np.empty((len(x), len(w), *size), x.dtype)
    for group in range(groups):
        o = slice(group * outputs, (group + 1) * outputs)
        c = slice(group * channels, (group + 1) * channels)
        inputs = square(b_transposed, tiles(x[:, c], 6, top, left, down, across))  # (t, c, 6, 6)
        weights = square(g, w[o])  # (o, c, 6, 6)
        with np.errstate(all="ignore"):
            m = contract(np.moveaxis(inputs, 1, 0)[:, :, None], np.moveaxis(weights, 1, 0)[:, None])
            results = square(a_transposed, m)  # (t, o, 4, 4)
            if bias is not None:
                results = results + bias[o, None, None]
        grid = results.reshape(len(x), down, across, outputs, 4, 4).transpose(0, 3, 1, 4, 2, 5)
        grid = grid.reshape(len(x), outputs, down * 4, across * 4)
        y[:, o] = grid[:, :, : size[0], : size[1]]
    return y


def conv2d_backward_input(dy, w, shape, top, left, groups):
    outputs, channels = len(w) // groups, w.shape[1]
    turned = np.empty((shape[1], outputs, 3, 3), w.dtype)
    for channel, o, r, s in np.ndindex(turned.shape):
        group, c = divmod(channel, channels)
        turned[channel, o, r, s] = w[group * outputs + o, c, 2 - r, 2 - s]
    return conv2d(dy, turned, None, shape[2:], 2 - top, 2 - left, groups)


def conv2d_backward_weight(dy, x, shape, top, left, groups):
    down, across = (-(-n // 4) for n in dy.shape[2:])
    outputs, channels = shape[0] // groups, shape[1]
    dw = np.empty(shape, dy.dtype)
    for group in range(groups):
        o = slice(group * outputs, (group + 1) * outputs)
        c = slice(group * channels, (group + 1) * channels)
        gradients = square(a, tiles(dy[:, o], 4, 0, 0, down, across))  # (t, o, 6, 6)
        inputs = square(b_transposed, tiles(x[:, c], 6, top, left, down, across))  # (t, c, 6, 6)
        with np.errstate(all="ignore"):
            dw[o] = square(g_transposed, contract(gradients[:, :, None], inputs[:, None]))
    return dw
