"""matmul, its backward passes, and the contraction that all of them are."""

import itertools
import warnings

import numpy as np
import pytest
import reference
from cases import DTYPES, EPSILON, layouts_of, specials
from conftest import everywhere, same_bits
from guards import Guards, bad_arrays, bad_outs, refuses, table

import halfwave as hw

# (m, k, n): nothing, one, odd, more than a tile, more than a segment, and a super-segment.
SMALL = [
    (0, 3, 2),
    (2, 0, 3),
    (1, 1, 1),
    (3, 5, 7),
    (1, 9, 40),
    (17, 4, 1),
    (15, 33, 35),
    (4, 513, 3),
]
LARGE = [(130, 700, 150), (1, 2000, 300), (300, 1500, 1), (40, 40, 2100), (2100, 30, 33)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SMALL)
def test_bits_are_the_contracts(shape, dtype, rng):
    m, k, n = shape
    a, b, bias = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (n,)))
    same_bits(everywhere(lambda: hw.matmul(a, b)), reference.matmul(a, b))
    same_bits(everywhere(lambda: hw.matmul(a, b, bias=bias)), reference.matmul(a, b, bias))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [16384, 16385, 40000])
def test_long_axis_folds_by_super_segments(k, dtype, rng):
    a, b = rng.standard_normal((2, k)).astype(dtype), rng.standard_normal((k, 1)).astype(dtype)
    bias = rng.standard_normal(1).astype(dtype)
    expected = reference.matmul(a, b, bias)
    same_bits(everywhere(lambda: hw.matmul(a, b, bias=bias)), expected)
    # Surrounded by other outputs, so that another blocking serves the same contraction.
    wide_a = np.concatenate([rng.standard_normal((60, k)).astype(dtype), a])
    wide_b = np.concatenate([rng.standard_normal((k, 70)).astype(dtype), b], axis=1)
    wide_bias = np.concatenate([np.zeros(70, dtype), bias])
    same_bits(hw.matmul(wide_a, wide_b, bias=wide_bias)[60:, 70:], expected)


def test_super_segments_differ_from_a_plain_fold(rng):
    """The long-axis test can fail: one fold over all segments gives other bits."""
    a, b = (rng.standard_normal(40000).astype(np.float32) for _ in range(2))
    segments = [reference.contract(a[i : i + 512], b[i : i + 512]) for i in range(0, 40000, 512)]
    plain = np.add.accumulate(np.array(segments))[-1]
    assert plain != reference.contract(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SMALL + LARGE)
def test_small_integers_are_exact(shape, dtype, rng):
    m, k, n = shape
    a, b = rng.integers(-8, 9, (m, k)), rng.integers(-8, 9, (k, n))
    result = everywhere(lambda: hw.matmul(a.astype(dtype), b.astype(dtype)))
    np.testing.assert_array_equal(result, a @ b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LARGE)
def test_error_is_within_the_bound(shape, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    bound = (
        (k + 1)
        * EPSILON[np.dtype(dtype)]
        * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    )
    assert (np.abs(hw.matmul(a, b) - exact) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype):
    values = specials(dtype)
    pairs = np.array(list(itertools.product(values, values)))
    a, b = pairs[:, :1], pairs[:, 1:]
    # each product alone, then each followed by another one
    for left, right in ((a, b), (np.repeat(a, 2, 1), np.concatenate([b, b[::-1]], 1))):
        expected = np.array(
            [reference.contract(x, y) for x, y in zip(left, right, strict=True)], dtype
        )
        result = everywhere(lambda x=left, y=right: hw.matmul(x[:, None, :], y[:, :, None]))
        same_bits(result.reshape(-1), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_software_fma_rounds_once(dtype, isa, rng):
    """Products that cancel all but the last bits of the addend: the hard cases of a fused add."""
    a = rng.standard_normal(20000).astype(dtype)
    b = rng.standard_normal(20000).astype(dtype)
    scale = (2.0 ** rng.integers(-30, 30, 20000)).astype(dtype)
    addend = -(a * b) * (1 + EPSILON[np.dtype(dtype)] * rng.integers(-4, 5, 20000)).astype(dtype)
    addend *= np.where(rng.random(20000) < 0.5, 1, scale).astype(dtype)
    left = np.stack([np.ones_like(a), a], axis=1)[:, None, :]
    right = np.stack([addend, b], axis=1)[:, :, None]
    fma = reference.FMA[np.dtype(dtype)]
    expected = [fma(x, y, z) for x, y, z in zip(*(v.tolist() for v in (a, b, addend)), strict=True)]
    same_bits(hw.matmul(left, right).reshape(-1), np.array(expected, dtype))


def test_software_fma_on_subnormal_results(isa, rng):
    a = (rng.standard_normal(5000) * 1e-20).astype(np.float32)
    b = (rng.standard_normal(5000) * 1e-20).astype(np.float32)
    addend = (rng.standard_normal(5000) * 1e-41).astype(np.float32)
    left = np.stack([np.ones_like(a), a], axis=1)[:, None, :]
    right = np.stack([addend, b], axis=1)[:, :, None]
    fma = reference.FMA[np.dtype(np.float32)]
    expected = [fma(x, y, z) for x, y, z in zip(*(v.tolist() for v in (a, b, addend)), strict=True)]
    same_bits(hw.matmul(left, right).reshape(-1), np.array(expected, np.float32))


SHAPES = [
    ((4,), (4,)), ((4,), (4, 3)), ((2, 4), (4,)), ((5, 2, 4), (4, 3)), ((5, 2, 4), (4,)),
    ((4,), (5, 4, 3)), ((5, 2, 4), (5, 4, 3)), ((5, 1, 2, 4), (3, 4, 2)), ((1, 2, 4), (6, 4, 3)),
    ((2, 3, 1, 5), (2, 1, 5, 4)), ((0, 2, 4), (4, 3)), ((3, 2, 0), (3, 0, 4)),
    ((7, 3, 600), (7, 600, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES)
def test_shapes_follow_numpy(a_shape, b_shape, rng):
    a, b = (rng.integers(-9, 9, s).astype(np.float64) for s in (a_shape, b_shape))
    result = everywhere(lambda: hw.matmul(a, b))
    same_bits(result, np.asarray(a @ b) + 0.0)


@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES)
def test_backward_is_the_transpose(a_shape, b_shape, rng):
    """⟨dy, (a + e) b⟩ - ⟨dy, a b⟩ = ⟨da, e⟩ exactly, on integers; likewise for b."""
    a, b = (rng.integers(-9, 9, s).astype(np.float64) for s in (a_shape, b_shape))
    dy = rng.integers(-9, 9, (a @ b).shape).astype(np.float64)
    da, db = everywhere(lambda: hw.matmul_backward(dy, a, b))
    assert da.shape == a_shape
    assert db.shape == b_shape
    e, f = (rng.integers(-9, 9, s).astype(np.float64) for s in (a_shape, b_shape))
    assert (da * e).sum() == (dy * (e @ b)).sum()
    assert (db * f).sum() == (dy * (a @ f)).sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_bits(dtype, rng):
    """The contracted axis is (broadcast batch, rows): one chain across the batch."""
    a, b = rng.standard_normal((3, 250, 4)).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
    dy = rng.standard_normal((3, 250, 5)).astype(dtype)
    da, db = everywhere(lambda: hw.matmul_backward(dy, a, b))
    same_bits(db, reference.matmul(a.reshape(750, 4).T, dy.reshape(750, 5)))
    same_bits(da.reshape(750, 4), reference.matmul(dy.reshape(750, 5), b.T))


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_bias_is_the_sum(dtype, rng):
    dy = rng.standard_normal((3, 40, 7)).astype(dtype)
    result = everywhere(lambda: hw.matmul_backward_bias(dy))
    exact = dy.astype(np.longdouble).sum((0, 1))
    assert np.abs(result - exact).max() <= 120 * EPSILON[np.dtype(dtype)] * np.abs(dy).sum()
    same_bits(result, hw.conv2d_backward_bias(dy.reshape(120, 1, 1, 7), layout="NHWC"))


def test_memory_of_every_kind(isa, rng):
    a, b = rng.standard_normal((2, 9, 20)), rng.standard_normal((2, 20, 33))
    expected = hw.matmul(a, b)
    for (_, one), (_, other) in itertools.product(layouts_of(a), layouts_of(b)):
        same_bits(hw.matmul(one, other), expected)
    row = rng.standard_normal(20)
    same_bits(hw.matmul(np.broadcast_to(row, (9, 20)), b[0]), hw.matmul(np.tile(row, (9, 1)), b[0]))


@pytest.mark.parametrize("k", [20, 700])
def test_out_of_every_kind(k, isa, rng):
    a, b, bias = rng.standard_normal((40, k)), rng.standard_normal((k, 70)), rng.standard_normal(70)
    expected = hw.matmul(a, b, bias=bias)
    for name, out in layouts_of(np.full((40, 70), 7.0)):
        if name == "read-only":
            continue
        assert hw.matmul(a, b, bias=bias, out=out) is out
        same_bits(out, expected)


def test_strided_out_leaves_its_neighbours(rng):
    a, b = rng.standard_normal((5, 6)), rng.standard_normal((6, 7))
    wide = np.full((10, 21), 3.0)
    hw.matmul(a, b, out=wide[::2, ::3])
    same_bits(wide[::2, ::3].copy(), hw.matmul(a, b))
    wide[::2, ::3] = 3.0
    assert (wide == 3.0).all()


def test_overlapping_out(rng):
    memory = rng.standard_normal((12, 12))
    for a, b, out in [
        (memory, memory, memory),
        (memory[:8, :8], memory[4:, 4:], memory[2:10, 2:10]),
        (memory.T, memory, memory[::-1]),
    ]:
        kept = memory.copy()
        expected = hw.matmul(a.copy(), b.copy())
        hw.matmul(a, b, out=out)
        same_bits(out.copy(), expected)
        memory[...] = kept


def test_guard_bytes_stay(isa, rng):
    for m, k, n in SMALL + LARGE[:3]:
        guards = Guards()
        a, b = guards.array(rng.standard_normal((m, k))), guards.array(rng.standard_normal((k, n)))
        bias, out = guards.array(rng.standard_normal(n)), guards.array(np.zeros((m, n)))
        hw.matmul(a, b, bias=bias, out=out)
        assert guards.intact()


A = np.ones((3, 4), np.float32)
B = np.ones((4, 5), np.float32)
OUT = np.zeros((3, 5), np.float32)
BAD = [
    ({"a": None}, "a"), ({"a": 3.0}, "a"), ({"a": [[1.0] * 4]}, "a"), ({"a": "x"}, "a"),
    ({"a": A.astype(np.float16)}, "a"), ({"a": A.astype(np.int64)}, "a"),
    ({"a": A.astype(">f4")}, "a"), ({"a": A.astype(complex)}, "a"), ({"a": A.astype(bool)}, "a"),
    ({"a": A.astype(object)}, "a"), ({"a": np.array(1.0, np.float32)}, "a"),
    ({"a": A.astype(np.float64)}, "b"), ({"a": A[:, :3]}, "b"),
    ({"a": np.ones((2, 3, 4), np.float32), "b": np.ones((3, 4, 5), np.float32)}, "b"),
    ({"b": None}, "b"), ({"b": [1, 2]}, "b"), ({"b": B.astype(np.float64)}, "b"),
    ({"b": B.astype(np.int32)}, "b"), ({"b": B.astype(">f4")}, "b"), ({"b": B[:2]}, "b"),
    ({"b": np.array(2.0, np.float32)}, "b"), ({"b": np.zeros((4, 0, 5), np.float32)}, "b"),
    ({"bias": 1.0}, "bias"), ({"bias": [1.0] * 5}, "bias"), ({"bias": np.ones(4, np.float32)}, "bias"),
    ({"bias": np.ones((1, 5), np.float32)}, "bias"), ({"bias": np.ones(5)}, "bias"),
    ({"b": np.ones(4, np.float32), "bias": np.ones(1, np.float32), "out": None}, "bias"),
    ({"out": 1}, "out"), ({"out": np.zeros((5, 3), np.float32)}, "out"),
    ({"out": np.zeros((3, 5))}, "out"), ({"out": np.zeros((3, 5), ">f4")}, "out"),
    ({"out": np.zeros((3, 5, 1), np.float32)}, "out"), ({"out": [[0.0] * 5] * 3}, "out"),
    ({"out": np.broadcast_to(np.float32(0), (3, 5))}, "out"),
    ({"out": np.lib.stride_tricks.as_strided(np.zeros(7, np.float32), (3, 5), (4, 4))}, "out"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "name"), BAD)
def test_bad_input_is_refused(change, name):
    refuses(hw.matmul, {"a": A, "b": B, "bias": None, "out": OUT}, change, [name])


BAD_BACKWARD = [
    ({"dy": value}, "dy")
    for value in (
        None, 1.0, [[1.0]], "x", OUT.astype(np.float16), OUT.astype(">f4"), OUT.astype(np.int8),
        OUT[:2], OUT[:, :4], OUT[None], OUT.ravel(), np.zeros((0, 5), np.float32),
    )
] + [
    ({name: value}, name)
    for name, good in (("a", A), ("b", B))
    for value in (
        None, 2, [[1.0]], good.astype(np.float64), good.astype(np.float16), good.astype(">f4"),
        good.astype(np.int64), good.astype(complex), np.float32(1)[None][0],
    )
] + [
    ({"a": A[:, :2]}, "b"), ({"b": B[:3]}, "b"), ({"a": A[:2]}, "dy"), ({"b": B[:, :4]}, "dy"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "name"), BAD_BACKWARD)
def test_bad_input_of_backward_is_refused(change, name):
    refuses(hw.matmul_backward, {"dy": OUT, "a": A, "b": B}, change, [name])


SUM = np.zeros(5, np.float32)
BAD_BACKWARD_BIAS = table(
    "dy", [*bad_arrays(OUT), np.float32(1.0), np.array(1.0, np.float32), OUT.astype(np.longdouble),
           OUT.astype("u1"), {}, object()]
) + table(
    "out", [*bad_outs(SUM)[:-1], SUM[:4], np.zeros((5, 1), np.float32), np.zeros(0, np.float32), {}]
)  # fmt: skip


@pytest.mark.parametrize(("change", "name"), BAD_BACKWARD_BIAS)
def test_bad_input_of_backward_bias_is_refused(change, name):
    refuses(hw.matmul_backward_bias, {"dy": OUT, "out": SUM}, change, [name])


def test_warns_of_nothing_on_special_values():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hw.matmul(np.full((2, 2), np.inf), np.zeros((2, 2)))
