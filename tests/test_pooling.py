"""Max pooling and pyramid pooling against their oracles, to the bit."""

import time

import numpy as np
import pytest
import reference
from cases import layouts_of, specials
from conftest import everywhere, same_bits
from guards import bad_arrays, bad_outs, refuses, table

import halfwave as hw

DTYPES = ["f4", "f8"]

# (height, width), size, stride, (top, bottom, left, right), dilation, ceil mode
POOLS = [
    ((6, 6), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False),
    ((7, 9), (3, 3), (3, 3), (0, 0, 0, 0), (1, 1), True),
    ((7, 8), (3, 2), (2, 1), (1, 0, 1, 1), (1, 1), False),
    ((8, 7), (2, 3), (3, 2), (0, 1, 2, 0), (1, 1), True),
    ((9, 11), (2, 3), (1, 2), (0, 0, 1, 2), (3, 2), False),
    ((9, 40), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), False),
    ((5, 5), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), False),
    ((5, 5), (1, 2), (4, 5), (0, 0, 0, 0), (1, 1), True),
    ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), False),
    ((4, 4), (4, 4), (1, 1), (0, 0, 0, 0), (1, 1), False),
    ((3, 70), (2, 2), (1, 2), (0, 0, 1, 1), (1, 1), True),
]


def draw(rng, shape, dtype):
    """Few different values, so that there are ties, some of them special."""
    x = rng.integers(-3, 4, shape).astype(dtype)
    return np.where(rng.random(shape) < 0.15, rng.choice(specials(dtype), shape), x)


def options(pool):
    _, size, stride, (top, bottom, left, right), dilation, ceil_mode = pool
    return {"size": size, "stride": stride, "padding": ((top, bottom), (left, right)),
            "dilation": dilation, "ceil_mode": ceil_mode}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("pool", "channels"), [(pool, 3) for pool in POOLS] + [(pool, 150) for pool in POOLS[6:10]]
)
def test_max_pool2d(pool, channels, dtype, rng):
    x = draw(rng, (2, channels, *pool[0]), dtype)
    y = everywhere(lambda: hw.max_pool2d(x, **options(pool)))
    same_bits(y, reference.max_pool2d(x, *pool[1:]))
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = everywhere(lambda: hw.max_pool2d_backward(dy, x, **options(pool)))
    same_bits(dx, reference.max_pool2d(x, *pool[1:], dy=dy))

    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    same_bits(
        everywhere(lambda: hw.max_pool2d(last, **options(pool), layout="NHWC")),
        y.transpose(0, 2, 3, 1),
    )
    same_bits(
        everywhere(
            lambda: hw.max_pool2d_backward(
                dy.transpose(0, 2, 3, 1), last, **options(pool), layout="NHWC"
            )
        ),
        dx.transpose(0, 2, 3, 1),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [(6, 3, 2, 1), (1,), (4, 7)])
@pytest.mark.parametrize("size", [(6, 6), (13, 5), (2, 3)])
def test_spatial_pyramid_pool(size, levels, dtype, rng):
    x = draw(rng, (2, 3, *size), dtype)
    y = everywhere(lambda: hw.spatial_pyramid_pool(x, levels))
    same_bits(y, reference.spatial_pyramid_pool(x, levels))
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = everywhere(lambda: hw.spatial_pyramid_pool_backward(dy, x, levels))
    same_bits(dx, reference.spatial_pyramid_pool(x, levels, dy))
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    same_bits(hw.spatial_pyramid_pool(last, levels, layout="NHWC"), y)
    same_bits(
        hw.spatial_pyramid_pool_backward(dy, last, levels, layout="NHWC"),
        dx.transpose(0, 2, 3, 1),
    )


def test_ties_nan_and_padding():
    x = np.array([[-0.0, 0.0, -np.inf, -np.inf], [0.0, 0.0, -np.inf, np.nan]], "f4")[None, None]
    same_bits(hw.max_pool2d(x, 2), np.array([[[[-0.0, np.nan]]]], "f4"))
    dx = hw.max_pool2d_backward(np.array([[[[1, 2]]]], "f4"), x, 2)
    same_bits(dx[0, 0], np.array([[1, 0, 0, 0], [0, 0, 0, 2]], "f4"))
    low = np.full((1, 1, 2, 2), -np.inf, "f4")
    same_bits(hw.max_pool2d(low, 3, padding=1), low[:, :, :1, :1])
    dx = hw.max_pool2d_backward(np.ones((1, 1, 1, 1), "f4"), low, 3, padding=1)
    same_bits(dx[0, 0], np.array([[1, 0], [0, 0]], "f4"))


def test_memory_layouts_and_out(rng):
    x = rng.standard_normal((2, 3, 6, 8)).astype("f4")
    y = hw.max_pool2d(x, 2)
    dy = rng.standard_normal(y.shape).astype("f4")
    dx = hw.max_pool2d_backward(dy, x, 2)
    for _, given in layouts_of(x):
        same_bits(hw.max_pool2d(given, 2), y)
        same_bits(hw.max_pool2d_backward(dy, given, 2), dx)
        same_bits(hw.spatial_pyramid_pool(given, (2,)), hw.spatial_pyramid_pool(x, (2,)))
    for kind, out in layouts_of(np.zeros_like(y)):
        if kind != "read-only":
            assert hw.max_pool2d(x, 2, out=out) is out
            same_bits(out, y)
    for kind, out in layouts_of(np.zeros_like(x)):
        if kind != "read-only":
            assert hw.max_pool2d_backward(dy, x, 2, out=out) is out
            same_bits(out, dx)
    buffer = x.copy()
    out = buffer[:, :, :3, :4]
    same_bits(hw.max_pool2d(buffer, 2, out=out), y)
    buffer = x.copy()
    same_bits(hw.max_pool2d_backward(dy, buffer, 2, out=buffer), dx)
    assert hw.max_pool2d(x[:0], 2).shape == (0, 3, 3, 4)
    assert hw.max_pool2d_backward(dy[:, :0], x[:, :0], 2).shape == (2, 0, 6, 8)
    assert hw.spatial_pyramid_pool(x[:, :0]).shape == (2, 0)


X = np.ones((2, 3, 6, 8), "f4")
Y = np.ones((2, 3, 3, 4), "f4")
P = np.ones((2, 3 * 50), "f4")
WINDOWS = (
    table("size", [0, -1, 1.5, None, "2", (2,), (2, 2, 2), (2, 0), True, 7, (2, 9), 2**40])
    + table("stride", [0, -1, 1.5, "1", (1,), (1, 0), True, (1, 2, 3)])
    + table("padding", [-1, 2, 0.5, None, "full", (1,), (0, 2), ((0, 1), (2, 0)), 2**31 - 1])
    + table("dilation", [0, -1, 1.5, None, (1, 0), 6, True])
    + table("layout", ["nchw", "", None, 0, "CHWN"])
    + table("ceil_mode", [1, None, "yes"])
)
EMPTY = [X[:, :, :0], X[..., :0], X[0], X[None]]


@pytest.mark.parametrize(
    ("change", "name"), table("x", bad_arrays(X) + EMPTY) + WINDOWS + table("out", bad_outs(Y))
)
def test_bad_max_pool2d(change, name):
    names = [name, "size", "dilation"] if name in ("padding", "dilation") else [name]
    refuses(hw.max_pool2d, {"x": X, "size": 2, "out": Y}, change, names)


@pytest.mark.parametrize(
    ("change", "name"),
    table("x", bad_arrays(X) + EMPTY)
    + table("dy", bad_arrays(Y, shapes=True))
    + WINDOWS
    + table("out", bad_outs(X)),
)
def test_bad_max_pool2d_backward(change, name):
    names = [name, "size", "dilation"] if name in ("padding", "dilation") else [name]
    refuses(hw.max_pool2d_backward, {"dy": Y, "x": X, "size": 2, "out": X}, change, names)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"dilation": 6}, "dilation"), ({"dilation": (6, 1)}, "dilation"), ({"size": 7}, "size")],
)
def test_the_parameter_that_makes_windows_too_large_is_named(change, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        hw.max_pool2d(X, **{"size": 2, **change})


def test_a_window_of_2_to_the_31_columns_costs_what_it_has_in_x():
    x = np.array([[[[1, 3, 2, 0]]]], "f4")
    before = time.monotonic()
    for left, right, expected in [(2**31 - 2, 0, [1, 3, 3, 3]), (0, 2**31 - 2, [3, 3, 2, 0])]:
        padding = ((0, 0), (left, right))
        y = hw.max_pool2d(x, (1, 2**31 - 1), stride=1, padding=padding)
        same_bits(y[0, 0, 0], np.array(expected, "f4"))
    far_apart = {"size": (1, 2**31 - 1), "padding": ((0, 0), (2**31 - 2, 2**31 - 2))}
    same_bits(hw.max_pool2d(x, **far_apart)[0, 0, 0], np.array([1, 3], "f4"))
    dx = hw.max_pool2d_backward(np.ones((1, 1, 1, 2), "f4"), x, **far_apart)
    same_bits(dx[0, 0, 0], np.array([1, 1, 0, 0], "f4"))
    assert time.monotonic() - before < 1


LEVELS = table("levels", [0, 2, None, "62", (), (0,), (2, -1), (1.5,), (True,), (2**20,), ("2",)])
LAYOUTS = table("layout", ["nchw", "", None, 0, "CHWN"])


@pytest.mark.parametrize(
    ("change", "name"),
    table("x", bad_arrays(X) + EMPTY) + LEVELS + LAYOUTS + table("out", bad_outs(P)),
)
def test_bad_spatial_pyramid_pool(change, name):
    refuses(hw.spatial_pyramid_pool, {"x": X, "out": P}, change, [name])


@pytest.mark.parametrize(
    ("change", "name"),
    table("x", bad_arrays(X) + EMPTY)
    + table("dy", bad_arrays(P, shapes=True))
    + LEVELS
    + LAYOUTS
    + table("out", bad_outs(X)),
)
def test_bad_spatial_pyramid_pool_backward(change, name):
    refuses(hw.spatial_pyramid_pool_backward, {"dy": P, "x": X, "out": X}, change, [name])
