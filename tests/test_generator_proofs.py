"""That the generator is what it is said to be: frozen hashes, and statistics of what it draws.

Seeds are fixed, so a test that passes once passes always. Each threshold is one that a right generator
with random seeds exceeds once in about ten thousand draws, unless another is stated.
"""

import hashlib
import math

import numpy as np
import pytest
from halfwave._cpu import random as kernels
from scipy import special, stats

import halfwave as hw

# Of all 2**32 float32 normals, in the order of their words; and of every 256th, see `sample_words`.
ALL_NORMALS = "5be39671c0f588d8b33fd943a8220ec1b894c7de3295696d07f97c7ef8eebde4"
SAMPLE_OF_NORMALS = "0a744ad1b904b3ce0cc3f2032fe29129a2e9f78ebb26dfec2ba3fc30434a1e5b"
LARGEST_ERROR = 6.14  # ulp

N = 1 << 21


def normals(words):
    out = np.empty(words.shape, np.float32)
    kernels.draw(words, out, "normal", (0.0, 1.0))
    return out


def sample_words():
    """2**24 words, one of each 256, whose low bytes take every value."""
    i = np.arange(2**24, dtype=np.uint32)
    return i * np.uint32(256) + i % np.uint32(256)


# ---- frozen bits -------------------------------------------------------------------------------------


def test_hash_of_a_sample(isa):
    assert hashlib.sha256(normals(sample_words()).tobytes()).hexdigest() == SAMPLE_OF_NORMALS


@pytest.mark.slow
def test_hash_and_error_of_all_normals(capsys):
    """Against the float64 quantile, whose error is 2**-29 of what is measured here."""
    digest, largest, size = hashlib.sha256(), 0.0, 1 << 22
    exact = np.empty(size)
    for first in range(0, 2**32, size):
        words = np.arange(first, first + size, dtype=np.uint64)
        z = normals(words.astype(np.uint32))
        digest.update(z)
        kernels.draw(words << np.uint64(32) | np.uint64(2**31 - 1), exact, "normal", (0.0, 1.0))
        error = np.abs(z - exact) / np.spacing(np.abs(exact).astype(np.float32))
        largest = max(largest, error.max())
    with capsys.disabled():
        print(
            f"\nall float32 normals: sha256 {digest.hexdigest()}, error at most {largest:.4f} ulp"
        )
    assert digest.hexdigest() == ALL_NORMALS
    assert largest < LARGEST_ERROR


# ---- words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_bits_are_even(seed):
    words = hw.random.bits(N, seed=seed)
    ones = np.array([np.count_nonzero(words & np.uint32(1 << b)) for b in range(32)])
    assert np.abs(ones - N / 2).max() < 4.9 * math.sqrt(N) / 2  # the largest of 32
    for shift in (0, 8, 16, 24):  # bytes: chi-square of 255 degrees, here to ±4.2 σ
        counts = np.bincount((words >> np.uint32(shift) & np.uint32(255)).astype(np.intp))
        chi = ((counts - N / 256) ** 2 / (N / 256)).sum()
        assert abs(chi - 255) < 4.2 * math.sqrt(2 * 255)


def test_neighbours_do_not_collide():
    """The words of 64 seeds × 64 streams: as many equal pairs as chance gives."""
    words = np.concatenate(
        [hw.random.bits(16, seed=s, stream=t) for s in range(64) for t in range(64)]
    )
    pairs = len(words) - len(np.unique(words))
    expected = len(words) ** 2 / 2 / 2**32
    assert abs(pairs - expected) < 4 * math.sqrt(expected) + 1


# ---- normals -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["float32", "float64"])
def z(request):
    return hw.init.normal(N, seed=2015, stream="proof", dtype=request.param).astype(np.float64)


def test_moments(z):
    """Of order 1 to 8, each against its own standard error."""
    for k, (moment, of_twice) in enumerate(
        [(0, 1), (1, 3), (0, 15), (3, 105), (0, 945), (15, 10395), (0, 135135), (105, 2027025)], 1
    ):
        error = math.sqrt((of_twice - moment**2) / N)
        assert abs((z**k).mean() - moment) < 3.9 * error, k


def test_kolmogorov_smirnov(z):
    assert stats.kstest(z, "norm").pvalue > 1e-4


def test_anderson_darling(z):
    """Of the fully specified normal, where 6.0 is exceeded once in a thousand."""
    ordered = np.sort(z)
    weight = (2 * np.arange(N) + 1) / N
    a_squared = -N - (weight * (special.log_ndtr(ordered) + special.log_ndtr(-ordered[::-1]))).sum()
    assert a_squared < 6.0


@pytest.mark.parametrize("sigma", [3, 4, 5])
def test_tails(z, sigma):
    probability = math.erfc(sigma / math.sqrt(2)) / 2
    for tail in (z, -z):
        count, expected = np.count_nonzero(tail > sigma), N * probability
        assert abs(count - expected) < 4 * math.sqrt(expected) + 1


def test_extremes():
    """The largest float32 normal is that of the last word: 6.338; each end turns up when drawn."""
    ends = normals(np.array([0, 2**31 - 1, 2**31, 2**32 - 1], np.uint32))
    assert ends[0] == -ends[3]
    assert ends[1] == -ends[2]
    assert abs(ends[3] - 6.33795819) < 1e-5
    assert abs(ends[2] / (math.sqrt(2 * math.pi) / 2**33) - 1) < 1e-6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"seed": 1}, {"seed": 2}),
        ({"seed": 0}, {"seed": 2**32}),
        ({"seed": 1}, {"seed": 1, "stream": 1}),
        ({"seed": 1, "stream": 7}, {"seed": 1, "stream": 8}),
        ({"seed": 1, "stream": 0}, {"seed": 1, "stream": 2**32}),
        ({"seed": 1, "stream": "conv1.weight"}, {"seed": 1, "stream": "conv2.weight"}),
        ({"seed": 1, "stream": 2}, {"seed": 2, "stream": 1}),
    ],
)
def test_neighbours_are_uncorrelated(one, other):
    """At every shift of up to 8 places, of the values and of their squares."""
    n = 1 << 20
    x, y = (hw.init.normal(n, **o).astype(np.float64) for o in (one, other))
    for shift in range(-8, 9):
        a, b = (x[shift:], y[: n - shift]) if shift >= 0 else (x[:shift], y[-shift:])
        assert abs(a @ b / len(a)) < 5.2 / math.sqrt(n)  # the largest of 34
        assert abs((a * a - 1) @ (b * b - 1) / len(a)) < 5.2 * 2 / math.sqrt(n)


def test_a_stream_is_uncorrelated_with_itself():
    x = hw.init.normal(1 << 20, seed=3).astype(np.float64)
    for shift in [*range(1, 33), 1024, 16384]:
        assert abs(x[shift:] @ x[:-shift]) < 5.2 * math.sqrt(len(x))


# ---- uniform and truncated ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform(dtype):
    u = hw.init.uniform(N, -3.0, 5.0, seed=1, dtype=dtype).astype(np.float64)
    assert stats.kstest(u, "uniform", (-3, 8)).pvalue > 1e-4
    assert abs(u.mean() - 1) < 3.9 * 8 / math.sqrt(12 * N)
    assert abs(u.var() / (64 / 12) - 1) < 3.9 * math.sqrt(0.8 / N)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "bounds",
    [(-2, 2), (-1, 3), (0, math.inf), (3, math.inf), (-4, -3), (-8, -7), (1, 1.5), (-6, 6)],
)
def test_truncated(bounds, dtype):
    """Mean, variance, distribution, and the outermost thousandth at either bound."""
    n = 1 << 19
    x = hw.init.truncated_normal(n, 0, 1, *bounds, seed=5, dtype=dtype).astype(np.float64)
    law = stats.truncnorm(*bounds)
    assert x.min() >= bounds[0]
    assert x.max() <= bounds[1]
    assert abs(x.mean() - law.mean()) < 3.9 * law.std() / math.sqrt(n)
    if math.isfinite(bounds[0]) and bounds[1] != math.inf:
        kurtosis = float(law.stats("k"))
        assert abs(x.var() / law.var() - 1) < 3.9 * math.sqrt((kurtosis + 2) / n)
    u = law.cdf(x)
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    for tail in (u < 1e-3, u > 1 - 1e-3):
        assert abs(np.count_nonzero(tail) - n / 1000) < 4 * math.sqrt(n / 1000)


def test_truncated_weights_have_the_std_asked_for():
    """What is left within ±2 has 0.8796 of the std; the initializers make up for it."""
    w = hw.init.he_truncated_normal((2048, 512), seed=1).astype(np.float64)
    std = math.sqrt(2 / 512)
    assert abs(w.std() / std - 1) < 3.9 * math.sqrt((3 - 0.63 - 1) / 4 / w.size)
    assert np.abs(w).max() <= 2 * std / 0.87962566103423978 * (1 + 1e-6)
