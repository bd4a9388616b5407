"""Depthwise convolution's own kernel: channels in the lanes, cut at every kind of border."""

import numpy as np
import pytest
import reference
import reference_direct as direct
from cases import DTYPES, layouts_of, one_of_every_kind, specials
from conftest import everywhere, same_bits
from guards import Guards
from halfwave._cpu import depthwise, depthwise_first, depthwise_last, depthwise_weight, runtime
from test_conv import from_layout, in_layout, options_of, passes

import halfwave as hw

LAYOUTS = ("NCHW", "NHWC")


def case_of(x, kernel, multiplier=1, stride=(1, 1), pads=(1, 1, 1, 1), dilation=(1, 1)):
    channels = x[1]
    return {
        "x": x,
        "w": (channels * multiplier, 1, *kernel),
        "stride": stride,
        "pads": pads,
        "dilation": dilation,
        "groups": channels,
    }


BORDERS = [
    case_of((1, 2, 1, 1), (3, 3)),
    case_of((1, 17, 2, 3), (3, 3)),
    case_of((2, 16, 3, 2), (3, 3), stride=(2, 2)),
    case_of((1, 15, 5, 4), (2, 3), stride=(3, 3), pads=(0, 1, 2, 0)),
    case_of((1, 33, 4, 5), (3, 3), stride=(2, 1), dilation=(2, 1), pads=(3, 0, 0, 2)),
    case_of((1, 7, 7, 7), (5, 5), pads=(2, 2, 2, 2)),
    case_of((1, 3, 8, 9), (3, 3), stride=(3, 2), dilation=(1, 2), pads=(0, 4, 1, 3)),
    case_of((2, 5, 6, 8), (1, 1), pads=(0, 0, 0, 0)),
    case_of((1, 4, 9, 6), (4, 7), pads=(5, 5, 8, 7)),
    case_of((3, 2, 5, 5), (1, 2), stride=(4, 5), pads=(0, 0, 0, 1)),
    case_of((1, 6, 4, 4), (3, 3), 2),
    case_of((1, 9, 3, 5), (2, 2), 3, stride=(2, 2)),
    case_of((2, 2, 15, 16), (2, 2), pads=(1, 0, 0, 1)),
    case_of((1, 2, 24, 25), (2, 1), 2, pads=(0, 1, 0, 0)),
    case_of((1, 83, 7, 8), (3, 3)),
    case_of((1, 16, 17, 9), (3, 3), pads=(0, 2, 1, 3)),
    case_of((1, 18, 15, 7), (5, 5), pads=(2, 2, 2, 2)),
    case_of((1, 16, 16, 15), (5, 5), pads=(4, 0, 1, 2)),
    case_of((1, 16, 9, 13), (5, 5), stride=(2, 2), pads=(1, 2, 2, 1)),
    case_of((1, 17, 4, 29), (3, 3), stride=(1, 2), pads=(2, 0, 0, 1)),
    case_of((1, 16, 9, 11), (3, 3), stride=(3, 4), pads=(2, 0, 0, 1), dilation=(2, 2)),
    case_of((1, 16, 4, 13), (1, 3), stride=(2, 2), pads=(0, 0, 1, 1)),
    # Squares but for a dilation.
    case_of((1, 18, 7, 9), (3, 3), pads=(2, 2, 1, 1), dilation=(2, 1)),
    case_of((1, 17, 5, 11), (3, 3), pads=(1, 1, 2, 2), dilation=(1, 2)),
    # … as large as their outputs, by borders that differ.
    case_of((2, 18, 4, 6), (3, 3), pads=(1, 1, 1, 3), dilation=(1, 2)),
    case_of((2, 18, 4, 6), (3, 3), pads=(1, 1, 3, 1), dilation=(1, 2)),
    # Planes narrower than a vector, whole and by two.
    case_of((2, 5, 1, 7), (3, 3)),
    case_of((2, 7, 9, 3), (3, 3)),
    case_of((1, 5, 14, 14), (3, 3)),
    case_of((3, 4, 2, 15), (3, 3)),
    # Strips that lie in the padding as a whole, and others after them.
    case_of((2, 2, 4, 30), (1, 1), 2, pads=(20, 20, 2, 1)),
    case_of((3, 17, 18, 21), (1, 3), 2, pads=(1, 2, 0, 1), dilation=(1, 2)),
]


def check(case, x, w, bias, layout, *, weight_too=True):
    geometry = [case[k] for k in ("stride", "pads", "dilation", "groups")]
    y, dx, dw, _, dy = everywhere(lambda: passes(x, w, bias, 1, case, layout))
    same_bits(y, reference.conv2d(x, w, bias, *geometry))
    same_bits(dx, reference.conv2d_backward_input(dy, w, x.shape, *geometry))
    if weight_too:
        same_bits(dw, reference.conv2d_backward_weight(dy, x, w.shape, *geometry))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", range(len(BORDERS)))
def test_bits_at_borders(number, layout, dtype, rng):
    case = BORDERS[number]
    x, w = (rng.standard_normal(case[k]).astype(dtype) for k in ("x", "w"))
    check(case, x, w, rng.standard_normal(len(w)).astype(dtype) if number % 2 else None, layout)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [(1, 1), (1, 2)])
def test_bits_of_special_values(stride, layout, dtype, rng):
    """Padding takes part: NaN, infinities and zeros of both signs meet the frame's zeros."""
    case = case_of((2, 18, 4, 5), (3, 3), stride=stride)
    values = np.concatenate([specials(dtype), rng.standard_normal(40).astype(dtype)])
    x, w = (rng.choice(values, case[k]) for k in ("x", "w"))
    with np.errstate(all="ignore"):
        check(case, x, w, None, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_that_vanish_leave_the_sign_that_the_zeros_make(layout, isa):
    """A sum of -0 becomes +0 where a later tap meets padding: leaving the tap out would show."""
    x = np.full((1, 16, 1, 1), 1e-30, np.float32)
    w = np.full((16, 1, 3, 3), -1e-30, np.float32)
    w[:, :, 1, 2:] = 1
    w[:, :, 2] = 1
    for bias in (None, np.full(16, -0.0, np.float32)):
        y = hw_conv(x, w, bias, layout)
        same_bits(y, reference.conv2d(x, w, bias, (1, 1), (1, 1, 1, 1), (1, 1), 16))


def hw_conv(x, w, bias, layout):
    options = options_of(case_of(x.shape, w.shape[2:]), layout)
    return from_layout(hw.conv2d(in_layout(x, layout), w, bias, **options), layout)


def shifted_sums(x, w, dy, kernel, stride, pad):
    """All passes in float64, from slices: exact for small integers."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y, dw, dpadded = np.zeros_like(dy), np.zeros_like(w), np.zeros_like(padded)
    for r, s in np.ndindex(kernel, kernel):
        where = (
            ...,
            slice(r, r + (dy.shape[2] - 1) * stride + 1, stride),
            slice(s, s + (dy.shape[3] - 1) * stride + 1, stride),
        )
        tap = w[:, 0, r, s, None, None]
        y += tap * padded[where]
        dpadded[where] += tap * dy
        dw[:, 0, r, s] = (padded[where] * dy).sum((0, 2, 3))
    return y, dpadded[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]], dw


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "kernel", "stride"),
    [
        ((1, 32, 112, 112), 3, 1),
        ((2, 40, 57, 61), 3, 2),
        ((3, 150, 28, 28), 5, 1),
        ((18, 96, 7, 7), 3, 1),
        ((5, 66, 14, 14), 5, 2),
        ((3, 32, 24, 20), 3, 1),  # a segment begins in the second row of an image
    ],
)
def test_integers_are_exact_at_real_sizes(shape, kernel, stride, layout, rng):
    """Strips, blocks of channels, many images a task, super-segments."""
    pad = kernel // 2
    x, w = (
        rng.integers(-4, 5, s).astype(np.float64) for s in (shape, (shape[1], 1, kernel, kernel))
    )
    size = [(n - 1) // stride + 1 for n in shape[2:]]
    dy = rng.integers(-4, 5, (*shape[:2], *size)).astype(np.float64)
    expected = shifted_sums(x, w, dy, kernel, stride, pad)
    x, w, dy = (v.astype(np.float32) for v in (x, w, dy))
    options = {"stride": stride, "padding": pad, "layout": layout, "groups": shape[1]}
    x, dy = in_layout(x, layout), in_layout(dy, layout)

    def compute():
        return (
            hw.conv2d(x, w, **options),
            hw.conv2d_backward_input(dy, w, x.shape, **options),
            hw.conv2d_backward_weight(dy, x, w.shape, **options),
        )

    y, dx, dw = everywhere(compute)
    np.testing.assert_array_equal(from_layout(y, layout), expected[0])
    np.testing.assert_array_equal(from_layout(dx, layout), expected[1])
    np.testing.assert_array_equal(dw, expected[2])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "case",
    [
        case_of((2, 20, 40, 37), (3, 3), 2, stride=(2, 1)),
        case_of((13, 6, 37, 41), (2, 2)),
        case_of((1, 3, 40, 40), (19, 18), 2),
    ],
)
def test_the_general_path_gives_the_same_bits(case, layout, monkeypatch, rng):
    """At sizes that the slow oracle does not reach: segments, super-segments, big kernels."""
    x, w = (rng.standard_normal(case[k]).astype(np.float32) for k in ("x", "w"))
    ours = passes(x, w, None, 1, case, layout)
    for name in ("forward", "backward_input", "backward_weight"):
        for own in (depthwise, depthwise_first, depthwise_last, depthwise_weight):
            monkeypatch.setattr(own, name, lambda *arguments: False, raising=False)
    for one, other in zip(ours, passes(x, w, None, 1, case, layout), strict=True):
        same_bits(one, other)


def test_it_serves():
    """… unless a kernel has more taps than a segment, or its frame would not fit in a cache."""
    x, y = np.ones((1, 2, 4, 4), np.float32), np.empty((1, 2, 4, 4), np.float32)
    w = np.ones((2, 1, 3, 3), np.float32)
    assert depthwise.forward(x, w, None, y, 1, 1, 1, 1, 1, 1, 2)
    assert depthwise.backward_input(y, w, x, 1, 1, 1, 1, 1, 1, 2)
    assert depthwise_weight.backward_weight(y, x, w, 1, 1, 1, 1, 1, 1, 2)
    assert depthwise_first.forward(x, w, None, y, 1, 1, 1, 1, 1, 1, 2)
    assert depthwise_first.backward_input(y, w, x, 2, 2, 1, 1, 1, 1, 2)
    many = np.ones((1, 4, 4, 32), np.float32).transpose(0, 3, 1, 2)
    filters = np.ones((32, 1, 3, 3), np.float32)
    assert depthwise_last.forward(many, filters, None, many.copy("K"), 1, 1, 1, 1, 1, 1, 32)
    assert depthwise_last.backward_input(many, filters, many.copy("K"), 1, 1, 1, 1, 1, 1, 32)
    large = np.ones((2, 1, 23, 23), np.float32)
    assert not depthwise.forward(x, large, None, y, 1, 1, 11, 11, 1, 1, 2)
    far = 1 << 20
    assert not depthwise.forward(x, w, None, y, 1, 1, far, far, far, far, 2)
    assert not depthwise.backward_input(y, w, x, 1, 1, far, far, far, far, 2)
    assert not depthwise_weight.backward_weight(y, x, w, 1, 1, far, far, far, far, 2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("multiplier", "stride"), [(2, (2, 1)), (1, (1, 1))])
def test_memory_of_all_kinds(multiplier, stride, layout, isa, rng):
    case = case_of((2, 18, 7, 5), (3, 3), multiplier, stride=stride)
    x, w = (rng.standard_normal(case[k]).astype(np.float32) for k in ("x", "w"))
    bias = rng.standard_normal(len(w)).astype(np.float32)
    x, options = in_layout(x, layout), options_of(case, layout)
    y = hw.conv2d(x, w, bias, **options)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = hw.conv2d_backward_input(dy, w, x.shape, **options)
    dw = hw.conv2d_backward_weight(dy, x, w.shape, **options)
    for x1, w1, bias1, dy1 in one_of_every_kind(x, w, bias, dy):
        same_bits(hw.conv2d(x1, w1, bias1, **options), y)
        same_bits(hw.conv2d_backward_input(dy1, w1, x.shape, **options), dx)
        same_bits(hw.conv2d_backward_weight(dy1, x1, w.shape, **options), dw)
    for expected, function, arguments in (
        (y, hw.conv2d, (x, w, bias)),
        (dx, hw.conv2d_backward_input, (dy, w, x.shape)),
        (dw, hw.conv2d_backward_weight, (dy, x, w.shape)),
    ):
        for kind, out in layouts_of(np.zeros_like(expected)):
            if kind != "read-only":
                assert function(*arguments, out=out, **options) is out
                same_bits(out, expected)


@pytest.mark.parametrize("offset", [0, 3, 8, 13])
@pytest.mark.parametrize("further", [0, 4])
def test_vectors_of_channels_begin_anywhere(offset, further, isa, rng):
    """Of many channels the second vector begins where memory is aligned, of arrays anywhere.

    They are walked downwards where the output lies a little further than the input.
    """
    case = case_of((1, 99, 5, 9), (3, 3))

    def moved(v, further=0):
        memory = np.empty(5 * 9 * 128 + 2048, np.float32)
        begin = -(memory.ctypes.data // 4) % 1024 + offset + further
        there = memory[begin : begin + 5 * 9 * 128].reshape(1, 5, 9, 128)[..., :99]
        there[...] = v
        return there

    x, dy = (rng.standard_normal(case["x"]).astype(np.float32) for _ in range(2))
    w = rng.standard_normal(case["w"]).astype(np.float32)
    there, back = (moved(in_layout(v, "NHWC")) for v in (x, dy))
    options, out = options_of(case, "NHWC"), moved(in_layout(x * 0, "NHWC"), further)
    geometry = [case[k] for k in ("stride", "pads", "dilation", "groups")]
    hw.conv2d(there, w, out=out, **options)
    same_bits(from_layout(out, "NHWC"), direct.conv2d(x, w, None, *geometry))
    hw.conv2d_backward_input(back, w, there.shape, out=out, **options)
    same_bits(from_layout(out, "NHWC"), direct.conv2d_backward_input(dy, w, x.shape, *geometry))
    dw = hw.conv2d_backward_weight(back, there, w.shape, **options)
    same_bits(dw, direct.conv2d_backward_weight(dy, x, w.shape, *geometry))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "case",
    [
        case_of((2, 24, 5, 16), (3, 3)),
        case_of((1, 83, 4, 9), (3, 3)),
        case_of((2, 18, 4, 17), (3, 3), stride=(2, 2)),  # 9 columns of one residue, 8 of the other
        case_of((1, 19, 7, 23), (3, 3), stride=(3, 3), pads=(0, 2, 1, 1)),
        case_of((1, 17, 3, 28), (5, 5), stride=(1, 2), pads=(2, 2, 2, 2)),
        case_of((1, 4, 3, 29), (3, 3), stride=(2, 2)),  # a turn is less than four lines
        case_of((1, 24, 6, 15), (2, 2), stride=(2, 1)),
    ],
)
def test_arrays_begin_anywhere_in_a_line(case, layout, dtype, stores, isa, rng):
    """… and results that are written past the caches: line by line, and what is left of lines."""
    x, w = (rng.standard_normal(case[k]).astype(dtype) for k in ("x", "w"))
    geometry = [case[k] for k in ("stride", "pads", "dilation", "groups")]
    y = reference.conv2d(x, w, None, *geometry)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = reference.conv2d_backward_input(dy, w, x.shape, *geometry)
    dw = reference.conv2d_backward_weight(dy, x, w.shape, *geometry)
    x, y, dx, dy = (in_layout(v, layout) for v in (x, y, dx, dy))
    options, line = options_of(case, layout), 64 // x.itemsize

    def placed(v, offset):
        """The array so far into a line, and the memory around it."""
        memory = np.full(v.size + 3 * line, 7, dtype)
        begin = -(memory.ctypes.data // v.itemsize) % line + line + offset
        there = memory[begin : begin + v.size].reshape(v.shape)
        return there, (memory[:begin], memory[begin + v.size :])

    for offset in range(line):
        (x1, _), (dy1, _) = placed(x, offset), placed(dy, offset)
        x1[...], dy1[...] = x, dy
        for further in (0, 3):
            (y1, y_around), (dx1, dx_around) = (
                placed(v, (offset + further) % line) for v in (y, dx)
            )
            same_bits(hw.conv2d(x1, w, out=y1, **options), y)
            same_bits(hw.conv2d_backward_input(dy1, w, x.shape, out=dx1, **options), dx)
            assert all((part == 7).all() for part in (*y_around, *dx_around))
        same_bits(hw.conv2d_backward_weight(dy1, x1, w.shape, **options), dw)


def test_guard_bytes_stay(isa):
    for case in BORDERS:
        guards = Guards()
        for layout in LAYOUTS:
            options = options_of(case, layout)
            x = guards.array(in_layout(np.ones(case["x"]), layout))
            w, bias = guards.array(np.ones(case["w"])), guards.array(np.ones(case["w"][0]))
            y = guards.array(hw.conv2d(x, w, bias, **options))
            hw.conv2d(x, w, bias, out=y, **options)
            dx, dw = guards.array(x), guards.array(w)
            hw.conv2d_backward_input(y, w, x.shape, out=dx, **options)
            hw.conv2d_backward_weight(y, x, w.shape, out=dw, **options)
        assert guards.intact(), case


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_large_arrays_are_asked_for_ahead_and_written_past_the_caches(layout, kernel, stride, rng):
    """… with the bits of their images, which are not."""
    x = in_layout(rng.standard_normal((3, 64, 113, 112)).astype(np.float32), layout)
    w = rng.standard_normal((64, 1, kernel, kernel)).astype(np.float32)
    options = {"padding": kernel // 2, "stride": stride, "groups": 64, "layout": layout}
    y = np.concatenate([hw.conv2d(x[i : i + 1], w, **options) for i in range(3)])
    dx = np.concatenate(
        [hw.conv2d_backward_input(y[i : i + 1], w, x[:1].shape, **options) for i in range(3)]
    )
    before = runtime.write_past_caches_from(0)
    try:
        for _ in range(2):
            same_bits(hw.conv2d(x, w, **options), y)
            same_bits(hw.conv2d_backward_input(y, w, x.shape, **options), dx)
            rows_apart = np.empty((*y.shape[:3], y.shape[3] + 1), np.float32)[..., :-1]
            same_bits(hw.conv2d(x, w, out=rows_apart, **options), y)
            runtime.write_past_caches_from(before)
    finally:
        runtime.write_past_caches_from(before)
