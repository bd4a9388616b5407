"""Products by wgmma and the bulk tensor copy: as test_cuda_precision.py has them, on Hopper's path.

The emulation decodes tensor maps, barriers and matrix descriptors as the PTX manual says
(tests/emulation/hopper_on_host.h).
"""

import numpy as np
import pytest
from conftest import same_bits
from test_cuda_conv import LAYOUTS, case
from test_cuda_precision import CONVOLUTIONS, UNIT, close, convolutions, operands, references

import halfwave as hw
from halfwave._cuda import conv_tensor, matmul
from halfwave._cuda import hopper as path

SHAPES = [
    (1, 1, 1),
    (40, 50, 36),
    (127, 31, 63),
    (129, 33, 65),
    (128, 64, 128),
    (257, 300, 130),
    (64, 4, 520),
]


PLANS = (matmul.hopper_plan, conv_tensor.hopper_plan)


@pytest.fixture
def hopper(cuda, monkeypatch):
    """A Hopper GPU, whose path takes products of any size."""
    if cuda.emulated:
        monkeypatch.setattr(cuda.device, "capability", lambda: "90")
    elif not path.serves():
        pytest.skip("no Hopper GPU")
    monkeypatch.setattr(path, "LEAST", 1)
    monkeypatch.setattr(path, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(path, "LEAST_ACROSS", 8)
    for plan in PLANS:
        plan.cache_clear()
    yield cuda
    for plan in PLANS:
        plan.cache_clear()


def families(cuda, function, *arguments, **options):
    """The result, and the families of kernels that were launched for it, if they are recorded."""
    before = len(cuda.device.launched) if cuda.emulated else 0
    result = cuda.get(function(*arguments, **options))
    return result, [x for x, _ in cuda.device.launched[before:]] if cuda.emulated else None


def stored(cuda, x, by_columns):
    """On the device, with rows or columns side by side."""
    return cuda.put(np.ascontiguousarray(x.T)).T if by_columns else cuda.put(x)


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matmul(hopper, rng, shape, precision):
    m, k, n = shape
    a, b = rng.standard_normal((m, k), dtype="f4"), rng.standard_normal((k, n), dtype="f4")
    bias = rng.standard_normal(n, dtype="f4")
    for ways in ((0, 0), (0, 1), (1, 0), (1, 1)):
        there = [stored(hopper, x, way) for x, way in zip((a, b), ways, strict=True)]
        found, by = families(hopper, hw.matmul, *there, precision=precision)
        close(found, a, b, precision)
        same_bits(hopper.get(hw.matmul(*there, precision=precision)), found)
        assert by is None or "wgmma" in by
    biased = hw.matmul(*there, bias=hopper.put(bias), precision=precision)
    close(hopper.get(biased), a, b, precision, bias)


def test_what_is_copied_before(hopper, rng):
    """As TF32 one operand may lie along k or not, the other has to; all others go through a copy."""
    a, b = rng.standard_normal((40, 36), dtype="f4"), rng.standard_normal((36, 44), dtype="f4")
    for precision, ways, copies in (
        ("tf32", (0, 1), 0), ("tf32", (0, 0), 0), ("tf32", (1, 1), 0), ("tf32", (1, 0), 1),
        ("bf16", (0, 1), 2),
    ):  # fmt: skip
        there = [stored(hopper, x, way) for x, way in zip((a, b), ways, strict=True)]
        _, by = families(hopper, hw.matmul, *there, precision=precision)
        assert by is None or by.count("pack") == copies
    odd = hopper.put(np.pad(a, ((0, 0), (1, 0))))[:, 1:]  # neither aligned nor in rows of 16 bytes
    found, by = families(hopper, hw.matmul, odd, stored(hopper, b, 1), precision="tf32")
    close(found, a, b, "tf32")
    assert by is None or by == ["pack", "wgmma"]


each_tile = pytest.mark.parametrize(
    ("precision", "tile"),
    path.CHOICES,
    ids=lambda x: x if type(x) is str else f"{x.rows}x{x.columns}",
)


@each_tile
def test_tiles(hopper, rng, monkeypatch, tile, precision):
    """Every tile; blocks with several tiles, of more steps than there are stages; and of parts."""
    across = tile in path.ACROSS
    a = rng.integers(-8, 9, (300, 1000)).astype("f4")
    b = rng.integers(-8, 9, (1000, tile.columns + 4)).astype("f4")
    bias = rng.integers(-8, 9, tile.columns + 4).astype("f4")
    for part in (1000, 9, 1):
        monkeypatch.setattr(path, "choose", lambda *_, part=part: (tile, part))
        matmul.hopper_plan.cache_clear()
        rows = a if part > 1 else a[:132]
        there = stored(hopper, rows, across), stored(hopper, b, 1)
        for by_columns in (0, 1):
            out = stored(hopper, np.zeros((len(rows), b.shape[1]), "f4"), by_columns)
            hw.matmul(*there, bias=hopper.put(bias), precision=precision, out=out)
            same_bits(hopper.get(out), rows @ b + bias)


@pytest.mark.parametrize("precision", UNIT)
def test_slices_and_strides(hopper, rng, precision):
    def draw(*shape):
        return rng.integers(-8, 9, shape).astype("f4")

    for a, b in (
        (draw(3, 20, 24), draw(3, 24, 30)),
        (draw(3, 20, 24), draw(24, 30)),
        (draw(20, 24), draw(3, 24, 30)),
        (draw(2, 3, 20, 24), draw(2, 3, 24, 130)),
        (draw(2, 1, 20, 24), draw(1, 3, 24, 30)),  # which no tensor map has
        (draw(3, 20, 24)[::-1, ::-1], draw(3, 24, 30)[:, ::-1, ::-1]),
        (draw(20, 48)[:, ::2], draw(24, 90)[:, ::3]),
        (draw(40, 24)[::2], draw(30, 24).T),
    ):
        found = hw.matmul(hopper.put(a), hopper.put(b), precision=precision)
        same_bits(hopper.get(found), a @ b)
    base = hopper.put(draw(40, 50))
    a, b = base[::-2, 3:27], base[1:25, ::-1]
    found = hw.matmul(a, b, precision=precision)
    same_bits(hopper.get(found), hopper.get(a) @ hopper.get(b))
    bias = draw(50)
    for out in (
        hopper.arrays.zeros((20, 100), "f4")[:, ::2],
        hopper.arrays.zeros((50, 20), "f4").T,  # turned
        hopper.arrays.zeros((20, 51), "f4")[:, 1:],
        hopper.arrays.zeros((40, 50), "f4")[::-2],
    ):
        hw.matmul(a, b, bias=hopper.put(bias), precision=precision, out=out)
        same_bits(hopper.get(out), hopper.get(a) @ hopper.get(b) + bias)


def test_parts_with_a_bias_of_rows(hopper, rng):
    """Divided, sliced, and turned: the bias goes along the rows of each slice."""
    a, b, bias = (rng.integers(-4, 5, s).astype("f4") for s in ((2, 9, 1100), (1100, 5), (5,)))
    out = hopper.arrays.zeros((2, 5, 9), "f4").swapaxes(1, 2)
    there = hopper.put(a), hopper.put(b)
    _, by = families(hopper, hw.matmul, *there, bias=hopper.put(bias), precision="tf32", out=out)
    same_bits(hopper.get(out), a @ b + bias)
    assert by is None or by[-2:] == ["wgmma", "fold"]


def test_they_round_to_nearest(hopper):
    """Wherever the rounding happens: in the bulk copy, or in a copy before."""
    x = np.full((1, 4), 1 + 2.0**-10 * 0.75, "f4")
    one = np.ones((4, 1), "f4") / 4
    for way in (0, 1):
        a, b = hopper.put(x), stored(hopper, one, way)
        assert hopper.get(hw.matmul(a, b, precision="tf32")) == 1 + 2.0**-10
        assert hopper.get(hw.matmul(b.T, a.T, precision="tf32")) == 1 + 2.0**-10
    a, b = hopper.put(np.full((1, 4), 1 + 2.0**-7 * 0.75, "f4")), hopper.put(one)
    assert hopper.get(hw.matmul(a, b, precision="bf16")) == 1 + 2.0**-7


def test_special_values(hopper):
    """Nothing beyond an edge is read, whatever stands there."""
    a, b = np.full((70, 80), np.nan, "f4"), np.full((80, 70), np.inf, "f4")
    a[:5, :9], b[:9, :7] = 1, 2
    there = hopper.put(a), hopper.put(b)
    found = hw.matmul(there[0][:5, :9], there[1][:9, :7], precision="tf32")
    same_bits(hopper.get(found), np.full((5, 7), 18, "f4"))


def test_others_stay_with_mma_sync(cuda, rng, monkeypatch):
    if not cuda.emulated:
        pytest.skip("which kernels ran is known of the emulation only")
    a = cuda.put(rng.standard_normal((70, 70), dtype="f4"))
    for capability, maps, x, expected in (
        ("90", True, a, True),
        ("90", True, a[:60], False),
        ("90", False, a, False),
        ("80", True, a, False),
        ("100", True, a, False),
    ):
        monkeypatch.setattr(cuda.device, "capability", lambda value=capability: value)
        monkeypatch.setattr(cuda.device, "tensor_maps", lambda value=maps: value)
        _, by = families(cuda, hw.matmul, x, a, precision="tf32")
        assert ("wgmma" in by) == expected != ("matmul" in by)


def test_beyond_coordinates():
    a, b = (
        path.operand("tf32", True, (1, *s, 64), (4, *(4 for _ in s), 1)) for s in ((1, 9), (9,))
    )
    sizes = {"columns": 9, "terms": 64, "c": (9, 0, 0), "c_column": 1, "aligned": True}
    numbers = {**sizes, "bias_row": 0, "bias_column": 0}
    assert path.plan("tf32", a, b, size=(9, 1, 1), **numbers)
    assert path.plan("tf32", a, b, size=(2**31, 1, 1), **numbers) is None


MORE_CONVOLUTIONS = {
    "several tiles": case((3, 40, 9, 30), (70, 40, 3, 3), (1, 1), (1, 1, 1, 1)),
    "many images": case((40, 8, 3, 2), (16, 8, 2, 2), (1, 1), (1, 0, 0, 1)),
    "strides of 8": case((1, 8, 40, 37), (16, 8, 3, 5), (8, 8), (2, 3, 3, 3), (2, 3)),
}
ELSEWHERE = ("groups in vectors", "groups of parts", "depthwise", "no image", "no channel")


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*CONVOLUTIONS, *MORE_CONVOLUTIONS])
def test_convolutions_of_small_integers_are_exact(hopper, rng, name, layout, precision):
    def draw(shape):
        return rng.integers(-4, 5, shape).astype("f4")

    given = {**CONVOLUTIONS, **MORE_CONVOLUTIONS}[name]
    options, *arrays = operands(given, layout, draw)
    expected = references(*arrays, options)
    found = convolutions(hopper, precision, *arrays, options)
    for one, exact in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, exact, strict=True)
    x, w, bias, dy = map(hopper.put, arrays)
    one = {**options, "precision": precision}
    _, forward = families(hopper, hw.conv2d, x, w, bias, **one)
    _, backward = families(hopper, hw.conv2d_backward_input, dy, w, x.shape, **one)
    _, weights = families(hopper, hw.conv2d_backward_weight, dy, x, w.shape, **one)
    if forward is not None and "random" not in name:
        there = name not in ELSEWHERE and "beyond" not in name
        assert ("wgmma" in forward) == there
        there = there and options.get("stride", (1, 1)) == (1, 1)
        assert ("wgmma" in backward) == ("wgmma" in weights) == there


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions(hopper, rng, layout, precision):
    """Real numbers, whose rounding is the only difference; what is copied before; repeatable."""
    given = case((2, 36, 9, 8), (40, 36, 3, 3), (1, 1), (1, 1, 1, 1))
    options, *arrays = operands(given, layout, lambda shape: rng.standard_normal(shape, dtype="f4"))
    results = convolutions(hopper, precision, *arrays, options)
    for found, again in zip(
        results, convolutions(hopper, precision, *arrays, options), strict=True
    ):
        same_bits(again, found)
    exact = references(*(x.astype("f8") for x in arrays), options)
    sizes = references(*(np.abs(x).astype("f8") for x in arrays), options)
    for found, middle, size in zip(results, exact, sizes, strict=True):
        assert (np.abs(found - middle) <= size * (2.1 * UNIT[precision] + 2000 * 2.0**-23)).all()
        assert not np.array_equal(found, middle.astype("f4"))
    x, w, bias, _ = map(hopper.put, arrays)
    _, by = families(hopper, hw.conv2d, x, w, bias, **options, precision=precision)
    where_it_is = layout == "NHWC" and precision == "tf32"
    assert by is None or ("wgmma" in by and by.count("pack") == (1 if where_it_is else 2))


@each_tile
def test_tiles_of_weights(hopper, rng, monkeypatch, tile, precision):
    """Tiles of rows, columns and taps; parts of several steps, over images and rows of them."""
    given = case((3, 20, 9, 7), (40, 20, 2, 3), (1, 1), (1, 0, 2, 1), (2, 1))
    options, x, _, _, dy = operands(
        given, "NHWC", lambda shape: rng.integers(-4, 5, shape).astype("f4")
    )
    exact = hw.conv2d_backward_weight(dy, x, given["w"], **options)
    for part in (1000, 3, 1):
        monkeypatch.setattr(
            path, "choose", lambda tiles, *_, part=part: (tiles[tiles.index(tile)], part)
        )
        conv_tensor.hopper_plan.cache_clear()
        there = hopper.put(dy), hopper.put(x)
        found = hw.conv2d_backward_weight(*there, given["w"], **options, precision=precision)
        np.testing.assert_array_equal(hopper.get(found), exact, strict=True)


def test_boxes():
    """A tile's pixels: as many as serve, and none where few would do."""
    for size, stride, expected in (
        ((56, 56, 8), (1, 1), (8, 2, 8)),
        ((14, 14, 32), (1, 1), (2, 2, 32)),
        ((1000, 1, 1), (1, 1), (128, 1, 1)),
        ((1000, 1, 1), (8, 1), (32, 1, 1)),
        ((3, 3, 3), (1, 1), (3, 3, 3)),
    ):
        assert path.box_of(size, stride) == expected
    for size, itemsize, expected in (
        ((56, 56, 8), 4, (8, 1, 4)), ((56, 56, 8), 2, (8, 1, 8)), ((3, 1, 100), 4, (4, 1, 8)),
        ((7, 7, 1), 2, (8, 8, 1)), ((1000, 1, 1), 4, (32, 1, 1)),
    ):  # fmt: skip
        assert path._pixels_of_step(size, itemsize) == expected
