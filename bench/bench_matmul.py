"""Matrix products of float32: square, small, skinny, with a long axis."""

import numpy as np
import peers
from peers import agree, digest  # noqa: F401

UNIT = "GFLOP/s"
CASES = {
    f"{m}×{k}×{n}": (m, k, n)
    for m, k, n in [
        (32, 32, 32), (64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512),
        (1024, 1024, 1024), (2048, 2048, 2048), (1, 4096, 4096), (8, 4096, 4096),
        (4096, 4096, 64), (64, 65536, 64),
    ]
}  # fmt: skip


def work(case):
    return 2 * case[0] * case[1] * case[2]


def operands(case):
    m, k, n = case
    return peers.array(m, k), peers.array(k, n, seed=1), np.empty((m, n), np.float32)


def halfwave(case, threads):
    hw = peers.halfwave(threads)
    if case is None:
        return hw.__version__
    a, b, out = operands(case)
    return lambda: hw.matmul(a, b, out=out)


def numpy(case, threads):
    if case is None:
        return np.__version__
    a, b, out = operands(case)
    return lambda: np.matmul(a, b, out=out)


def torch(case, threads):
    torch = peers.torch(threads)
    if case is None:
        return torch.__version__
    a, b, out = (torch.from_numpy(x) for x in operands(case))
    return lambda: torch.matmul(a, b, out=out)


PEERS = {"halfwave": halfwave, "NumPy": numpy, "PyTorch": torch}
