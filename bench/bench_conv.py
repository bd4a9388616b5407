"""Convolution passes of float32, in both layouts; PyTorch runs in the same one.

Names: N×channels@size→outputs, kernel/stride, layout, pass; dw is depthwise.
"""

import numpy as np
import peers
from peers import agree, digest  # noqa: F401

UNIT = "GFLOP/s"
SHAPES = [  # n, channels, size, outputs, kernel, stride, groups
    (8, 3, 224, 96, 7, 2, 1), (8, 96, 56, 256, 3, 1, 1), (4, 256, 56, 256, 3, 1, 1),
    (4, 512, 28, 512, 3, 1, 1), (8, 512, 14, 512, 3, 1, 1), (2, 64, 224, 64, 3, 1, 1),
    (8, 256, 56, 64, 1, 1, 1), (8, 128, 56, 128, 3, 2, 1), (64, 6, 14, 16, 5, 1, 1),
    (8, 128, 56, 128, 3, 1, 128),
]  # fmt: skip
CASES = {
    f"{n}×{c}@{size}→{o} {k}/{s}{' dw' if g > 1 else ''} {layout} {which}": (
        n, c, size, o, k, s, g, layout, which
    )
    for n, c, size, o, k, s, g in SHAPES
    for layout in ("NCHW", "NHWC")
    for which in ("forward", "input", "weight")
}  # fmt: skip


def padding(kernel):
    return 0 if kernel == 5 else kernel // 2


def output_size(case):
    _, _, size, _, k, s, *_ = case
    return (size + 2 * padding(k) - k) // s + 1


def work(case):
    n, c, _, o, k, _, g, *_ = case
    return 2 * n * o * output_size(case) ** 2 * (c // g) * k * k


def operands(case):
    """x, w and dy, as N × C × H × W."""
    n, c, size, o, k, _, g, *_ = case
    out = output_size(case)
    x, w = peers.array(n, c, size, size), peers.array(o, c // g, k, k, seed=1)
    return x, w, peers.array(n, o, out, out, seed=2)


def halfwave(case, threads):
    hw = peers.halfwave(threads)
    if case is None:
        return hw.__version__
    *_, k, s, g, layout, which = case
    x, w, dy = operands(case)
    if layout == "NHWC":
        x, dy = (np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for v in (x, dy))
    options = {"stride": s, "padding": padding(k), "groups": g, "layout": layout}

    def nchw(result):  # a view, for the digest
        return result.transpose(0, 3, 1, 2) if layout == "NHWC" else result

    if which == "forward":
        out = np.empty_like(dy)
        return lambda: nchw(hw.conv2d(x, w, out=out, **options))
    if which == "input":
        out = np.empty_like(x)
        return lambda: nchw(hw.conv2d_backward_input(dy, w, x.shape, out=out, **options))
    out = np.empty_like(w)
    return lambda: hw.conv2d_backward_weight(dy, x, w.shape, out=out, **options)


def torch(case, threads):
    torch = peers.torch(threads)
    if case is None:
        return torch.__version__
    *_, k, s, g, layout, which = case
    x, w, dy = (torch.from_numpy(v) for v in operands(case))
    if layout == "NHWC":
        x, w, dy = (v.contiguous(memory_format=torch.channels_last) for v in (x, w, dy))
    p = padding(k)
    if which == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, None, s, p, 1, g)
    mask = [which == "input", which == "weight", False]
    return lambda: torch.ops.aten.convolution_backward(
        dy, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], g, mask
    )[mask.index(True)]


PEERS = {"halfwave": halfwave, "PyTorch": torch}
