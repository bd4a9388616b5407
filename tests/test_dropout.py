"""Dropout's mask is the stream's words, to the bit."""

import numpy as np
import pytest
import reference
import reference_random
from cases import layouts_of, specials
from conftest import everywhere, same_bits
from guards import bad_arrays, bad_outs, refuses, table

import halfwave as hw

pytestmark = pytest.mark.usefixtures("stores")

DTYPES = ["f4", "f8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0, 0.1, 0.5, 1 - 2**-24, 1 - 2**-53])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 7), (2, 3, 343)])
def test_dropout(shape, rate, dtype, rng):
    x = np.asarray(rng.choice(specials(dtype), shape))
    words = reference_random.words(x.size, 2**64 - 3, 5).reshape(shape)
    expected = reference.dropout(x, rate, words)
    seed = {"seed": 2**64 - 3, "stream": 5}
    same_bits(everywhere(lambda: hw.dropout(x, rate, **seed)), expected)
    same_bits(everywhere(lambda: hw.dropout_backward(x, rate, **seed)), expected)


def test_many_tasks_and_a_named_stream(rng):
    x = rng.standard_normal(3 * 65536 + 2049 + 3).astype("f4")
    words = hw.random.bits(x.shape, seed=7, stream="fc1")
    y = everywhere(lambda: hw.dropout(x, 0.5, seed=7, stream="fc1"))
    same_bits(y, reference.dropout(x, 0.5, words))
    kept = np.mean(y != 0)
    assert abs(kept - 0.5) < 5 * 0.5 / np.sqrt(x.size)


def test_an_element_is_kept_where_its_uniform_equals_the_rate():
    word = int(hw.random.bits(4, seed=1)[3])
    x = np.ones(4, "f4")
    for step, kept in ((-1, True), (0, True), (1, False)):
        rate = ((word >> 8) + step) / 2**24
        assert (hw.dropout(x, rate, seed=1)[3] != 0) == kept


def test_kinds_of_memory(rng):
    x = rng.standard_normal((4, 9)).astype("f4")
    y = hw.dropout(x, 0.3, seed=1)
    for _, given in layouts_of(x):
        same_bits(hw.dropout(given, 0.3, seed=1), y)
        for kind, out in layouts_of(np.zeros_like(x)):
            if kind != "read-only":
                assert hw.dropout(given, 0.3, seed=1, out=out) is out
                same_bits(out, y)
    same_bits(hw.dropout(buffer := x.copy(), 0.3, seed=1, out=buffer), y)
    buffer = np.concatenate([x, x])
    hw.dropout(buffer[:4], 0.3, seed=1, out=buffer[1:5])
    same_bits(buffer[1:5], y)


X = np.ones((3, 4), "f4")
NUMBERS = (
    table("rate", [-0.1, 1, 1.5, np.nan, np.inf, None, "0.5", True, [0.5], 1j])
    + table("seed", [-1, 2**64, 1.0, None, "1", True, [1]])
    + table("stream", [-1, 2**64, 1.0, None, b"fc", True, ["fc"], "\ud800"])
    + table("out", bad_outs(X))
)


@pytest.mark.parametrize(("change", "name"), table("x", bad_arrays(X)) + NUMBERS)
def test_bad_dropout(change, name):
    refuses(hw.dropout, {"x": X, "rate": 0.5, "seed": 1, "out": X}, change, [name])


@pytest.mark.parametrize(("change", "name"), table("dy", bad_arrays(X)) + NUMBERS)
def test_bad_dropout_backward(change, name):
    refuses(hw.dropout_backward, {"dy": X, "rate": 0.5, "seed": 1, "out": X}, change, [name])
