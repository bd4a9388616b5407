"""conv2d and its backward passes, direct; by Winograd's algorithm: test_winograd.py."""

import itertools
import random

import numpy as np
import pytest
import reference
from cases import DTYPES, EPSILON, layouts_of, one_of_every_kind
from conftest import everywhere, same_bits
from guards import Guards

import halfwave as hw


def random_case(seed, largest=9):
    """Options and shapes of one convolution, of every kind that the API takes."""
    r = random.Random(seed)
    while True:
        groups = r.choice([1, 1, 1, 2, 3])
        inputs, outputs = r.randint(1, 4), r.randint(1, 4)
        if r.random() < 0.2:  # depthwise
            groups, inputs, outputs = r.randint(2, 6), 1, r.randint(1, 2)
        kernel = (r.randint(1, 5), r.randint(1, 5))
        stride, dilation = (r.randint(1, 4), r.randint(1, 4)), (r.randint(1, 3), r.randint(1, 3))
        pads = tuple(r.randint(0, 4) for _ in range(4))
        size = (r.randint(1, largest), r.randint(1, largest))
        if all(
            n + before + after >= (k - 1) * d + 1
            for n, before, after, k, d in zip(
                size, pads[::2], pads[1::2], kernel, dilation, strict=True
            )
        ):
            break
    return {
        "x": (r.randint(1, 3), groups * inputs, *size),
        "w": (groups * outputs, inputs, *kernel),
        "stride": stride,
        "pads": pads,
        "dilation": dilation,
        "groups": groups,
    }


def options_of(case, layout="NCHW"):
    top, bottom, left, right = case["pads"]
    return {
        "stride": case["stride"],
        "padding": ((top, bottom), (left, right)),
        "dilation": case["dilation"],
        "groups": case["groups"],
        "layout": layout,
        "algorithm": "direct",
    }


def in_layout(x, layout):
    return x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def from_layout(x, layout):
    return np.ascontiguousarray(x if layout == "NCHW" else x.transpose(0, 3, 1, 2))


def passes(x, w, bias, dy_seed, case, layout):
    """All passes through the API, given and returned as NCHW; dy is drawn from the seed."""
    options = options_of(case, layout)
    x = in_layout(x, layout)
    y = hw.conv2d(x, w, bias, **options)
    dy = np.random.default_rng(dy_seed).standard_normal(from_layout(y, layout).shape)
    dy = in_layout(dy.astype(x.dtype), layout)
    dx = hw.conv2d_backward_input(dy, w, x.shape, **options)
    dw = hw.conv2d_backward_weight(dy, x, w.shape, **options)
    db = hw.conv2d_backward_bias(dy, layout=layout)
    return from_layout(y, layout), from_layout(dx, layout), dw, db, from_layout(dy, layout)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
def test_bits_are_the_contracts(seed, dtype, rng):
    case = random_case(seed, largest=6)
    x, w = (rng.standard_normal(case[k]).astype(dtype) for k in ("x", "w"))
    bias = rng.standard_normal(len(w)).astype(dtype)
    geometry = [case[k] for k in ("stride", "pads", "dilation", "groups")]
    results = [
        everywhere(lambda layout=layout: passes(x, w, bias, 1, case, layout))
        for layout in ("NCHW", "NHWC")
    ]
    for one, other in zip(*results, strict=True):
        same_bits(one, other)
    y, dx, dw, _, dy = results[0]
    same_bits(y, reference.conv2d(x, w, bias, *geometry))
    same_bits(dx, reference.conv2d_backward_input(dy, w, x.shape, *geometry))
    same_bits(dw, reference.conv2d_backward_weight(dy, x, w.shape, *geometry))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride"),
    [
        ((1, 60, 4, 4), (2, 60, 3, 3), 1),
        ((2, 2, 5, 5), (62, 2, 3, 3), 1),
        ((2, 1, 20, 20), (2, 1, 2, 2), 1),
        ((1, 2, 7, 6), (180, 2, 4, 4), 2),
    ],
)
def test_bits_across_segments(x_shape, w_shape, stride, dtype, rng):
    """More than 512 terms: many input channels, many output channels, many positions, parity."""
    case = {"stride": (stride,) * 2, "pads": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    y, dx, dw, _, dy = everywhere(lambda: passes(x, w, None, 2, case, "NHWC"))
    geometry = list(case.values())
    if np.prod(w_shape[1:]) > 512:
        same_bits(y, reference.conv2d(x, w, None, *geometry))
    if w_shape[0] * 9 > 512:
        same_bits(dx, reference.conv2d_backward_input(dy, w, x.shape, *geometry))
    if np.prod(dy.shape[2:]) * len(dy) > 512:
        same_bits(dw, reference.conv2d_backward_weight(dy, x, w.shape, *geometry))


def test_padding_takes_part_as_zero(isa):
    """An infinite tap meets the zeros beyond the border, and 0 · inf is NaN."""
    w = np.full((1, 1, 3, 3), np.inf, np.float32)
    y = hw.conv2d(np.ones((1, 1, 4, 4), np.float32), w, padding=1)[0, 0]
    assert np.isnan(y[0]).all()
    assert np.isnan(y[:, -1]).all()
    assert np.isposinf(y[1:3, 1:3]).all()


def test_taps_that_do_not_meet_take_no_part(isa):
    """With stride 2, an infinite tap reaches only the inputs of its own residue."""
    w = np.ones((1, 1, 2, 2), np.float32)
    w[0, 0, 0, 1] = np.inf
    dx = hw.conv2d_backward_input(np.zeros((1, 1, 2, 2), np.float32), w, (1, 1, 4, 4), stride=2)
    expected = np.zeros((4, 4), np.float32)
    expected[::2, 1::2] = np.nan
    same_bits(dx[0, 0], expected)


@pytest.mark.parametrize("shape", [(2, 64, 14, 14), (1, 3, 40, 40), (3, 17, 9, 9), (1, 1, 1, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (1, 1), (7, 2), (3, 2), (5, 3)])
def test_integers_are_exact_at_real_sizes(shape, kernel, stride, rng):
    """Against float64 sums by shifted slices; every set, both layouts."""
    pad = kernel // 2
    x = rng.integers(-4, 5, shape).astype(np.float64)
    w = rng.integers(-4, 5, (19, shape[1], kernel, kernel)).astype(np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))
    y = np.einsum("ncijrs,ocrs->noij", windows[:, :, ::stride, ::stride], w)
    dy = rng.integers(-4, 5, y.shape).astype(np.float64)
    dw = np.einsum("ncijrs,noij->ocrs", windows[:, :, ::stride, ::stride], dy)
    dx = np.zeros_like(padded)
    for r, s in np.ndindex(kernel, kernel):
        rows = slice(r, r + (y.shape[2] - 1) * stride + 1, stride)
        columns = slice(s, s + (y.shape[3] - 1) * stride + 1, stride)
        dx[:, :, rows, columns] += np.einsum("noij,oc->ncij", dy, w[:, :, r, s])
    dx = dx[:, :, pad : pad + shape[2], pad : pad + shape[3]]
    for layout in ("NCHW", "NHWC"):
        options = {"stride": stride, "padding": pad, "layout": layout, "algorithm": "direct"}
        x32, dy32 = (in_layout(v, layout).astype(np.float32) for v in (x, dy))
        w32 = w.astype(np.float32)

        def compute(x=x32, w=w32, dy=dy32, options=options):
            return (
                hw.conv2d(x, w, **options),
                hw.conv2d_backward_input(dy, w, x.shape, **options),
                hw.conv2d_backward_weight(dy, x, w.shape, **options),
            )

        result = everywhere(compute)
        np.testing.assert_array_equal(from_layout(result[0], layout), y)
        np.testing.assert_array_equal(from_layout(result[1], layout), dx)
        np.testing.assert_array_equal(result[2], dw)


def test_agrees_with_pytorch_on_2000_configurations():
    """Forward and backward in float64, within (K + 1) · ε · Σ|a||b| twice: theirs errs too."""
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer: halfwave[torch]")
    rng = np.random.default_rng(7)
    epsilon = EPSILON[np.dtype(np.float64)]
    for seed in range(2000):
        case = random_case(seed, largest=14)
        layout = ("NCHW", "NHWC")[seed % 2]
        x, w = (rng.standard_normal(case[k]) for k in ("x", "w"))
        bias = rng.standard_normal(len(w))
        y, dx, dw, db, dy = passes(x, w, bias, seed, case, layout)

        def theirs(x, w, bias, dy, case=case):
            top, bottom, left, right = case["pads"]
            tx, tw, tb = (torch.from_numpy(v).requires_grad_() for v in (x, w, bias))
            padded = torch.nn.functional.pad(tx, (left, right, top, bottom))
            ty = torch.nn.functional.conv2d(
                padded, tw, tb, case["stride"], 0, case["dilation"], case["groups"]
            )
            ty.backward(torch.from_numpy(dy))
            return [ty.detach().numpy()] + [v.grad.numpy() for v in (tx, tw, tb)]

        expected = theirs(x, w, bias, dy)
        magnitude = theirs(*(np.abs(v) for v in (x, w, bias, dy)))
        terms = [w[0].size + 1, w[:, 0].size, dy[:, 0].size, dy[:, 0].size]
        for ours, other, size, k in zip((y, dx, dw, db), expected, magnitude, terms, strict=True):
            assert (np.abs(ours - other) <= 2 * (k + 1) * epsilon * size).all(), case


@pytest.mark.parametrize(
    ("padding", "pads"),
    [(2, (2, 2, 2, 2)), ((1, 2), (1, 1, 2, 2)), (((1, 2), (3, 0)), (1, 2, 3, 0)),
     ("valid", (0, 0, 0, 0)), ("same", (1, 2, 1, 1)), ([0, 1], (0, 0, 1, 1))],
)  # fmt: skip
def test_padding_of_every_form(padding, pads, rng):
    x, w = rng.standard_normal((1, 2, 7, 6)), rng.standard_normal((3, 2, 4, 3))
    expected = reference.conv2d(x, w, None, (1, 1), pads, (1, 1), 1)
    same_bits(hw.conv2d(x, w, padding=padding), expected)


@pytest.mark.parametrize(
    ("size", "stride", "kernel", "dilation"),
    list(itertools.product((5, 8), (1, 2, 3), (1, 2, 5), (1, 2))),
)
def test_same_padding_gives_ceil_of_size_over_stride(size, stride, kernel, dilation):
    x, w = np.ones((1, 1, size, size)), np.ones((1, 1, kernel, kernel))
    y = hw.conv2d(x, w, stride=stride, padding="same", dilation=dilation)
    assert y.shape[2:] == (-(-size // stride),) * 2


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_empty_arrays(layout):
    for n, c, o in ((0, 2, 3), (2, 0, 3), (2, 2, 0)):
        x, w = in_layout(np.ones((n, c, 4, 4)), layout), np.ones((o, c, 3, 3))
        y = hw.conv2d(x, w, np.full(o, 5.0), layout=layout)
        assert from_layout(y, layout).shape == (n, o, 2, 2)
        assert (y == 5 + 9 * c).all()
        dx = hw.conv2d_backward_input(y, w, x.shape, layout=layout)
        assert dx.shape == x.shape
        assert hw.conv2d_backward_weight(y, x, w.shape, layout=layout).shape == w.shape
        same_bits(hw.conv2d_backward_bias(y, layout=layout), np.full(o, n * 4 * (5.0 + 9 * c)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_memory_and_out_of_every_kind(layout, dtype, isa, rng):
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((2, 3, 6, 5), (4, 3, 3, 2)))
    x = in_layout(x, layout)
    options = {"stride": (2, 1), "padding": 1, "layout": layout}
    y = hw.conv2d(x, w, **options)
    dx = hw.conv2d_backward_input(y, w, x.shape, **options)
    dw = hw.conv2d_backward_weight(y, x, w.shape, **options)
    for x2, w2, y2 in one_of_every_kind(x, w, y):
        same_bits(hw.conv2d(x2, w2, **options), y)
        same_bits(hw.conv2d_backward_input(y2, w2, x.shape, **options), dx)
        same_bits(hw.conv2d_backward_weight(y2, x2, w.shape, **options), dw)
    for (name, y2), (_, dx2), (_, dw2) in zip(
        layouts_of(y * 0), layouts_of(dx * 0), layouts_of(dw * 0), strict=True
    ):
        if name == "read-only":
            continue
        assert hw.conv2d(x, w, out=y2, **options) is y2
        same_bits(y2, y)
        assert hw.conv2d_backward_input(y, w, x.shape, out=dx2, **options) is dx2
        same_bits(dx2, dx)
        assert hw.conv2d_backward_weight(y, x, w.shape, out=dw2, **options) is dw2
        same_bits(dw2, dw)


def test_overlapping_out(rng):
    x, w = rng.standard_normal((1, 2, 6, 6)), rng.standard_normal((2, 2, 3, 3))
    expected = hw.conv2d(x, w, padding=1)
    assert hw.conv2d(x, w, padding=1, out=x) is x
    same_bits(x, expected)


def test_guard_bytes_stay(isa):
    for seed in range(40):
        case = random_case(seed)
        guards = Guards()
        for layout in ("NCHW", "NHWC"):
            options = options_of(case, layout)
            x = guards.array(in_layout(np.ones(case["x"]), layout))
            w, bias = guards.array(np.ones(case["w"])), guards.array(np.ones(case["w"][0]))
            y = guards.array(hw.conv2d(x, w, bias, **options))
            hw.conv2d(x, w, bias, out=y, **options)
            dx, dw = guards.array(x), guards.array(w)
            hw.conv2d_backward_input(y, w, x.shape, out=dx, **options)
            hw.conv2d_backward_weight(y, x, w.shape, out=dw, **options)
            hw.conv2d_backward_bias(y, layout=layout, out=bias)
        assert guards.intact(), case


def test_offsets_that_only_look_consecutive(isa, rng):
    """x in memory as (C, H, N, 4), seen as N × C × H × 2: offsets 0 1 | 12 13 | 4 5 | 16 17 …

    From the second on, four of them end three after they began without being consecutive.
    """
    x = rng.standard_normal((5, 2, 3, 4), np.float32).transpose(2, 0, 1, 3)[..., :2]
    dy = rng.standard_normal((3, 6, 2, 2), np.float32)
    expected = hw.conv2d_backward_weight(dy, x.copy(), (6, 5, 1, 1))
    same_bits(hw.conv2d_backward_weight(dy, x, (6, 5, 1, 1)), expected)
