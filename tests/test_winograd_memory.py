"""Winograd's convolution, wherever its operands lie."""

import random

import numpy as np
import pytest
from cases import DTYPES, layouts_of
from conftest import same_bits
from guards import Guards
from test_winograd import LAYOUTS, from_layout, in_layout, options_of, passes

import halfwave as hw


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_and_out_of_every_kind(layout, isa, rng):
    x, dy = (in_layout(rng.standard_normal((2, c, 6, 9)), layout) for c in (17, 24))
    w, bias = rng.standard_normal((24, 17, 3, 3)), rng.standard_normal(24)
    options = options_of((1, 1, 1, 1), 1, layout)
    y = hw.conv2d(x, w, bias, **options)
    dx = hw.conv2d_backward_input(dy, w, x.shape, **options)
    dw = hw.conv2d_backward_weight(dy, x, w.shape, **options)
    kinds = (layouts_of(v) for v in (x, w, bias, dy))
    for (_, x2), (_, w2), (_, bias2), (_, dy2) in zip(*kinds, strict=True):
        same_bits(hw.conv2d(x2, w2, bias2, **options), y)
        same_bits(hw.conv2d_backward_input(dy2, w2, x.shape, **options), dx)
        same_bits(hw.conv2d_backward_weight(dy2, x2, w.shape, **options), dw)
    kinds = (layouts_of(v * 0) for v in (y, dx, dw))
    for (name, y2), (_, dx2), (_, dw2) in zip(*kinds, strict=True):
        if name == "read-only":
            continue
        assert hw.conv2d(x, w, bias, out=y2, **options) is y2
        same_bits(y2, y)
        assert hw.conv2d_backward_input(dy, w, x.shape, out=dx2, **options) is dx2
        same_bits(dx2, dx)
        assert hw.conv2d_backward_weight(dy, x, w.shape, out=dw2, **options) is dw2
        same_bits(dw2, dw)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2, 3)])
def test_broadcast_operands(axes, isa, rng):
    def broadcast(shape):
        one = [1 if i in axes else n for i, n in enumerate(shape)]
        return np.broadcast_to(rng.standard_normal(one, np.float32), shape)

    x, w, dy = broadcast((2, 20, 7, 9)), broadcast((18, 20, 3, 3)), broadcast((2, 18, 5, 7))
    options = options_of((0, 0, 0, 0))
    found = passes(x, w, None, dy, options)
    for one, other in zip(found, passes(x.copy(), w.copy(), None, dy.copy(), options), strict=True):
        same_bits(one, other)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_overlapping_out(layout, isa, rng):
    shape, w = (1, 4, 9, 9), rng.standard_normal((4, 4, 3, 3))
    options = options_of((1, 1, 1, 1), 1, layout)
    for function in (hw.conv2d, lambda v, w, **o: hw.conv2d_backward_input(v, w, v.shape, **o)):
        room = rng.standard_normal(3000)
        x = room[1000:1324].reshape(in_layout(np.empty(shape), layout).shape)
        right = function(x.copy(), w, **options)
        for begin in (1000, 1001, 995, 1100):
            again = room.copy()
            x = again[1000:1324].reshape(x.shape)
            out = again[begin : begin + 324].reshape(x.shape)
            assert function(x, w, out=out, **options) is out
            same_bits(out, right)
    x, dy = rng.standard_normal((2, 1, 4, 9, 9))
    x, dy = in_layout(x, layout), in_layout(dy, layout)
    right = hw.conv2d_backward_weight(dy, x, w.shape, **options)
    out = x.reshape(-1)[:144].reshape(w.shape)
    same_bits(hw.conv2d_backward_weight(dy, x, w.shape, out=out, **options), right)


def test_guard_bytes_stay(isa):
    r = random.Random(5)
    for _ in range(30):
        guards, groups = Guards(), r.choice([1, 1, 2])
        inputs, outputs = r.choice([1, 3, 8, 16, 19, 33]), r.choice([1, 5, 16, 17, 40])
        shape, pads = (
            (r.randint(1, 2), groups * inputs, r.randint(3, 10), r.randint(3, 10)),
            [0] * 4,
        )
        pads = [r.randint(0, 3) for _ in pads]
        dtype = r.choice(DTYPES)
        for layout in LAYOUTS:
            options = options_of(pads, groups, layout)
            x = guards.array(in_layout(np.ones(shape, dtype), layout))
            w = guards.array(np.ones((groups * outputs, inputs, 3, 3), dtype))
            bias = guards.array(np.ones(groups * outputs, dtype))
            y = guards.array(hw.conv2d(x, w, bias, **options))
            hw.conv2d(x, w, bias, out=y, **options)
            dx, dw = guards.array(x), guards.array(w)
            hw.conv2d_backward_input(y, w, x.shape, out=dx, **options)
            hw.conv2d_backward_weight(y, x, w.shape, out=dw, **options)
        assert guards.intact(), (shape, outputs, groups, pads, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_arrays(layout, dtype, isa):
    for n, c, o in ((0, 2, 3), (2, 0, 3), (2, 2, 0), (0, 0, 0)):
        options = options_of((0, 0, 0, 0), 1, layout)
        x, w = in_layout(np.ones((n, c, 6, 5), dtype), layout), np.ones((o, c, 3, 3), dtype)
        y = from_layout(hw.conv2d(x, w, np.full(o, 5, dtype), **options), layout)
        assert y.shape == (n, o, 4, 3)
        np.testing.assert_allclose(y, 5 + 9 * c, rtol=1e-5)
        dy = in_layout(y, layout)
        dx = hw.conv2d_backward_input(dy, w, x.shape, **options)
        assert dx.shape == x.shape
        if o == 0:
            same_bits(dx, np.zeros_like(x))
        dw = hw.conv2d_backward_weight(dy, x, w.shape, **options)
        assert dw.shape == w.shape
        if n == 0:
            same_bits(dw, np.zeros_like(w))
