"""Winograd's convolution, bit for bit against the contract.

Where its operands lie: test_winograd_memory.py; its accuracy: test_accuracy.py.
"""

import itertools
import random

import numpy as np
import pytest
import reference_winograd as oracle
from cases import DTYPES, specials
from conftest import ISAS, everywhere, same_bits
from halfwave._cpu import runtime
from reference import FMA

import halfwave as hw

LAYOUTS = ("NCHW", "NHWC")


def in_layout(x, layout):
    return x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def from_layout(x, layout):
    return np.ascontiguousarray(x if layout == "NCHW" else x.transpose(0, 3, 1, 2))


def options_of(pads, groups=1, layout="NCHW"):
    top, bottom, left, right = pads
    return {
        "padding": ((top, bottom), (left, right)),
        "groups": groups,
        "layout": layout,
        "algorithm": "winograd",
    }


def passes(x, w, bias, dy, options):
    """y, dx and dw of arrays given in NCHW, and returned so."""
    layout = options["layout"]
    x, dy = in_layout(x, layout), in_layout(dy, layout)
    y = hw.conv2d(x, w, bias, **options)
    dx = hw.conv2d_backward_input(dy, w, x.shape, **options)
    dw = hw.conv2d_backward_weight(dy, x, w.shape, **options)
    return from_layout(y, layout), from_layout(dx, layout), dw


def expected(x, w, bias, dy, pads, groups):
    top, left = pads[0], pads[2]
    return (
        oracle.conv2d(x, w, bias, dy.shape[2:], top, left, groups),
        oracle.conv2d_backward_input(dy, w, x.shape, top, left, groups),
        oracle.conv2d_backward_weight(dy, x, w.shape, top, left, groups),
    )


def check(x_shape, w_shape, pads, groups, dtype, rng, fill=None):
    """All passes, layouts, instruction sets and thread counts, on random arrays."""
    fill = fill or (lambda shape: rng.standard_normal(shape).astype(dtype))
    y_shape = (
        x_shape[0], w_shape[0], x_shape[2] + sum(pads[:2]) - 2, x_shape[3] + sum(pads[2:]) - 2,
    )  # fmt: skip
    arrays = [fill(shape) for shape in (x_shape, w_shape, w_shape[:1], y_shape)]
    right = expected(*arrays, pads, groups)
    for options in (options_of(pads, groups, layout) for layout in LAYOUTS):
        found = everywhere(lambda options=options: passes(*arrays, options))
        for one, other in zip(found, right, strict=True):
            same_bits(one, other)


# ---- the oracle's own fma ------------------------------------------------------------------------


def test_the_oracles_float32_fma_is_the_librarys(rng):
    """Rounded once: random terms of all sizes, cancelling ones, subnormal results, specials."""
    exponents = rng.integers(-70, 60, (3, 40_000))
    a, b, c = np.ldexp(rng.standard_normal((3, 40_000)), exponents).astype(np.float32)
    c[:10_000] = np.clip(-a[:10_000].astype(np.float64) * b[:10_000], -1e38, 1e38)
    a[-10_000:] *= np.float32(2.0**-40)
    b[-10_000:], c[-10_000:] = b[-10_000:] * np.float32(2.0**-40), c[-10_000:] * 2.0**-100
    special = specials(np.float32)
    triples = np.array(list(itertools.product(special, repeat=3))).T
    a, b, c = (np.concatenate(both) for both in zip((a, b, c), triples, strict=True))
    with np.errstate(all="ignore"):
        library = np.frompyfunc(FMA[np.dtype(np.float32)], 3, 1)(a, b, c).astype(np.float32)
    same_bits(oracle.fma(a, b, c), library)


# ---- bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(16))
def test_bits_are_the_contracts(seed, dtype, rng):
    r = random.Random(seed)
    groups = r.choice([1, 1, 2, 3])
    inputs, outputs = r.randint(1, 17), r.randint(1, 17)
    if groups > 1:
        inputs, outputs = r.randint(1, 5), r.randint(1, 5)
    pads = tuple(r.randint(0, 3) for _ in range(4))
    size = [max(r.randint(1, 9), 3 - before - after) for before, after in (pads[:2], pads[2:])]
    batch = r.randint(1, 3)
    check(
        (batch, groups * inputs, *size), (groups * outputs, inputs, 3, 3), pads, groups, dtype, rng
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_small_output(dtype, rng):
    """1 … 9 and 13 outputs in a row or a column: every way in which a tile meets the border."""
    sizes = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13)
    for k, rows in enumerate(sizes):
        columns, pads = sizes[(7 * k + 3) % 10], (k % 4, (k + 1) % 3, (k + 2) % 4, k % 3)
        shape = (rows + 2 - sum(pads[:2]), columns + 2 - sum(pads[2:]))
        if min(shape) < 1:
            pads, shape = (1, 1, 1, 1), (rows, columns)
        check((2, 3, *shape), (2, 3, 3, 3), pads, 1, dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("inputs", "outputs", "groups"),
    [(33, 2, 1), (2, 33, 1), (40, 31, 1), (16, 64, 1), (65, 17, 1), (9, 34, 2), (1, 1, 40)],
)
def test_channels_of_many_vectors(inputs, outputs, groups, dtype, rng):
    shape = (1, groups * inputs, 5, 6)
    check(shape, (groups * outputs, inputs, 3, 3), (1, 1, 0, 1), groups, dtype, rng)


def test_more_than_a_strip_of_tiles_in_a_row(rng):
    check((2, 2, 6, 71), (3, 2, 3, 3), (1, 1, 2, 0), 1, np.float32, rng)
    check((1, 1, 3, 131), (1, 1, 3, 3), (0, 0, 0, 0), 1, np.float64, rng)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype, rng):
    """NaN, infinities, zeros of both signs, subnormals, the largest: sprinkled, or nothing else."""
    values = specials(dtype)
    values = values[np.isfinite(values) | (np.arange(len(values)) % 2 == 0)]

    def sprinkled(shape):
        x = rng.standard_normal(shape).astype(dtype)
        return np.where(rng.random(shape) < 0.01, rng.choice(values, shape), x)

    tiny = dtype(np.finfo(dtype).smallest_subnormal)
    fills = (
        sprinkled,
        lambda shape: rng.choice(np.array([0.0, -0.0], dtype), shape),
        lambda shape: rng.choice(np.array([0.0, -0.0, 1.0, -1.0], dtype), shape),
        lambda shape: tiny * rng.integers(-9, 10, shape).astype(dtype),
        lambda shape: rng.choice(np.array([np.sqrt(np.finfo(dtype).tiny), 1.0], dtype), shape),
    )
    for fill in fills:
        check((2, 4, 14, 13), (3, 4, 3, 3), (1, 1, 1, 1), 1, dtype, rng, fill)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_nan_reaches_its_tiles_alone(value, isa):
    x, w = np.ones((1, 1, 16, 16), np.float32), np.ones((1, 1, 3, 3), np.float32)
    x[0, 0, 5, 9] = value  # tile rows of x begin at -1, 3, 7 …: rows 3 … 8, columns 7 … 12
    y = hw.conv2d(x, w, **options_of((1, 1, 1, 1)))[0, 0]
    hit = np.zeros((16, 16), bool)
    hit[4:8, 8:12] = True
    np.testing.assert_array_equal(np.isnan(y), hit)


# ---- segments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [512, 513, 1025])
def test_segments_of_channels(channels, dtype, rng):
    check((1, channels, 4, 5), (2, channels, 3, 3), (1, 1, 1, 1), 1, dtype, rng)
    check((1, 2, 4, 5), (channels, 2, 3, 3), (1, 1, 1, 1), 1, dtype, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 100, 100), (33, 2, 13, 16)])
def test_segments_of_tiles(shape, dtype, rng):
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in "xy")
    w_shape = (shape[1], shape[1], 3, 3)
    right = oracle.conv2d_backward_weight(dy, x, w_shape, 1, 1, 1)
    for layout in LAYOUTS:
        options = options_of((1, 1, 1, 1), 1, layout)
        given = in_layout(dy, layout), in_layout(x, layout)
        same_bits(
            everywhere(lambda g=given, o=options: hw.conv2d_backward_weight(*g, w_shape, **o)),
            right,
        )


def test_super_segments_of_tiles(rng):
    """130 × 130 tiles are 32 segments and two more."""
    x, dy = (rng.standard_normal((1, 1, 520, 520)).astype(np.float32) for _ in "xy")
    right = oracle.conv2d_backward_weight(dy, x, (1, 1, 3, 3), 1, 1, 1)
    options = options_of((1, 1, 1, 1))
    same_bits(everywhere(lambda: hw.conv2d_backward_weight(dy, x, (1, 1, 3, 3), **options)), right)


def test_super_segments_of_some_outputs(rng):
    """33 segments, and sums so large that a task is some of the output channels."""
    x, dy = (rng.standard_normal((16_500, c, 1, 1)).astype(np.float32) for c in (20, 240))
    o, c = [0, 79, 80, 239], [0, 19]
    right = oracle.conv2d_backward_weight(dy[:, o], x[:, c], (4, 2, 3, 3), 1, 1, 1)
    for isa in (isa for isa in ISAS if isa != "baseline"):  # which may have no fma
        runtime.use_isa(isa)
        for threads in (1, 3):
            runtime.set_num_threads(threads)
            dw = hw.conv2d_backward_weight(dy, x, (240, 20, 3, 3), **options_of((1, 1, 1, 1)))
            same_bits(dw[np.ix_(o, c)], right)


def test_segments_whose_sums_wait(rng):
    """13 segments of 64 × 40 channels: few threads take one each, many a frequency."""
    x, dy = (rng.standard_normal((2, c, 224, 224)).astype(np.float32) for c in (40, 64))
    o, c = [0, 63], [17, 39]
    right = oracle.conv2d_backward_weight(dy[:, o], x[:, c], (2, 2, 3, 3), 1, 1, 1)
    found = []
    for isa in (isa for isa in ISAS if isa != "baseline"):  # which may have no fma
        runtime.use_isa(isa)
        for threads in (1, 3, 16):
            runtime.set_num_threads(threads)
            dw = hw.conv2d_backward_weight(dy, x, (64, 40, 3, 3), **options_of((1, 1, 1, 1)))
            same_bits(dw[np.ix_(o, c)], right)
            same_bits(dw, (found or [dw])[0])
            found.append(dw)


def test_at_most_a_super_segment_of_channels(rng):
    x = rng.standard_normal((1, 16_385, 1, 2)).astype(np.float32)
    w = rng.standard_normal((1, 16_385, 3, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="algorithm"):
        hw.conv2d(x, w, padding=1, algorithm="winograd")
    hw.conv2d(x[:, 1:], w[:, 1:], padding=1, algorithm="winograd")
    assert hw.plan("conv2d", (1, 16_385, 64, 64), (16, 16_385, 3, 3)).algorithm == "direct"
    assert hw.plan("conv2d", (1, 16_384, 64, 64), (16, 16_384, 3, 3)).algorithm == "winograd"


# ---- memory strategies: real sizes, outputs sampled ----------------------------------------------


@pytest.mark.parametrize(
    ("x_shape", "outputs", "dtype"),
    [
        ((2, 64, 40, 37), 64, np.float32),  # many tiles, small weights
        ((1, 260, 12, 12), 70, np.float32),
        ((1, 300, 13, 9), 330, np.float32),  # weights that a task transforms
        ((4, 300, 30, 30), 150, np.float64),  # and several blocks of tiles
        ((1, 160, 9, 13), 290, np.float64),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strategies(x_shape, outputs, dtype, layout, rng):
    """Small and large weights, one and several blocks of tiles: some outputs against the oracle."""
    batch, inputs, rows, columns = x_shape
    w = rng.standard_normal((outputs, inputs, 3, 3)).astype(dtype)
    x = rng.standard_normal(x_shape).astype(dtype)
    bias = rng.standard_normal(outputs).astype(dtype)
    dy = rng.standard_normal((batch, outputs, rows, columns)).astype(dtype)
    options, first = options_of((1, 1, 1, 1), 1, layout), None
    for isa in ISAS:
        runtime.use_isa(isa)
        for threads in (1, 3) if isa != "baseline" else (4,):  # which may have no fma
            runtime.set_num_threads(threads)
            before = runtime.write_past_caches_from(0 if threads > 1 else 2**62)
            found = passes(x, w, bias, dy, options)
            runtime.write_past_caches_from(before)
            for one, other in zip(found, first or found, strict=True):
                same_bits(one, other)
            first = found
    y, dx, dw = first
    o = np.r_[0, 1, 15, 16, 31, 32, 33, outputs - 1] % outputs
    c = np.r_[0, 7, 16, 32, 47, inputs - 1] % inputs
    same_bits(
        dw[np.ix_(o, c)],
        oracle.conv2d_backward_weight(dy[:, o], x[:, c], (len(o), len(c), 3, 3), 1, 1, 1),
    )
    x, dy = (np.pad(v, ((0, 0), (0, 0), (1, 6), (1, 6))) for v in (x, dy))
    tiles = list(itertools.product(range(batch), range(0, rows, 4), range(0, columns, 4)))
    for n, i, j in [tiles[0], tiles[-1], *random.Random(0).sample(tiles, 3)]:
        seen = np.s_[n : n + 1, :, i : i + 6, j : j + 6]
        here = np.s_[n : n + 1, :, i : i + 4, j : j + 4]
        height, width = min(4, rows - i), min(4, columns - j)
        right = oracle.conv2d(x[seen], w[o], bias[o], (height, width), 0, 0, 1)
        same_bits(y[here][:, o], right)
        shape = (1, len(c), height, width)
        right = oracle.conv2d_backward_input(dy[seen], w[:, c], shape, 2, 2, 1)
        same_bits(dx[here][:, c], right)


# ---- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "options"),
    [((5, 5), {}), ((1, 1), {}), ((3, 2), {}), ((2, 3), {}), ((3, 3), {"stride": 2}),
     ((3, 3), {"stride": (1, 2)}), ((3, 3), {"stride": (2, 1)}), ((3, 3), {"dilation": 2}),
     ((3, 3), {"dilation": (1, 2)}), ((3, 3), {"dilation": (2, 1)})],
)  # fmt: skip
def test_winograd_is_refused_where_it_is_none(kernel, options):
    x, w = np.ones((1, 2, 9, 9), np.float32), np.ones((3, 2, *kernel), np.float32)
    y = hw.conv2d(x, w, **options)
    options = options | {"algorithm": "winograd"}
    out = np.full_like(x, 7)
    for call in (
        lambda: hw.conv2d(x, w, **options),
        lambda: hw.conv2d_backward_input(y, w, x.shape, out=out, **options),
        lambda: hw.conv2d_backward_weight(y, x, w.shape, **options),
        lambda: hw.plan("conv2d", x.shape, w.shape, **options),
        lambda: hw.plan("conv2d_backward_weight", x.shape, w.shape, **options),
    ):
        with pytest.raises(ValueError, match="algorithm 'winograd' needs"):
            call()
    assert (out == 7).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plan_tells_the_choice(layout):
    """The largest and the smallest: "auto" takes whichever the plan says, to the bit."""
    rng = np.random.default_rng(0)
    for channels, size in ((64, 12), (2, 5)):
        x = rng.standard_normal(in_layout(np.empty((1, channels, size, size)), layout).shape)
        w = rng.standard_normal((channels, channels, 3, 3))
        options = {"padding": 1, "layout": layout}
        for operation, call in (
            ("conv2d", lambda x=x, w=w, **o: hw.conv2d(x, w, **o)),
            ("conv2d_backward_input",
             lambda x=x, w=w, **o: hw.conv2d_backward_input(x, w, x.shape, **o)),
            ("conv2d_backward_weight",
             lambda x=x, w=w, **o: hw.conv2d_backward_weight(x, x, w.shape, **o)),
        ):  # fmt: skip
            plan = hw.plan(operation, x.shape, w.shape, **options)
            direct, winograd = (call(**options, algorithm=a) for a in ("direct", "winograd"))
            assert (direct != winograd).any()
            same_bits(call(**options), {"direct": direct, "winograd": winograd}[plan.algorithm])


def test_sizes_of_a_plan():
    shapes, options = ((2, 48, 10, 13), (60, 24, 3, 3)), {"groups": 2, "algorithm": "winograd"}
    sizes = {
        "conv2d": (30, 2 * 2 * 3, 24),
        "conv2d_backward_input": (24, 2 * 3 * 4, 30),
        "conv2d_backward_weight": (30, 24, 2 * 2 * 3),
    }
    for operation, wanted in sizes.items():
        plan = hw.plan(operation, *shapes, **options)
        assert (plan.rows, plan.columns, plan.contracted) == wanted
        assert (plan.algorithm, plan.slices, plan.segments) == ("winograd", 36 * 2, 1)
        assert (
            hw.plan(operation, *shapes, **options | {"algorithm": "direct"}).algorithm == "direct"
        )
