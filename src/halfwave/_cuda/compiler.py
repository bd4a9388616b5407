"""CUDA sources to machine code by NVRTC, and the folder where it is kept.

Not by CuPy's RawModule, which adds ``-ftz=true`` after every other option and cannot ask for sm_90a.
A source is compiled on first use, a family and a choice of macros at a time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_INSTALLED = Path(__file__).parent.parent / "kernels"
# cuda/*.cu and common/*.h: of an editable install, those of the repository.
KERNELS = _INSTALLED if _INSTALLED.exists() else Path(__file__).parents[3] / "kernels"
OPTIONS = (
    "--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true",
    "--diag-suppress=177",  # functions of a shared header that this family has no use for
)  # fmt: skip
_DIGEST = hashlib.sha256().digest_size


class CompileError(RuntimeError):
    """NVRTC refused a source of ours: says which, for what, and prints its log."""


def architecture(capability: str) -> str:
    """NVRTC's name for a device of compute capability "90": Hopper's own instructions need the a."""
    return "sm_90a" if capability == "90" else f"sm_{capability}"


def defines(macros: dict[str, str | int]) -> tuple[str, ...]:
    return tuple(f"-D{name}={value}" for name, value in sorted(macros.items()))


def compiled(family: str, macros: dict[str, str | int], arch: str) -> bytes:
    """The cubin of kernels/cuda/<family>.cu: from the folder of earlier ones, or compiled now."""
    path = folder() / f"{family}-{arch}-{_key(family, macros, arch)}.cubin"
    code = _read(path)
    if code is None:
        code, *_ = compile_source(family, macros, arch)
        _write(path, code)
    return code


def folder() -> Path:
    """HALFWAVE_CACHE_DIR, or the user's folder for caches."""
    if chosen := os.environ.get("HALFWAVE_CACHE_DIR"):
        return Path(chosen)
    import platformdirs

    return platformdirs.user_cache_path("halfwave", appauthor=False)


def compile_source(
    family: str, macros: dict[str, str | int], arch: str, *, extra: tuple[str, ...] = ()
) -> tuple[bytes, str, str]:
    """(cubin, PTX, NVRTC's log)."""
    nvrtc = _nvrtc()
    source = (KERNELS / "cuda" / f"{family}.cu").read_text()
    options = (*OPTIONS, f"-arch={arch}", f"-I{KERNELS}", *defines(macros), *extra)
    program = nvrtc.createProgram(source, f"{family}.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            raise CompileError(
                f"NVRTC {_version()} cannot compile {family}.cu for {arch}: {error}\n"
                f"{nvrtc.getProgramLog(program)}"
            ) from None
        ptx = nvrtc.getPTX(program).decode()
        cubin = nvrtc.getCUBIN(program) + b"\0"  # of which CuPy cuts off the last byte, a NUL
        return cubin, ptx, nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)


@cache
def _nvrtc() -> Any:
    """CuPy's module of it, whose library has been found."""
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # of whatever class: that depends on CuPy's version
        raise CompileError(
            "NVRTC, which compiles the kernels, cannot be loaded: install CUDA's toolkit, or with pip "
            f"CuPy's extra ctk, as in 'cupy-cuda13x[ctk]' ({type(error).__name__}: {error})"
        ) from error
    return nvrtc


@cache
def _version() -> str:
    return ".".join(map(str, _nvrtc().getVersion()))


def _key(family: str, macros: dict[str, str | int], arch: str) -> str:
    """A hash of all that the machine code depends on."""
    sha = hashlib.sha256()
    for path in (KERNELS / "cuda" / f"{family}.cu", *sorted(KERNELS.glob("*/*.h"))):
        sha.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    sha.update("\0".join((*OPTIONS, *defines(macros), arch, _version())).encode())
    return sha.hexdigest()[:32]


def _read(path: Path) -> bytes | None:
    """What `_write` wrote, or None: there is none, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    code, digest = data[:-_DIGEST], data[-_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Whole or not at all, whoever else writes the same; a folder that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(code + hashlib.sha256(code).digest())
            os.replace(name, path)
        except OSError:
            os.unlink(name)
    except OSError:
        pass
