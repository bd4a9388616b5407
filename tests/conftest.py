"""What every test file shares: instruction sets, thread counts, and what counts as the same bits."""

import os
import signal

import numpy as np
import pytest
from emulation.device import ORDERS, Device
from halfwave._cpu import runtime

from halfwave._cuda import runtime as cuda_runtime

ISAS = runtime.supported_isas()
THREADS = (1, 2, 3, 4)

# A shell has its background jobs ignore Ctrl-C, and those whom they start; tests of it would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _restore_runtime():
    """Each test starts with the best instruction set, or the forced one, and the default threads."""
    isa, threads = runtime.isa(), runtime.get_num_threads()
    yield
    runtime.use_isa(isa)
    runtime.set_num_threads(threads)


@pytest.fixture(params=ISAS)
def isa(request):
    """Runs the test under every instruction set of this machine."""
    runtime.use_isa(request.param)
    return request.param


@pytest.fixture(params=["through the caches", "past the caches"])
def stores(request):
    """Runs the test with ordinary stores, and with those that large results are written by."""
    before = runtime.write_past_caches_from(0 if request.param == "past the caches" else 2**62)
    yield
    runtime.write_past_caches_from(before)


@pytest.fixture
def rng():
    return np.random.default_rng(20150206)  # the day "Delving Deep into Rectifiers" appeared


def _gpu_found():
    try:
        return cuda_runtime.CuPy()
    except RuntimeError:
        return None


FOUND = _gpu_found()
_emulated = Device()
# The CUDA kernels on the CPU, their threads in three orders; and on a GPU, wherever there is one.
DEVICES = [*ORDERS] + ([pytest.param("gpu", marks=pytest.mark.gpu)] if FOUND else [])


collect_ignore = [] if FOUND else ["test_gpu.py"]


class Cuda:
    """Takes arrays to the device and back."""

    def __init__(self, device, emulated):
        self.arrays, self.emulated, self.device = device.arrays, emulated, device

    def put(self, x):
        """A GPU array of x's values and strides' signs and order: a copy of its memory, viewed alike."""
        if not isinstance(x, np.ndarray):
            return x
        return self.arrays.asarray(np.array(x, order="C"))

    def get(self, x):
        return x.get() if isinstance(x, self.arrays.ndarray) else x

    def agrees(self, function, *arguments, **options):
        """Calls a function with NumPy arrays and with GPU arrays; fails unless all bits agree."""
        expected = function(*arguments, **options)
        options = {name: self.put(value) for name, value in options.items()}
        actual = function(*map(self.put, arguments), **options)
        if not isinstance(expected, tuple):
            expected, actual = (expected,), (actual,)
        for one, other in zip(actual, expected, strict=True):
            assert isinstance(one, self.arrays.ndarray)
            same_bits(self.get(one), other)
        return actual


@pytest.fixture(params=DEVICES)
def cuda(request, monkeypatch):
    """Runs the test on each device that runs CUDA kernels."""
    emulated = request.param in ORDERS
    device = _emulated if emulated else FOUND
    if emulated:
        device.order = request.param
    monkeypatch.setattr(cuda_runtime, "_device", device)
    return Cuda(device, emulated)


def same_bits(actual, expected):
    """Fail unless the arrays agree to the bit; any NaN equals any NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    unsigned = np.dtype(f"u{actual.itemsize}")
    differ = np.ascontiguousarray(actual).view(unsigned) != np.ascontiguousarray(expected).view(
        unsigned
    )
    if actual.dtype.kind == "f":
        differ &= ~(np.isnan(actual) & np.isnan(expected))
    where = np.argwhere(differ.reshape(actual.shape))  # of a scalar too
    assert not len(where), (
        f"{len(where)} of {actual.size} differ, first at {where[0]}: "
        f"{actual[tuple(where[0])]!r} against {expected[tuple(where[0])]!r}"
    )


def everywhere(compute):
    """compute() under every instruction set and 1 to 4 threads: asserts one result, returns it."""
    first = None
    for name in ISAS:
        runtime.use_isa(name)
        for threads in THREADS:
            runtime.set_num_threads(threads)
            result = compute()
            if first is None:
                first = result
            elif isinstance(result, tuple):
                for one, other in zip(result, first, strict=True):
                    same_bits(one, other)
            else:
                same_bits(result, first)
    return first


def pytest_report_header():
    forced = os.environ.get("HALFWAVE_ISA")
    return f"halfwave: instruction sets {', '.join(ISAS)}" + (
        f" ({forced} forced)" if forced else ""
    )
