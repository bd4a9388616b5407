"""Products by each of the ways that their shape and strides choose, against the contract.

Each case is large enough for its way; some outputs, drawn at random and at the corners, are held
against the oracle, and all of them against the product of copies in C order.
"""

import numpy as np
import pytest
import reference
from cases import DTYPES
from conftest import everywhere, same_bits

import halfwave as hw


def agrees(result, a, b, bias, rng):
    m, n = result.shape
    corners = [(0, 0), (0, n - 1), (m - 1, 0), (m - 1, n - 1)]
    drawn = zip(rng.integers(0, m, 12).tolist(), rng.integers(0, n, 12).tolist(), strict=True)
    for i, j in [*corners, *drawn]:
        expected = reference.contract(a[i], b[:, j], None if bias is None else bias[j])
        same_bits(result[i, j], expected)


def stored(x, order):
    return np.ascontiguousarray(x.T).T if order == "T" else x


# (m, k, n): a vector; 2 to 16 rows; 1 to 3 with more than half a MiB of b in a segment; few strips and
# many panels; rows of a as far apart as a page; a long axis; two super-segments; c cut by rows, by
# columns; a narrow last panel.
SHAPES = [
    (1, 700, 45), (1, 17000, 9), (2, 600, 70), (5, 530, 1100), (16, 1100, 70), (1, 1030, 280),
    (2, 530, 300), (3, 517, 290), (17, 600, 300),
    (100, 520, 1500), (1024, 40, 70), (512, 600, 33), (20, 2100, 90), (40, 17000, 100),
    (700, 130, 80), (90, 130, 700), (130, 514, 49),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("orders", ["CC", "TC", "CT", "TT"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products(shape, orders, dtype, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    bias = rng.standard_normal(n).astype(dtype)
    x, y = stored(a, orders[0]), stored(b, orders[1])
    result = hw.matmul(x, y, bias=bias)
    agrees(result, a, b, bias, rng)
    same_bits(everywhere_quick(lambda: hw.matmul(x, y, bias=bias)), result)
    same_bits(hw.matmul(x, y, bias=bias, out=np.zeros((n, m), dtype).T), result)


def everywhere_quick(compute):
    """As conftest's, but software multiply-adds only where they are not slow."""
    from halfwave._cpu import runtime

    first = None
    for name in runtime.supported_isas():
        for threads in (1, 2, 3):
            if name == "baseline" and threads != 2:
                continue
            runtime.use_isa(name)
            runtime.set_num_threads(threads)
            result = compute()
            if first is None:
                first = result
            same_bits(result, first)
    return first


def test_rows_a_page_apart_at_uneven_steps(rng):
    """Slices of a batch: the steps of dbᵀ's chains are even within a slice only."""
    a, dy = (
        rng.standard_normal((3, 7, 1024), np.float32),
        rng.standard_normal((3, 7, 40), np.float32),
    )
    x, y, b = a[:, :5], dy[:, :5], np.zeros((1024, 40), np.float32)
    _, db = hw.matmul_backward(y, x, b)
    same_bits(db, hw.matmul_backward(y.copy(), x.copy(), b)[1])
    a, dy = x.reshape(15, 1024), y.reshape(15, 40)
    for p, j in [(0, 0), (1023, 39), *rng.integers(0, 40, (6, 2)).tolist()]:
        same_bits(db[p, j], reference.contract(a[:, p], dy[:, j]))


# (batch, channels, outputs, size): images that end within a tile, within a segment, at a tile's end.
IMAGES = [
    (3, 5, 40, 7),
    (2, 40, 17, 14),
    (5, 33, 64, 5),
    (2, 600, 9, 3),
    (1, 16, 30, 32),
    (9, 3, 2, 16),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("case", IMAGES)
def test_convolutions_of_one_tap_are_products(case, groups, stride, layout, rng):
    batch, c, o, size = case
    n = -(-size // stride)
    x = rng.standard_normal((groups, c, batch, size, size)).astype("f4")
    w = rng.standard_normal((groups, o, c)).astype("f4")
    dy = rng.standard_normal((groups, o, batch, n, n)).astype("f4")
    seen = np.ascontiguousarray(x[..., ::stride, ::stride]).reshape(groups, c, -1)
    lines = dy.reshape(groups, o, -1)

    def image(v):
        v = v.reshape(-1, *v.shape[2:]).transpose(1, 0, 2, 3)
        return np.ascontiguousarray(v if layout == "NCHW" else v.transpose(0, 2, 3, 1))

    options = {"stride": stride, "groups": groups, "layout": layout}
    weights = w.reshape(groups * o, c, 1, 1)
    y = everywhere(lambda: hw.conv2d(image(x), weights, **options))
    same_bits(y, image(hw.matmul(w, seen).reshape(dy.shape)))
    apart = np.empty((*y.shape[:2], y.shape[2] + 1, y.shape[3]), y.dtype)[:, :, :-1]
    everywhere(lambda: hw.conv2d(image(x), weights, out=apart, **options).copy())
    same_bits(apart, y)
    dw = everywhere(
        lambda: hw.conv2d_backward_weight(image(dy), image(x), weights.shape, **options)
    )
    expected = hw.matmul(lines, np.ascontiguousarray(seen.swapaxes(1, 2)))
    same_bits(dw, expected.reshape(weights.shape))
    dx = everywhere(lambda: hw.conv2d_backward_input(image(dy), weights, image(x).shape, **options))
    expected = np.zeros_like(x)
    product = hw.matmul(np.ascontiguousarray(w.swapaxes(1, 2)), lines)
    expected[..., ::stride, ::stride] = product.reshape(groups, c, batch, n, n)
    same_bits(dx, image(expected))
