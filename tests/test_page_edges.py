"""Products read nothing outside their operands and write nothing outside their result.

Every array ends (or begins) at a page that may not be touched: one element too far ends the process.
"""

import ctypes
import mmap

import numpy as np
import pytest

import halfwave as hw

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


class Pages:
    """Hands out copies of arrays between two forbidden pages, against the one or the other."""

    def __init__(self, at_end):
        self._at_end = at_end
        self._maps = []

    def array(self, like):
        """A copy of `like`, in C order."""
        inner = -(-max(like.nbytes, 1) // PAGE) * PAGE
        memory = mmap.mmap(-1, inner + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (start, start + PAGE + inner):
            assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0) == 0
        self._maps.append((memory, start, inner))
        offset = PAGE + (inner - like.nbytes if self._at_end else 0)
        copy = np.frombuffer(memory, like.dtype, like.size, offset).reshape(like.shape)
        copy[...] = like
        return copy

    def release(self):
        """Makes the pages ordinary again, so that they can be freed."""
        for _, start, inner in self._maps:
            libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(inner + 2 * PAGE), 3)


@pytest.fixture(params=[True, False], ids=["end", "begin"])
def pages(request):
    pages = Pages(request.param)
    yield pages
    pages.release()


# (m, k, n): rows and columns at and beside the sizes of tiles, k beside the unrolling of copies.
SHAPES = [
    (1, 1, 1), (1, 7, 33), (1, 600, 65), (2, 30, 31), (3, 16, 17), (4, 15, 48), (5, 33, 8),
    (7, 9, 63), (8, 64, 32), (13, 17, 15), (14, 31, 97), (15, 8, 16), (17, 530, 40), (40, 5, 1),
    (33, 20, 3), (65, 40, 9), (120, 100, 130),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_stay_inside(shape, dtype, pages, isa, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    expected = hw.matmul(a, b)
    for x in (pages.array(a), pages.array(np.ascontiguousarray(a.T)).T):
        for y in (pages.array(b), pages.array(np.ascontiguousarray(b.T)).T):
            out = pages.array(np.zeros((m, n), dtype))
            np.testing.assert_array_equal(hw.matmul(x, y, out=out), expected)
            out = pages.array(np.zeros((n, m), dtype)).T
            np.testing.assert_array_equal(hw.matmul(x, y, out=out), expected)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("c", "o", "size"), [(3, 5, 1), (17, 16, 3), (33, 40, 5), (16, 100, 9)])
def test_convolutions_of_one_tap_stay_inside(c, o, size, stride, layout, pages, isa, rng):
    out = -(-size // stride)

    def image(channels, size):
        shape = (2, channels, size, size) if layout == "NCHW" else (2, size, size, channels)
        return rng.standard_normal(shape).astype("f4")

    x, dy = image(c, size), image(o, out)
    w, bias = rng.standard_normal((o, c, 1, 1)).astype("f4"), rng.standard_normal(o).astype("f4")
    options = {"stride": stride, "layout": layout}
    y = hw.conv2d(x, w, bias=bias, **options)
    dx = hw.conv2d_backward_input(dy, w, x.shape, **options)
    dw = hw.conv2d_backward_weight(dy, x, w.shape, **options)
    x, w, dy, bias = (pages.array(v) for v in (x, w, dy, bias))
    for function, arguments, expected in [
        (hw.conv2d, (x, w), y),
        (hw.conv2d_backward_input, (dy, w, x.shape), dx),
        (hw.conv2d_backward_weight, (dy, x, w.shape), dw),
    ]:
        more = options | ({"bias": bias} if function is hw.conv2d else {})
        result = function(*arguments, out=pages.array(np.zeros_like(expected)), **more)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    ("c", "o", "size", "groups"),
    [(3, 5, 7, 1), (17, 16, 15, 1), (5, 40, 9, 1), (16, 16, 7, 16), (33, 33, 15, 33)],
)
def test_convolutions_with_a_stride_stay_inside(
    c, o, size, groups, kernel, layout, pages, isa, rng
):
    check_inside(
        pages, rng, "f4", layout, (c, o, size, (size + 1) // 2), (o, c // groups, kernel, kernel),
        stride=2, padding=kernel // 2, groups=groups,
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("c", "o", "size"), [(3, 5, 5), (16, 32, 3), (33, 40, 7), (16, 16, 14), (17, 16, 18)]
)
def test_winograd_stays_inside(c, o, size, dtype, layout, pages, isa, rng):
    check_inside(
        pages, rng, dtype, layout, (c, o, size, size), (o, c, 3, 3), padding=1,
        algorithm="winograd",
    )  # fmt: skip


def check_inside(pages, rng, dtype, layout, sizes, w_shape, **options):
    """The three passes for x of c × size × size and y of o × out × out."""
    c, o, size, out = sizes

    def image(channels, size):
        shape = (2, channels, size, size) if layout == "NCHW" else (2, size, size, channels)
        return rng.standard_normal(shape).astype(dtype)

    x, dy, w = image(c, size), image(o, out), rng.standard_normal(w_shape).astype(dtype)
    calls = [
        (hw.conv2d, (x, w), ()),
        (hw.conv2d_backward_input, (dy, w), (x.shape,)),
        (hw.conv2d_backward_weight, (dy, x), (w.shape,)),
    ]
    for function, arrays, shape in calls:
        expected = function(*arrays, *shape, layout=layout, **options)
        result = function(
            *map(pages.array, arrays), *shape, out=pages.array(expected * 0), layout=layout,
            **options,
        )  # fmt: skip
        np.testing.assert_array_equal(result, expected)
