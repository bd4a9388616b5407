"""Dropout on the GPU against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import specials
from conftest import same_bits

import halfwave as hw

DTYPES = ["f4", "f8"]
SHAPES = [(), (0,), (1,), (5, 7), (2047,), (2048,), (4096,), (3, 1367), (8193,)]
ENDS = [(0, 0), (2**64 - 1, 2**64 - 1), (2**32, 2**32 - 1), (7, "fc1")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dropout(cuda, rng, shape, dtype):
    x = np.asarray(rng.standard_normal(shape), dtype)
    x = np.where(rng.random(shape) < 0.1, rng.choice(specials(dtype), shape), x)
    for (seed, stream), rate in zip(ENDS, (0, 0.5, 1 - 2**-53, 0.1), strict=True):
        cuda.agrees(hw.dropout, x, rate, seed=seed, stream=stream)
        cuda.agrees(hw.dropout_backward, x, rate, seed=seed, stream=stream)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kinds_of_memory(cuda, rng, dtype):
    whole = rng.standard_normal((70, 131)).astype(dtype)
    there = cuda.put(whole)
    for part in (np.s_[:, 1:], np.s_[1:, :], np.s_[::2, ::-1], np.s_[3, 5:9]):
        expected = hw.dropout(whole[part], 0.3, seed=1)
        same_bits(cuda.get(hw.dropout(there[part], 0.3, seed=1)), expected)
    expected = hw.dropout(whole, 0.3, seed=1)
    wide = cuda.put(np.zeros((70, 262), dtype))
    assert hw.dropout(there, 0.3, seed=1, out=(view := wide[:, ::2])) is view
    same_bits(cuda.get(wide)[:, ::2], expected)
    assert not cuda.get(wide)[:, 1::2].any()
    assert hw.dropout(there, 0.3, seed=1, out=there) is there
    same_bits(cuda.get(there), expected)
    shifted = cuda.put(np.concatenate([whole.reshape(-1), [0, 0]]).astype(dtype))
    hw.dropout(shifted[:-2], 0.3, seed=1, out=shifted[2:])  # overlaps: as if it did not
    same_bits(cuda.get(shifted)[2:], expected.reshape(-1))


def test_refuses(cuda):
    x = np.ones((3, 4), "f4")
    there = cuda.put(x)
    with pytest.raises(TypeError, match="out must be a CuPy array"):
        hw.dropout(there, 0.5, seed=1, out=x)
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        hw.dropout(x, 0.5, seed=1, out=there)
    with pytest.raises(ValueError, match="rate must lie in"):
        hw.dropout(there, 1, seed=1)
    with pytest.raises(TypeError, match="dy must be float32 or float64"):
        hw.dropout_backward(cuda.put(x.astype("i4")), 0.5, seed=1)
