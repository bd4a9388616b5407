"""Direct convolution in float32, cut at every kind of border: bit for bit, all sets and threads."""

import numpy as np
import pytest
import reference
import reference_direct as direct
from cases import specials
from conftest import everywhere, same_bits
from guards import Guards
from test_conv import in_layout, options_of, passes, random_case

import halfwave as hw

LAYOUTS = ("NCHW", "NHWC")


def case_of(x, outputs, kernel, stride=1, padding=0, dilation=1, groups=1):
    def pair(v):
        return v if isinstance(v, tuple) else (v, v)

    down, across = pair(padding)
    return {
        "x": x,
        "w": (outputs, x[1] // groups, *pair(kernel)),
        "stride": pair(stride),
        "pads": (down, down, across, across),
        "dilation": pair(dilation),
        "groups": groups,
    }


def check(case, x, w, bias, layout):
    geometry = [case[k] for k in ("stride", "pads", "dilation", "groups")]
    y, dx, dw, _, dy = everywhere(lambda: passes(x, w, bias, 1, case, layout))
    same_bits(y, direct.conv2d(x, w, bias, *geometry))
    same_bits(dx, direct.conv2d_backward_input(dy, w, x.shape, *geometry))
    same_bits(dw, direct.conv2d_backward_weight(dy, x, w.shape, *geometry))


def check_random(case, layout, rng, *, bias=True):
    x, w = (rng.standard_normal(case[k], np.float32) for k in ("x", "w"))
    check(case, x, w, rng.standard_normal(len(w), np.float32) if bias else None, layout)


@pytest.mark.parametrize("seed", range(6))
def test_the_oracle_is_the_contract(seed, rng):
    case = random_case(seed, largest=5)
    values = np.concatenate([specials(np.float32), rng.standard_normal(60).astype(np.float32)])
    x, w = (rng.choice(values, case[k]) for k in ("x", "w"))
    bias = rng.standard_normal(len(w), np.float32)
    geometry = [case[k] for k in ("stride", "pads", "dilation", "groups")]
    y = reference.conv2d(x, w, bias, *geometry)
    same_bits(direct.conv2d(x, w, bias, *geometry), y)
    dy = rng.choice(values, y.shape)
    same_bits(
        direct.conv2d_backward_input(dy, w, x.shape, *geometry),
        reference.conv2d_backward_input(dy, w, x.shape, *geometry),
    )
    same_bits(
        direct.conv2d_backward_weight(dy, x, w.shape, *geometry),
        reference.conv2d_backward_weight(dy, x, w.shape, *geometry),
    )


def test_the_oracle_folds_as_the_contract(rng):
    a, b = rng.standard_normal((2, 17500), np.float32)
    same_bits(direct.contract(zip(a, b, strict=True), ()), reference.contract(a, b))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pixels", range(1, 10))
def test_few_pixels(pixels, layout, rng):
    """Images of 1 to 9 pixels across, other numbers of rows, 1 to 17 channels."""
    for channels in (1, 3, 4, 5, 8, 16, 17):
        height = (pixels * 5 + channels) % 9 + 1
        outputs = (channels * 7 + pixels) % 17 + 1
        kernel = (min(height, 1 + channels % 5), min(pixels, 1 + (channels + pixels) % 7))
        stride = ((channels + pixels) % 3 + 1, pixels % 3 + 1)
        case = case_of((1 + channels % 2, channels, height, pixels), outputs, kernel, stride,
                       (kernel[0] // 2, kernel[1] // 2))  # fmt: skip
        check_random(case, layout, rng)


LAYERS = {
    "first, 7×7/2": case_of((1, 3, 23, 37), 96, 7, 2, 3),
    "first, 7×7/2, 33 outputs": case_of((2, 3, 14, 15), 33, 7, 2, 3),
    "first, 3×3": case_of((1, 3, 9, 40), 64, 3, 1, 1),
    "one channel, 5×5": case_of((3, 1, 13, 13), 6, 5, 1, 2),
    "LeNet's second": case_of((3, 6, 14, 14), 16, 5),
    "images one after the other": case_of((20, 2, 5, 6), 3, (3, 4), 1, (1, 2)),
    "the same, with a stride": case_of((20, 2, 9, 10), 3, 5, 2, 2),
    "the same, uneven borders": case_of((20, 2, 5, 5), 3, 4) | {"pads": (3, 1, 2, 3)},
    "more border than taps": case_of((20, 2, 3, 3), 3, 3, 1, (1, 4)),
    "3×3/2": case_of((2, 34, 13, 11), 40, 3, 2, 1),
    "3×3/2, one pixel": case_of((1, 20, 2, 2), 33, 3, 2, 1),
    "5×5, many channels": case_of((1, 40, 9, 10), 48, 5, 1, 2),
    "dilated": case_of((1, 24, 12, 11), 34, 3, 1, 2, 2),
    "dilated more than the image": case_of((1, 5, 4, 5), 7, 3, 1, 9, 9),
    "stride beyond the kernel": case_of((2, 7, 13, 12), 9, 2, 4, 1),
    "1×1 stride 3": case_of((2, 18, 10, 10), 20, 1, 3),
    "groups": case_of((2, 12, 9, 9), 18, 3, 2, 1, 1, 3),
    "groups of whole vectors": case_of((1, 6, 7, 8), 32, 3, 1, 1, 1, 2),
    "groups of one output": case_of((1, 8, 9, 9), 4, 3, 1, 1, 1, 4),
    "wide rows": case_of((1, 2, 3, 530), 17, (2, 3), 1, 1),
    "tall columns": case_of((1, 2, 530, 2), 5, (3, 2), (2, 1), 1),
    "long kernel": case_of((1, 3, 20, 20), 5, (20, 1)),
    "17 taps across": case_of((1, 2, 3, 40), 3, (1, 17), (1, 2), (0, 4)),
    "many outputs": case_of((1, 4, 5, 5), 150, 3, 2, 1),
    "many channels": case_of((1, 150, 5, 5), 4, 3, 2, 1),
    "many terms": case_of((2, 460, 4, 3), 35, 3, 2, 1),
    "stride 5": case_of((2, 3, 12, 11), 5, 3, 5, 1),
    "unequal strides": case_of((2, 6, 11, 12), 17, (3, 4), (3, 2), (1, 0), (2, 1)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, layout, rng):
    check_random(LAYERS[name], layout, rng)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_than_a_super_segment(layout, rng):
    """Backward weight of 17424 positions."""
    check_random(case_of((4, 1, 66, 66), 2, (1, 3), 1, (0, 1)), layout, rng, bias=False)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2])
def test_special_values(stride, layout, rng):
    case = case_of((2, 5, 7, 18), 19, 3, stride, 1)
    values = np.concatenate([specials(np.float32), rng.standard_normal(200).astype(np.float32)])
    x, w = (rng.choice(values, case[k]) for k in ("x", "w"))
    check(case, x, w, rng.choice(values, len(w)), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
def test_guard_bytes_stay(name, layout, isa):
    case = LAYERS[name]
    guards = Guards()
    options = options_of(case, layout)
    x = guards.array(in_layout(np.ones(case["x"], np.float32), layout))
    w = guards.array(np.ones(case["w"], np.float32))
    y = guards.array(hw.conv2d(x, w, **options))
    hw.conv2d(x, w, out=y, **options)
    dx, dw = guards.array(x), guards.array(w)
    hw.conv2d_backward_input(y, w, x.shape, out=dx, **options)
    hw.conv2d_backward_weight(y, x, w.shape, out=dw, **options)
    assert guards.intact()
