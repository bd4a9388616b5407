"""The CUDA kernels on the CPU: compiles kernels/cuda/*.cu with the host's compiler, and runs them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import tempfile
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np

from halfwave._cuda import compiler
from halfwave._cuda.runtime import BFLOAT16, TFLOAT32, TensorMap

from . import arrays

HEADERS = [Path(__file__).with_name(f"{name}_on_host.h") for name in ("cuda", "hopper")]
SANITIZE = os.environ.get("HALFWAVE_SANITIZE")  # "address,undefined", with libasan preloaded
ORDERS = ("forward", "backward", "shuffled")


EMULATED_MAP = np.dtype([("address", "u8"), ("size", "u8", 5), ("stride", "u8", 4),
                         ("box", "u2", 5), ("step", "u1", 5), ("rank", "u1"), ("type", "u1"),
                         ("unused", "u1", 31)])  # fmt: skip


class _Launch(ctypes.Structure):
    _fields_ = [("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("order", ctypes.c_uint),
                ("seed", ctypes.c_uint), ("shared", ctypes.c_uint64),
                ("arguments", ctypes.c_uint64), ("values", ctypes.POINTER(ctypes.c_void_p)),
                ("sizes", ctypes.POINTER(ctypes.c_uint64))]  # fmt: skip


class Device:
    """Takes the place of halfwave._cuda.runtime.CuPy. `order` is that of threads and blocks."""

    def __init__(self) -> None:
        self.arrays, self.ndarray, self.fresh = arrays, arrays.ndarray, arrays.empty
        self.contiguous = attrgetter("flags.c_contiguous")
        self.kept: dict[tuple, partial] = {}
        self.order = "forward"
        self.launched: list[tuple[str, str]] = []
        self._libraries: dict[tuple, ctypes.CDLL] = {}

    def asarray(self, x):
        if isinstance(x, arrays.ndarray):
            return x
        raise TypeError(f"the emulation knows its own arrays only, not {type(x).__name__}")

    def current(self) -> int:
        return arrays.current

    def capability(self) -> str:
        return "80"

    def shared_memory(self) -> int:
        return 227 * 1024

    def multiprocessors(self) -> int:
        return 2

    def tensor_maps(self) -> bool:
        return True

    def tensor_map(self, *numbers):
        """Of hopper_on_host.h; what the driver refuses (cuda.h, cuTensorMapEncodeTiled) is an error."""
        of = TensorMap(*numbers)
        rank, size = len(of.sizes), 2 if of.number == BFLOAT16 else 4
        lengths = (len(of.strides) + 1, len(of.box), len(of.steps))
        if of.number not in (BFLOAT16, TFLOAT32) or not 3 <= rank <= 5 or {*lengths} != {rank}:
            raise ValueError(f"a tensor map of {of}")
        if of.address % 16 or any(s % 16 or not 0 <= s < 2**40 for s in of.strides):
            raise ValueError(f"a tensor map of misaligned {of}")
        if not all(1 <= n <= 2**32 for n in of.sizes):
            raise ValueError(f"a tensor map of sizes {of.sizes}")
        if not all(1 <= n <= 256 for n in of.box) or not all(1 <= n <= 8 for n in of.steps):
            raise ValueError(f"a tensor map of boxes {of.box} by {of.steps}")
        if of.box[0] * size > 128 or of.box[0] * size % 16:
            raise ValueError(f"a tensor map of boxes {of.box[0]} wide")
        map_ = np.zeros(1, EMULATED_MAP)
        for name, value in (("address", of.address), ("rank", rank), ("type", of.number)):
            map_[name] = value
        for name, values in (("size", of.sizes), ("stride", of.strides), ("box", of.box),
                             ("step", of.steps)):  # fmt: skip
            map_[name][0, : len(values)] = values
        return map_

    def function(self, family, name, macros, shared=0):
        return partial(self.launch, family, name, macros)

    def launch(self, family, name, macros, grid, block, args, shared) -> None:
        limits = (2**31 - 1, 65535, 65535)
        if any(not 0 < n <= most for n, most in zip(grid, limits, strict=False)):
            raise ValueError(f"{name}: a grid of {grid}")
        if not 0 < np.prod(block) <= 1024 or shared > 227 * 1024:
            raise ValueError(f"{name}: blocks of {block} with {shared} bytes of shared memory")
        for x in args:
            if isinstance(x, arrays.ndarray) and x.gpu != arrays.current:
                raise ValueError(f"{name}: an array of GPU {x.gpu} on GPU {arrays.current}")
        library = self._library(family, macros)
        cells = [_cell(name, i, value) for i, value in enumerate(args)]
        values = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
        sizes = (ctypes.c_uint64 * len(cells))(*map(ctypes.sizeof, cells))
        call = _Launch(tuple((*grid, 1, 1)[:3]), tuple((*block, 1, 1)[:3]),
                       ORDERS.index(self.order), len(self.launched), shared, len(cells), values,
                       sizes)  # fmt: skip
        wrong = getattr(library, f"{name}_on_host")(ctypes.byref(call))
        if wrong:
            raise TypeError(
                f"{name}: argument {wrong - 1} (of {len(cells)}) has another size there"
            )
        self.launched.append((family, name))

    def _library(self, family, macros) -> ctypes.CDLL:
        key = (family, *sorted(macros.items()))
        if key not in self._libraries:
            self._libraries[key] = ctypes.CDLL(str(_build(family, macros)))
        return self._libraries[key]


def _cell(name, position, value):
    """One kernel argument as memory of its size."""
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, arrays.ndarray):
        return ctypes.c_void_p(value.data.ptr)
    if isinstance(value, (np.generic, np.ndarray)) and value.size == 1:
        return ctypes.create_string_buffer(value.tobytes(), value.itemsize)
    raise TypeError(f"{name}: argument {position} is a {type(value).__name__}")


def _build(family, macros) -> Path:
    """The shared library of a family, from a folder of earlier ones."""
    source = compiler.KERNELS / "cuda" / f"{family}.cu"
    kernels = re.findall(r"^HW_KERNEL(?:_BOUNDS\([^)]*\))?\s+(\w+)\(", source.read_text(), re.M)
    flags = ["-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-ffp-contract=off", "-w",
             "-fno-strict-aliasing", "-fvisibility=hidden", f"-I{compiler.KERNELS}", "-include",
             str(HEADERS[0]), *compiler.defines(macros)]  # fmt: skip
    if "fma" in Path("/proc/cpuinfo").read_text():
        flags.append("-mfma")
    if SANITIZE:
        flags += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"]
    text = f'#include "{source}"\n' + "".join(f"HW_EMULATE({name})\n" for name in kernels)
    sha = hashlib.sha256("\0".join([text, *flags]).encode())
    for path in (*HEADERS, *sorted(compiler.KERNELS.glob("*/*.h")), source):
        sha.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"halfwave-emulation-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{family}-{sha.hexdigest()[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            (Path(work) / "kernels.cpp").write_text(text)
            subprocess.run(["g++", *flags, "-o", f"{work}/kernels.so", f"{work}/kernels.cpp"],
                           check=True)  # fmt: skip
            os.replace(f"{work}/kernels.so", library)
    return library
