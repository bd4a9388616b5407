"""Rectifiers against their oracles to the bit, and what out=, strides and bad arguments do."""

import numpy as np
import pytest
import reference
from cases import layouts_of, specials
from conftest import everywhere, same_bits
from guards import bad_arrays, bad_outs, refuses

import halfwave as hw

pytestmark = pytest.mark.usefixtures("stores")

DTYPES = ["f4", "f8"]
SHAPES = [(), (0,), (1,), (3,), (64,), (5, 3), (4, 0, 2), (2, 3, 5, 7), (1, 16, 33, 33), (70001,)]


def values(rng, shape, dtype):
    """Normal numbers among zeros, subnormals, the largest, infinities and NaN."""
    x = rng.standard_normal(shape).astype(dtype)
    return np.where(rng.random(shape) < 0.2, rng.choice(specials(dtype), shape), x)


def moderate(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_relu(shape, dtype, rng):
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    same_bits(everywhere(lambda: hw.relu(x)), reference.relu(x))
    same_bits(everywhere(lambda: hw.relu_backward(dy, x)), reference.relu_backward(dy, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_smooth(name, shape, dtype, rng):
    x, dy = values(rng, shape, dtype), values(rng, shape, dtype)
    x = np.asarray(np.where(rng.random(shape) < 0.5, rng.uniform(-110, 110, shape), x), dtype)
    forward, backward = getattr(hw, name), getattr(hw, f"{name}_backward")
    y = everywhere(lambda: forward(x))
    same_bits(y, getattr(reference, name)(x))
    same_bits(everywhere(lambda: backward(dy, y)), getattr(reference, f"{name}_backward")(dy, y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "ulps", "reach"), [("sigmoid", 2.5, 110), ("tanh", 3, 25)])
def test_smooth_error(name, ulps, reach, dtype, rng):
    """Against the same function in extended precision, also where x or the result is tiny."""
    magnitude = np.exp(rng.uniform(-80, np.log(reach), 200_000))
    x = np.concatenate([rng.uniform(-reach, reach, 200_000), magnitude, -magnitude]).astype(dtype)
    wide = x.astype(np.longdouble)
    exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    error = np.abs(getattr(hw, name)(x) - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert error.max() < ulps


def test_smooth_limits():
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45], "f4")
    same_bits(hw.tanh(x), np.array([0.0, -0.0, 1, -1, np.nan, 1e-45, -1e-45], "f4"))
    same_bits(hw.sigmoid(x), np.array([0.5, 0.5, 1, 0, np.nan, 0.5, 0.5], "f4"))


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
    ((2, 3, 0), 1), ((2, 0, 3), 1), ((5, 0), -1), ((700, 17), 1), ((5000, 3), 1),
    ((3, 2, 70, 71), 1), ((90, 4, 49), 1), ((2, 40), 1), ((4, 33, 9, 16), 1), ((4, 9, 9, 33), 3),
    ((1100, 300), 1), ((30, 9, 10, 520), 3), ((270, 70), 1), ((3, 40, 6, 7), 1),
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


def results_by_line(shape, dtype):
    """Memory of that shape that begins at every element of a line, among sevens that must stay."""
    size = int(np.prod(shape))
    memory = np.empty(size + 2 * 64, dtype)
    for begin in range(32, 32 + 64 // memory.itemsize):
        memory[:] = 7
        yield memory[begin:][:size].reshape(shape)
        assert np.all(memory[:begin] == 7)
        assert np.all(memory[begin + size :] == 7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [((2, 2, 9001), 1), ((2100, 48), 1), ((4500, 7), 1)])
def test_prelu_wherever_lines_begin(shape, axis, dtype, rng):
    """Long runs are cut where a line of the result begins."""
    x, dy = moderate(rng, shape, dtype), moderate(rng, shape, dtype)
    alpha = moderate(rng, shape[axis], dtype)
    y = reference.prelu(x, alpha, axis)
    for out in results_by_line(shape, dtype):
        same_bits(hw.prelu(x, alpha, axis=axis, out=out), y)
    dx, dalpha = reference.prelu_backward(dy, x, alpha, axis)
    for out in results_by_line(shape, dtype):
        same_bits(hw.prelu_backward(dy, x, alpha, axis=axis, out=out)[1], dalpha)
        same_bits(out, dx)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 2048, 5003])
def test_relu_wherever_lines_begin(n, dtype, rng):
    x, dy = moderate(rng, n, dtype), moderate(rng, n, dtype)
    for out in results_by_line((n,), dtype):
        same_bits(hw.relu(x, out=out), reference.relu(x))
    for out in results_by_line((n,), dtype):
        same_bits(hw.relu_backward(dy, x, out=out), reference.relu_backward(dy, x))


def test_shared_slope_keeps_its_shape(rng):
    x = moderate(rng, (2, 3), "f4")
    for shape in [(), (1,), (1, 1)]:
        assert hw.prelu_backward(x, x, np.full(shape, 0.25, "f4"))[1].shape == shape


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
    "sigmoid": (lambda x, dy, out: hw.sigmoid(x, out=out), lambda x, dy: reference.sigmoid(x)),
    "tanh_backward": (lambda x, dy, out: hw.tanh_backward(dy, x, out=out),
                      lambda x, dy: reference.tanh_backward(dy, x)),
}  # fmt: skip
ALPHA = np.array([0.25, -0.5, 2.0], "f4")


@pytest.mark.parametrize("name", CALLS)
def test_every_memory_layout(name, rng):
    call, oracle = CALLS[name]
    x, dy = moderate(rng, (4, 3, 10), "f4"), moderate(rng, (4, 3, 10), "f4")
    expected = oracle(x, dy)
    for _, given in layouts_of(x):
        for _, gradient in layouts_of(dy):
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
FUNCTIONS = {
    "relu": (hw.relu, {"x": X}),
    "relu_backward": (hw.relu_backward, {"dy": X, "x": X}),
    "prelu": (hw.prelu, {"x": X, "alpha": ALPHA}),
    "prelu_backward": (hw.prelu_backward, {"dy": X, "x": X, "alpha": ALPHA}),
    "sigmoid": (hw.sigmoid, {"x": X}),
    "sigmoid_backward": (hw.sigmoid_backward, {"dy": X, "y": X}),
    "tanh": (hw.tanh, {"x": X}),
    "tanh_backward": (hw.tanh_backward, {"dy": X, "y": X}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_arrays(name):
    function, good = FUNCTIONS[name]
    for parameter in good:
        for value in bad_arrays(good[parameter]):
            refuses(function, good, {parameter: value}, [parameter])
    for value in bad_outs(X):
        refuses(function, {**good, "out": X}, {"out": value}, ["out"])
    if "dy" in good:
        for value in bad_arrays(X, shapes=True):
            refuses(function, good, {"dy": value}, ["dy"])


BAD_SLOPES = [
    {"alpha": ALPHA.astype("f8")}, {"alpha": ALPHA[:2]}, {"alpha": ALPHA[None]}, {"axis": 0},
    {"alpha": ALPHA[:0]}, {"alpha": 0.25}, {"axis": 2}, {"axis": -3}, {"axis": 1.0},
    {"axis": None}, {"axis": True}, {"alpha": ALPHA[:1], "axis": "1"}, {"axis": 2**70},
    {"axis": (1,)},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD_SLOPES)
@pytest.mark.parametrize("name", ["prelu", "prelu_backward"])
def test_bad_slopes(name, change):
    function, good = FUNCTIONS[name]
    refuses(function, good, change, ["axis" if "axis" in change else "alpha", "alpha"])
