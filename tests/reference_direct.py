"""Convolution in float32 by CONTRACT.md section 3, a term of all outputs at a time.

reference.py takes one output after the other, which is too slow for layers of many channels.
"""

import itertools

import numpy as np
from reference import SEGMENT, SEGMENTS_A_SUPER


def fma(a, b, c):
    """a · b + c with one rounding: exact product, sum rounded to odd, both in float64."""
    product = a.astype(np.float64) * b
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = total.view(np.int64)
    odd = (bits & 1) == 1
    step = np.where((error > 0) == (total > 0), 1, -1)
    inexact = (error != 0) & (error == error)
    return np.where(inexact & ~odd, bits + step, bits).view(np.float64).astype(np.float32)


def contract(terms, shape):
    """Of pairs of arrays that broadcast to shape."""
    result = super_segment = chain = None
    with np.errstate(all="ignore"):
        for p, (a, b) in enumerate(terms):
            if p % SEGMENT == 0:
                result, super_segment = _close(p, result, super_segment, chain)
                chain = np.zeros(shape, np.float32)
            chain = fma(np.broadcast_to(a, shape), b, chain)
        if chain is None:
            return np.zeros(shape, np.float32)
        super_segment = chain if super_segment is None else super_segment + chain
        return super_segment if result is None else result + super_segment


def _close(p, result, super_segment, chain):
    """The sums after a segment ended before term p."""
    if p == 0:
        return None, None
    super_segment = chain if super_segment is None else super_segment + chain
    if p % (SEGMENT * SEGMENTS_A_SUPER):
        return result, super_segment
    return (super_segment if result is None else result + super_segment), None


def _take(x, rows, columns):
    """x[:, :, rows × columns], +0 beyond the border."""
    inside = [(v >= 0) & (v < n) for v, n in zip((rows, columns), x.shape[2:], strict=True)]
    clipped = [np.clip(v, 0, n - 1) for v, n in zip((rows, columns), x.shape[2:], strict=True)]
    taken = x[:, :, clipped[0][:, None], clipped[1]]
    return np.where(inside[0][:, None] & inside[1], taken, np.float32(0))


def conv2d(x, w, bias, stride, pads, dilation, groups):
    size = [
        (n + before + after - (k - 1) * d - 1) // s + 1
        for n, before, after, k, d, s in zip(
            x.shape[2:], pads[::2], pads[1::2], w.shape[2:], dilation, stride, strict=True
        )
    ]
    outputs, channels = w.shape[0] // groups, w.shape[1]
    y = np.empty((x.shape[0], w.shape[0], *size), np.float32)
    for g in range(groups):
        part = w[g * outputs : (g + 1) * outputs]

        def terms(g=g, part=part):
            for c, r, s in itertools.product(*map(range, w.shape[1:])):
                rows = np.arange(size[0]) * stride[0] - pads[0] + r * dilation[0]
                columns = np.arange(size[1]) * stride[1] - pads[2] + s * dilation[1]
                channel = g * channels + c
                yield (
                    part[:, c, r, s][:, None, None],
                    _take(x[:, channel : channel + 1], rows, columns),
                )

        here = y[:, g * outputs : (g + 1) * outputs]
        here[...] = contract(terms(), here.shape)
        if bias is not None:
            with np.errstate(all="ignore"):
                here += bias[g * outputs : (g + 1) * outputs, None, None]
    return y


def conv2d_backward_input(dy, w, shape, stride, pads, dilation, groups):
    outputs, channels = w.shape[0] // groups, w.shape[1]
    dx = np.empty(shape, np.float32)
    for g, i, j in itertools.product(range(groups), range(stride[0]), range(stride[1])):
        here = dx[:, g * channels : (g + 1) * channels, i :: stride[0], j :: stride[1]]
        down, across = (
            i + np.arange(here.shape[2]) * stride[0],
            j + np.arange(here.shape[3]) * stride[1],
        )

        def terms(g=g, i=i, j=j, down=down, across=across):
            for o, r, s in itertools.product(range(outputs), *map(range, w.shape[2:])):
                if (i + pads[0] - r * dilation[0]) % stride[0]:
                    continue
                if (j + pads[2] - s * dilation[1]) % stride[1]:
                    continue
                rows = (down + pads[0] - r * dilation[0]) // stride[0]
                columns = (across + pads[2] - s * dilation[1]) // stride[1]
                output = g * outputs + o
                yield (
                    w[output, :, r, s][:, None, None],
                    _take(dy[:, output : output + 1], rows, columns),
                )

        if here.size:
            here[...] = contract(terms(), here.shape)
    return dx


def conv2d_backward_weight(dy, x, shape, stride, pads, dilation, groups):
    outputs, channels = shape[0] // groups, shape[1]
    dw = np.empty(shape, np.float32)
    size = dy.shape[2:]
    for g in range(groups):
        taps = np.empty((dy.shape[0], channels, *shape[2:], *size), np.float32)
        for r, s in np.ndindex(*shape[2:]):
            rows = np.arange(size[0]) * stride[0] - pads[0] + r * dilation[0]
            columns = np.arange(size[1]) * stride[1] - pads[2] + s * dilation[1]
            taps[:, :, r, s] = _take(x[:, g * channels : (g + 1) * channels], rows, columns)

        def terms(g=g, taps=taps):
            for n, i, j in np.ndindex(dy.shape[0], *size):
                yield (
                    dy[n, g * outputs : (g + 1) * outputs, i, j][:, None, None, None],
                    taps[n, :, :, :, i, j],
                )

        here = dw[g * outputs : (g + 1) * outputs]
        here[...] = contract(terms(), here.shape)
    return dw
