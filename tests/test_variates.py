"""The variates of given words, against the oracle bit for bit and against many digits."""

import math

import mpmath
import numpy as np
import pytest
import reference_random as reference
from conftest import everywhere, same_bits
from halfwave._cpu import random as kernels
from scipy import special

# Words at every place where something changes: ends, centre, 24-bit steps, regions of the quantile.
EDGES = sorted(
    {
        w & (2**64 - 1)
        for base in (
            0, 2**8, 2**24, 2**31, 2**32, 2**36, 2**40, 2**62, 2**63, 2**64,
            *(int(p * 2**n) for n in (32, 64) for p in (0.075, 0.925, 0.5, 1.4e-11, 1e-15, 0.25)),
        )
        for w in range(base - 3, base + 4)
    }
)  # fmt: skip


def edges(bits):
    words = [w >> (64 - bits) for w in EDGES] + [w % 2**bits for w in EDGES]
    return np.array(words * 3, f"u{bits // 8}")


def constants(lower, upper, single):
    from halfwave._truncation import constants

    real = np.float32 if single else np.float64
    return constants(float(real(lower)), float(real(upper)), single)


def draw(words, distribution, parameters):
    out = np.empty(words.shape, np.float32 if words.dtype == np.uint32 else np.float64)
    kernels.draw(words, out, distribution, parameters)
    return out


def some_words(bits, rng):
    return np.concatenate([edges(bits), rng.integers(0, 2**bits, 20_011, f"u{bits // 8}")])


@pytest.mark.parametrize("bits", [32, 64])
def test_normal_of_words(bits, rng):
    words = some_words(bits, rng)
    for mean, std in [(0.0, 1.0), (-3.5, 0.125), (1e3, 1e-3)]:
        expected = reference.normal(words, mean, std)
        parameters = tuple(float(expected.dtype.type(x)) for x in (mean, std))
        same_bits(everywhere(lambda p=parameters: draw(words, "normal", p)), expected)


def test_far_words_alone(isa):
    """The far region is worked out only where a word may need it: here one word at a time."""
    for p in [*np.geomspace(1e-19, 1e-10, 50), 1.3887e-11, 1.3889e-11]:
        words = np.array([int(p * 2.0**64), 2**64 - 1 - int(p * 2.0**64)], np.uint64)
        for word in words:
            same_bits(
                draw(word.reshape(1), "normal", (0.0, 1.0)), reference.normal(word.reshape(1))
            )


@pytest.mark.parametrize("bits", [32, 64])
def test_normal_is_odd_and_accurate(bits, rng):
    words = some_words(bits, rng)
    z = draw(words, "normal", (0.0, 1.0))
    same_bits(draw(~words, "normal", (0.0, 1.0)), -z)
    assert np.isfinite(z).all()
    lower = np.minimum(words, ~words)  # of the half where the probability has all its digits
    p = (lower.astype(np.longdouble) + 0.5) * np.longdouble(2.0) ** -bits
    exact = -special.ndtri(p.astype(np.float64))
    # near the centre ndtri's argument has lost what z is made of
    far = np.abs(exact) > (1e-6 if bits == 32 else 0.4)
    error = np.abs(np.abs(z[far]) - np.abs(exact[far])) / np.spacing(np.abs(z[far]))
    assert error.max() < (6.5 if bits == 32 else 12)


def test_normal_against_many_digits(rng):
    """Float64, to the far tails and to the centre, where no library function is good enough."""
    words = np.concatenate([edges(64), rng.integers(0, 2**64, 100, np.uint64)])
    z = draw(words, "normal", (0.0, 1.0))
    with mpmath.workdps(60):
        for word, value in zip(words.tolist(), z.tolist(), strict=True):
            distance = (mpmath.mpf(word) + 0.5) / 2**64 - 0.5
            exact = mpmath.sqrt(2) * mpmath.erfinv(2 * distance)
            assert abs(value - exact) < 12 * math.ulp(float(exact)), word


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.25, 0.25), (3.0, 3.1), (1e5, 1e5 + 1)])
def test_uniform_of_words(bits, bounds, rng):
    words = some_words(bits, rng)
    low, high = bounds
    expected = reference.uniform(words, low, high)
    real = expected.dtype.type
    span = real(high) - real(low)
    last = np.nextafter(real(high), real(low))
    parameters = tuple(float(x) for x in (real(low), span, last))
    result = everywhere(lambda: draw(words, "uniform", parameters))
    same_bits(result, expected)
    assert result.min() >= real(low)
    assert result.max() < real(high)


BOUNDS = [
    (-2.0, 2.0), (-1.0, 3.0), (-0.1, 0.1), (0.0, 1.0), (-1.0, 0.0), (0.5, 0.6), (2.5, np.inf),
    (-np.inf, -2.5), (-np.inf, np.inf), (-np.inf, 0.0), (6.0, 7.0), (-8.0, -6.5), (-30.0, 1e-3),
    (-3.0, 1e-12), (-1e-9, 5.0), (8.0, 9.0), (10.5, 12.0), (-10.6, -10.2),
]  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_truncated_of_words(bits, bounds, rng):
    words = some_words(bits, rng)
    lower, upper = bounds
    expected = reference.truncated(words, 0.5, 2.0, lower, upper)
    parameters = (0.5, 2.0, *constants(lower, upper, bits == 32))
    result = everywhere(lambda: draw(words, "truncated_normal", parameters))
    same_bits(result, expected)
    real = result.dtype.type
    assert result.min() >= real(0.5) + real(2) * real(lower)
    assert result.max() <= real(0.5) + real(2) * real(upper)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_truncated_against_many_digits(bits, bounds):
    """Few words, but each to its exact value: the quantile of the probability it is mapped to."""
    n = 13
    words = np.array([(2**bits - 1) * i // (n - 1) for i in range(n)], f"u{bits // 8}")
    z = draw(words, "truncated_normal", (0.0, 1.0, *constants(*bounds, bits == 32)))
    assert (np.diff(z) > 0).all()
    with mpmath.workdps(120):
        # lower tail of the mirrored interval, so that the probabilities keep their digits
        mirrored = bounds[0] > 0 or bounds[1] > -bounds[0]
        lower, upper = (-bounds[1], -bounds[0]) if mirrored else bounds
        real = z.dtype.type
        phi = lambda x: mpmath.ncdf(mpmath.mpf(float(real(x))))  # noqa: E731
        for word, value in zip(words.tolist(), z.tolist(), strict=True):
            if mirrored:
                word, value = 2**bits - 1 - word, -value
            target = phi(lower) + (word + mpmath.mpf(0.5)) / 2**bits * (phi(upper) - phi(lower))
            slope = mpmath.npdf(value)
            error = abs(mpmath.ncdf(value) - target) / slope
            half_step = (phi(upper) - phi(lower)) / 2 ** (bits + 1) / slope  # the centre is a word
            assert error <= 24 * np.finfo(real).eps * abs(value) + half_step, (word, value)
