"""The CUDA convolutions against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import layouts_of, specials
from conftest import same_bits
from test_conv import in_layout, options_of, random_case

import halfwave as hw
from halfwave._cuda import conv

DTYPES = ["f4", "f8"]
LAYOUTS = ["NCHW", "NHWC"]


def case(x, w, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    return {"x": x, "w": w, "stride": stride, "pads": pads, "dilation": dilation, "groups": groups}


def all_passes(cuda, rng, given, dtype, layout, fill=None):
    """Every pass on the device and on the CPU."""
    options = options_of(given, layout)
    draw = fill or (lambda shape: rng.standard_normal(shape).astype(dtype))
    x, w = in_layout(draw(given["x"]), layout), draw(given["w"])
    y, *_ = cuda.agrees(hw.conv2d, x, w, draw(given["w"][0]), **options)
    cuda.agrees(hw.conv2d, x, w, **options)
    dy = draw(y.shape)
    cuda.agrees(hw.conv2d_backward_input, dy, w, x.shape, **options)
    cuda.agrees(hw.conv2d_backward_weight, dy, x, w.shape, **options)
    cuda.agrees(hw.conv2d_backward_bias, dy, layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(6))
def test_random_cases(cuda, rng, seed, dtype, layout):
    all_passes(cuda, rng, random_case(seed + 100), dtype, layout)
