"""Convolution, its three passes, float32: the layers of networks that people train.

halfwave runs in both layouts, and each is held against the best that a peer does in any layout, its
weights laid out and packed ahead as that peer likes them. Flops are those of direct convolution.
"""

from typing import NamedTuple

import numpy as np
import peers
from peers import Job

UNIT = "GFLOP/s"
PASSES = ("forward", "input", "weight")
LAYOUTS = ("NCHW", "NHWC")
VARIANTS = {"halfwave": LAYOUTS, "torch": LAYOUTS, "onednn": LAYOUTS, "jax": LAYOUTS}


class Case(NamedTuple):
    network: str
    n: int
    channels: int
    size: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    groups: int
    which: str

    @property
    def name(self):
        depth = " depthwise" if self.groups > 1 else ""
        return (
            f"{self.network}: {self.kernel}×{self.kernel}{f'/{self.stride}' * (self.stride > 1)}"
            f"{depth} {self.channels}→{self.outputs} @{self.size} N={self.n} {self.which}"
        )

    @property
    def out(self):
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1


def layers(network, n, *shapes, depthwise=False):
    """(channels, size, outputs, kernel, stride), padded to keep the size but for LeNet's second."""
    for c, size, o, k, s in shapes:
        padding = 0 if (network, c) == ("LeNet", 6) else k // 2
        for which in PASSES:
            case = Case(network, n, c, size, o, k, s, padding, c if depthwise else 1, which)
            yield case.name, case


CASES = dict([
    *layers("model A", 8, (3, 224, 96, 7, 2), (96, 56, 256, 3, 1)),
    *layers("model A", 4, (256, 56, 256, 3, 1), (256, 28, 512, 3, 1), (512, 28, 512, 3, 1)),
    *layers("model A", 8, (512, 14, 512, 3, 1)),
    *layers("VGG", 2, (64, 224, 64, 3, 1)),
    *layers("bottleneck", 8, (256, 56, 64, 1, 1), (64, 56, 256, 1, 1), (128, 56, 128, 3, 2)),
    *layers("LeNet", 64, (1, 28, 6, 5, 1), (6, 14, 16, 5, 1)),
    *layers("MobileNet", 8, (32, 112, 32, 3, 1), (64, 112, 64, 3, 2), (128, 56, 128, 3, 1),
            (512, 14, 512, 3, 1), depthwise=True),
    *layers("ResNet-50", 4,
            (3, 224, 64, 7, 2), (64, 56, 64, 1, 1), (64, 56, 64, 3, 1), (64, 56, 256, 1, 1),
            (256, 56, 64, 1, 1), (256, 56, 128, 1, 1), (128, 56, 128, 3, 2), (256, 56, 512, 1, 2),
            (128, 28, 512, 1, 1), (512, 28, 128, 1, 1), (128, 28, 128, 3, 1), (512, 28, 256, 1, 1),
            (256, 28, 256, 3, 2), (512, 28, 1024, 1, 2), (256, 14, 1024, 1, 1),
            (1024, 14, 256, 1, 1), (256, 14, 256, 3, 1), (1024, 14, 512, 1, 1),
            (512, 14, 512, 3, 2), (1024, 14, 2048, 1, 2), (512, 7, 2048, 1, 1),
            (2048, 7, 512, 1, 1), (512, 7, 512, 3, 1)),
])  # fmt: skip


def extra(case):
    """Not run unless asked for: --all, or --only with a part of its name."""
    return case.network == "ResNet-50"


def kind(case):
    titles = {"forward": "forward", "input": "backward input", "weight": "backward weight"}
    which = titles[case.which]
    if case.network == "ResNet-50":
        return f"ResNet-50's 23 distinct convolutions: {which}"
    if case.groups > 1:
        return "depthwise 3×3: three passes"
    if case.kernel == 1:
        return "1×1: three passes"
    if case.kernel == 3 and case.stride == 1:
        return f"3×3, stride 1, 64 to 512 channels: {which}"
    return "7×7/2 of 3 channels, 3×3/2, 5×5: three passes"


def work(case):
    fan = case.channels // case.groups * case.kernel**2
    return 2 * case.n * case.outputs * case.out**2 * fan


def bounds(case):
    """Arithmetic; for depthwise ones, reading one array and writing another."""
    if case.groups == 1:
        return {"fma": work(case)}
    x, y = case.channels * case.size**2, case.outputs * case.out**2
    return {"fma": work(case), "copy": 4 * case.n * (x + y)}


def operands(case):
    """x, w and dy, as N × C × H × W."""
    n, c, o = case.n, case.channels, case.outputs
    x = peers.array(n, c, case.size, case.size)
    w = peers.array(o, c // case.groups, case.kernel, case.kernel, seed=1)
    return x, w, peers.array(n, o, case.out, case.out, seed=2)


def to(layout, array):
    return peers.channels_last(array) if layout == "NHWC" else array


def back(layout):
    """Sees a result as N × C × H × W."""
    if layout == "NCHW":
        return np.asarray
    return lambda result: np.asarray(result).transpose(0, 3, 1, 2)


def halfwave(case, layout):
    import halfwave as hw

    x, w, dy = operands(case)
    x, dy = to(layout, x), to(layout, dy)
    options = {"stride": case.stride, "padding": case.padding, "groups": case.groups,
               "layout": layout}  # fmt: skip
    if case.which == "weight":
        out = peers.memory(*w.shape)
        return Job(lambda: hw.conv2d_backward_weight(dy, x, w.shape, out=out, **options))
    if case.which == "forward":
        out = peers.memory(*dy.shape)
        return Job(lambda: hw.conv2d(x, w, out=out, **options), back(layout))
    out = peers.memory(*x.shape)
    return Job(lambda: hw.conv2d_backward_input(dy, w, x.shape, out=out, **options), back(layout))


def torch(case, layout):
    import torch

    x, w, dy = map(torch.from_numpy, operands(case))
    if layout == "NHWC":
        x, w, dy = (v.contiguous(memory_format=torch.channels_last) for v in (x, w, dy))
    s, p, g = case.stride, case.padding, case.groups
    if case.which == "forward":
        return Job(lambda: torch.conv2d(x, w, None, s, p, 1, g))
    mask = [case.which == "input", case.which == "weight", False]
    backward = torch.ops.aten.convolution_backward
    return Job(
        lambda: backward(dy, x, w, None, [s, s], [p, p], [1, 1], False, [0, 0], g, mask),
        lambda result: result[mask.index(True)].numpy(),
    )


def onednn(case, layout):
    """Forward with the weights in oneDNN's own blocked layout, as a compiled PyTorch model has them."""
    import torch

    if case.which != "forward":
        return None
    x, w, _ = map(torch.from_numpy, operands(case))
    if layout == "NHWC":
        x = x.contiguous(memory_format=torch.channels_last)
    s, p, g = [case.stride] * 2, [case.padding] * 2, case.groups
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(w.to_mkldnn(), p, s, [1, 1], g, x.shape)
    run = torch.ops.mkldnn._convolution_pointwise
    return Job(lambda: run(x, packed, None, p, s, [1, 1], g, "none", [], ""))


def onnxruntime(case, variant):
    if case.which != "forward":
        return None
    x, w, dy = operands(case)
    return peers.session(
        "Conv", {"x": x}, dy.shape, {"w": w}, group=case.groups, pads=[case.padding] * 4,
        strides=[case.stride] * 2, kernel_shape=[case.kernel] * 2,
    )  # fmt: skip


def jax(case, layout):
    import jax

    x, w, dy = operands(case)
    x, dy = to(layout, x), to(layout, dy)
    weights = "OIHW"
    if layout == "NHWC":
        w, weights = np.ascontiguousarray(w.transpose(2, 3, 1, 0)), "HWIO"

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (case.stride, case.stride), [(case.padding, case.padding)] * 2,
            dimension_numbers=(layout, weights, layout), feature_group_count=case.groups,
        )  # fmt: skip

    if case.which == "forward":
        return peers.compiled(convolve, x, w, view=back(layout))
    if case.which == "input":

        def gradient(dy, w):
            return jax.linear_transpose(lambda x: convolve(x, w), x)(dy)[0]

        return peers.compiled(gradient, dy, w, view=back(layout))

    def gradient(dy, x):
        return jax.linear_transpose(lambda w: convolve(x, w), w)(dy)[0]

    view = np.asarray
    if layout == "NHWC":

        def view(result):
            return np.asarray(result).transpose(3, 2, 0, 1)

    return peers.compiled(gradient, dy, x, view=view)
