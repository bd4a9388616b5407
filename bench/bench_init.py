"""Filling a matrix of 4096 × 4096 float32 with random values: 10⁹ values a second.

The values differ from library to library, so what is compared is their spread.
"""

import numpy as np
import peers

UNIT = "10⁹ values/s"
SHAPE = (4096, 4096)
CASES = {"normal": "normal", "uniform": "uniform", "truncated normal": "truncated_normal"}


def work(case):
    return SHAPE[0] * SHAPE[1]


def digest(result):
    """Standard deviation and the share above 1/2."""
    result = np.asarray(result)
    return [float(result.std()), float((result > 0.5).mean())]


def agree(one, other):
    return all(abs(a - b) < 2e-3 for a, b in zip(one, other, strict=True))


def halfwave(case, threads):
    hw = peers.halfwave(threads)
    if case is None:
        return hw.__version__
    out = np.empty(SHAPE, np.float32)
    if case == "uniform":
        return lambda: hw.init.uniform(SHAPE, low=0.0, high=1.0, seed=1, out=out)
    return lambda: getattr(hw.init, case)(SHAPE, std=1.0, seed=1, out=out)


def numpy_with(bit_generator):
    def peer(case, threads):
        if case is None:
            return np.__version__
        generator = np.random.Generator(bit_generator(1))
        out = np.empty(SHAPE, np.float32)
        if case == "normal":
            return lambda: generator.standard_normal(SHAPE, np.float32, out)
        if case == "uniform":
            return lambda: generator.random(SHAPE, np.float32, out)
        return None

    return peer


def torch(case, threads):
    torch = peers.torch(threads)
    if case is None:
        return torch.__version__
    out = torch.empty(SHAPE)
    if case == "normal":
        return lambda: out.normal_()
    if case == "uniform":
        return lambda: out.uniform_()
    return lambda: torch.nn.init.trunc_normal_(out)


PEERS = {
    "halfwave": halfwave,
    "NumPy Philox": numpy_with(np.random.Philox),
    "NumPy PCG64": numpy_with(np.random.PCG64),
    "PyTorch": torch,
}
