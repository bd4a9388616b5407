"""ReLU and PReLU, forward and backward, on 256 MiB of float32: bytes moved a second.

Bytes are those that must move: each array that the operation needs is read or written once.
"""

import numpy as np
import peers
from peers import agree, digest  # noqa: F401

UNIT = "GB/s"
SHAPE = (8, 64, 362, 362)
BYTES = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]
CASES = {
    name: name
    for name in ("relu", "relu backward", "prelu", "prelu backward", "prelu backward, shared")
}


def work(case):
    return (3 if "backward" in case else 2) * BYTES


def operands(case):
    slopes = 1 if "shared" in case else SHAPE[1]
    return peers.array(*SHAPE), peers.array(*SHAPE, seed=1), np.full(slopes, 0.25, np.float32)


def halfwave(case, threads):
    hw = peers.halfwave(threads)
    if case is None:
        return hw.__version__
    x, dy, alpha = operands(case)
    out = np.empty_like(x)
    if case == "relu":
        return lambda: hw.relu(x, out=out)
    if case == "relu backward":
        return lambda: hw.relu_backward(dy, x, out=out)
    if case == "prelu":
        return lambda: hw.prelu(x, alpha, out=out)
    return lambda: hw.prelu_backward(dy, x, alpha, out=out)[0]


def numpy(case, threads):
    if case is None:
        return np.__version__
    x, dy, alpha = operands(case)
    slopes = alpha.reshape(1, -1, 1, 1)
    out = np.empty_like(x)
    if case == "relu":
        return lambda: np.maximum(x, 0, out=out)
    if case == "relu backward":
        return lambda: np.multiply(dy, x > 0, out=out)
    if case == "prelu":
        return lambda: np.where(x > 0, x, slopes * x)

    def backward():
        gradient = np.where(x > 0, 0, dy * x)
        gradient.sum(axis=(0, 2, 3) if slopes.size > 1 else None)
        return np.where(x > 0, dy, slopes * dy)

    return backward


def torch(case, threads):
    torch = peers.torch(threads)
    if case is None:
        return torch.__version__
    x, dy, alpha = (torch.from_numpy(v) for v in operands(case))
    out = torch.empty_like(x)
    if case == "relu":
        return lambda: torch.clamp_min(x, 0, out=out)
    if case == "relu backward":
        return lambda: torch.ops.aten.threshold_backward(dy, x, 0)
    if case == "prelu":
        return lambda: torch.prelu(x, alpha)

    def backward():
        slopes = alpha.reshape(1, -1, 1, 1) if alpha.numel() > 1 else alpha
        dx, gradient = torch.ops.aten._prelu_kernel_backward(dy, x, slopes)
        gradient.sum((0, 2, 3) if alpha.numel() > 1 else None)
        return dx

    return backward


PEERS = {"halfwave": halfwave, "NumPy": numpy, "PyTorch": torch}
