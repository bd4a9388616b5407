"""Winograd's convolution by CUDA against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import specials
from conftest import same_bits

import halfwave as hw
from halfwave._cuda import winograd

# x, w, padding, groups: tiles cut at the edges, 1 to 9 pixels, one segment (512) and more.
CASES = [((2, 3, 11, 13), (5, 3, 3, 3), ((0, 0), (0, 0)), 1),
         ((1, 4, 14, 9), (7, 4, 3, 3), ((1, 1), (1, 1)), 1),
         ((2, 6, 9, 10), (8, 3, 3, 3), ((1, 0), (2, 3)), 2),
         ((1, 1, 3, 3), (1, 1, 3, 3), ((0, 0), (0, 0)), 1),
         ((1, 2, 1, 1), (3, 2, 3, 3), ((1, 1), (1, 1)), 1),
         ((1, 520, 2, 3), (2, 520, 3, 3), ((1, 1), (1, 1)), 1)]  # fmt: skip


def values(rng, shape, dtype, special=False):
    x = rng.standard_normal(shape).astype(dtype)
    return (
        np.where(rng.random(shape) < 0.02, rng.choice(specials(dtype), shape), x) if special else x
    )


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("x_shape", "w_shape", "padding", "groups"), CASES, ids=str)
def test_passes(cuda, rng, x_shape, w_shape, padding, groups, dtype, layout, special):
    options = {"padding": padding, "groups": groups, "layout": layout, "algorithm": "winograd"}
    x = values(rng, x_shape, dtype, special)
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    w, bias = values(rng, w_shape, dtype, special), values(rng, w_shape[:1], dtype)
    y = hw.conv2d(x, w, bias, **options)
    cuda.agrees(hw.conv2d, x, w, bias, **options)
    dy = values(rng, y.shape, dtype, special)
    cuda.agrees(hw.conv2d_backward_input, dy, w, x.shape, **options)
    cuda.agrees(hw.conv2d_backward_weight, dy, x, w.shape, **options)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_batch_in_blocks(cuda, rng, layout, monkeypatch):
    """Blocks of images cut nothing that is summed."""
    monkeypatch.setattr(winograd, "DOMAIN_BYTES", 1)
    options = {"padding": 1, "layout": layout, "algorithm": "winograd"}
    x, w = (
        values(rng, (3, 5, 6, 4), "f4"),
        values(rng, (3, 5 if layout == "NCHW" else 4, 3, 3), "f4"),
    )
    y = cuda.agrees(hw.conv2d, x, w, **options)[0]
    cuda.agrees(hw.conv2d_backward_input, values(rng, y.shape, "f4"), w, x.shape, **options)


def test_several_super_segments(cuda, rng, monkeypatch):
    x, w_shape = values(rng, (2, 1, 370, 370), "f4"), (1, 1, 3, 3)
    dy = values(rng, x.shape, "f4")
    options = {"padding": 1, "algorithm": "winograd"}
    for domain in (winograd.DOMAIN_BYTES, 1):  # 17298 tiles, at once or in two parts
        monkeypatch.setattr(winograd, "DOMAIN_BYTES", domain)
        cuda.agrees(hw.conv2d_backward_weight, dy, x, w_shape, **options)


def test_strided(cuda, rng):
    whole, w = values(rng, (2, 12, 9, 16), "f4"), values(rng, (4, 6, 3, 3), "f4")
    part = np.s_[:, ::2, ::-1, 3:]
    there = cuda.put(whole)[part]
    options = {"padding": 1, "algorithm": "winograd"}
    expected = hw.conv2d(whole[part], w, **options)
    out = cuda.put(np.zeros((2, 4, 9, 26), "f4"))
    view = out[..., ::2]
    assert hw.conv2d(there, cuda.put(w), out=view, **options) is view
    same_bits(cuda.get(out)[..., ::2], expected)
    assert not cuda.get(out)[..., 1::2].any()
    dw = cuda.put(np.zeros((4, 6, 3, 6), "f4"))
    hw.conv2d_backward_weight(cuda.put(expected), there, w.shape, out=dw[..., ::-2], **options)
    same_bits(
        cuda.get(dw)[..., ::-2],
        hw.conv2d_backward_weight(expected, whole[part], w.shape, **options),
    )
