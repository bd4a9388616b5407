"""What a call costs where there is next to nothing to compute, in microseconds.

The way from Python to the kernel and back, and, for a convolution, what a shape costs that was not
seen before: here each call has another one of 1,296, more than the peers keep.
"""

import itertools

import numpy as np
import peers
from peers import Job

UNIT = "µs"
NEW_SHAPES = [(2, 8, height, width) for height in range(4, 40) for width in range(4, 40)]
CASES = {
    name: name
    for name in (
        "relu of 8 floats", "prelu of 8 floats", "product of 4×4 matrices",
        "3×3 convolution of 4 channels @6", "3×3 convolution, each call a new shape",
        "8 normal weights", "plan of a convolution",
    )
}  # fmt: skip


def kind(case):
    return {
        "relu of 8 floats": "a call on 8 floats",
        "3×3 convolution, each call a new shape": "a convolution of a shape not seen before",
    }.get(case)


def work(case):
    return 1


def small():
    """x and its slopes, two matrices, an image and its weights."""
    return (peers.array(2, 4), np.full(4, 0.25, np.float32), peers.array(4, 4),
            peers.array(4, 4, seed=1), peers.array(1, 4, 6, 6), peers.array(4, 4, 3, 3))  # fmt: skip


def every_shape(run, images):
    """A job of which each call takes the next image."""
    endless = itertools.cycle(images)
    return Job(lambda: run(next(endless)), lambda result: np.zeros(1))


def halfwave(case, variant):
    import halfwave as hw

    x, alpha, a, b, image, w = small()
    if case == "relu of 8 floats":
        out = np.empty_like(x)
        return Job(lambda: hw.relu(x, out=out))
    if case == "prelu of 8 floats":
        out = np.empty_like(x)
        return Job(lambda: hw.prelu(x, alpha, out=out))
    if case == "product of 4×4 matrices":
        out = np.empty_like(a)
        return Job(lambda: hw.matmul(a, b, out=out))
    if case == "8 normal weights":
        out = np.empty(8, np.float32)
        return Job(lambda: hw.init.normal(8, seed=1, out=out), lambda result: np.zeros(1))
    if case == "plan of a convolution":
        shapes = (8, 64, 56, 56), (64, 64, 3, 3)
        return Job(lambda: hw.plan("conv2d", *shapes, padding=1), lambda plan: np.zeros(1))
    if case == "3×3 convolution of 4 channels @6":
        out = np.empty((1, 4, 4, 4), np.float32)
        return Job(lambda: hw.conv2d(image, w, out=out))
    w = peers.array(8, 8, 3, 3)
    return every_shape(lambda image: hw.conv2d(image, w), [peers.array(*s) for s in NEW_SHAPES])


def numpy(case, variant):
    x, _, a, b, *_ = small()
    if case == "relu of 8 floats":
        out = np.empty_like(x)
        return Job(lambda: np.maximum(x, 0, out=out))
    if case == "product of 4×4 matrices":
        out = np.empty_like(a)
        return Job(lambda: np.matmul(a, b, out=out))
    if case == "8 normal weights":
        generator, out = np.random.default_rng(1), np.empty(8, np.float32)
        return Job(lambda: generator.standard_normal(8, np.float32, out), lambda _: np.zeros(1))
    return None


def torch(case, variant):
    import torch

    x, alpha, a, b, image, w = map(torch.from_numpy, small())
    if case == "relu of 8 floats":
        return Job(lambda: torch.relu(x))
    if case == "prelu of 8 floats":
        return Job(lambda: torch.prelu(x, alpha))
    if case == "product of 4×4 matrices":
        return Job(lambda: torch.mm(a, b))
    if case == "8 normal weights":
        out = torch.empty(8)
        return Job(lambda: out.normal_(), lambda _: np.zeros(1))
    if case == "3×3 convolution of 4 channels @6":
        return Job(lambda: torch.conv2d(image, w))
    if case == "3×3 convolution, each call a new shape":
        w = torch.from_numpy(peers.array(8, 8, 3, 3))
        images = [torch.from_numpy(peers.array(*shape)) for shape in NEW_SHAPES]
        return every_shape(lambda image: torch.conv2d(image, w), images)
    return None


def onnxruntime(case, variant):
    x, alpha, a, b, image, w = small()
    if case == "relu of 8 floats":
        return peers.session("Relu", {"x": x}, x.shape)
    if case == "prelu of 8 floats":
        return peers.session("PRelu", {"x": x}, x.shape, {"slope": alpha})
    if case == "product of 4×4 matrices":
        return peers.session("MatMul", {"a": a, "b": b}, a.shape)
    if case == "3×3 convolution of 4 channels @6":
        return peers.session("Conv", {"x": image}, (1, 4, 4, 4), {"w": w}, kernel_shape=[3, 3])
    return None


def jax(case, variant):
    import jax
    import jax.numpy as jnp

    x, alpha, a, b, image, w = small()
    if case == "relu of 8 floats":
        return peers.compiled(jax.nn.relu, x)
    if case == "prelu of 8 floats":
        return peers.compiled(lambda x, slopes: jnp.where(x > 0, x, slopes * x), x, alpha)
    if case == "product of 4×4 matrices":
        return peers.compiled(jnp.matmul, a, b)
    if case == "3×3 convolution of 4 channels @6":
        return peers.compiled(
            lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "VALID"), image, w
        )
    return None  # compiling for a new shape takes it milliseconds


def thinc(case, variant):
    from thinc.api import NumpyOps

    x, _, a, b, *_ = small()
    ops = NumpyOps()
    if case == "relu of 8 floats":
        return Job(lambda: ops.relu(x))
    if case == "product of 4×4 matrices":
        return Job(lambda: ops.gemm(a, b))
    return None
