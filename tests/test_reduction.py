"""Sums by CONTRACT.md section 5, on every instruction set and thread count."""

import numpy as np
import pytest
import reference
from conftest import everywhere, same_bits
from halfwave._cpu import reduction


def channel_sums(x3):
    out = np.full(x3.shape[1], 7, x3.dtype)
    reduction.channel_sums(x3, out)
    return out


SHAPES = [
    (0, 3, 1), (3, 0, 2), (2, 3, 0), (1, 1, 1), (1, 1, 5), (1, 1, 1023), (1, 1, 1024), (1, 1, 1025),
    (1, 1, 4095), (1, 1, 4096), (1, 1, 4097), (1, 1, 3 * 4096 + 77), (5, 3, 7), (90, 4, 49),
    (3, 2, 4100), (40, 2, 257), (1, 20, 1), (513, 16, 1), (2049, 17, 1), (9000, 3, 1),
    (4097, 33, 1), (257, 300, 1), (1300, 65, 1), (4097, 520, 1), (200, 40, 49), (2000, 3, 5),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rule(shape, dtype, rng):
    x = (rng.standard_normal(shape) * np.exp(rng.standard_normal(shape) * 4)).astype(dtype)
    result = everywhere(lambda: channel_sums(x))
    same_bits(result, reference.channel_sums(x, 1))
    exact = x.astype("f8").sum((0, 2))
    bound = 30 * np.finfo(dtype).eps * np.abs(x.astype("f8")).sum((0, 2))
    assert np.all(np.abs(result - exact) <= bound)


def test_more_than_one_level_of_chunks(rng):
    x = rng.standard_normal(4096 * 4096 + 5).astype("f4").reshape(1, 1, -1)
    chunks = channel_sums(x[..., : 4096 * 4096].reshape(1, 4096, 4096))
    expected = reference.sum_rule(
        np.append([reference.sum_rule(chunks)], [reference.sum_rule(x[0, 0, -5:])]).astype("f4")
    )
    same_bits(channel_sums(x)[0], expected)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, -0.0, 1e-45])
def test_special_values(special):
    for shape in ((1, 1, 9), (9, 17, 1)):
        x = np.full(shape, special, "f4")
        same_bits(everywhere(lambda x=x: channel_sums(x)), reference.channel_sums(x, 1))
