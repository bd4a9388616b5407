"""halfwave alone: what more threads gain, beside what the ceilings gain, and cost against size.

The ratio is the speed on all threads over that on one. Only large work is held against the ceilings.
"""

import os

import numpy as np
import peers
from peers import Job

THREADS = ("1 thread", "all threads")
VARIANTS = {"halfwave": THREADS}
REFERENCE = "halfwave 1 thread"
CEILINGS = {" 1 thread": 1, "": None}
UNIT = "10⁹ operations/s"
PRODUCTS = (1024, 2048)
SIZES = {
    "product": (8, 16, 32, 64, 128, 256, 512),
    "relu": (1 << 8, 1 << 12, 1 << 16, 1 << 20, 1 << 24),
    "convolution": (4, 7, 14, 28),
}
LARGE = {
    "product of 2048³": ("product", 2048), "convolution of 256 channels @56": ("convolution", 56),
    "relu of 2²⁵ floats": ("relu", 1 << 25), "prelu backward of 2²⁵ floats": ("prelu", 1 << 25),
    "2²⁴ normal weights": ("normal", 1 << 24),
}  # fmt: skip
CASES = {
    f"{what}, size {size}": (what, size, False) for what, sizes in SIZES.items() for size in sizes
} | {name: (*case, True) for name, case in LARGE.items()}


def kind(case):
    return "all threads over one, large work" if case[2] else None


def work(case):
    """Flops, or bytes moved, or values."""
    what, size, large = case
    channels = 256 if large else 64
    return {"product": 2 * size**3, "relu": 8 * size, "prelu": 12 * size, "normal": size,
            "convolution": 2 * 4 * channels * channels * 9 * size**2}[what]  # fmt: skip


def bounds(case):
    what, _, large = case
    if not large or what == "normal":
        return {"fma": work(case)} if large else {}
    return {"copy" if what in ("relu", "prelu") else "fma": work(case)}


def halfwave(case, variant):
    import halfwave as hw

    what, size, large = case
    threads = 1 if variant == THREADS[0] else int(os.environ["HALFWAVE_NUM_THREADS"])

    def before():
        hw.set_num_threads(threads)

    before()
    if what == "product":
        a, b = peers.array(size, size), peers.array(size, size, seed=1)
        out = peers.memory(*a.shape)
        return Job(lambda: hw.matmul(a, b, out=out), before=before)
    if what == "convolution":
        channels = 256 if large else 64
        x, w = peers.array(4, channels, size, size), peers.array(channels, channels, 3, 3, seed=1)
        out = peers.memory(*x.shape)
        return Job(lambda: hw.conv2d(x, w, padding=1, out=out), before=before)
    x = peers.array(size)
    out = peers.memory(*x.shape)
    if what == "relu":
        return Job(lambda: hw.relu(x, out=out), before=before)
    if what == "normal":
        return Job(lambda: hw.init.normal(size, seed=1, out=out), before=before)
    dy, alpha = peers.array(64, size // 64, seed=1), np.full(64, 0.25, np.float32)
    x, out = x.reshape(dy.shape), out.reshape(dy.shape)
    return Job(
        lambda: hw.prelu_backward(dy, x, alpha, axis=0, out=out), lambda both: both[0], before
    )
