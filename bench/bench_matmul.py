"""Matrix products of float32: square, skinny, narrow, with a long axis, batched.

Both operands are given with the call, so nobody packs one of them ahead; all write to a kept array
where the library can.
"""

import numpy as np
import peers
from peers import Job

UNIT = "GFLOP/s"
BLAS = True
CASES = {
    (f"{batch} of " if batch > 1 else "") + f"{m}×{k}×{n}": (batch, m, k, n)
    for batch, m, k, n in [
        (1, 32, 32, 32), (1, 64, 64, 64), (1, 96, 96, 96), (1, 128, 128, 128), (1, 256, 256, 256),
        (1, 512, 512, 512), (1, 1024, 1024, 1024), (1, 2048, 2048, 2048), (1, 4096, 4096, 4096),
        (1, 1, 4096, 4096), (1, 2, 4096, 4096), (1, 4, 4096, 4096), (1, 8, 4096, 4096),
        (1, 16, 4096, 4096), (1, 4096, 4096, 16), (1, 4096, 4096, 64), (1, 4096, 64, 4096),
        (1, 64, 65536, 64), (64, 64, 64, 64), (12, 256, 64, 256),
    ]
}  # fmt: skip


def kind(case):
    batch, m, k, n = case
    if min(m, k, n) >= 512:
        return "matrix product, 512³ to 4096³"
    if batch > 1:
        return "matrix product, batches"
    if m == k == n:
        return "matrix product, 32³ to 256³"
    if m <= 16:
        return "matrix product, 1 to 16 rows × 4096 × 4096"
    return "matrix product, a narrow side or a long axis"


def work(case):
    return 2 * case[0] * case[1] * case[2] * case[3]


def bounds(case):
    """Arithmetic, and for few rows the reading of the other matrix."""
    _, m, k, n = case
    few = {"read": 4 * k * n} if m <= 16 else {"read": 4 * m * k} if n <= 16 else {}
    return {"fma": work(case)} | few


def operands(case):
    batch, m, k, n = case
    lead = (batch,) if batch > 1 else ()
    return peers.array(*lead, m, k), peers.array(*lead, k, n, seed=1), peers.memory(*lead, m, n)


def halfwave(case, variant):
    import halfwave as hw

    a, b, out = operands(case)
    return Job(lambda: hw.matmul(a, b, out=out))


def numpy(case, variant):
    a, b, out = operands(case)
    return Job(lambda: np.matmul(a, b, out=out))


def torch(case, variant):
    import torch

    a, b, out = map(torch.from_numpy, operands(case))
    return Job(lambda: torch.matmul(a, b, out=out))


def onednn(case, variant):
    """PyTorch multiplies float32 by MKL; its layers, once compiled, by oneDNN. The weights of a layer
    are the transposed operand."""
    import torch

    a, b, _ = operands(case)
    if a.ndim > 2:
        return None
    a, b = torch.from_numpy(a), torch.from_numpy(np.ascontiguousarray(b.T))
    return Job(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))


def onnxruntime(case, variant):
    a, b, out = operands(case)
    return peers.session("MatMul", {"a": a, "b": b}, out.shape)


def jax(case, variant):
    import jax.numpy as jnp

    a, b, _ = operands(case)
    return peers.compiled(jnp.matmul, a, b)


def thinc(case, variant):
    from thinc.api import NumpyOps

    a, b, out = operands(case)
    if a.ndim > 2:
        return None
    ops = NumpyOps()
    return Job(lambda: ops.gemm(a, b, out=out))
