"""What this installation computes with: `halfwave.info()` and `halfwave info`."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ._cpu import runtime

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def info() -> dict[str, Any]:
    """The version, instruction set, threads, caches and GPUs, as a dict.

    Reads files only: no GPU is woken and CuPy is not imported.

    Returns
    -------
    dict
        ``version``, ``python``, ``numpy``, ``machine``, ``isa`` (in use), ``isas`` (that this CPU
        runs, slowest first), ``isas_compiled``, ``threads``, ``cpus`` (that this process may use),
        ``caches`` (of the first CPU: level, type, bytes and how many CPUs share it), ``gpus``
        (names) and ``cupy`` (whether it is installed).

    Examples
    --------
    >>> import halfwave as hw
    >>> hw.info()["isa"] in hw.info()["isas"]
    True
    """
    return {
        "version": _version("halfwave"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "isa": runtime.isa(),
        "isas": runtime.supported_isas(),
        "isas_compiled": runtime.isa_names(),
        "threads": runtime.get_num_threads(),
        "cpus": _cpus(),
        "caches": _caches(_CACHES),
        "gpus": _gpus(_NVIDIA),
        "cupy": importlib.util.find_spec("cupy") is not None,
    }


def describe(facts: dict[str, Any]) -> str:
    """`info()` as lines for a terminal."""
    caches = [
        f"L{c['level']} {c['type'].lower()} {_size(c['bytes'])}"
        + (f" (shared by {c['shared_by']} CPUs)" if c["shared_by"] > 1 else "")
        for c in facts["caches"]
    ]
    cupy = "installed" if facts["cupy"] else "not installed"
    rows = {
        "halfwave": facts["version"],
        "Python": f"{facts['python']}, NumPy {facts['numpy']}, {facts['machine']}",
        "instruction set": f"{facts['isa']} (available: {', '.join(facts['isas'])}; "
        f"compiled in: {', '.join(facts['isas_compiled'])}; HALFWAVE_ISA chooses)",
        "threads": f"{facts['threads']} of {facts['cpus']} CPUs (HALFWAVE_NUM_THREADS chooses)",
        "caches": ", ".join(caches) or "unknown",
        "GPU": f"{', '.join(facts['gpus']) or 'none seen'}; CuPy {cupy}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown (not installed)"


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _caches(folder: Path) -> list[dict[str, Any]]:
    caches = []
    for index in sorted(folder.glob("index[0-9]*")):
        try:
            level, kind, size, shared = (
                (index / name).read_text().strip()
                for name in ("level", "type", "size", "shared_cpu_list")
            )
            caches.append(
                {"level": int(level), "type": kind, "bytes": _bytes(size),
                 "shared_by": _count(shared)}
            )  # fmt: skip
        except (OSError, ValueError):
            continue  # a virtual machine may hide some
    return caches


def _bytes(text: str) -> int:
    units = {"K": 1024, "M": 1024**2, "G": 1024**3}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def _count(cpus: str) -> int:
    """How many CPUs a list like "0-3,8" names."""
    ends = (part.split("-") for part in cpus.split(","))
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)


def _size(count: int) -> str:
    return f"{count // 1024**2} MB" if count >= 1024**2 else f"{count // 1024} KB"


def _gpus(folder: Path) -> list[str]:
    names = []
    for path in sorted(folder.glob("*/information")):
        try:
            fields = dict(
                line.split(":", 1) for line in path.read_text().splitlines() if ":" in line
            )
        except OSError:
            continue
        names.append(fields.get("Model", "NVIDIA GPU").strip())
    return names
