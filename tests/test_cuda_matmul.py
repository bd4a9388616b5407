"""Matrix products on the GPU against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import specials
from conftest import same_bits

import halfwave as hw
from halfwave._cuda import matmul as kernels

DTYPES = ["f4", "f8"]
TILES = [(n, d) for d in DTYPES for n in range(len(kernels.tiles(np.dtype(d).itemsize)))]
SHAPES = [  # by NumPy's rules
    ((3, 4), (4, 5)), ((1, 1), (1, 1)), ((7,), (7,)), ((7,), (7, 3)), ((3, 7), (7,)),
    ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((2, 3, 0), (2, 0, 5)), ((0, 2, 3), (3, 4)),
    ((2, 3, 4), (4, 5)), ((4, 5), (3, 5, 6)), ((2, 1, 3, 4), (5, 4, 6)), ((3, 1, 2, 4), (2, 4, 1)),
    ((5,), (3, 5, 2)), ((3, 2, 5), (5,)), ((1, 70), (70, 200)), ((200, 70), (70, 2)),
    ((4, 1030), (1030, 70)), ((33, 1100), (1100, 66)), ((33, 16900), (16900, 2)),
]  # fmt: skip
LENGTHS = [0, 1, 15, 16, 17, 33, 511, 512, 513, 1024, 1500]


@pytest.fixture(autouse=True)
def _no_plans():
    """Plans are kept by shape; some tests choose others."""
    kernels.plan_of.cache_clear()
    yield
    kernels.plan_of.cache_clear()


def values(rng, shape, dtype, tiny=False):
    """Normal numbers; or such that products vanish into +0 and -0, which later zeros must not change."""
    x = rng.standard_normal(shape).astype(dtype)
    if tiny:
        x *= np.where(rng.random(shape) < 0.9, np.finfo(dtype).tiny, 1)
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_shapes(cuda, rng, a, b, dtype):
    a, b = values(rng, a, dtype), values(rng, b, dtype)
    y = hw.matmul(a, b)
    cuda.agrees(hw.matmul, a, b)
    if b.ndim > 1:
        cuda.agrees(hw.matmul, a, b, bias=values(rng, b.shape[-1], dtype))
    cuda.agrees(hw.matmul_backward, values(rng, y.shape, dtype), a, b)
    if y.ndim:
        cuda.agrees(hw.matmul_backward_bias, y)


@pytest.mark.parametrize(("tile", "dtype"), TILES)
def test_tiles(cuda, rng, monkeypatch, tile, dtype):
    """Every tile at and beside its edges, at steps' and segments' ends, operands of every kind."""
    monkeypatch.setattr(kernels, "choose", lambda *_: tile)
    rows, columns, *_ = kernels.tiles(np.dtype(dtype).itemsize)[tile]
    bias = values(rng, 4 * columns, dtype)
    for i, k in enumerate(LENGTHS[:: 2 if tile == kernels.WIDE else 1]):
        m, n = rows + (i % 3 - 1), columns + (i // 3 % 3 - 1) + 4 * (i % 2)
        a, b = values(rng, (m, k), dtype, i % 2), values(rng, (k, n), dtype, i % 2)
        cuda.agrees(hw.matmul, a, b, bias=bias[:n])
    for k in (32, 515) if dtype == "f4" or tile == 0 else ():
        a, b = values(rng, (rows, k), dtype), values(rng, (k, columns), dtype)
        expected = hw.matmul(a, b)
        for left in (cuda.put(a), cuda.put(a.T).T):  # along k; across rows
            for right in (cuda.put(b), cuda.put(b.T).T):
                same_bits(cuda.get(hw.matmul(left, right)), expected)


def test_the_wide_tile_is_chosen():
    """For large products of floats, on GPUs with the shared memory for it."""
    hopper, ada = 227 * 1024, 99 * 1024
    for n in (4096, 8192):
        assert kernels.choose(4, hopper, 1, n, n, n) == kernels.WIDE
        assert kernels.choose(4, ada, 1, n, n, n) == 0
        assert kernels.choose(8, hopper, 1, n, n, n) == 0
    assert kernels.choose(4, hopper, 1, 1024, 1024, 4096) != kernels.WIDE
    assert kernels.choose(4, hopper, 36, 512, 12544, 512) != kernels.WIDE
    tile = kernels.tiles(4)[kernels.WIDE]
    assert tile.shared(4, 8192) == 4 * (2 * 8 * (128 + 4 + 256 + 4) + 128 * 256)


@pytest.mark.parametrize("part", [None, 512, 16384])
def test_long_axis(cuda, rng, monkeypatch, part):
    """Folded by one block, or divided at segments or super-segments."""
    if part is None:
        monkeypatch.setattr(kernels, "part_terms", lambda blocks, enough, k: k)
    else:
        monkeypatch.setattr(kernels, "part_terms", lambda blocks, enough, k: min(part, k))
    monkeypatch.setattr(kernels, "choose", lambda *_: 2)
    for k in (16384, 16385, 2 * 16384 + 512 + 3):
        a, b = values(rng, (2, 3, k), "f4"), values(rng, (k, 5), "f4")
        cuda.agrees(hw.matmul, a, b, bias=values(rng, 5, "f4"))
        cuda.agrees(hw.matmul, a, np.stack([b, b]))


def test_division_of_an_axis():
    assert kernels.part_terms(132, 132, 10**6) == 10**6
    assert kernels.part_terms(131, 132, 512) == 512
    assert kernels.part_terms(131, 132, 600) == 512
    assert kernels.part_terms(66, 132, 16385) == 16384
    assert kernels.part_terms(65, 132, 16385) == 512


def test_choice_of_tile():
    most = 99 * 1024
    assert [kernels.choose(4, most, 1, n, n, n) for n in (32, 64, 4096)] == [2, 2, 0]
    assert kernels.choose(4, most, 1, 1, 4096, 4096) == kernels.THIN
    assert kernels.choose(4, most, 1, 17, 4096, 4096) != kernels.THIN


def test_negative_zero(cuda):
    """A vanishing product below zero is -0, and stays it where the chain ends: whatever pads a tile."""
    tiny = np.finfo("f4").tiny
    for k in (1, 17, 513):
        a, b = np.zeros((1, k), "f4"), np.ones((k, 1), "f4")
        a[0, -1], b[-1, 0] = -tiny, tiny
        (y,) = cuda.agrees(hw.matmul, a, b)
        assert np.signbit(cuda.get(y)[0, 0]) == (k != 513)  # +0 + -0
    (y,) = cuda.agrees(
        hw.matmul, np.full((1, 1), -tiny), np.full((1, 1), tiny), bias=np.zeros(1, "f4")
    )
    assert not np.signbit(cuda.get(y)[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(cuda, rng, dtype):
    a, b = (rng.choice(specials(dtype), shape) for shape in ((40, 600), (600, 40)))
    a[:, 5:], b[5:] = values(rng, (40, 595), dtype), values(rng, (595, 40), dtype)
    cuda.agrees(hw.matmul, a, b)
    cuda.agrees(
        hw.matmul, rng.choice(specials(dtype), (33, 1)), rng.choice(specials(dtype), (1, 35))
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides(cuda, rng, dtype):
    whole_a, whole_b = values(rng, (3, 71, 90), dtype), values(rng, (91, 3, 80), dtype)
    there_a, there_b = cuda.put(whole_a), cuda.put(whole_b)
    for part_a in (
        np.s_[1, ::2, 1:70],
        np.s_[2, ::-1, 68::-1],
        np.s_[:, 4, :69],
        np.s_[0, :, 3:72],
    ):
        for part_b in (
            np.s_[:69, 1],
            np.s_[68::-1, 0, ::-2],
            np.s_[1:70, :, 5],
            np.s_[2:71, 2, 1:77],
        ):
            expected = hw.matmul(whole_a[part_a], whole_b[part_b])
            same_bits(cuda.get(hw.matmul(there_a[part_a], there_b[part_b])), expected)
    # Dimensions that are no single one: of rows, of the contracted axis.
    a, b = values(rng, (4, 3, 5, 6), dtype), values(rng, (6, 7), dtype)
    there = cuda.put(a).transpose(1, 0, 2, 3)
    dy = values(rng, (3, 4, 5, 7), dtype)
    same_bits(cuda.get(hw.matmul(there, cuda.put(b))), hw.matmul(a.transpose(1, 0, 2, 3), b))
    for one, other in zip(
        hw.matmul_backward(cuda.put(dy), there, cuda.put(b)),
        hw.matmul_backward(dy, a.transpose(1, 0, 2, 3), b),
        strict=True,
    ):
        same_bits(cuda.get(one), other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out(cuda, rng, dtype):
    a, b = values(rng, (3, 40, 30), dtype), values(rng, (30, 50), dtype)
    bias = values(rng, 50, dtype)
    expected = hw.matmul(a, b, bias=bias)
    a, b, bias = map(cuda.put, (a, b, bias))
    blank = np.zeros((6, 80, 150), dtype)
    for part in (np.s_[:3, :40, :50], np.s_[::2, ::-2, 100::-2], np.s_[3:, 40:, 7:57]):
        whole = cuda.put(blank)
        view = whole[part][:, :40, :50]
        assert hw.matmul(a, b, bias=bias, out=view) is view
        same_bits(cuda.get(view), expected)
        written = cuda.get(whole)
        written[part][:, :40, :50] = 0
        assert not written.any()
    turned = cuda.put(np.zeros((50, 40, 3), dtype)).transpose(2, 1, 0)
    hw.matmul(a, b, bias=bias, out=turned)
    same_bits(cuda.get(turned), expected)
    square = values(rng, (40, 40), dtype)
    there = cuda.put(square)
    assert hw.matmul(there, there.T, out=there) is there  # overlaps: as if it did not
    same_bits(cuda.get(there), hw.matmul(square, square.T))


def test_many_slices(cuda, rng, monkeypatch):
    monkeypatch.setattr(kernels, "GRID_Y", 4)
    a, b = values(rng, (2, 5, 2, 3), "f4"), values(rng, (5, 3, 4), "f4")
    cuda.agrees(hw.matmul, a, b)
    wide = values(rng, (2, 1) * 7 + (2, 3), "f4")
    cuda.agrees(hw.matmul, wide, values(rng, (1, 2) * 7 + (3, 2), "f4")[:, :1, :, :1, :, :1, :, :1])


def test_refuses(cuda, rng):
    a, b = values(rng, (3, 4), "f4"), values(rng, (4, 5), "f4")
    there_a, there_b = cuda.put(a), cuda.put(b)
    with pytest.raises(TypeError, match="b must lie in GPU memory as a is, not CPU"):
        hw.matmul(there_a, b)
    with pytest.raises(TypeError, match="b must lie in CPU memory as a is, not GPU"):
        hw.matmul(a, there_b)
    with pytest.raises(TypeError, match="bias must lie in GPU memory"):
        hw.matmul(there_a, there_b, bias=np.zeros(5, "f4"))
    with pytest.raises(TypeError, match="out must be a CuPy array"):
        hw.matmul(there_a, there_b, out=np.zeros((3, 5), "f4"))
    with pytest.raises(TypeError, match="a must lie in GPU memory as dy is, not CPU"):
        hw.matmul_backward(cuda.put(np.zeros((3, 5), "f4")), a, there_b)
    with pytest.raises(ValueError, match="b must have 4 rows"):
        hw.matmul(there_a, there_b[1:])
