"""ReLU and PReLU, forward and backward, on 128 MiB of float32, far beyond any cache.

Bytes are those that must move: each array that the operation needs, read or written once. All write
to a kept array where the library can. PReLU has a slope for each of 64 channels, and its backward pass
is the gradient by x and by the slopes; it runs in both layouts.
"""

import numpy as np
import peers
from peers import Job

UNIT = "GB/s"
SHAPE = (8, 64, 256, 256)
BYTES = 4 * 8 * 64 * 256 * 256
CASES = {name: name for name in ("relu", "relu backward", "prelu", "prelu backward")}
LAYOUTS = ("NCHW", "NHWC")
VARIANTS = {"halfwave": LAYOUTS, "torch": LAYOUTS, "jax": LAYOUTS}


def kind(case):
    if case == "prelu backward":
        return "PReLU backward, 128 MiB"
    return "ReLU, its backward pass, and PReLU, 128 MiB"


def work(case):
    return (3 if "backward" in case else 2) * BYTES


def bounds(case):
    return {"copy": work(case)}


def operands(layout=""):
    """x, dy and the slopes; the layout of ReLU's array is nothing to ReLU."""
    x, dy = peers.array(*SHAPE), peers.array(*SHAPE, seed=1)
    if layout == "NHWC":
        x, dy = peers.channels_last(x), peers.channels_last(dy)
    return x, dy, np.linspace(0.1, 0.5, SHAPE[1], dtype=np.float32)


def back(layout, pick=lambda result: result):
    order = (0, 3, 1, 2) if layout == "NHWC" else (0, 1, 2, 3)
    return lambda result: np.asarray(pick(result)).transpose(order)


def halfwave(case, layout):
    import halfwave as hw

    if layout == "NHWC" and "prelu" not in case:
        return None
    x, dy, alpha = operands(layout)
    out = peers.memory(*x.shape)
    axis = LAYOUTS.index(layout) * 2 + 1
    if case == "relu":
        return Job(lambda: hw.relu(x, out=out))
    if case == "relu backward":
        return Job(lambda: hw.relu_backward(dy, x, out=out))
    if case == "prelu":
        return Job(lambda: hw.prelu(x, alpha, axis=axis, out=out), back(layout))
    return Job(
        lambda: hw.prelu_backward(dy, x, alpha, axis=axis, out=out),
        back(layout, lambda result: result[0]),
    )


def numpy(case, variant):
    x, dy, alpha = operands()
    slopes = alpha.reshape(1, -1, 1, 1)
    out, scratch = peers.memory(*x.shape), peers.memory(*x.shape)
    if case == "relu":
        return Job(lambda: np.maximum(x, 0, out=out))
    if case == "relu backward":
        return Job(lambda: np.multiply(dy, x > 0, out=out))

    def forward():
        np.multiply(x, slopes, out=out)
        return np.maximum(x, out, out=out)  # the slopes are below 1

    def backward():
        np.multiply(dy, slopes, out=out)
        np.copyto(out, dy, where=x > 0)
        np.multiply(dy, np.minimum(x, 0, out=scratch), out=scratch)
        scratch.sum(axis=(0, 2, 3))
        return out

    return Job(forward if case == "prelu" else backward)


def torch(case, layout):
    import torch

    if layout == "NHWC" and "prelu" not in case:
        return None
    x, dy, alpha = map(torch.from_numpy, operands())
    if layout == "NHWC":
        x, dy = (v.contiguous(memory_format=torch.channels_last) for v in (x, dy))
    out = torch.empty_like(x)
    if case == "relu":
        return Job(lambda: torch.clamp_min(x, 0, out=out))
    if case == "relu backward":
        backward = torch.ops.aten.threshold_backward.grad_input
        return Job(lambda: backward(dy, x, 0, grad_input=out))
    if case == "prelu":
        return Job(lambda: torch.prelu(x, alpha))
    slopes = alpha.reshape(1, -1, 1, 1)

    def backward():
        dx, products = torch.ops.aten._prelu_kernel_backward(dy, x, slopes)
        products.sum((0, 2, 3))
        return dx

    return Job(backward)


def onnxruntime(case, variant):
    x, _, alpha = operands()
    if case == "relu":
        return peers.session("Relu", {"x": x}, x.shape)
    if case == "prelu":
        return peers.session("PRelu", {"x": x}, x.shape, {"slope": alpha.reshape(-1, 1, 1)})
    return None


def jax(case, layout):
    import jax.numpy as jnp

    if layout == "NHWC" and "prelu" not in case:
        return None
    x, dy, alpha = operands(layout)
    slopes = alpha.reshape((1, -1, 1, 1) if layout == "NCHW" else (1, 1, 1, -1))
    if case == "relu":
        return peers.compiled(lambda x: jnp.maximum(x, 0), x)
    if case == "relu backward":
        return peers.compiled(lambda dy, x: jnp.where(x > 0, dy, 0), dy, x)
    if case == "prelu":
        return peers.compiled(lambda x, a: jnp.where(x > 0, x, a * x), x, slopes, view=back(layout))

    def backward(dy, x, a):
        axes = (0, 2, 3) if layout == "NCHW" else (0, 1, 2)
        return jnp.where(x > 0, dy, a * dy), jnp.where(x > 0, 0, dy * x).sum(axes)

    return peers.compiled(backward, dy, x, slopes, view=back(layout, lambda result: result[0]))


def thinc(case, variant):
    from thinc.api import NumpyOps

    x, dy, _ = operands()
    ops = NumpyOps()
    if case == "relu":
        return Job(lambda: ops.relu(x))
    if case == "relu backward":
        return Job(lambda: ops.backprop_relu(dy, x))
    return None
