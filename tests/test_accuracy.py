"""How far a convolution is from the exact sum, by either plan: CONTRACT.md sections 3 and 4."""

import numpy as np
import pytest
import reference_winograd as oracle
from cases import DTYPES, EPSILON

import halfwave as hw

PASSES = ("conv2d", "conv2d_backward_input", "conv2d_backward_weight")
ROUNDINGS = 20  # of a term's path through the transforms: section 4


def exact(x, w, dy, real=np.float64):
    """y, dx and dw of NCHW arrays with padding 1, in a wider type."""
    x, w, dy = (v.astype(real) for v in (x, w, dy))

    def windows(v):
        v = np.pad(v, ((0, 0), (0, 0), (1, 1), (1, 1)))
        return np.lib.stride_tricks.sliding_window_view(v, (3, 3), (2, 3))

    turned = w[:, :, ::-1, ::-1]
    return (
        np.tensordot(windows(x), w, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2),
        np.tensordot(windows(dy), turned, ((1, 4, 5), (0, 2, 3))).transpose(0, 3, 1, 2),
        np.tensordot(dy, windows(x), ((0, 2, 3), (0, 2, 3))),
    )


def computed(x, w, dy, algorithm):
    options = {"padding": 1, "algorithm": algorithm}
    return (
        hw.conv2d(x, w, **options),
        hw.conv2d_backward_input(dy, w, x.shape, **options),
        hw.conv2d_backward_weight(dy, x, w.shape, **options),
    )


# Bounds of the RMS and the largest error, over the RMS of the exact result: measured and rounded up.
FIGURES = {
    ("direct", "conv2d"): (3.0e-7, 2.5e-6),
    ("direct", "conv2d_backward_input"): (4.0e-7, 3.5e-6),
    ("direct", "conv2d_backward_weight"): (3.0e-7, 2.2e-6),
    ("winograd", "conv2d"): (9.0e-7, 9.0e-6),
    ("winograd", "conv2d_backward_input"): (1.1e-6, 1.1e-5),
    ("winograd", "conv2d_backward_weight"): (8.0e-7, 6.5e-6),
}


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_of_a_layer_of_a_rectifier_network(algorithm):
    """128 channels, 28 × 28, batch 2: rectified normal inputs, He weights, normal gradients."""
    rng = np.random.default_rng(2015)
    x = np.maximum(rng.standard_normal((2, 128, 28, 28), np.float32), 0)
    w = rng.standard_normal((128, 128, 3, 3), np.float32) * np.float32(np.sqrt(2 / (9 * 128)))
    dy = rng.standard_normal((2, 128, 28, 28), np.float32)
    for name, right, found in zip(
        PASSES, exact(x, w, dy), computed(x, w, dy, algorithm), strict=True
    ):
        size = np.sqrt(np.mean(right**2))
        error = np.abs(found - right) / size
        rms, worst = np.sqrt(np.mean(error**2)), error.max()
        assert rms <= FIGURES[algorithm, name][0]
        assert worst <= FIGURES[algorithm, name][1]


# ---- Winograd's bound, element by element --------------------------------------------------------


def absolute(line, length):
    """|L|: the line's matrix, of absolute values."""
    return np.abs(np.array(line(list(np.eye(length)))))


def squared(matrix, d):
    return matrix @ d @ matrix.T


def bounds(x, w, dy):
    """(terms + 20) · ε · |Aᵀ|(Σ |Bᵀ||x||B| · |G||w||Gᵀ|)|A|, and of the other passes, padding 1."""
    x, w, dy = (np.abs(v).astype(np.float64) for v in (x, w, dy))
    b, g = absolute(oracle.b_transposed, 6), absolute(oracle.g, 3)
    a, a_back, g_back = (
        absolute(oracle.a_transposed, 6), absolute(oracle.a, 4), absolute(oracle.g_transposed, 6)
    )  # fmt: skip
    down, across = (-(-n // 4) for n in x.shape[2:])

    def forward(x, w):
        m = np.einsum("tcij,ocij->toij", squared(b, oracle.tiles(x, 6, 1, 1, down, across)),
                      squared(g, w))  # fmt: skip
        grid = squared(a, m).reshape(len(x), down, across, len(w), 4, 4).transpose(0, 3, 1, 4, 2, 5)
        y = grid.reshape(len(x), len(w), 4 * down, 4 * across)[:, :, : x.shape[2], : x.shape[3]]
        return (w.shape[1] + ROUNDINGS) * y

    m = np.einsum(
        "toij,tcij->ocij",
        squared(a_back, oracle.tiles(dy, 4, 0, 0, down, across)),
        squared(b, oracle.tiles(x, 6, 1, 1, down, across)),
    )
    return (
        forward(x, w),
        forward(dy, w[:, :, ::-1, ::-1].swapaxes(0, 1)),
        (len(x) * down * across + ROUNDINGS) * squared(g_back, m),
    )


def _normal(rng, shape):
    return rng.standard_normal(shape)


def _of_many_sizes(rng, shape):
    return np.ldexp(rng.standard_normal(shape), rng.integers(-12, 13, shape))


def _signs(rng, shape):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.99, 1, shape)


def _constant(rng, shape):
    return np.full(shape, rng.uniform(1, 2))


def _alternating(rng, shape):
    """Positive and negative like a chessboard: most frequencies cancel, and so do the outputs."""
    return (-1.0) ** np.indices(shape)[-2:].sum(0) * rng.uniform(1, 1.01, shape)


def _of_a_frequency(rng, shape):
    """Squares whose signs are those of one row of Bᵀ: nothing cancels at one frequency."""
    matrix = np.array(oracle.b_transposed(list(np.eye(6))))
    row, column = (
        np.resize(np.sign(matrix[i]) + (matrix[i] == 0), 40) for i in rng.integers(0, 6, 2)
    )
    return np.outer(row[: shape[2]], column[: shape[3]]) * rng.uniform(1, 1.01, shape)


FILLS = (_normal, _of_many_sizes, _signs, _constant, _alternating, _of_a_frequency)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("channels", [1, 5, 48])
def test_winograds_bound(fill, dtype, channels):
    """Random and adversarial: every element within section 4's bound, in fact within a tenth of it."""
    rng = np.random.default_rng(channels)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    for other in (fill, _of_many_sizes, _signs):
        x, dy = (fill(rng, (1, channels, 9, 12)).astype(dtype) for _ in "xy")
        w = other(rng, (channels, channels, 3, 3)).astype(dtype)
        found, limits = computed(x, w, dy, "winograd"), bounds(x, w, dy)
        right, sizes = exact(x, w, dy, wide), exact(*(np.abs(v) for v in (x, w, dy)))
        for result, limit, truth, size in zip(found, limits, right, sizes, strict=True):
            own = 9 * 108 * channels * np.finfo(wide).eps * size  # of the exact result
            assert (np.abs(result - truth) <= EPSILON[np.dtype(dtype)] * limit / 10 + own).all()
