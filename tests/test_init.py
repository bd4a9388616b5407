"""The initializers against the oracle, bit for bit, and against what their papers say."""

import math

import numpy as np
import pytest
import reference_random as reference
from conftest import everywhere, same_bits

import halfwave as hw

REALS = {"float32": np.float32, "float64": np.float64}
BITS = {"float32": 32, "float64": 64}


@pytest.mark.parametrize("dtype", REALS)
def test_functions_use_the_array_s_words(dtype):
    shape = (3, 5, 67)
    words = reference.words(math.prod(shape), 99, "w", BITS[dtype]).reshape(shape)
    common = {"seed": 99, "stream": "w", "dtype": dtype}
    for result, expected in [
        (lambda: hw.init.normal(shape, 0.1, 0.3, **common), reference.normal(words, 0.1, 0.3)),
        (lambda: hw.init.uniform(shape, -0.3, 0.7, **common), reference.uniform(words, -0.3, 0.7)),
        (
            lambda: hw.init.truncated_normal(shape, 0.1, 0.3, -1, 2.5, **common),
            reference.truncated(words, 0.1, 0.3, -1, 2.5),
        ),
    ]:
        same_bits(everywhere(result), expected)


def test_float16_is_float32_rounded(isa, rng):
    for draw_as in (
        lambda dtype: hw.init.normal(70_001, 0, 3e-6, seed=1, dtype=dtype),  # mostly subnormal
        lambda dtype: hw.init.normal(70_001, 1, 200, seed=2, dtype=dtype),
        lambda dtype: hw.init.normal(70_001, 0, 40_000, seed=3, dtype=dtype),  # some overflow
        lambda dtype: hw.init.uniform(70_001, -1, 1, seed=3, dtype=dtype),
        lambda dtype: hw.init.he_normal((64, 128, 3, 3), seed=3, dtype=dtype),
    ):
        with np.errstate(over="ignore"):
            same_bits(draw_as("float16"), draw_as("float32").astype(np.float16))


def test_float16_rounding_of_every_half_way_point(isa):
    """Scaled so that each float16 and each middle between two turns up."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    values = np.concatenate([halves, (halves[1:] + halves[:-1]) / 2]).astype(np.float32)
    values = np.concatenate([values, np.nextafter(values, 0), np.nextafter(values, 1e9), -values])
    for value in np.unique(values[::37]):
        result = hw.init.normal(3, float(value), 0.0, seed=0, dtype="float16")
        with np.errstate(over="ignore"):
            same_bits(result, np.full(3, value).astype(np.float16))


# ---- fans, gains, scales -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((256, 128), {}, (128, 256)),
        ((128, 256), {"layout": "HWIO"}, (128, 256)),
        ((256, 128, 3, 3), {}, (1152, 2304)),
        ((3, 3, 128, 256), {"layout": "HWIO"}, (1152, 2304)),
        ((256, 32, 3, 3), {"groups": 4}, (288, 576)),
        ((3, 3, 32, 256), {"groups": 4, "layout": "HWIO"}, (288, 576)),
        ((64, 1, 5, 5), {"groups": 64}, (25, 25)),  # depthwise
        ((128, 256, 3, 3), {"transposed": True}, (1152, 2304)),
        ((128, 64, 3, 3), {"transposed": True, "groups": 4}, (288, 576)),
        ((3, 3, 64, 128), {"transposed": True, "groups": 4, "layout": "HWIO"}, (288, 576)),
        ((8, 4, 5), {}, (20, 40)),
        ((8, 4, 2, 3, 5), {}, (120, 240)),
        ((0, 4), {}, (4, 0)),
    ],
)
def test_fans(shape, options, expected):
    assert hw.init.fans(shape, **options) == expected


@pytest.mark.parametrize(
    ("x", "w", "groups"), [((6, 7, 7), (9, 2, 3, 3), 3), ((4, 5, 5), (4, 1, 3, 3), 4)]
)
def test_fans_count_connections(x, w, groups):
    """fan_in and fan_out are the non-zero entries a row and a column of the layer's matrix have."""
    ones = np.ones((1, *x), np.float64)
    reach = hw.conv2d(ones, np.ones(w), padding=1, groups=groups)
    back = hw.conv2d_backward_input(
        np.ones_like(reach), np.ones(w), (1, *x), padding=1, groups=groups
    )
    assert hw.init.fans(w, groups=groups) == (reach.max(), back.max())


def test_gain():
    assert hw.init.gain("linear") == hw.init.gain("sigmoid") == 1
    assert hw.init.gain("tanh") == 5 / 3
    assert hw.init.gain("relu") == math.sqrt(2)
    assert hw.init.gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert hw.init.gain("prelu") == math.sqrt(2 / (1 + 0.25**2))
    assert hw.init.gain("prelu", 1.0) == 1


SHAPE, FAN_IN, FAN_OUT = (96, 16, 3, 3), 16 * 9, 24 * 9  # 4 groups
STD = {
    "lecun": math.sqrt(1 / FAN_IN),
    "xavier": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "glorot": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "he": math.sqrt(2 / FAN_IN),
    "kaiming": math.sqrt(2 / FAN_IN),
}


@pytest.mark.parametrize("family", STD)
@pytest.mark.parametrize("dtype", REALS)
def test_scaled_families(family, dtype):
    options = {"seed": 5, "stream": "conv", "dtype": dtype}
    std = STD[family]
    for distribution, expected in {
        "normal": hw.init.normal(SHAPE, 0, std, **options),
        "uniform": hw.init.uniform(SHAPE, -math.sqrt(3) * std, math.sqrt(3) * std, **options),
        "truncated_normal": hw.init.truncated_normal(
            SHAPE, 0, std / 0.87962566103423978, **options
        ),
    }.items():
        result = getattr(hw.init, f"{family}_{distribution}")(SHAPE, groups=4, **options)
        np.testing.assert_allclose(result, expected, atol=8 * std * np.finfo(dtype).eps)
        assert abs(result.std() / std - 1) < 0.02
        assert abs(result.mean()) < 4 * std / math.sqrt(result.size)


def test_scaled_modes_and_gains():
    options = {"seed": 5, "groups": 4, "dtype": "float64"}
    for mode, fan in {
        "fan_in": FAN_IN,
        "fan_out": FAN_OUT,
        "fan_avg": (FAN_IN + FAN_OUT) / 2,
        "geo_avg": math.sqrt(FAN_IN * FAN_OUT),
    }.items():
        expected = hw.init.normal(SHAPE, 0, math.sqrt(3.5 / fan), seed=5, dtype="float64")
        same_bits(hw.init.variance_scaling(SHAPE, 3.5, mode, "normal", **options), expected)
    same_bits(
        hw.init.he_normal(SHAPE, mode="fan_out", negative_slope=0.25, **options),
        hw.init.variance_scaling(SHAPE, 2 / (1 + 0.25**2), "fan_out", "normal", **options),
    )
    same_bits(
        hw.init.xavier_uniform(SHAPE, gain=5 / 3, **options),
        hw.init.variance_scaling(SHAPE, (5 / 3) ** 2, "fan_avg", "uniform", **options),
    )


def test_he_std_to_the_bit():
    """What a reader of the paper writes down: √(2/n), no more roundings than that."""
    words = reference.words(100, 1, 0)
    expected = reference.normal(words, 0.0, reference.he_std(25 * 3)).reshape(4, 25)
    same_bits(hw.init.he_normal((4, 25, 3), seed=1).reshape(-1)[:100].reshape(4, 25), expected)


# ---- fixed ones and the orthogonal one ----------------------------------------------------------------


def test_constants_and_identities():
    for dtype in ("float16", "float32", "float64"):
        same_bits(hw.init.zeros((3, 4), dtype=dtype), np.zeros((3, 4), dtype))
        same_bits(hw.init.constant((3, 4), 0.1, dtype=dtype), np.full((3, 4), 0.1, dtype))
        for shape in [(4, 4), (3, 5), (5, 3), (0, 3)]:
            expected = 0.1 * np.eye(*shape)
            same_bits(hw.init.identity(shape, 0.1, dtype=dtype), expected.astype(dtype))


def test_dirac_hands_on_its_input(rng):
    x = rng.standard_normal((2, 6, 5, 5)).astype(np.float32)
    for groups in (1, 2, 3):
        w = hw.init.dirac((6, 6 // groups, 3, 3), groups=groups)
        same_bits(hw.conv2d(x, w, padding=1, groups=groups), x)
    wide = hw.init.dirac((9, 6, 3, 3))
    assert wide.sum() == 6
    same_bits(hw.init.dirac((3, 3, 6, 9), layout="HWIO").transpose(3, 2, 0, 1).copy(), wide)
    assert hw.init.dirac((2, 2, 4))[0, 0].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 1), (1, 5), (7, 3), (3, 7), (40, 40), (65, 33), (4, 3, 3, 3)]
)
def test_orthogonal(shape):
    for dtype in REALS:
        result = everywhere(lambda d=dtype: hw.init.orthogonal(shape, 1.5, seed=8, dtype=d))
        normal = hw.init.normal(shape, seed=8, dtype=dtype).reshape(shape[0], -1)
        wide = normal.shape[0] < normal.shape[1]
        expected = reference.orthogonal(normal.T if wide else normal, 1.5)
        expected = (expected.T if wide else expected).astype(dtype).reshape(shape)
        same_bits(result, np.ascontiguousarray(expected))
        q = result.astype(np.float64).reshape(shape[0], -1) / 1.5
        product = q @ q.T if wide else q.T @ q
        assert np.abs(product - np.eye(len(product))).max() < 8 * np.finfo(dtype).eps


def test_orthogonal_layouts_and_dtypes():
    same_bits(
        hw.init.orthogonal((3, 3, 4, 8), layout="HWIO", seed=1, dtype="float16"),
        hw.init.orthogonal((3 * 3 * 4, 8), seed=1).astype(np.float16).reshape(3, 3, 4, 8),
    )
    assert hw.init.orthogonal((0, 3), seed=1).shape == (0, 3)


def test_orthogonal_is_even():
    """Haar: a matrix entry of a 3 × 3 rotation or reflection has mean 0 and variance 1/3, and the
    sign of the determinant is a coin."""
    q = np.stack([hw.init.orthogonal((3, 3), seed=s, dtype="float64") for s in range(3000)])
    assert np.abs(q.mean(0)).max() < 4 * math.sqrt(1 / 3 / 3000)
    assert np.abs((q**2).mean(0) - 1 / 3).max() < 4 * math.sqrt(4 / 45 / 3000)
    assert abs((np.linalg.det(q) > 0).mean() - 0.5) < 4 * 0.5 / math.sqrt(3000)


# ---- what all of them share ---------------------------------------------------------------------------

ALL = {
    "normal": lambda **o: hw.init.normal((9, 8, 3, 3), 0.5, 2.0, **o),
    "uniform": lambda **o: hw.init.uniform((9, 8, 3, 3), -1, 2, **o),
    "truncated_normal": lambda **o: hw.init.truncated_normal((9, 8, 3, 3), **o),
    "he_normal": lambda **o: hw.init.he_normal((9, 8, 3, 3), mode="fan_out", groups=3, **o),
    "lecun_uniform": lambda **o: hw.init.lecun_uniform((9, 8, 3, 3), **o),
    "xavier_truncated_normal": lambda **o: hw.init.xavier_truncated_normal((9, 8, 3, 3), **o),
    "zeros": lambda **o: hw.init.zeros((9, 8, 3, 3), **o),
    "constant": lambda **o: hw.init.constant((9, 8, 3, 3), 2.5, **o),
    "dirac": lambda **o: hw.init.dirac((9, 8, 3, 3), groups=3, **o),
    "orthogonal": lambda **o: hw.init.orthogonal((9, 8, 3, 3), **o),
}
SHARDS = [
    (slice(3, 7),),
    (slice(None), slice(None, None, -3), slice(2), slice(None, None, 2)),
    (slice(8, 0, -4), slice(5, 5)),
    (slice(-2, None), slice(1, 2), slice(None), slice(-1, None)),
]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_shards_and_out(name, dtype):
    options = {"seed": 2**63, "stream": 4, "dtype": dtype}
    whole = ALL[name](**options)
    assert whole.dtype == dtype
    assert whole.flags.c_contiguous
    for shard in SHARDS:
        part = np.ascontiguousarray(whole[shard])
        same_bits(ALL[name](shard=shard, **options), part)
        guarded = np.full([2 * n + 2 for n in part.shape], 7, dtype)
        view = guarded[tuple(slice(2 * n, 0, -2) for n in part.shape)]
        assert ALL[name](shard=shard, out=view, **options) is view
        same_bits(np.ascontiguousarray(view), part)
        view[...] = 7
        assert (guarded == 7).all()


def test_identity_shard():
    whole = hw.init.identity((6, 9), 2.0)
    shard = (slice(None, None, -2), slice(1, None))
    same_bits(hw.init.identity((6, 9), 2.0, shard=shard), whole[shard].copy())


def test_names_and_seeds_give_different_values():
    first = hw.init.normal(1000, seed=0)
    for other in (
        {"seed": 1},
        {"seed": 2**32},
        {"seed": 0, "stream": 1},
        {"seed": 0, "stream": "a"},
    ):
        assert not (hw.init.normal(1000, **other) == first).any()


def test_large_arrays_use_every_thread():
    for dtype in REALS:
        same_bits(
            everywhere(lambda d=dtype: hw.init.he_normal((100_003, 3), seed=1, dtype=d)),
            hw.init.he_normal((100_003, 3), seed=1, dtype=dtype),
        )
