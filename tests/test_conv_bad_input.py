"""Bad calls of conv2d and its backward passes: each is refused by name, and nothing is touched."""

import numpy as np
import pytest
from guards import refuses

import halfwave as hw

X = np.ones((2, 4, 6, 5), np.float32)
W = np.ones((6, 2, 3, 2), np.float32)
BIAS = np.ones(6, np.float32)
Y = np.zeros((2, 6, 4, 4), np.float32)
DX, DW = np.zeros_like(X), np.zeros_like(W)
OPTIONS = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 2,
    "layout": "NCHW",
    "algorithm": "auto",
}


def not_arrays(good):
    """Values that are no float array like `good`."""
    return [
        None, 1.0, "x", good.tolist(), good.astype(np.float16), good.astype(np.float64),
        good.astype(np.int32), good.astype(bool), good.astype(complex), good.astype(">f4"),
        good.astype(object), good[0], good[None],
    ]  # fmt: skip


def not_outputs(good):
    locked = good.copy()
    locked.flags.writeable = False
    return [
        1.0, good.tolist(), good.astype(np.float64), good.astype(">f4"), good[..., :1], good[None],
        locked, np.broadcast_to(np.float32(0), good.shape),
        np.lib.stride_tricks.as_strided(np.zeros(64, np.float32), good.shape, (2,) * good.ndim),
    ]  # fmt: skip


BAD_OPTIONS = [
    ({"stride": value}, "stride")
    for value in (0, -1, 1.5, "1", None, (1,), (1, 2, 3), (1, 0), True, 2**40)
] + [
    ({"dilation": value}, "dilation") for value in (0, -2, 1.0, None, (1, -1), "same", (2,), False)
] + [
    ({"padding": value}, "padding")
    for value in (-1, 0.5, "full", None, (1,), (1, 2, 3), ((1, 2), (3, -4)), ((1,), (2,)), (1, "x"))
] + [
    ({"groups": value}, "groups") for value in (0, -1, 3, 1.0, None, "2", True, (2,))
] + [
    ({"layout": value}, "layout") for value in ("nchw", "CHWN", "", None, 1, ["NCHW"])
] + [
    ({"algorithm": value}, "algorithm") for value in ("fft", "", None, 2, "Direct")
]  # fmt: skip

FORWARD = BAD_OPTIONS + [
    ({"x": value}, "x") for value in not_arrays(X) if getattr(value, "dtype", None) != np.float64
] + [
    ({"w": value}, "w") for value in not_arrays(W)
] + [
    ({"bias": value}, "bias")
    for value in (1.0, [1.0] * 6, BIAS[:5], BIAS[None], BIAS.astype(np.float64), BIAS.astype(int))
] + [
    ({"out": value}, "out") for value in not_outputs(Y)
] + [
    ({"x": X.astype(np.float64)}, "w"), ({"x": X[:, :2]}, "w"), ({"x": X[:, :, :2]}, "w"),
    ({"w": W[:5]}, "groups"), ({"w": W[:, :1]}, "w"), ({"w": W[:, :, :0]}, "w"),
    ({"w": W[..., :0]}, "w"), ({"dilation": (3, 1)}, "w"), ({"layout": "NHWC"}, "groups"),
    ({"padding": 2**30}, "padding"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "name"), FORWARD)
def test_conv2d(change, name):
    good = {"x": X, "w": W, "bias": BIAS, "out": Y, **OPTIONS}
    refuses(hw.conv2d, good, change, [name])


def bad_shapes(good):
    n, *rest = good
    return [
        None, 4, "abcd", good[1:], (*good, 1), (n, -1, *rest[1:]), (n, 1.5, *rest[1:]),
        (n, "x", *rest[1:]), (n, 2**61, *rest[1:]), (n + 1, *rest), (n, rest[0] + 2, *rest[1:]),
    ]  # fmt: skip


BACKWARD_INPUT = BAD_OPTIONS + [
    ({"dy": value}, "dy") for value in not_arrays(Y) if getattr(value, "dtype", None) != np.float64
] + [
    ({"w": value}, "w") for value in not_arrays(W)
] + [
    ({"out": value}, "out") for value in not_outputs(DX)
] + [
    ({"input_shape": value}, ("input_shape", "w", "dy", "groups")) for value in bad_shapes(X.shape)
] + [({"dy": Y.astype(np.float64)}, "w"), ({"dy": Y[:, :, :3]}, "dy"), ({"w": W[:4]}, "dy")]  # fmt: skip


@pytest.mark.parametrize(("change", "names"), BACKWARD_INPUT)
def test_conv2d_backward_input(change, names):
    good = {"dy": Y, "w": W, "input_shape": X.shape, "out": DX, **OPTIONS}
    refuses(hw.conv2d_backward_input, good, change, [names] if isinstance(names, str) else names)


BACKWARD_WEIGHT = BAD_OPTIONS + [
    ({"dy": value}, "dy") for value in not_arrays(Y) if getattr(value, "dtype", None) != np.float64
] + [
    ({"x": value}, "x") for value in not_arrays(X)
] + [
    ({"out": value}, "out") for value in not_outputs(DW)
] + [
    ({"weight_shape": value}, ("weight_shape", "dy", "groups")) for value in bad_shapes(W.shape)
] + [({"dy": Y.astype(np.float64)}, "x"), ({"dy": Y[:1]}, "dy"), ({"x": X[:, :, :5]}, "dy")]  # fmt: skip


@pytest.mark.parametrize(("change", "names"), BACKWARD_WEIGHT)
def test_conv2d_backward_weight(change, names):
    good = {"dy": Y, "x": X, "weight_shape": W.shape, "out": DW, **OPTIONS}
    refuses(hw.conv2d_backward_weight, good, change, [names] if isinstance(names, str) else names)


BACKWARD_BIAS = [
    ({"dy": value}, "dy") for value in not_arrays(Y) if getattr(value, "dtype", None) != np.float64
] + [
    ({"out": value}, "out") for value in not_outputs(BIAS)
] + [
    ({"layout": value}, "layout") for value in ("nchw", "CHWN", "", None, 1, ["NCHW"])
] + [
    ({"dy": Y.astype(np.float64)}, "out"), ({"layout": "NHWC"}, "out"), ({"dy": Y[:, :5]}, "out"),
    ({"dy": object()}, "dy"), ({"dy": Y.astype(np.longdouble)}, "dy"), ({"layout": b"NCHW"}, "layout"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "name"), BACKWARD_BIAS)
def test_conv2d_backward_bias(change, name):
    refuses(hw.conv2d_backward_bias, {"dy": Y, "out": BIAS, "layout": "NCHW"}, change, [name])
