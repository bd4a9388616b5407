"""Winograd's convolution on the GPU: the transforms of kernels/cuda/winograd.cu around products.

Arrays of pixels are given as (N, C, H, W) with any strides. The domain of 36 frequencies lies in
memory; a large batch is taken in blocks of images (forward, backward input), or in super-segments of
16384 tiles (backward weight), which its contraction folds in that order anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import matmul, runtime

VARIANTS = [("winograd", {})]
THREADS = 128
SUPER_SEGMENT = 16384
DOMAIN_BYTES = 1 << 30  # of transformed pixels and products, about, before a batch is cut

_SQUARES = np.dtype([
    ("channels", "<i8"), ("height", "<i8"), ("width", "<i8"), ("tensor", "<i8", 4),
    ("first_tile", "<i8"), ("tiles", "<i8"), ("down", "<i8"), ("across", "<i8"), ("top", "<i8"),
    ("left", "<i8"), ("frequency", "<i8"), ("channel", "<i8"), ("tile", "<i8"),
    ("channels_last", "<i8"),
])  # fmt: skip
_KERNELS = np.dtype([
    (name, "<i8") for name in ("groups", "outs", "ins", "of_group", "of_out", "of_in", "turned")
])  # fmt: skip


def forward(x: Any, w: Any, bias: Any, y: Any, top: int, left: int, groups: int) -> None:
    """y of x and contiguous w."""
    outs, ins = w.shape[0] // groups, w.shape[1]
    kernels = (groups, outs, ins, outs * ins * 9, ins * 9, 9, 0)
    _convolve(x, w, bias, y, top, left, kernels)


def backward_input(dy: Any, w: Any, dx: Any, top: int, left: int, groups: int) -> None:
    """dx of dy: the same with w turned by 180° and its channels swapped."""
    outs, ins = w.shape[1], w.shape[0] // groups
    kernels = (groups, outs, ins, outs * ins * 9, 9, outs * 9, 1)
    _convolve(dy, w, None, dx, 2 - top, 2 - left, kernels)


def backward_weight(dy: Any, x: Any, dw: Any, top: int, left: int, groups: int) -> None:
    """dw of dy and x; dw with any strides."""
    arrays = runtime.device().arrays
    grid = _grid(dy)
    tiles = dy.shape[0] * grid[0] * grid[1]
    outs, ins = dw.shape[0] // groups, dw.shape[1]
    domain = 36 * (dy.shape[1] + x.shape[1]) * tiles * dy.itemsize
    piece = tiles if domain <= DOMAIN_BYTES else SUPER_SEGMENT
    total = arrays.empty((36, groups, outs, ins), dy.dtype)
    for begin in range(0, tiles, piece):
        part = begin, min(piece, tiles - begin)
        of_dy = _to_domain("gradients", dy, grid, part, 0, 0)
        of_x = _to_domain("pixels", x, grid, part, top, left)
        a = _groups(of_dy, groups)  # [ξ, group, o, tile]
        b = _groups(of_x, groups).swapaxes(2, 3)  # [ξ, group, tile, c]
        if not begin:
            matmul.product(a, b, None, total, 2, 1, 1, 1)
            continue
        more = arrays.empty(total.shape, dy.dtype)
        matmul.product(a, b, None, more, 2, 1, 1, 1)
        _each("add", dy.dtype, total.size, total, more, np.int64(total.size))
    strides = (np.int64(s // dw.itemsize) for s in dw.strides)
    all_outs = groups * outs
    _each("weight_results", dy.dtype, all_outs * ins, total, dw, np.int64(all_outs), np.int64(ins),
          *strides)  # fmt: skip


def _convolve(
    x: Any, w: Any, bias: Any, y: Any, top: int, left: int, kernels: tuple[int, ...]
) -> None:
    arrays = runtime.device().arrays
    groups, outs, ins = kernels[:3]
    u = arrays.empty((36, groups, ins, outs), x.dtype)
    _each("weights", x.dtype, u.size // 36, w, u, runtime.record(np.array(kernels, _KERNELS)))
    grid = _grid(y)
    an_image = grid[0] * grid[1]
    domain = 36 * (x.shape[1] + y.shape[1]) * an_image * x.itemsize
    images = max(1, DOMAIN_BYTES // domain)
    for image in range(0, y.shape[0], images):
        part = image * an_image, min(images, y.shape[0] - image) * an_image
        v = _to_domain("pixels", x, grid, part, top, left)
        m = _domain(y, part[1])
        if _channels_last(y):
            a, b, c = _groups(v, groups).swapaxes(2, 3), u, _groups(m, groups).swapaxes(2, 3)
        else:  # [ξ, group, out, tile]
            a, b, c = u.swapaxes(2, 3), _groups(v, groups), _groups(m, groups)
        matmul.product(a, b, None, c, 2, 1, 1, 1)
        _squares("results", y, m, grid, part, 0, 0, m, bias, y)


def _grid(y: Any) -> tuple[int, int]:
    """How many tiles an image has, down and across."""
    return -(-y.shape[2] // 4), -(-y.shape[3] // 4)


def _channels_last(x: Any) -> bool:
    return x.strides[1] < x.strides[3]


def _domain(x: Any, tiles: int) -> Any:
    """Fresh memory [ξ, channel, tile] for x, in the order that suits its layout."""
    arrays, channels = runtime.device().arrays, x.shape[1]
    if _channels_last(x):
        return arrays.empty((36, tiles, channels), x.dtype).swapaxes(1, 2)
    return arrays.empty((36, channels, tiles), x.dtype)


def _groups(domain: Any, groups: int) -> Any:
    """[ξ, channel, tile] as [ξ, group, channel, tile]: a view."""
    if groups == 1:
        return domain[:, None]
    _, channels, tiles = domain.shape
    if domain.strides[1] > domain.strides[2]:
        return domain.reshape(36, groups, channels // groups, tiles)
    split = domain.swapaxes(1, 2).reshape(36, tiles, groups, channels // groups)
    return split.transpose(0, 2, 3, 1)


def _to_domain(
    kernel: str, x: Any, grid: tuple[int, int], part: tuple[int, int], top: int, left: int
) -> Any:
    domain = _domain(x, part[1])
    _squares(kernel, x, domain, grid, part, top, left, x, domain)
    return domain


def _squares(
    kernel: str,
    tensor: Any,
    domain: Any,
    grid: tuple[int, int],
    part: tuple[int, int],
    top: int,
    left: int,
    *args: Any,
) -> None:
    """Launches a kernel that has a thread a square: of `tensor` and tiles part[0] … of `domain`."""
    _, channels, height, width = tensor.shape
    squares = runtime.record(np.array((
        channels, height, width, tuple(s // tensor.itemsize for s in tensor.strides), *part, *grid,
        top, left, *(s // domain.itemsize for s in domain.strides), _channels_last(tensor),
    ), _SQUARES))  # fmt: skip
    _each(kernel, tensor.dtype, channels * part[1], *args, squares)


def _each(kernel: str, dtype: np.dtype, count: int, *args: Any) -> None:
    runtime.launch("winograd", kernel, dtype, runtime.blocks(count, THREADS), THREADS, *args)
