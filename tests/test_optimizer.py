"""Gradient descent with momentum, to the bit and in place."""

import numpy as np
import pytest
import reference
from cases import layouts_of, specials
from conftest import everywhere, same_bits
from guards import bad_arrays, bad_outs, refuses, table

import halfwave as hw

DTYPES = ["f4", "f8"]
RATES = [
    {"learning_rate": 0.01},
    {"learning_rate": 0.1, "momentum": 0.0},
    {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
    {"learning_rate": 0.0, "momentum": 0.99, "weight_decay": 1e30},
]


def step(w, dw, velocity, **rates):
    w, velocity = w.copy(), velocity.copy()
    assert hw.sgd_momentum(w, dw, velocity, **rates) is None
    return w, velocity


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("shape", [(), (0,), (5, 3), (200_003,)])
def test_sgd_momentum(shape, rates, dtype, rng):
    arrays = []
    for _ in range(3):
        x = rng.standard_normal(shape).astype(dtype)
        arrays.append(
            np.asarray(np.where(rng.random(shape) < 0.2, rng.choice(specials(dtype), shape), x))
        )
    w, velocity = everywhere(lambda: step(*arrays, **rates))
    full = {"momentum": 0.9, "weight_decay": 0.0, **rates}
    expected_w, expected_velocity = reference.sgd_momentum(*arrays, **full)
    same_bits(w, expected_w)
    same_bits(velocity, expected_velocity)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wherever_lines_begin(dtype, rng):
    """Vectors begin where a line of w does, which may be at any of its elements."""
    per_line = 64 // np.dtype(dtype).itemsize
    w, dw, velocity = (rng.standard_normal(5 * per_line).astype(dtype) for _ in range(3))
    for offset in range(per_line):
        for size in (1, offset, 3 * per_line + 1):
            parts = slice(offset, offset + size)
            all_w, all_v = w.copy(), velocity.copy()
            hw.sgd_momentum(all_w[parts], dw[:size], all_v[:size], **RATES[2])
            expected = reference.sgd_momentum(w[parts], dw[:size], velocity[:size], **RATES[2])
            same_bits(all_w, np.concatenate([w[:offset], expected[0], w[offset + size :]]))
            same_bits(all_v, np.concatenate([expected[1], velocity[size:]]))


def test_kinds_of_memory(rng):
    w, dw, velocity = (rng.standard_normal((4, 5)).astype("f4") for _ in range(3))
    rates = RATES[2]
    expected = step(w, dw, velocity, **rates)
    for w_kind, given_w in layouts_of(w):
        for _, given_dw in layouts_of(dw):
            for kind, given_velocity in layouts_of(velocity):
                if "read-only" in (w_kind, kind):
                    continue
                given_w[...], given_velocity[...] = w, velocity
                hw.sgd_momentum(given_w, given_dw, given_velocity, **rates)
                same_bits(given_w, expected[0])
                same_bits(given_velocity, expected[1])


def test_gradient_may_share_memory(rng):
    w, velocity = (rng.standard_normal(6).astype("f4") for _ in range(2))
    expected = step(w, w.copy(), velocity, learning_rate=0.1)
    given_w, given_velocity = w.copy(), velocity.copy()
    hw.sgd_momentum(given_w, given_w, given_velocity, learning_rate=0.1)
    same_bits(given_w, expected[0])
    same_bits(given_velocity, expected[1])
    expected = step(w, velocity[::-1].copy(), velocity, learning_rate=0.1)
    given_w, given_velocity = w.copy(), velocity.copy()
    hw.sgd_momentum(given_w, given_velocity[::-1], given_velocity, learning_rate=0.1)
    same_bits(given_w, expected[0])
    same_bits(given_velocity, expected[1])


W = np.ones((3, 4), "f4")
SHARED = np.ones((4, 4), "f4")


@pytest.mark.parametrize(
    ("change", "name"),
    table("w", [*bad_arrays(W), *bad_outs(W)])
    + table("dw", bad_arrays(W, shapes=True))
    + table("velocity", [*bad_arrays(W, shapes=True), *bad_outs(W)])
    + table("learning_rate", [-0.1, np.nan, np.inf, None, "0.1", True, [0.1], 1e39])
    + table("momentum", [-0.1, 1, 1.5, np.nan, None, "0.9", True])
    + table("weight_decay", [-1e-4, np.nan, np.inf, None, "0", False, 1e300]),
)
def test_bad_sgd_momentum(change, name):
    good = {"w": W, "dw": W, "velocity": W, "learning_rate": 0.1}
    refuses(hw.sgd_momentum, good, change, [name, "velocity"])


def test_velocity_apart_from_w():
    for w, velocity in [(SHARED[:3], SHARED[1:]), (SHARED, SHARED), (SHARED, SHARED[::-1])]:
        with pytest.raises(ValueError, match="velocity must not share memory"):
            hw.sgd_momentum(w, w.copy(), velocity, learning_rate=0.1)
    assert np.all(SHARED == 1)
