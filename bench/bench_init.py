"""Random initial weights, float32: 10⁹ values a second, into a kept array where the library can.

Each library draws its own values, so what is compared is their spread.
"""

import numpy as np
import peers
from peers import Job

UNIT = "10⁹ values/s"
SHAPE = (4096, 4096)
SQUARE = (768, 768)
CASES = {name: name for name in ("normal", "uniform", "truncated normal", "orthogonal")}
VARIANTS = {"numpy": ("Philox", "PCG64"), "jax": ("threefry", "rbg")}


def kind(case):
    return f"{case} weights"


def work(case):
    rows, columns = SQUARE if case == "orthogonal" else SHAPE
    return rows * columns


def bounds(case):
    return {} if case == "orthogonal" else {"write": 4 * work(case)}


def sample(result):
    """Mean square, and the shares above 1/2 and below -1."""
    result = np.asarray(result)
    return np.array([(result**2).mean(), (result > 0.5).mean(), (result < -1).mean()], np.float32)


def agree(one, other):
    return float(np.abs(one - other).max()) < 2e-3


def halfwave(case, variant):
    import halfwave as hw

    out = peers.memory(*SHAPE)
    if case == "uniform":
        return Job(lambda: hw.init.uniform(SHAPE, low=0.0, high=1.0, seed=1, out=out))
    if case == "orthogonal":
        return Job(lambda: hw.init.orthogonal(SQUARE, seed=1))
    draw = hw.init.normal if case == "normal" else hw.init.truncated_normal
    return Job(lambda: draw(SHAPE, std=1.0, seed=1, out=out))


def numpy(case, variant):
    generator = np.random.Generator(getattr(np.random, variant)(1))
    out = peers.memory(*SHAPE)
    if case == "normal":
        return Job(lambda: generator.standard_normal(SHAPE, np.float32, out))
    if case == "uniform":
        return Job(lambda: generator.random(SHAPE, np.float32, out))
    if case == "orthogonal":
        return Job(lambda: np.linalg.qr(generator.standard_normal(SQUARE, np.float32))[0])
    return None


def torch(case, variant):
    import torch

    out = torch.empty(SQUARE if case == "orthogonal" else SHAPE)
    if case == "normal":
        return Job(lambda: out.normal_())
    if case == "uniform":
        return Job(lambda: out.uniform_())
    if case == "orthogonal":
        return Job(lambda: torch.nn.init.orthogonal_(out))
    return Job(lambda: torch.nn.init.trunc_normal_(out, 0.0, 1.0, -2.0, 2.0))


def jax(case, variant):
    import jax

    key = jax.random.key(1, impl={"threefry": "threefry2x32", "rbg": "rbg"}[variant])
    draw = {
        "normal": lambda key: jax.random.normal(key, SHAPE),
        "uniform": lambda key: jax.random.uniform(key, SHAPE),
        "truncated normal": lambda key: jax.random.truncated_normal(key, -2.0, 2.0, SHAPE),
        "orthogonal": lambda key: jax.random.orthogonal(key, SQUARE[0]),
    }[case]
    run = jax.jit(draw)
    return Job(lambda: run(key).block_until_ready())
