"""The contestants, and what the suites share: inputs, jobs, samples of outputs, ceilings.

A library runs in a process of its own, started with the same number of threads, on the same CPUs. What
the parent asks of such a process, and what it answers, is a line of JSON each: see serve().
"""

from __future__ import annotations

import base64
import gc
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

COLD_SECONDS = 0.1  # a call as long as this needs no other call before it to warm up


@dataclass(frozen=True)
class Library:
    """A process to start: a library with one environment."""

    name: str  # as the tables call it
    module: str  # what is imported, and the function of a suite that runs it
    environment: dict[str, str] = field(default_factory=dict)
    avx2: dict[str, str] | None = None  # what holds it to AVX2; None: nothing does
    blas_only: bool = False  # differs from another one in its matrix products alone


def _numpy_without_avx512() -> str:
    from numpy._core._multiarray_umath import __cpu_dispatch__ as names

    return " ".join(name for name in names if "512" in name or name == "X86_V4")


_TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
               "MKL_ENABLE_INSTRUCTIONS": "AVX2"}  # fmt: skip
LIBRARIES = [
    Library("halfwave", "halfwave", avx2={"HALFWAVE_ISA": "avx2"}),
    Library("NumPy", "numpy", avx2={"OPENBLAS_CORETYPE": "Haswell",
                                    "NPY_DISABLE_CPU_FEATURES": _numpy_without_avx512()}),
    Library("NumPy as SkylakeX", "numpy", {"OPENBLAS_CORETYPE": "SkylakeX"}, blas_only=True),
    Library("NumPy as Zen", "numpy", {"OPENBLAS_CORETYPE": "Zen"}, blas_only=True),
    Library("PyTorch", "torch", avx2=_TORCH_AVX2),
    Library("oneDNN in PyTorch", "onednn", avx2=_TORCH_AVX2),
    Library("ONNX Runtime", "onnxruntime"),
    Library("JAX", "jax", avx2={"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}),
    Library("Thinc", "thinc", avx2={"BLIS_ARCH_TYPE": "haswell"}),
]  # fmt: skip


def environment(library: Library, threads: int, isa: str | None) -> dict[str, str]:
    """The environment of its process."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
             "HALFWAVE_NUM_THREADS")  # fmt: skip
    chosen = os.environ | dict.fromkeys(names, str(threads)) | library.environment
    if library.module == "jax":
        chosen["JAX_PLATFORMS"] = "cpu"
    if isa == "avx2":
        chosen |= library.avx2 or {}
    return chosen


def cpus(threads: int) -> set[int]:
    """So many CPUs for every contestant, on different cores where there are enough."""
    ours = sorted(os.sched_getaffinity(0))
    cores: dict[str, int] = {}
    for cpu in ours:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    first = sorted(cores.values())
    return set((first + [cpu for cpu in ours if cpu not in first])[:threads])


# ---- what the suites use -------------------------------------------------------------------------


@dataclass
class Job:
    """A call to time. Its result is seen through `view`, as an array that all can compare."""

    call: Callable
    view: Callable = np.asarray
    before: Callable = lambda: None  # once, before calls are timed
    scale: float = 1.0  # times the seconds of a call: what is reported


def memory(*shape: int) -> np.ndarray:
    """From a line of the caches on, as all libraries' arrays lie but NumPy's large ones."""
    count = math.prod(shape)
    whole = np.empty(count + 16, np.float32)
    begin = -whole.ctypes.data % 64 // 4
    return whole[begin : begin + count].reshape(shape)


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dtype=np.float32, out=memory(*shape))


def channels_last(x: np.ndarray) -> np.ndarray:
    """N × C × H × W as N × H × W × C."""
    x = x.transpose(0, 2, 3, 1)
    result = memory(*x.shape)
    result[...] = x
    return result


def sample(result: np.ndarray) -> np.ndarray:
    """About 20,000 elements, from all over it."""
    step = max(1, result.size // 20_000) | 1
    return np.asarray(result.flat[np.arange(0, result.size, step)], dtype=np.float32)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, by the largest value."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-30))


def session(operator: str, feeds: dict[str, np.ndarray], shape: tuple[int, ...],
            constants: dict[str, np.ndarray] | None = None, **attributes) -> Job:  # fmt: skip
    """One ONNX operator in ONNX Runtime: all optimisations, inputs and output bound once."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    constants = constants or {}
    graph = helper.make_graph(
        [helper.make_node(operator, [*feeds, *constants], ["out"], **attributes)],
        "one",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    runner = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    binding = runner.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
    out = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
    binding.bind_ortvalue_output("out", out)
    return Job(lambda: runner.run_with_iobinding(binding), lambda _: out.numpy())


def compiled(function: Callable, *operands: np.ndarray, view: Callable = np.asarray) -> Job:
    """A JAX function, compiled ahead for these operands."""
    import jax

    operands = [jax.device_put(operand) for operand in operands]
    run = jax.jit(function).lower(*operands).compile()
    return Job(lambda: jax.block_until_ready(run(*operands)), view)


# ---- ceilings ------------------------------------------------------------------------------------

ARRAY_BYTES = 1 << 27  # far beyond any cache
_arrays: list[np.ndarray] = []


def ceiling(resource: str, amount: float, threads: int) -> Job:
    """What the machine needs at least for `amount` flops ("fma") or bytes ("read", "write", "copy")."""
    from halfwave._cpu import ceilings, runtime

    def before():
        runtime.set_num_threads(threads)

    before()
    if resource == "fma":
        steps = 1_000_000
        unit = ceilings.multiply_add(steps, threads)
        call = lambda: ceilings.multiply_add(steps, threads)  # noqa: E731
        return Job(call, before=before, scale=amount / unit)
    if not _arrays:
        _arrays.extend(np.ones(ARRAY_BYTES // 4, np.float32) for _ in range(2))
    source, target = _arrays
    call = {
        "read": lambda: ceilings.read(source, threads),
        "write": lambda: ceilings.write(target, False, threads),
        "write streaming": lambda: ceilings.write(target, True, threads),
        "copy": lambda: ceilings.copy(source, target, False, threads),
        "copy streaming": lambda: ceilings.copy(source, target, True, threads),
    }[resource]
    moved = (2 if "copy" in resource else 1) * ARRAY_BYTES
    return Job(call, before=before, scale=amount / moved)


# ---- the process of a library --------------------------------------------------------------------


def load(module: str, threads: int) -> str:
    """Import a library and hold it to its threads; its version."""
    if module == "halfwave":
        import halfwave

        halfwave.set_num_threads(threads)
        return halfwave.__version__
    if module in ("torch", "onednn"):
        import torch

        torch.set_num_threads(threads)
        torch.inference_mode().__enter__()  # until the process ends
        if module == "torch":
            return torch.__version__
        if not torch.backends.mkldnn.is_available():
            raise ImportError("this PyTorch has no oneDNN")
        found = [line for line in torch.__config__.show().splitlines() if "MKL-DNN" in line]
        return found[0].split(" v")[1].split()[0] if found else "?"
    if module == "onnxruntime":
        importlib.import_module("onnx")
    return importlib.import_module(module).__version__


def seconds(call: Callable, budget: float) -> float:
    """The median of a few calls or groups of calls, once threads that slept have their CPUs again."""
    begin = start = time.perf_counter()
    call()
    first = time.perf_counter() - begin
    if first > COLD_SECONDS:
        return first
    while time.perf_counter() - start < budget / 2:
        begin = time.perf_counter()
        call()
        first = time.perf_counter() - begin
    repeats = max(1, int(budget / 5 / first))
    times = []
    for _ in range(max(1, min(5, int(budget / first)))):
        begin = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - begin) / repeats)
    return statistics.median(times)


def serve(module: str, threads: int) -> None:
    """Answer the parent until it closes the pipe.

    ["prepare", suite, case, variant] makes a job, answered with a sample of its result and the seconds
    of a second call, or null where the library has nothing of the kind; ["ceiling", key, resource,
    amount, threads] makes one of those; ["time", key, budget] times a job made before; ["forget"]
    frees them all.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    jobs: dict[str, Job] = {}

    def answer(request: list):
        kind, *rest = request
        if kind == "forget":
            jobs.clear()
            gc.collect()
            if module == "halfwave":
                load(module, threads)
            return None
        if kind == "time":
            key, budget = rest
            jobs[key].before()
            return seconds(jobs[key].call, budget) * jobs[key].scale
        if kind == "ceiling":
            key, *what = rest
            jobs[key] = ceiling(*what)
            jobs[key].call()
            return None
        suite_name, case, variant = rest
        suite = importlib.import_module(f"bench_{suite_name}")
        job = getattr(suite, module)(suite.CASES[case], variant)
        if job is None:
            return None
        jobs[variant] = job
        take = getattr(suite, "sample", sample)
        seen = np.ascontiguousarray(take(job.view(job.call())), np.float32)
        trials = []
        while not trials or (len(trials) < 3 and trials[0] < COLD_SECONDS):
            begin = time.perf_counter()
            job.call()
            trials.append(time.perf_counter() - begin)
        return {"sample": base64.b64encode(seen.tobytes()).decode(), "seconds": min(trials)}

    try:
        first = {"version": load(module, threads)}
    except ImportError as error:
        first = {"missing": str(error)}
    print(json.dumps(first), file=answers, flush=True)
    gc.disable()
    for line in sys.stdin:
        try:
            reply = {"answer": answer(json.loads(line))}
        except Exception as error:
            reply = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
