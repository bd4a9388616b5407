"""Products on the tensor cores: close to the exact ones by the factors' rounding, and repeatable.

The emulation computes fragments as the PTX manual lays them out, and adds up in another order than the
hardware may.
"""

import numpy as np
import pytest
from conftest import same_bits

import halfwave as hw

# Of a factor: half a unit in the last place of 11 and of 8 bits; two factors, and the sum in float32.
UNIT = {"tf32": 2.0**-11, "bf16": 2.0**-8}
SHAPES = [
    (40, 50, 36),
    (130, 70, 140),
    (1, 1, 1),
    (5, 600, 3),
    (128, 32, 128),
    (3, 0, 4),
]


def close(actual, a, b, precision, bias=0):
    a, b = a.astype("f8"), b.astype("f8")
    terms = a.shape[-1]
    bound = (np.abs(a) @ np.abs(b)) * (
        2.1 * UNIT[precision] + terms * 2.0**-23
    ) + 2.0**-23 * np.abs(bias)
    assert actual.dtype == np.float32
    assert (np.abs(actual - (a @ b + bias)) <= bound).all()


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matmul(cuda, rng, shape, precision):
    m, k, n = shape
    a, b = rng.standard_normal((m, k), dtype="f4"), rng.standard_normal((k, n), dtype="f4")
    bias = rng.standard_normal(n, dtype="f4")
    there = [cuda.put(a), cuda.put(b)]
    found = cuda.get(hw.matmul(*there, precision=precision))
    close(found, a, b, precision)
    same_bits(cuda.get(hw.matmul(*there, precision=precision)), found)
    close(
        cuda.get(hw.matmul(*there, bias=cuda.put(bias), precision=precision)), a, b, precision, bias
    )
    transposed = cuda.put(np.ascontiguousarray(a.T)).T, cuda.put(np.ascontiguousarray(b.T)).T
    close(cuda.get(hw.matmul(*transposed, precision=precision)), a, b, precision)


@pytest.mark.parametrize("precision", UNIT)
def test_small_integers_are_exact(cuda, rng, precision):
    a, b = (rng.integers(-8, 9, shape).astype("f4") for shape in ((70, 90), (90, 33)))
    same_bits(cuda.get(hw.matmul(cuda.put(a), cuda.put(b), precision=precision)), a @ b)


def test_they_round(cuda):
    """So that no path gives the exact product under another name."""
    x = np.full((1, 1), 1 + 2.0**-9 + 2.0**-12, "f4")
    one = cuda.put(np.ones((1, 1), "f4"))
    assert cuda.get(hw.matmul(cuda.put(x), one, precision="tf32")) == 1 + 2.0**-9
    assert cuda.get(hw.matmul(cuda.put(x), one, precision="bf16")) == 1


def test_matmul_backward(cuda, rng):
    dy, a, b = (rng.standard_normal(s, dtype="f4") for s in ((2, 9, 8), (2, 9, 30), (30, 8)))
    da, db = hw.matmul_backward(*map(cuda.put, (dy, a, b)), precision="tf32")
    close(cuda.get(da), dy, b.T, "tf32")
    close(cuda.get(db), a.reshape(-1, 30).T, dy.reshape(-1, 8), "tf32")


def test_refuses(cuda, rng, monkeypatch):
    a = rng.standard_normal((4, 4), dtype="f4")
    with pytest.raises(ValueError, match="precision must be None on the CPU, not 'tf32'"):
        hw.matmul(a, a, precision="tf32")
    with pytest.raises(ValueError, match="precision must be one of 'tf32', 'bf16', not 'fp8'"):
        hw.matmul(cuda.put(a), cuda.put(a), precision="fp8")
    with pytest.raises(TypeError, match="precision 'bf16' is for float32 arrays, not float64"):
        hw.matmul(cuda.put(a.astype("f8")), cuda.put(a.astype("f8")), precision="bf16")
    monkeypatch.setattr(cuda.device, "capability", lambda: "75")
    with pytest.raises(ValueError, match=r"capability 8\.0 or newer, not 7\.5"):
        hw.matmul(cuda.put(a), cuda.put(a), precision="tf32")
