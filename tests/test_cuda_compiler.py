"""Compiled kernels are kept, and rebuilt where they must be; what is missing is said in one sentence."""

import multiprocessing
import subprocess
import sys
import time

import numpy as np
import pytest

import halfwave as hw
from halfwave._cuda import compiler, runtime

MACROS = {"HW_REAL": "float"}


class Nvrtc:
    """Stands in for the compiler: gives the number of the call as machine code."""

    calls = 0

    def __call__(self, family, macros, arch, *, extra=()):
        self.calls += 1
        return f"{family} {macros} {arch} {self.calls}".encode(), "ptx", "log"


@pytest.fixture
def nvrtc(monkeypatch, tmp_path):
    stand_in = Nvrtc()
    monkeypatch.setattr(compiler, "compile_source", stand_in)
    monkeypatch.setattr(compiler, "_version", lambda: "13.5")
    monkeypatch.setenv("HALFWAVE_CACHE_DIR", str(tmp_path / "deep" / "cache"))
    return stand_in


def files():
    return sorted(compiler.folder().iterdir())


def test_compiled_once(nvrtc):
    first = compiler.compiled("activation", MACROS, "sm_90a")
    assert compiler.compiled("activation", MACROS, "sm_90a") == first
    assert nvrtc.calls == 1
    assert [path.suffix for path in files()] == [".cubin"]


def test_all_that_matters_is_in_the_key(nvrtc, monkeypatch, tmp_path):
    compiler.compiled("activation", MACROS, "sm_90a")
    compiler.compiled("activation", MACROS, "sm_80")
    compiler.compiled("activation", {"HW_REAL": "double"}, "sm_90a")
    compiler.compiled("reduction", MACROS, "sm_90a")
    monkeypatch.setattr(compiler, "_version", lambda: "13.6")
    compiler.compiled("activation", MACROS, "sm_90a")
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "--more"))
    compiler.compiled("activation", MACROS, "sm_90a")
    sources = tmp_path / "kernels"
    for path in compiler.KERNELS.glob("*/*"):
        to = sources / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes() + (b"\n" if path.name == "exp.h" else b""))
    monkeypatch.setattr(compiler, "KERNELS", sources)
    compiler.compiled("activation", MACROS, "sm_90a")
    assert nvrtc.calls == 7
    assert len(files()) == 7


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data + b"x",
                                    lambda data: bytes([data[0] ^ 1]) + data[1:]])  # fmt: skip
def test_a_damaged_one_is_rebuilt(nvrtc, damage):
    compiler.compiled("activation", MACROS, "sm_90a")
    (path,) = files()
    path.write_bytes(damage(path.read_bytes()))
    again = compiler.compiled("activation", MACROS, "sm_90a")
    assert again.endswith(b" 2")
    assert compiler.compiled("activation", MACROS, "sm_90a") == again
    assert nvrtc.calls == 2


def test_a_folder_that_cannot_be_written_is_no_error(nvrtc, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HALFWAVE_CACHE_DIR", str(blocked / "cache"))
    assert compiler.compiled("activation", MACROS, "sm_90a").endswith(b" 1")
    assert compiler.compiled("activation", MACROS, "sm_90a").endswith(b" 2")


def _compile_slowly(path, ready, results):
    def slow(family, macros, arch, *, extra=()):
        time.sleep(0.05)
        return b"code" * 100_000, "ptx", "log"

    compiler.compile_source = slow
    ready.wait()
    results.put(len(compiler.compiled("activation", MACROS, "sm_90a")))


def test_several_processes_at_once(nvrtc, tmp_path):
    context = multiprocessing.get_context("fork")
    ready, results = context.Event(), context.Queue()
    processes = [
        context.Process(target=_compile_slowly, args=(tmp_path, ready, results)) for _ in range(6)
    ]
    for process in processes:
        process.start()
    ready.set()
    sizes = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sizes == [400_000] * 6
    assert len(files()) == 1
    assert len(compiler.compiled("activation", MACROS, "sm_90a")) == 400_000
    assert nvrtc.calls == 0


def test_the_users_folder(monkeypatch):
    monkeypatch.delenv("HALFWAVE_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(compiler.folder()) == "/somewhere/halfwave"


def test_architecture():
    assert [compiler.architecture(c) for c in ("80", "90", "120")] == ["sm_80", "sm_90a", "sm_120"]


# ---- without CuPy, without a GPU ----------------------------------------------------------------------


class OnTheGpu:
    __cuda_array_interface__ = {"shape": (2,), "typestr": "<f4", "data": (0, True), "version": 3}  # noqa: RUF012


@pytest.mark.parametrize(
    "call",
    [lambda: hw.relu(OnTheGpu()), lambda: hw.init.he_normal((2, 2), seed=1, device="cuda")],
    ids=["relu", "he_normal"],
)
def test_no_cupy(monkeypatch, call):
    monkeypatch.setattr(runtime, "_device", None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        RuntimeError, match=r"^GPU arrays need CuPy: install halfwave\[cuda12\] or "
    ):
        call()


def test_no_nvrtc(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs", None)
    monkeypatch.setattr(compiler, "_nvrtc", compiler._nvrtc.__wrapped__)
    with pytest.raises(
        compiler.CompileError, match=r"^NVRTC, which .* cannot be loaded: install CUDA"
    ):
        compiler.compile_source("activation", MACROS, "sm_90a")


class WithGradient:
    """As PyTorch's tensors: an error for CUDA's interface, a refusal for DLPack's."""

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")

    def __dlpack_device__(self):
        return runtime.DLPACK_CUDA[0], 0

    def __dlpack__(self, **options):
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")


def test_a_tensor_with_gradient(cuda):
    with pytest.raises(TypeError, match="x cannot be read as a CuPy array"):
        hw.relu(WithGradient())


def test_import_brings_no_cupy():
    code = (
        "import sys, numpy, halfwave; halfwave.relu(numpy.ones(3)); halfwave.info();"
        "assert not [m for m in sys.modules if m.startswith('cupy')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- launches -----------------------------------------------------------------------------------------


def test_a_python_number_is_no_argument(cuda):
    """The emulation is stricter than a GPU's launch, so that nothing of the kind gets there."""
    if not cuda.emulated:
        return
    x = cuda.put(np.ones(4, "f4"))
    for number in (4, 4.0, True):
        with pytest.raises(TypeError, match="argument 2 is a"):
            runtime.launch("activation", "relu", x.dtype, 1, 256, x, x, number)


def test_an_argument_of_another_size_is_noticed(cuda):
    if not cuda.emulated:
        return
    x = cuda.put(np.ones(4, "f4"))
    with pytest.raises(TypeError, match="argument 2"):
        runtime.launch("activation", "relu", x.dtype, 1, 256, x, x, np.int32(4))


def test_a_grid_without_blocks_launches_nothing(cuda):
    runtime.launch("no such family", "no such kernel", np.dtype("f4"), (5, 0), 256)
