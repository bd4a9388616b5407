"""Rectifiers against their oracles to the bit, and what out=, strides and bad arguments do."""

import numpy as np
import pytest
import reference
from conftest import everywhere, same_bits

import halfwave as hw

DTYPES = ["f4", "f8"]
SHAPES = [(), (0,), (1,), (3,), (64,), (5, 3), (4, 0, 2), (2, 3, 5, 7), (1, 16, 33, 33), (70001,)]


def values(rng, shape, dtype):
    """Normal numbers among zeros, subnormals, the largest, infinities and NaN."""
    x = rng.standard_normal(shape).astype(dtype)
    info = np.finfo(dtype)
    special = [0.0, -0.0, info.smallest_subnormal, -info.smallest_subnormal, info.max, -info.max,
               np.inf, -np.inf, np.nan, info.tiny, -info.tiny]  # fmt: skip
    where = rng.random(shape) < 0.2
    return np.where(where, rng.choice(np.array(special, dtype), shape), x).astype(dtype)


def moderate(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_relu(shape, dtype, rng):
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    same_bits(everywhere(lambda: hw.relu(x)), reference.relu(x))
    same_bits(everywhere(lambda: hw.relu_backward(dy, x)), reference.relu_backward(dy, x))


def test_relu_at_zero_and_nan():
    x = np.array([0.0, -0.0, np.nan, np.inf, -np.inf], "f4")
    same_bits(hw.relu(x), np.array([0, 0, np.nan, np.inf, 0], "f4"))
    dy = np.full(5, 2, "f4")
    same_bits(hw.relu_backward(dy, x), np.array([0, 0, 2, 2, 0], "f4"))
    alpha = np.array([0.25], "f4")
    same_bits(hw.prelu(x, alpha), np.array([0, -0.0, np.nan, np.inf, -np.inf], "f4"))
    dx, dalpha = hw.prelu_backward(dy[:2], x[:2], alpha)
    same_bits(dx, dy[:2] * alpha)
    same_bits(dalpha, np.array([0], "f4"))


PRELU = [
    ((5,), 0), ((2, 3), 1), ((2, 3, 5, 7), 1), ((2, 3, 5, 7), -1), ((2, 3, 5, 7), 0), ((0, 3), 1),
    ((2, 3, 0), 1), ((700, 17), 1), ((5000, 3), 1), ((3, 2, 70, 71), 1), ((90, 4, 49), 1),
    ((2, 40), 1), ((4, 33, 9, 16), 1), ((4, 9, 9, 33), 3),
]  # fmt: skip


@pytest.mark.parametrize("make", [values, moderate])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("shape", "axis"), PRELU)
def test_prelu(shape, axis, shared, dtype, make, rng):
    x, dy = make(rng, shape, dtype), make(rng, shape, dtype)
    alpha = np.array(0.25, dtype) if shared else make(rng, shape[axis], dtype)
    same_bits(everywhere(lambda: hw.prelu(x, alpha, axis=axis)), reference.prelu(x, alpha, axis))
    dx, dalpha = everywhere(lambda: hw.prelu_backward(dy, x, alpha, axis=axis))
    expected_dx, expected_dalpha = reference.prelu_backward(dy, x, alpha, axis)
    same_bits(dx, expected_dx)
    same_bits(dalpha, expected_dalpha)
    if make is moderate:  # and against float64
        terms = np.where(x > 0, 0, dy.astype("f8") * x)
        others = tuple(i for i in range(x.ndim) if shared or i != axis % x.ndim)
        bound = 30 * np.finfo(dtype).eps * np.abs(terms).sum(others)
        assert np.all(np.abs(dalpha - terms.sum(others)) <= bound)


def test_shared_slope_keeps_its_shape(rng):
    x = moderate(rng, (2, 3), "f4")
    for shape in [(), (1,), (1, 1)]:
        assert hw.prelu_backward(x, x, np.full(shape, 0.25, "f4"))[1].shape == shape


def layouts(x):
    """The same numbers as x in every kind of memory that NumPy makes."""
    yield x.copy()
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield x[::-1].copy()[::-1]
    misaligned = np.empty(x.nbytes + 1, "u1")[1:].view(x.dtype).reshape(x.shape)
    misaligned[...] = x
    yield misaligned
    fixed = x.copy()
    fixed.flags.writeable = False
    yield fixed
    yield x.copy().view(np.memmap)


def outs(x):
    yield None
    yield np.empty_like(x)
    yield np.empty_like(x, order="F")
    yield np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., 1::2]
    yield np.empty_like(x)[:, ::-1]
    yield np.empty(x.nbytes + 1, "u1")[1:].view(x.dtype).reshape(x.shape)
    yield np.empty_like(x).view(np.memmap)


CALLS = {
    "relu": (lambda x, dy, out: hw.relu(x, out=out), lambda x, dy: reference.relu(x)),
    "relu_backward": (lambda x, dy, out: hw.relu_backward(dy, x, out=out),
                      lambda x, dy: reference.relu_backward(dy, x)),
    "prelu": (lambda x, dy, out: hw.prelu(x, ALPHA, out=out),
              lambda x, dy: reference.prelu(x, ALPHA, 1)),
    "prelu_backward": (lambda x, dy, out: hw.prelu_backward(dy, x, ALPHA, out=out)[0],
                       lambda x, dy: reference.prelu_backward(dy, x, ALPHA, 1)[0]),
}  # fmt: skip
ALPHA = np.array([0.25, -0.5, 2.0], "f4")


@pytest.mark.parametrize("name", CALLS)
def test_every_memory_layout(name, rng):
    call, oracle = CALLS[name]
    x, dy = moderate(rng, (4, 3, 10), "f4"), moderate(rng, (4, 3, 10), "f4")
    expected = oracle(x, dy)
    for given in layouts(x):
        for gradient in layouts(dy):
            same_bits(call(given, gradient, None), expected)
        for out in outs(x):
            result = call(given, dy, out)
            same_bits(result, expected)
            assert out is None or result is out
    wide = np.broadcast_to(x[:, :, :1], x.shape)
    same_bits(call(wide, dy, None), oracle(np.ascontiguousarray(wide), dy))


@pytest.mark.parametrize("name", CALLS)
def test_out_may_overlap_the_inputs(name, rng):
    call, oracle = CALLS[name]
    memory = moderate(rng, (5, 3, 10), "f4")
    dy = moderate(rng, (4, 3, 10), "f4")
    for x_rows, out_rows in [(slice(4), slice(4)), (slice(4), slice(1, 5)), (slice(1, 5), slice(4)),
                             (slice(3, None, -1), slice(4))]:  # fmt: skip
        buffer = memory.copy()
        expected = oracle(buffer[x_rows].copy(), dy)
        out = buffer[out_rows]
        assert call(buffer[x_rows], dy, out) is out
        same_bits(out, expected)
        buffer = np.concatenate([dy, dy[:1]])
        expected = oracle(memory[:4], buffer[x_rows].copy())
        out = buffer[out_rows]
        call(memory[:4], buffer[x_rows], out)
        same_bits(out, expected)


def test_writes_nothing_beside_out(rng):
    guarded = np.full(1000 + 2 * 64, 7, "f4")
    for n in (0, 1, 31, 1000):
        guarded[:] = 7
        x = moderate(rng, n, "f4")
        hw.relu(x, out=guarded[64 : 64 + n])
        hw.prelu_backward(x, x, ALPHA[:1], out=guarded[64 : 64 + n])
        assert np.all(guarded[:64] == 7)
        assert np.all(guarded[64 + n :] == 7)


def test_subnormals_are_kept():
    tiny = np.array([1e-45, -1e-45], "f4")
    same_bits(hw.relu(tiny), np.array([1e-45, 0], "f4"))


X = np.ones((2, 3), "f4")
READ_ONLY = np.ones((2, 3), "f4")
READ_ONLY.flags.writeable = False
BAD_INPUTS = {
    "float16": X.astype("f2"), "integers": X.astype("i4"), "big-endian": X.astype(">f4"),
    "complex": X.astype("c8"), "bool": X > 0, "list": [1.0, 2.0], "float": 1.0, "none": None,
    "string": "x", "object": X.astype(object), "bytes": b"abcd", "memoryview": memoryview(X),
}  # fmt: skip
BAD_OUTS = {
    "shape": (np.empty((3, 2), "f4"), ValueError), "ndim": (np.empty(6, "f4"), ValueError),
    "dtype": (np.empty((2, 3), "f8"), TypeError), "int": (np.empty((2, 3), "i4"), TypeError),
    "big-endian": (np.empty((2, 3), ">f4"), TypeError), "list": ([0.0], TypeError),
    "read-only": (READ_ONLY, ValueError), "zero stride": (np.lib.stride_tricks.as_strided(
        np.empty(3, "f4"), (2, 3), (0, 4)), ValueError),
    "bytearray": (bytearray(24), TypeError),
    "sliding": (np.lib.stride_tricks.as_strided(np.empty(4, "f4"), (2, 3), (4, 4)), ValueError),
}  # fmt: skip
FUNCTIONS = {
    "relu": (hw.relu, {"x": X}),
    "relu_backward": (hw.relu_backward, {"dy": X, "x": X}),
    "prelu": (hw.prelu, {"x": X, "alpha": ALPHA}),
    "prelu_backward": (hw.prelu_backward, {"dy": X, "x": X, "alpha": ALPHA}),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_arrays(name, kind):
    function, arguments = FUNCTIONS[name]
    for parameter in arguments:
        with pytest.raises(TypeError, match=rf"^{parameter} "):
            function(**{**arguments, parameter: BAD_INPUTS[kind]})


@pytest.mark.parametrize("kind", BAD_OUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_out(name, kind):
    function, arguments = FUNCTIONS[name]
    out, error = BAD_OUTS[kind]
    before = bytes(out) if isinstance(out, np.ndarray) else None
    with pytest.raises(error, match=r"^out "):
        function(**arguments, out=out)
    assert before is None or bytes(out) == before


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hw.relu_backward(X[:1], X), ValueError, "dy must have the shape of x"),
        (lambda: hw.relu_backward(X.astype("f8"), X), TypeError, "dy must be float32"),
        (lambda: hw.prelu_backward(X.T, X, ALPHA), ValueError, "dy must have the shape of x"),
        (lambda: hw.prelu_backward(X[0], X, ALPHA), ValueError, "dy must have the shape of x"),
        (lambda: hw.prelu(X, ALPHA.astype("f8")), TypeError, "alpha must be float32"),
        (lambda: hw.prelu(X, ALPHA[:2]), ValueError, "alpha must have size 1"),
        (lambda: hw.prelu(X, ALPHA, axis=0), ValueError, "alpha must have size 1"),
        (lambda: hw.prelu(X, ALPHA[None]), ValueError, "alpha must have size 1"),
        (lambda: hw.prelu(X, ALPHA[:0]), ValueError, "alpha must have size 1"),
        (lambda: hw.prelu(X, 0.25), TypeError, "alpha must be a NumPy array"),
        (lambda: hw.prelu(X, ALPHA, axis=2), ValueError, "axis must lie in"),
        (lambda: hw.prelu(X, ALPHA, axis=-3), ValueError, "axis must lie in"),
        (lambda: hw.prelu(X, ALPHA, axis=1.0), TypeError, "axis must be an integer"),
        (lambda: hw.prelu(X, ALPHA, axis=None), TypeError, "axis must be an integer"),
        (lambda: hw.prelu(X, ALPHA[:1], axis="1"), TypeError, "axis must be an integer"),
        (lambda: hw.prelu(X, ALPHA, axis=True), TypeError, "axis must be an integer"),
        (lambda: hw.prelu(X[0], ALPHA), ValueError, "axis must lie in"),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()
