"""The CUDA convolutions against the CPU's, to the bit."""

import numpy as np
import pytest
from cases import specials
from conftest import same_bits
from test_conv import in_layout, options_of, random_case

import halfwave as hw
from halfwave._cuda import conv, depthwise

DTYPES = ["f4", "f8"]
LAYOUTS = ["NCHW", "NHWC"]


@pytest.fixture(autouse=True)
def _plans_anew():
    """Each test may have changed what plans are made of."""
    conv.plan_of.cache_clear()
    yield
    conv.plan_of.cache_clear()


def case(x, w, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    return {"x": x, "w": w, "stride": stride, "pads": pads, "dilation": dilation, "groups": groups}


def all_passes(cuda, rng, given, dtype, layout, draw=None):
    """Every pass on the device and on the CPU."""
    options = options_of(given, layout)
    draw = draw or (lambda shape: rng.standard_normal(shape).astype(dtype))
    x, w = in_layout(draw(given["x"]), layout), draw(given["w"])
    y, *_ = cuda.agrees(hw.conv2d, x, w, draw(given["w"][:1]), **options)
    cuda.agrees(hw.conv2d, x, w, **options)
    dy = draw(y.shape)
    cuda.agrees(hw.conv2d_backward_input, dy, w, x.shape, **options)
    cuda.agrees(hw.conv2d_backward_weight, dy, x, w.shape, **options)
    cuda.agrees(hw.conv2d_backward_bias, dy, layout=layout)


def forced(tile, part):
    """In place of `conv.choose`: a tile's number, and parts of `part` terms where there are more."""

    def choose(dtype, slices, rows, columns, terms):
        return tile, min(terms, part) or 1

    return choose


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(6))
def test_random_cases(cuda, rng, seed, dtype, layout):
    all_passes(cuda, rng, random_case(seed + 100), dtype, layout)


SHAPED = {
    "first layer": case((2, 3, 17, 15), (7, 3, 7, 7), (2, 2), (3, 3, 3, 3)),
    "LeNet": case((2, 6, 14, 14), (16, 6, 5, 5)),
    "pointwise": case((2, 40, 5, 7), (33, 40, 1, 1)),
    "pointwise, stride": case((1, 9, 7, 8), (17, 9, 1, 1), (2, 3)),
    "dilated, strided": case((1, 3, 20, 19), (2, 3, 3, 4), (4, 6), (3, 1, 0, 2), (2, 3)),
    "stride beyond the kernel": case((1, 2, 9, 9), (2, 2, 2, 2), (5, 4)),
    "stride beyond the image": case((1, 2, 3, 3), (2, 2, 2, 2), (7, 9), (1, 4, 2, 9)),
    "depthwise": case((2, 10, 9, 9), (10, 1, 3, 3), (1, 1), (1, 1, 1, 1), groups=10),
    "groups": case((1, 6, 6, 9), (9, 2, 3, 2), (2, 1), (1, 0, 2, 1), groups=3),
    "one of all": case((1, 1, 1, 1), (1, 1, 1, 1)),
    "padding alone": case((1, 1, 1, 1), (2, 1, 2, 2), (3, 3), (4, 4, 4, 4)),
    "no image": case((0, 3, 5, 5), (4, 3, 3, 3)),
    "no channel": case((2, 0, 5, 5), (4, 0, 3, 3)),
    "no output": case((2, 3, 5, 5), (0, 3, 3, 3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPED)
def test_shapes(cuda, rng, name, dtype, layout):
    all_passes(cuda, rng, SHAPED[name], dtype, layout)


# A tile's rows and columns, and 16 terms, exactly and one more or less.
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", conv.TILES, ids=str)
@pytest.mark.parametrize("number", range(3))
def test_tiles(cuda, rng, monkeypatch, number, dtype, layout):
    tile = conv.TILES[dtype][number]
    monkeypatch.setattr(conv, "choose", forced(number, 16384))
    for more in (-1, 0, 1):
        x = rng.standard_normal((1, 16 + more, 1, tile.columns + more)).astype(dtype)
        w = rng.standard_normal((tile.rows + more, 16 + more, 1, 1)).astype(dtype)
        cuda.agrees(hw.conv2d, in_layout(x, layout), w, w[:, 0, 0, 0].copy(), layout=layout)
    given = case((1, 3, 6, 90), (tile.rows // 4 + 1, 3, 3, 3), (2, 1), (1, 1, 1, 1))
    all_passes(cuda, rng, given, dtype, layout)


# Sizes and addresses that let copies of 16 bytes serve: of x or dy along a row of pixels or along
# the channels, of w and dy along the rows of the product; and one that does not.
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [0, 1])
def test_copies_of_16_bytes(cuda, rng, monkeypatch, number, dtype, layout):
    monkeypatch.setattr(conv, "choose", forced(number, 16384))
    for channels in (12, 13):
        given = case((2, channels, 7, 8), (channels, channels, 1, 1), pads=(1, 0, 0, 4))
        all_passes(cuda, rng, given, dtype, layout)
    all_passes(cuda, rng, case((1, 8, 5, 8), (8, 8, 2, 3), pads=(1, 1, 1, 1)), dtype, layout)


# Segments of 512 terms, in one block and a block each: whole ones, and one more or less; in backward
# input residues of 300 to 1200 terms.
@pytest.mark.parametrize("part", [512, 16384])
@pytest.mark.parametrize(
    "given",
    [
        *(case((1, terms, 1, 3), (2, terms, 1, 1)) for terms in (511, 512, 513, 1024, 1025)),
        *(case((1, 2, 1, terms), (2, 2, 1, 1)) for terms in (512, 1025)),
        case((1, 3, 5, 5), (300, 3, 3, 3), (2, 2), (1, 1, 1, 1)),
    ],
    ids=lambda given: str(given["w"]),
)
def test_segments(cuda, rng, monkeypatch, given, part):
    monkeypatch.setattr(conv, "choose", forced(1, part))
    for layout in LAYOUTS:
        all_passes(cuda, rng, given, "f4", layout)


@pytest.mark.parametrize("part", [512, 16384])
def test_super_segments(cuda, rng, monkeypatch, part):
    monkeypatch.setattr(conv, "choose", forced(1, part))
    x = rng.standard_normal((1, 1, 131, 127)).astype("f4")  # 16637 terms
    cuda.agrees(hw.conv2d_backward_weight, x, x, (1, 1, 1, 1))
    x = rng.standard_normal((1, 16385, 1, 1)).astype("f4")
    cuda.agrees(hw.conv2d, x, x[:1], x[0, :1, 0, 0])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(cuda, rng, dtype, layout):
    def draw(shape):
        x = rng.standard_normal(shape).astype(dtype)
        return np.where(rng.random(shape) < 0.03, rng.choice(specials(dtype), shape), x)

    def tiny(shape):  # products that round to -0, which no further term may turn into +0
        info = np.finfo(dtype)
        return rng.choice(np.array([-1, 1, 0.25], dtype), shape) * info.smallest_subnormal

    given = case((2, 5, 8, 9), (6, 5, 3, 3), (1, 2), (1, 2, 0, 1))
    all_passes(cuda, rng, given, dtype, layout, draw)
    all_passes(cuda, rng, given, dtype, layout, tiny)


DEPTHWISE = {
    "plain": case((2, 5, 9, 10), (5, 1, 3, 3), (1, 1), (1, 1, 1, 1), groups=5),
    "runs": case((2, 3, 19, 7), (6, 1, 3, 3), (1, 1), (2, 0, 0, 2), groups=3),
    "every other": case((1, 3, 20, 11), (3, 1, 3, 3), (2, 2), (1, 2, 2, 1), (2, 2), groups=3),
    "stride": case((2, 7, 9, 11), (7, 1, 3, 3), (2, 2), (1, 0, 1, 2), groups=7),
    "dilated, strided": case((1, 3, 20, 19), (3, 1, 3, 4), (4, 6), (3, 1, 0, 2), (2, 3), groups=3),
    "outputs": case((3, 4, 6, 5), (12, 1, 2, 3), (1, 2), (0, 1, 2, 0), groups=4),
    "one segment": case((1, 2, 16, 32), (2, 1, 1, 1), groups=2),
    "segments": case((2, 3, 19, 53), (3, 1, 3, 1), (1, 1), (1, 1, 0, 0), groups=3),  # 2014 terms
    "a segment of taps": case((1, 2, 30, 19), (2, 1, 27, 19), groups=2),  # 513: too many
    "no image": case((0, 3, 5, 5), (3, 1, 3, 3), groups=3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(cuda, rng, name, dtype, layout):
    all_passes(cuda, rng, DEPTHWISE[name], dtype, layout)
    if cuda.emulated and name == "plain":
        before = len(cuda.device.launched)
        all_passes(cuda, rng, DEPTHWISE[name], dtype, layout)
        names = cuda.device.launched[before:]
        assert ("depthwise", "correlate_weight") in names
        assert ("depthwise", "correlate_3_by_3") in names
        assert "conv" not in {family for family, _ in names}


def test_depthwise_beyond_what_its_kernels_count(cuda, rng, monkeypatch):
    monkeypatch.setattr(depthwise, "MOST_PARTIAL", 1)
    all_passes(cuda, rng, DEPTHWISE["plain"], "f4", "NCHW")
    monkeypatch.setattr(depthwise, "MOST", 1)
    for layout in LAYOUTS:
        all_passes(cuda, rng, DEPTHWISE["outputs"], "f4", layout)


def test_depthwise_super_segments(cuda, rng):
    x = rng.standard_normal((1, 2, 131, 127)).astype("f4")  # 16637 terms
    cuda.agrees(hw.conv2d_backward_weight, x, x, (2, 1, 1, 1), groups=2)


def test_depthwise_special_values(cuda, rng):
    x = rng.choice(specials("f4"), (2, 4, 7, 7))
    w = rng.choice(specials("f4"), (8, 1, 3, 3))
    for layout in LAYOUTS:
        all_passes(cuda, rng, case(x.shape, w.shape, (1, 2), (1, 1, 1, 1), groups=4), "f4", layout,
                   lambda shape: rng.choice(specials("f4"), shape))  # fmt: skip


def test_division_by_what_is_known_before():
    for by in (*range(1, 70), 2**16 - 1, 2**16 + 1, 2**30 + 1, 2**31 - 1):
        _, magic, shift, _ = depthwise._divisor(by)
        assert magic < 2**32
        near = {k * by + e for k in (0, 1, 2, 2**31 // by - 1, 2**31 // by) for e in (-1, 0, 1)}
        for n in near | {0, 1, 2**31 - 1}:
            if 0 <= n < 2**31:
                assert ((magic * n >> 32) + n) >> shift == n // by
                assert (magic * n >> 32) + n < 2**32


def test_padding_takes_part(cuda):
    x, w = np.ones((1, 1, 3, 3), "f4"), np.full((1, 1, 3, 3), np.nan, "f4")
    w[0, 0, 1, 1] = 1
    w[0, 0, 0, 0] = np.inf
    y = cuda.get(hw.conv2d(cuda.put(x), cuda.put(w), padding=1, algorithm="direct"))
    assert np.isnan(y).all()
    cuda.agrees(hw.conv2d, x, w, padding=1, algorithm="direct")
    cuda.agrees(hw.conv2d_backward_input, x, w, x.shape, padding=1, algorithm="direct")


@pytest.mark.parametrize("dtype", DTYPES)
def test_coordinates_of_64_bits(cuda, rng, monkeypatch, dtype):
    x, w = rng.standard_normal((1, 2, 3, 4)), rng.standard_normal((2, 2, 1, 2))
    x, w = x.astype(dtype), w.astype(dtype)
    expected = np.zeros((1, 2, 3, 3), dtype)  # of three rows the middle one is not of padding
    expected[:, :, 1] = hw.conv2d(x[:, :, :1], w, algorithm="direct")[:, :, 0]
    options = {"stride": (2**30, 1), "padding": ((2**30, 2**30), (0, 0)), "algorithm": "direct"}
    same_bits(cuda.get(hw.conv2d(cuda.put(x), cuda.put(w), **options)), expected)
    monkeypatch.setattr(conv, "NARROW", 0)
    for seed in range(3):
        all_passes(cuda, rng, random_case(seed + 200), dtype, LAYOUTS[seed % 2])


def test_strides(cuda, rng):
    x, w = rng.standard_normal((2, 4, 6, 7)).astype("f4"), rng.standard_normal((5, 4, 3, 3))
    w = w.astype("f4")
    options = {"padding": 1, "algorithm": "direct", "stride": (1, 2)}
    y = hw.conv2d(x, w, **options)
    dy = rng.standard_normal(y.shape).astype("f4")
    dx = hw.conv2d_backward_input(dy, w, x.shape, **options)
    dw = hw.conv2d_backward_weight(dy, x, w.shape, **options)
    views = [lambda a: a[::-1, ::-1, ::-1, ::-1], lambda a: a.transpose(3, 1, 0, 2), lambda a: a]
    for to, back in [(views[0], views[0]), (views[1], lambda a: a.transpose(2, 1, 3, 0))]:
        there = [back(cuda.put(np.ascontiguousarray(to(a)))) for a in (x, w, dy)]
        same_bits(cuda.get(hw.conv2d(*there[:2], **options)), y)
        same_bits(cuda.get(hw.conv2d_backward_input(there[2], there[1], x.shape, **options)), dx)
        same_bits(cuda.get(hw.conv2d_backward_weight(there[2], there[0], w.shape, **options)), dw)
        for function, arrays, result in (
            (hw.conv2d, there[:2], y),
            (hw.conv2d_backward_input, [there[2], there[1], x.shape], dx),
            (hw.conv2d_backward_weight, [there[2], there[0], w.shape], dw),
        ):
            whole = cuda.put(np.zeros((*result.shape[:3], 2 * result.shape[3]), "f4"))
            out = whole[..., ::2]
            assert function(*arrays, **options, out=out) is out
            same_bits(cuda.get(whole)[..., ::2], result)
            assert not cuda.get(whole)[..., 1::2].any()
            out = back(cuda.put(np.zeros(to(result).shape, "f4")))
            assert function(*arrays, **options, out=out) is out
            same_bits(cuda.get(out), result)


def test_broadcast_and_misaligned(cuda, rng):
    one = rng.standard_normal((1, 3, 1, 7)).astype("f4")
    x = np.broadcast_to(one, (2, 3, 5, 7))
    w = rng.standard_normal((4, 3, 2, 2)).astype("f4")
    there = cuda.arrays.broadcast_to(cuda.put(one), x.shape)
    expected = hw.conv2d(x, w, algorithm="direct")
    same_bits(cuda.get(hw.conv2d(there, cuda.put(w), algorithm="direct")), expected)
    for layout in LAYOUTS:
        flat = rng.standard_normal(1 + 2 * 8 * 4 * 8).astype("f4")
        shape = (2, 8, 4, 8)
        part, beyond = flat[1:].reshape(shape), cuda.put(flat)[1:].reshape(shape)
        w = rng.standard_normal((4, shape[1 if layout == "NCHW" else 3], 1, 1)).astype("f4")
        options = {"layout": layout, "algorithm": "direct"}
        same_bits(
            cuda.get(hw.conv2d(beyond, cuda.put(w), **options)), hw.conv2d(part, w, **options)
        )
        w_shape = (part.shape[1 if layout == "NCHW" else 3],) * 2 + (1, 1)
        same_bits(
            cuda.get(hw.conv2d_backward_weight(beyond, beyond, w_shape, **options)),
            hw.conv2d_backward_weight(part, part, w_shape, **options),
        )


def test_output_over_the_input(cuda, rng):
    x = rng.standard_normal((1, 3, 6, 6)).astype("f4")
    w = rng.standard_normal((3, 3, 3, 3)).astype("f4")
    options = {"padding": 1, "algorithm": "direct"}
    there = cuda.put(x)
    assert hw.conv2d(there, cuda.put(w), **options, out=there) is there
    same_bits(cuda.get(there), hw.conv2d(x, w, **options))


def test_refuses(cuda, rng):
    x, w = np.ones((1, 16, 32, 32), "f4"), np.ones((16, 16, 3, 3), "f4")
    there = cuda.put(x)
    with pytest.raises(TypeError, match="w must lie in GPU memory as x is, not CPU"):
        hw.conv2d(there, w)
    with pytest.raises(TypeError, match="x must lie in GPU memory as dy is, not CPU"):
        hw.conv2d_backward_weight(there, x, w.shape, padding=1)


def test_the_choice_is_within_what_the_contract_allows():
    for terms in (0, 1, 512, 513, 16384, 16385, 10**6):
        for slices, rows, columns in ((1, 1, 1), (1, 64, 10**6), (4096, 1, 9), (1, 512, 4608)):
            for dtype in conv.TILES:
                number, part = conv.choose(dtype, slices, rows, columns, terms)
                assert number in range(len(conv.TILES[dtype]))
                assert part in (512, 16384) or part == max(terms, 1) < 16384
