"""The GPU, through CuPy: its arrays, and the launch of a kernel on CuPy's current stream.

Importing this imports no CuPy and wakes no GPU; `device()` does. Nothing here waits for the GPU.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from . import compiler

DLPACK_CUDA = (2, 13)  # device memory, managed memory
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
REAL = {FLOAT32: "float", FLOAT64: "double"}
GRID_X = 2**31 - 1  # the most blocks along x; along y and z, 65535
OLDEST = 80  # compute capability 8.0: cp.async


class CuPy:
    """CuPy's arrays and launches. The tests put an emulation of the same form in its place."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise RuntimeError(
                "GPU arrays need CuPy: install halfwave[cuda12] or halfwave[cuda13], as the driver "
                f"supports ({error})"
            ) from error
        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise RuntimeError(f"CuPy finds no GPU or no driver: {error}") from error
        from cupy_backends.cuda.api import driver

        self.arrays: ModuleType = cupy
        self.ndarray: type = cupy.ndarray
        self.fresh: Callable[..., Any] = cupy.ndarray  # of shape and dtype: cupy.empty, sooner
        # `flags` makes an object of them, which takes five times as long.
        own = hasattr(cupy.ndarray, "_c_contiguous")
        self.contiguous = attrgetter("_c_contiguous" if own else "flags.c_contiguous")
        self.current: Callable[[], int] = cupy.cuda.device.get_device_id  # the GPU's number
        self._driver = driver
        self._functions: dict[tuple[Any, ...], Any] = {}
        self.kept: dict[tuple[Any, ...], Any] = {}  # the same, as class Kernel looks for it
        self._most_shared: dict[int, int] = {}
        self._shared: dict[tuple[Any, ...], int] = {}  # bytes that a function has been allowed
        self._lock = threading.Lock()

    def asarray(self, x: Any) -> Any:
        """Another library's GPU array as a CuPy array of the same memory."""
        if isinstance(x, self.arrays.ndarray):
            return x
        if hasattr(x, "__dlpack__"):
            return self.arrays.from_dlpack(x)
        return self.arrays.asarray(x)

    def capability(self) -> str:
        return self.arrays.cuda.Device().compute_capability

    def shared_memory(self) -> int:
        """Bytes of shared memory that the current GPU gives a block at most."""
        current = self.current()
        most = self._most_shared.get(current)
        if most is None:
            most = self.arrays.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
            self._most_shared[current] = most
        return most

    def multiprocessors(self) -> int:
        return self.arrays.cuda.Device().attributes["MultiProcessorCount"]

    def tensor_maps(self) -> bool:
        """Whether the driver encodes tensor maps."""
        return _encoder() is not None

    def tensor_map(self, *numbers: Any) -> np.ndarray:
        """A `TensorMap`'s 128 bytes, for a kernel's __grid_constant__."""
        return _encoded(TensorMap(*numbers))

    def function(
        self, family: str, name: str, macros: dict[str, str | int], shared: int = 0
    ) -> Any:
        """What launches a kernel on the current GPU: of grid, block, arguments, shared bytes."""
        key = (self.current(), family, name, *macros.items())
        function = self._functions.get(key)
        if function is None:
            function = self._load(key, family, name, macros)
        if shared and shared > self._shared.get(key, 0):
            self._allow_shared(key, function, name, shared)
        return function

    def _allow_shared(self, key: tuple[Any, ...], function: Any, name: str, shared: int) -> None:
        """Beyond 48 KiB, less what a kernel has of its own, a block must be allowed its memory."""
        most = self.shared_memory()
        if shared > most:
            raise RuntimeError(
                f"kernel {name} needs {shared} bytes of shared memory a block; this GPU has {most}"
            )
        attribute = self._driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._driver.funcSetAttribute(function.ptr, attribute, shared)
        self._shared[key] = shared

    def _load(
        self, key: tuple[Any, ...], family: str, name: str, macros: dict[str, str | int]
    ) -> Any:
        with self._lock:  # a second thread finds what the first has compiled in the folder
            capability = self.capability()
            if int(capability) < OLDEST:
                raise RuntimeError(
                    f"halfwave's kernels need a GPU of compute capability {OLDEST / 10} or newer, "
                    f"not {int(capability) / 10}"
                )
            arch = compiler.architecture(capability)
            module = self.arrays.cuda.function.Module()
            module.load(compiler.compiled(family, macros, arch))
            function = self._functions[key] = module.get_function(name)
            return function


class TensorMap(NamedTuple):
    """What cuTensorMapEncodeTiled takes; dimensions from the innermost on, which is dense.

    Of a box every step-th element is copied, with the 128-byte swizzle, with zeros outside the tensor.
    The driver refuses an address or a stride that 16 does not divide.
    """

    number: int  # CUtensorMapDataType: BFLOAT16, or TFLOAT32, which rounds float32 numbers
    address: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]  # in bytes, of all dimensions but the innermost
    box: tuple[int, ...]
    steps: tuple[int, ...]


BFLOAT16, TFLOAT32 = 9, 11  # CUtensorMapDataType in cuda.h
_INTERLEAVE_NONE, _SWIZZLE_128B, _L2_PROMOTION_256B, _OUTSIDE_ZERO = 0, 3, 3, 0


@lru_cache(1)
def _encoder() -> Any:
    """cuTensorMapEncodeTiled of the driver's library, which CuPy has loaded; None of an old one."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        function = library.cuTensorMapEncodeTiled
    except (OSError, AttributeError):
        return None
    sizes, numbers = ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint32)
    function.argtypes = (
        ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, sizes, sizes, numbers,
        numbers, *(ctypes.c_int,) * 4,
    )  # fmt: skip
    function.restype = ctypes.c_int
    return function


@lru_cache(1024)
def _encoded(of: TensorMap) -> np.ndarray:
    memory = np.zeros(192, np.uint8)
    at = -memory.ctypes.data % 64  # the driver writes to multiples of 64 only
    rank = len(of.sizes)
    sizes, strides = (ctypes.c_uint64 * rank)(*of.sizes), (ctypes.c_uint64 * rank)(*of.strides)
    box, steps = ((ctypes.c_uint32 * rank)(*x) for x in (of.box, of.steps))
    status = _encoder()(
        memory.ctypes.data + at, of.number, rank, of.address, sizes, strides, box, steps,
        _INTERLEAVE_NONE, _SWIZZLE_128B, _L2_PROMOTION_256B, _OUTSIDE_ZERO,
    )  # fmt: skip
    if status:
        raise RuntimeError(f"the driver refuses {of}: CUresult {status}")
    return record(memory[at : at + 128].view(TENSOR_MAP))


TENSOR_MAP = np.dtype([("opaque", np.uint64, 16)])  # HwTensorMap in hopper.h

_device: Any = None


def device() -> Any:
    """What computes GPU arrays: made when first asked for."""
    global _device
    if _device is None:
        _device = CuPy()
    return _device


def is_gpu(x: Any) -> bool:
    """Whether `x` lies in GPU memory; imports and wakes nothing."""
    if _device is not None and isinstance(x, _device.arrays.ndarray):  # quicker than to ask it
        return True
    if isinstance(x, np.ndarray):
        return False
    where = getattr(x, "__dlpack_device__", None)  # asked first: of tensors with gradients PyTorch
    if where is not None:  # has no __cuda_array_interface__, and raises an error of its own
        return where()[0] in DLPACK_CUDA
    return hasattr(x, "__cuda_array_interface__")


def launch(
    family: str,
    name: str,
    dtype: np.dtype,
    grid: int | tuple[int, ...],
    block: int,
    *args: Any,
    shared: int = 0,
    **macros: str | int,
) -> None:
    """Kernel `name` of kernels/cuda/<family>.cu, compiled for numbers of `dtype` and `macros`.

    Arguments are GPU arrays (their address), None (a null pointer), NumPy scalars of the exact type,
    and what `record` gives (by value): a Python int or float would become what no kernel expects.
    A grid without blocks computes nothing.
    """
    blocks = grid if type(grid) is tuple else (grid, 1, 1)
    if 0 in blocks:
        return
    macros["HW_REAL"] = REAL[dtype]
    device().function(family, name, macros, shared)(blocks, (block, 1, 1), args, shared)


def record(structure: np.ndarray) -> np.ndarray:
    """A structure of NumPy's as the bytes that a kernel takes by value.

    Of bytes NumPy says the address in 1 µs: of fields it would describe each, which takes 20.
    """
    return structure.reshape(1).view(np.dtype((np.void, structure.itemsize)))


class Kernel:
    """An elementwise kernel: over inputs and the result, the last of them, and the numbers' count.

    It keeps what `launch` would look for at every call, for a call on a few numbers to be short.
    """

    def __init__(self, family: str, name: str, threads: int, bytes_a_block: int) -> None:
        self._family, self._name = family, name
        self._threads, self._bytes = (threads, 1, 1), bytes_a_block

    def __call__(self, *arrays: Any) -> None:
        y = arrays[-1]
        if count := y.size:
            kind, computes = y.dtype, _device
            key = self, computes.current(), kind
            function = computes.kept.get(key)
            if function is None:
                function = computes.function(self._family, self._name, {"HW_REAL": REAL[kind]})
                computes.kept[key] = function
            grid = -(-y.nbytes // self._bytes), 1, 1
            function(grid, self._threads, (*arrays, _int64(count)), 0)


_int64 = lru_cache(1024)(np.int64)


def target(out: Any, inputs: Collection[Any]) -> Any:
    """Where an elementwise kernel may write at once: `out`, or fresh memory, or None if it may not.

    It may where all are `plain`, of one shape, and `out` is an input or apart from it.
    """
    arrays = inputs if out is None else (*inputs, out)
    if not plain(*arrays):
        return None
    shape = None
    for x in arrays:
        if shape is None:
            shape, kind = x.shape, x.dtype
        elif x.shape != shape:
            return None
    if out is None:
        return _device.fresh(shape, kind)
    for x in inputs:
        if x is not out and x.data.ptr != out.data.ptr and overlap(x, out):
            return None
    return out


def plain(*arrays: Any) -> bool:
    """Whether all are CuPy's own arrays on the current GPU, contiguous and of one dtype."""
    if _device is None:
        return False
    ndarray, contiguous, current = _device.ndarray, _device.contiguous, _device.current()
    kind = None
    for x in arrays:
        if type(x) is not ndarray or not contiguous(x):
            return False
        if kind is None:
            kind = x.dtype
            if kind is FLOAT32:
                odd = 3
            elif kind is FLOAT64:
                odd = 7
            else:
                return False
        elif x.dtype is not kind:
            return False
        data = x.data
        if data.ptr & odd or data.device_id != current:
            return False
    return True


def overlap(x: Any, y: Any) -> bool:
    """Whether two `plain` arrays have memory in common."""
    begin, other = x.data.ptr, y.data.ptr
    return begin < other + y.nbytes and other < begin + x.nbytes


class Step(NamedTuple):
    """A launch to be made; an argument that is a string stands for the array of that name."""

    family: str
    kernel: str
    grid: tuple[int, ...]
    threads: int
    arguments: tuple[Any, ...]
    options: dict[str, Any]  # shared=, and macros


def follow(steps: Sequence[Step], dtype: np.dtype, arrays: dict[str, Any]) -> None:
    """Make these launches."""
    for step in steps:
        given = [arrays[x] if type(x) is str else x for x in step.arguments]
        launch(step.family, step.kernel, dtype, step.grid, step.threads, *given, **step.options)


def blocks(count: int, each: int) -> int:
    """How many blocks cover `count` things, `each` a block."""
    return -(-count // each)


def grid(count: int) -> tuple[int, ...]:
    """A grid of at least `count` blocks: block x, y is number x + y · (size along x)."""
    return (count,) if count <= GRID_X else (GRID_X, blocks(count, GRID_X))
