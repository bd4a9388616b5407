"""The CUDA pools against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import specials
from conftest import same_bits

import halfwave as hw

DTYPES = ["f4", "f8"]
POOLS = [((2, 3, 11, 12), 2, {}), ((1, 3, 13, 17), 3, {"stride": 2, "padding": 1}),
         ((1, 2, 9, 9), (2, 4), {"stride": (1, 3)}), ((2, 1, 7, 7), 3, {"stride": 1, "padding": 1}),
         ((1, 2, 16, 16), 3, {"stride": 3, "dilation": 2, "ceil_mode": True}),
         ((1, 2, 10, 9), (3, 2), {"stride": (2, 5), "padding": ((1, 2), (0, 1))}),
         ((1, 1, 5, 5), 5, {"padding": 2, "stride": 1, "dilation": 1}), ((0, 3, 4, 4), 2, {}),
         ((1, 1, 1, 1), 1, {})]  # fmt: skip


def values(rng, shape, dtype):
    """Few different numbers, so that maxima are shared, zeros of both signs, infinities and NaN."""
    x = rng.integers(-3, 4, shape).astype(dtype)
    return np.where(rng.random(shape) < 0.1, rng.choice(specials(dtype), shape), x)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "size", "options"), POOLS, ids=str)
def test_max_pool2d(cuda, rng, shape, size, options, dtype, layout):
    x = values(rng, shape, dtype)
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    y = hw.max_pool2d(x, size, layout=layout, **options)
    cuda.agrees(hw.max_pool2d, x, size, layout=layout, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    cuda.agrees(hw.max_pool2d_backward, dy, x, size, layout=layout, **options)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("levels", [(6, 3, 2, 1), (4,), (1, 5), (13,)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_spatial_pyramid_pool(cuda, rng, levels, layout, dtype):
    x = values(rng, (2, 9, 11, 5) if layout == "NHWC" else (2, 5, 9, 11), dtype)
    y = cuda.agrees(hw.spatial_pyramid_pool, x, levels, layout=layout)[0]
    dy = rng.standard_normal(y.shape).astype(dtype)
    cuda.agrees(hw.spatial_pyramid_pool_backward, dy, x, levels, layout=layout)


def test_strided_arrays(cuda, rng):
    whole = values(rng, (3, 4, 20, 18), "f4")
    there = cuda.put(whole)
    part = np.s_[::2, 1:, ::-1, 3:]
    same_bits(cuda.get(hw.max_pool2d(there[part], 3)), hw.max_pool2d(whole[part], 3))
    out = cuda.put(np.zeros((2, 3, 6, 10), "f4"))
    view = out[..., ::2]
    assert hw.max_pool2d(there[part], 3, out=view) is view
    same_bits(cuda.get(out)[..., ::2], hw.max_pool2d(whole[part], 3))
    dy = rng.standard_normal((2, 3, 5, 6)).astype("f4").swapaxes(2, 3)
    same_bits(
        cuda.get(
            hw.max_pool2d_backward(cuda.put(dy.swapaxes(2, 3)).swapaxes(2, 3), there[part], 3)
        ),
        hw.max_pool2d_backward(dy, whole[part], 3),
    )
