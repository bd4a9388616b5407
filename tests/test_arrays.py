"""What every operation takes and refuses: the checks in _arrays, seen through one operation."""

import numpy as np
import pytest
from conftest import same_bits

import halfwave as hw
from halfwave import _arrays


class Elsewhere:
    """An array of another library: nothing but the DLPack protocol."""

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


class OnTheGpu:
    __cuda_array_interface__ = {"shape": (2, 2), "typestr": "<f4", "data": (0, True), "version": 3}  # noqa: RUF012


def test_dlpack_is_taken_where_it_lies(rng):
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    same_bits(hw.matmul(Elsewhere(a), Elsewhere(b)), hw.matmul(a, b))
    taken = _arrays.array(Elsewhere(a), "a")
    assert np.shares_memory(taken, a)


def test_dlpack_of_another_dtype_is_refused():
    with pytest.raises(TypeError, match="a must be float32 or float64"):
        hw.matmul(Elsewhere(np.ones((2, 2), np.int32)), np.ones((2, 2)))


def test_gpu_arrays_and_mixed_devices_are_refused():
    with pytest.raises(TypeError, match="b must lie in CPU memory as a is"):
        hw.matmul(np.ones((2, 2), np.float32), OnTheGpu())


def test_subclasses_and_scalars(rng):
    a = rng.standard_normal((3, 3))
    masked = np.ma.masked_array(a, a > 0)
    for given in (a.view(np.matrix), masked, a.view(np.recarray)):
        assert type(hw.matmul(given, a)) is np.ndarray
    with pytest.raises(TypeError, match="a must be"):
        hw.matmul(np.float64(3.0), a)


def test_outputs_of_subclasses_are_written_as_their_memory(rng):
    """A hard mask, which keeps assignments from what lies beneath it, keeps no result out."""

    def hidden(shape):
        return np.ma.masked_array(np.full(shape, 9, np.float32), np.ones(shape), hard_mask=True)

    x = rng.standard_normal((1, 1, 4, 4)).astype(np.float32)
    for function, shape in (
        (lambda **out: hw.init.constant((2, 3), 5.0, **out), (2, 3)),
        (lambda **out: hw.init.orthogonal((2, 3), seed=1, **out), (2, 3)),
        (lambda **out: hw.max_pool2d_backward(x[..., :2, :2], x, 2, **out), x.shape),
        (lambda **out: hw.spatial_pyramid_pool(x, (2, 1), **out), (1, 5)),
        (lambda **out: hw.matmul(x, x, **out), x.shape),
        (lambda **out: hw.softmax_cross_entropy_backward(x[0, 0], np.arange(4), **out), (4, 4)),
    ):
        out = hidden(shape)
        assert function(out=out) is out
        same_bits(out.data, function())


@pytest.mark.parametrize(
    ("shape", "strides", "overlaps"),
    [
        ((3, 4), (32, 8), False), ((3, 4), (8, 24), False), ((3, 4), (0, 8), True),
        ((3, 4), (24, 8), True), ((3, 4), (-32, 8), False), ((1, 4), (0, 8), False),
        ((2, 3, 4), (96, 32, 8), False), ((2, 3, 4), (64, 32, 8), True), ((5,), (4,), True),
        ((2, 2), (8, 16), False), ((0, 3), (0, 0), False),
    ],
)  # fmt: skip
def test_outputs_whose_elements_share_memory(shape, strides, overlaps):
    memory = np.zeros(64)
    view = np.lib.stride_tricks.as_strided(memory[32:], shape, strides)
    assert _arrays._overlaps_itself(view) is overlaps


def test_a_read_only_view_of_the_input_is_no_output():
    x = np.ones((4, 4))
    view = x.view()
    view.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        hw.matmul(x, x, out=view)


def test_bytes_swapped_and_half_precision_are_named():
    for dtype in (">f4", ">f8", np.float16, np.longdouble):
        with pytest.raises(TypeError, match="must be float32 or float64 in native byte order"):
            hw.matmul(np.ones((2, 2), dtype), np.ones((2, 2)))


def test_large_results_begin_with_a_cache_line(rng):
    x = rng.standard_normal((4, 16, 64, 64), dtype=np.float32)
    w = rng.standard_normal((16, 16, 3, 3), dtype=np.float32)
    a = x.reshape(512, 512)
    results = [
        hw.relu(x),
        hw.relu(x[:, ::-1]),
        hw.prelu_backward(x, x, np.ones(16, np.float32))[0],
        hw.conv2d(x, w, padding=1),
        hw.conv2d_backward_input(x, w, x.shape, padding=1),
        hw.matmul(a, a.T),
        *hw.matmul_backward(a @ a.T, a, a.T),
        hw.max_pool2d(x, 2, stride=1),
        hw.init.he_normal((300, 300), seed=1),
        hw.dropout(x, 0.5, seed=1),
    ]
    for result in results:
        assert result.ctypes.data % 64 == 0
        assert result.flags.c_contiguous
        assert result.flags.writeable
    for n in range(2**16 - 17, 2**16 + 18):  # around the size from which it is so
        ones = np.ones(n, np.float32)
        same_bits(hw.relu(ones), ones)


def test_results_too_large_for_memory_are_refused():
    with pytest.raises((MemoryError, ValueError)):
        hw.init.zeros((2**28, 2**28))
    with pytest.raises((MemoryError, ValueError)):
        hw.init.zeros((np.int64(2**62), 16))
