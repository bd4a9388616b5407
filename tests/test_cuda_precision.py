"""Products on the tensor cores: close to the exact ones by the factors' rounding, and repeatable.

The emulation computes fragments as the PTX manual lays them out, and adds up in another order than the
hardware may.
"""

import numpy as np
import pytest
from conftest import same_bits
from test_conv import in_layout, options_of, random_case
from test_cuda_conv import LAYOUTS, case

import halfwave as hw
from halfwave._cuda import conv

# Of a factor: half a unit in the last place of 11 and of 8 bits; two factors, and the sum in float32.
UNIT = {"tf32": 2.0**-11, "bf16": 2.0**-8}
SHAPES = [
    (40, 50, 36),
    (130, 70, 140),
    (1, 1, 1),
    (5, 600, 3),
    (128, 32, 128),
    (3, 0, 4),
]


def close(actual, a, b, precision, bias=0):
    a, b = a.astype("f8"), b.astype("f8")
    terms = a.shape[-1]
    bound = (np.abs(a) @ np.abs(b)) * (
        2.1 * UNIT[precision] + terms * 2.0**-23
    ) + 2.0**-23 * np.abs(bias)
    assert actual.dtype == np.float32
    assert (np.abs(actual - (a @ b + bias)) <= bound).all()


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matmul(cuda, rng, shape, precision):
    m, k, n = shape
    a, b = rng.standard_normal((m, k), dtype="f4"), rng.standard_normal((k, n), dtype="f4")
    bias = rng.standard_normal(n, dtype="f4")
    there = [cuda.put(a), cuda.put(b)]
    found = cuda.get(hw.matmul(*there, precision=precision))
    close(found, a, b, precision)
    same_bits(cuda.get(hw.matmul(*there, precision=precision)), found)
    close(
        cuda.get(hw.matmul(*there, bias=cuda.put(bias), precision=precision)), a, b, precision, bias
    )
    transposed = cuda.put(np.ascontiguousarray(a.T)).T, cuda.put(np.ascontiguousarray(b.T)).T
    close(cuda.get(hw.matmul(*transposed, precision=precision)), a, b, precision)


@pytest.mark.parametrize("precision", UNIT)
def test_small_integers_are_exact(cuda, rng, precision):
    a, b = (rng.integers(-8, 9, shape).astype("f4") for shape in ((70, 90), (90, 33)))
    same_bits(cuda.get(hw.matmul(cuda.put(a), cuda.put(b), precision=precision)), a @ b)


def test_they_round(cuda):
    """So that no path gives the exact product under another name."""
    x = np.full((1, 1), 1 + 2.0**-9 + 2.0**-12, "f4")
    one = cuda.put(np.ones((1, 1), "f4"))
    assert cuda.get(hw.matmul(cuda.put(x), one, precision="tf32")) == 1 + 2.0**-9
    assert cuda.get(hw.matmul(cuda.put(x), one, precision="bf16")) == 1


def test_matmul_backward(cuda, rng):
    dy, a, b = (rng.standard_normal(s, dtype="f4") for s in ((2, 9, 8), (2, 9, 30), (30, 8)))
    da, db = hw.matmul_backward(*map(cuda.put, (dy, a, b)), precision="tf32")
    close(cuda.get(da), dy, b.T, "tf32")
    close(cuda.get(db), a.reshape(-1, 30).T, dy.reshape(-1, 8), "tf32")


def test_refuses(cuda, rng, monkeypatch):
    a = rng.standard_normal((4, 4), dtype="f4")
    with pytest.raises(ValueError, match="precision must be None on the CPU, not 'tf32'"):
        hw.matmul(a, a, precision="tf32")
    with pytest.raises(ValueError, match="precision must be one of 'tf32', 'bf16', not 'fp8'"):
        hw.matmul(cuda.put(a), cuda.put(a), precision="fp8")
    with pytest.raises(TypeError, match="precision 'bf16' is for float32 arrays, not float64"):
        hw.matmul(cuda.put(a.astype("f8")), cuda.put(a.astype("f8")), precision="bf16")
    monkeypatch.setattr(cuda.device, "capability", lambda: "75")
    with pytest.raises(ValueError, match=r"capability 8\.0 or newer, not 7\.5"):
        hw.matmul(cuda.put(a), cuda.put(a), precision="tf32")


CONVOLUTIONS = {
    "an edge": case((1, 17, 1, 129), (129, 17, 1, 1)),
    "a tile": case((1, 16, 8, 16), (64, 16, 1, 1)),
    "first layer": case((2, 3, 17, 15), (7, 3, 7, 7), (2, 2), (3, 3, 3, 3)),
    "channels in vectors": case((2, 36, 5, 7), (68, 36, 3, 3), (1, 1), (1, 1, 1, 1)),
    "groups in vectors": case((1, 16, 6, 9), (24, 8, 3, 2), (2, 1), (1, 0, 2, 1), groups=2),
    "groups of parts": case((1, 80, 5, 5), (8, 40, 4, 4), (1, 1), (1, 2, 3, 1), groups=2),
    "dilated, strided": case((1, 4, 20, 19), (2, 4, 3, 4), (4, 6), (3, 1, 0, 2), (2, 3)),
    "long": case((3, 4, 20, 21), (8, 4, 3, 3), (1, 1), (1, 1, 1, 1)),
    "depthwise": case((2, 5, 9, 9), (5, 1, 3, 3), (1, 1), (1, 1, 1, 1), groups=5),
    "stride beyond the image": case((1, 2, 3, 3), (2, 2, 2, 2), (7, 9), (1, 4, 2, 9)),
    "no image": case((0, 3, 5, 5), (4, 3, 3, 3)),
    "no channel": case((2, 0, 5, 5), (4, 0, 3, 3)),
    **{f"random {seed}": random_case(seed + 500) for seed in range(3)},
}


def convolutions(cuda, precision, x, w, bias, dy, options):
    """The three passes on the device."""
    x_shape, w_shape, options = x.shape, w.shape, {**options, "precision": precision}
    x, w, bias, dy = map(cuda.put, (x, w, bias, dy))
    y = hw.conv2d(x, w, bias, **options)
    dx = hw.conv2d_backward_input(dy, w, x_shape, **options)
    dw = hw.conv2d_backward_weight(dy, x, w_shape, **options)
    return [cuda.get(result) for result in (y, dx, dw)]


def references(x, w, bias, dy, options):
    return [
        hw.conv2d(x, w, bias, **options),
        hw.conv2d_backward_input(dy, w, x.shape, **options),
        hw.conv2d_backward_weight(dy, x, w.shape, **options),
    ]


def operands(given, layout, draw):
    """Options, x, w, bias and dy."""
    options = options_of(given, layout)
    x, w = in_layout(draw(given["x"]), layout), draw(given["w"])
    return options, x, w, draw(w.shape[:1]), draw(hw.conv2d(x, w, **options).shape)


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_small_integers_are_exact(cuda, rng, name, layout, precision):
    def draw(shape):
        return rng.integers(-4, 5, shape).astype("f4")

    options, *arrays = operands(CONVOLUTIONS[name], layout, draw)
    expected = references(*arrays, options)
    for found, exact in zip(convolutions(cuda, precision, *arrays, options), expected, strict=True):
        np.testing.assert_array_equal(found, exact, strict=True)


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["channels in vectors", "first layer"])
def test_convolutions(cuda, rng, name, layout, precision):
    def draw(shape):
        return rng.standard_normal(shape, dtype="f4")

    options, *arrays = operands(CONVOLUTIONS[name], layout, draw)
    results = convolutions(cuda, precision, *arrays, options)
    for found, again in zip(results, convolutions(cuda, precision, *arrays, options), strict=True):
        same_bits(again, found)
    wide = [x.astype("f8") for x in arrays]
    exact, sizes = references(*wide, options), references(*map(np.abs, wide), options)
    for found, middle, size in zip(results, exact, sizes, strict=True):
        assert (np.abs(found - middle) <= size * (2.1 * UNIT[precision] + 2000 * 2.0**-23)).all()
        assert not np.array_equal(found, middle.astype("f4"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_of_any_strides(cuda, rng, layout):
    """Not aligned to 16 bytes, in gaps, reversed; and the result likewise."""
    given = case((2, 16, 6, 5), (8, 16, 3, 3), (1, 1), (1, 1, 1, 1))
    options, x, w, bias, _ = operands(
        given, layout, lambda shape: rng.integers(-4, 5, shape).astype("f4")
    )
    expected = hw.conv2d(x, w, bias, **options)
    larger = cuda.arrays.zeros((*x.shape[:3], 2 * x.shape[3] + 1), "f4")
    larger[..., 1::2] = cuda.put(x)
    beside = cuda.arrays.zeros((*x.shape[:3], x.shape[3] + 1), "f4")
    beside[..., 1:] = cuda.put(x)
    views = [larger[..., 1::2], beside[..., 1:], cuda.put(np.ascontiguousarray(x[::-1]))[::-1]]
    out = cuda.arrays.zeros((*expected.shape[:3], 2 * expected.shape[3]), "f4")[..., ::2]
    for view in views:
        hw.conv2d(view, cuda.put(w), cuda.put(bias), **options, precision="tf32", out=out)
        np.testing.assert_array_equal(cuda.get(out), expected)
        dw = hw.conv2d_backward_weight(out, view, w.shape, **options, precision="tf32")
        np.testing.assert_array_equal(
            cuda.get(dw), hw.conv2d_backward_weight(expected, x, w.shape, **options)
        )


@pytest.mark.parametrize("precision", UNIT)
def test_convolutions_by_64_bits(cuda, rng, monkeypatch, precision):
    monkeypatch.setattr(conv, "NARROW", 0)
    test_convolutions_of_small_integers_are_exact(cuda, rng, "an edge", "NCHW", precision)


def test_convolutions_refuse(cuda, rng):
    x, w = (rng.standard_normal(s, dtype="f4") for s in ((1, 2, 5, 5), (3, 2, 3, 3)))
    dy = np.zeros((1, 3, 3, 3), "f4")

    def passes(put, **options):
        yield lambda: hw.conv2d(put(x), put(w), **options)
        yield lambda: hw.conv2d_backward_input(put(dy), put(w), x.shape, **options)
        yield lambda: hw.conv2d_backward_weight(put(dy), put(x), w.shape, **options)

    for call in passes(lambda x: x, precision="tf32"):
        with pytest.raises(ValueError, match="precision must be None on the CPU, not 'tf32'"):
            call()
    for call in passes(cuda.put, precision="fp16"):
        with pytest.raises(ValueError, match="precision must be one of"):
            call()
    for call in passes(lambda x: cuda.put(x.astype("f8")), precision="bf16"):
        with pytest.raises(TypeError, match="precision 'bf16' is for float32"):
            call()
    for call in passes(cuda.put, precision="bf16", algorithm="winograd"):
        with pytest.raises(ValueError, match="algorithm must be 'auto' or 'direct' with precision"):
            call()
    for call in passes(cuda.put, precision="bf16", algorithm="fft"):
        with pytest.raises(ValueError, match="algorithm must be one of"):
            call()
