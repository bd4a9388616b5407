"""The CUDA step of stochastic gradient descent against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import specials
from conftest import same_bits

import halfwave as hw

RATES = {"learning_rate": 0.01, "momentum": 0.9}


def step(put, w, dw, velocity, decay):
    arrays = [put(x.copy()) for x in (w, dw, velocity)]
    hw.sgd_momentum(*arrays, **RATES, weight_decay=decay)
    return arrays


@pytest.mark.parametrize("decay", [0.0, 5e-4])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (33, 41), (5003,)], ids=str)
def test_sgd_momentum(cuda, rng, shape, dtype, decay):
    w, dw, velocity = map(np.asarray, rng.standard_normal((3, *shape)).astype(dtype))
    w = np.where(rng.random(shape) < 0.1, rng.choice(specials(dtype), shape), w)
    expected = step(lambda x: x, w, dw, velocity, decay)
    for one, other in zip(step(cuda.put, w, dw, velocity, decay), expected, strict=True):
        same_bits(cuda.get(one), other)


def test_strided_and_misaligned(cuda, rng):
    whole = rng.standard_normal((3, 40, 31)).astype("f4")
    for part in (np.s_[:, :, 1:], np.s_[:, ::2, ::-1]):
        here, there = whole.copy(), cuda.put(whole)
        hw.sgd_momentum(*here[part], **RATES, weight_decay=0.1)
        w, dw, velocity = (there[i][part[1:]] for i in range(3))
        hw.sgd_momentum(w, dw, velocity, **RATES, weight_decay=0.1)
        same_bits(cuda.get(there), here)
    flat = cuda.put(whole.reshape(-1))
    with pytest.raises(ValueError, match="velocity must not share memory with w"):
        hw.sgd_momentum(flat[:100], flat[200:300], flat[50:150], **RATES)
    with pytest.raises(TypeError, match="dw must lie in GPU memory"):
        hw.sgd_momentum(flat[:100], whole.reshape(-1)[:100], flat[200:300], **RATES)
