"""The CUDA activations against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import specials
from conftest import same_bits

import halfwave as hw

DTYPES = ["f4", "f8"]
SHAPES = [(), (0,), (1,), (7,), (5, 3), (4, 0, 2), (2, 3, 5, 7), (4096,), (3, 3001), (20011,)]
# Channels' elements: fewer than a chunk of 4096, one, several, and several levels of chunks.
SLOPED = [((2, 3, 5, 8), 1), ((3, 2, 37, 64), 1), ((2, 5, 7), 1), ((0, 4, 3), 1), ((4, 0), 1),
          ((1, 1, 4096), 1), ((2, 3, 2048), 1), ((1, 2, 8200), 1), ((5000, 3), -1), ((9001, 11), 1),
          ((3, 5), 0), ((3, 8191), 0)]  # fmt: skip


def values(rng, shape, dtype):
    """Normal numbers among zeros, subnormals, the largest, infinities and NaN."""
    x = rng.standard_normal(shape).astype(dtype)
    return np.where(rng.random(shape) < 0.1, rng.choice(specials(dtype), shape), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_elementwise(cuda, rng, name, shape, dtype):
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    cuda.agrees(getattr(hw, name), x)
    cuda.agrees(getattr(hw, f"{name}_backward"), dy, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), SLOPED, ids=str)
def test_prelu(cuda, rng, shape, axis, dtype):
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    for alpha in (rng.standard_normal(shape[axis]).astype(dtype), np.full((1, 1), 0.25, dtype)):
        cuda.agrees(hw.prelu, x, alpha, axis=axis)
        cuda.agrees(hw.prelu_backward, dy, x, alpha, axis=axis)
        finite = rng.standard_normal((2, *shape)).astype(dtype)
        cuda.agrees(hw.prelu_backward, *finite, alpha, axis=axis)


def test_misaligned_and_strided(cuda, rng):
    whole = rng.standard_normal((70, 131)).astype("f4")
    there = cuda.put(whole)
    alpha = np.array([0.25], "f4")
    for part in (np.s_[:, 1:], np.s_[1:, :], np.s_[::2, ::-1], np.s_[3, 5:9]):
        same_bits(cuda.get(hw.relu(there[part])), hw.relu(whole[part]))
        flat, flat_there = whole.reshape(-1)[1:8001], there.reshape(-1)[1:8001]
        same_bits(cuda.get(hw.prelu(flat_there, cuda.put(alpha))), hw.prelu(flat, alpha))
    for one, other in zip(
        hw.prelu_backward(flat_there, flat_there, cuda.put(alpha)),
        hw.prelu_backward(flat, flat, alpha),
        strict=True,
    ):
        same_bits(cuda.get(one), other)


def test_out(cuda, rng):
    x = rng.standard_normal((33, 40)).astype("f4")
    expected = hw.relu(x)
    there = cuda.put(x)
    assert hw.relu(there, out=there) is there
    same_bits(cuda.get(there), expected)
    whole = cuda.put(np.zeros((33, 80), "f4"))
    there = cuda.put(x)
    view = whole[:, ::2]
    assert hw.relu(there, out=view) is view
    same_bits(cuda.get(whole)[:, ::2], expected)
    assert not cuda.get(whole)[:, 1::2].any()
    shifted = cuda.put(np.concatenate([x.reshape(-1), [0, 0]]).astype("f4"))
    hw.relu(shifted[:-2], out=shifted[2:])  # overlaps: as if it did not
    same_bits(cuda.get(shifted)[2:], expected.reshape(-1))


def test_out_over_the_slopes(cuda, rng):
    x, dy = rng.standard_normal((2, 3, 6, 7)).astype("f4"), rng.standard_normal((3, 5)).astype("f4")
    expected = hw.prelu(x[0], x[0].reshape(-1)[:3], axis=0)
    gradients = hw.prelu_backward(dy, dy, dy.reshape(-1)[:3], axis=0)
    there, there_dy = cuda.put(x[0]), cuda.put(dy)
    hw.prelu(there, there.reshape(-1)[:3], axis=0, out=there)
    same_bits(cuda.get(there), expected)
    _, dalpha = hw.prelu_backward(
        there_dy, there_dy, there_dy.reshape(-1)[:3], axis=0, out=there_dy
    )
    same_bits(cuda.get(there_dy), gradients[0])
    same_bits(cuda.get(dalpha), gradients[1])


def test_refuses(cuda, rng):
    x = rng.standard_normal((3, 4)).astype("f4")
    there = cuda.put(x)
    with pytest.raises(TypeError, match="dy must lie in GPU memory as x, not CPU"):
        hw.relu_backward(x, there)
    with pytest.raises(TypeError, match="dy must lie in CPU memory as x, not GPU"):
        hw.relu_backward(there, x)
    with pytest.raises(TypeError, match="out must be a CuPy array"):
        hw.relu(there, out=x)
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        hw.relu(x, out=there)
    with pytest.raises(ValueError, match=r"out must have shape \(3, 4\), not \(4, 3\)"):
        hw.relu(there, out=cuda.put(x.T))
    with pytest.raises(TypeError, match="x must be float32 or float64"):
        hw.relu(cuda.put(x.astype("f2")))
