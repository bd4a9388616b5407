"""The pool, the choice of the instruction set, and the floating-point environment."""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import threadpoolctl
from conftest import ISAS, same_bits
from halfwave._cpu import runtime

import halfwave as hw


def python(code, **environment):
    """Run code in a process of its own; its CompletedProcess."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


# ---- instruction sets ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ISAS)
def test_environment_forces_a_set(name):
    code = """
        import numpy as np, halfwave as hw
        from halfwave._cpu import runtime
        hw.matmul(np.ones((2, 2)), np.ones((2, 2)))
        print(runtime.isa())
    """
    assert python(code, HALFWAVE_ISA=name).stdout.strip() == name


@pytest.mark.parametrize("name", ["", "sse9", "AVX2", "neon" if "avx2" in ISAS else "avx512"])
def test_a_set_that_is_unknown_or_unsupported_is_a_clear_error(name):
    code = "import numpy as np, halfwave as hw; hw.matmul(np.ones((2, 2)), np.ones((2, 2)))"
    result = python(code, HALFWAVE_ISA=name)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: HALFWAVE_ISA must be one of baseline")
    assert repr(name) in last


def test_use_isa_names_what_this_cpu_runs(monkeypatch):
    with pytest.raises(ValueError, match="name must be one of baseline"):
        runtime.use_isa("none")


# ---- threads ---------------------------------------------------------------------------------------


def test_number_of_threads():
    hw.set_num_threads(3)
    assert hw.get_num_threads() == 3
    assert python("import halfwave as hw; print(hw.get_num_threads())",
                  HALFWAVE_NUM_THREADS="7").stdout.strip() == "7"  # fmt: skip
    unset = python(
        "import os, halfwave as hw; print(hw.get_num_threads() == len(os.sched_getaffinity(0)))"
    )
    assert unset.stdout.strip() == "True"


@pytest.mark.parametrize(
    "n",
    [0, -1, 257, 1.0, "2", None, True, 2**40, -(2**70), 2**70, 10**400, float("nan"), float("inf"),
     1e9, -0.0, "", b"2", "two", [2], (2,), {2}, {2: 2}, object(), 2j, np.float32(2), np.float64(2),
     np.bool_(True), np.array([2]), np.array(2.0), np.int64(-3), np.uint64(2**63), range(2), print],
)  # fmt: skip
def test_bad_number_of_threads(n):
    with pytest.raises((TypeError, ValueError), match=r"^n must be"):
        hw.set_num_threads(n)


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5", "1000", "³", "9" * 5000])
def test_bad_number_of_threads_in_the_environment(text):
    result = python("import halfwave", HALFWAVE_NUM_THREADS=text)
    assert "ValueError: HALFWAVE_NUM_THREADS must be a whole number" in result.stderr


def test_threadpoolctl_reaches_the_pool():
    hw.set_num_threads(4)
    with threadpoolctl.threadpool_limits(2):
        assert hw.get_num_threads() == 2
    assert hw.get_num_threads() == 4
    assert any(lib["user_api"] == "halfwave" for lib in threadpoolctl.threadpool_info())


def test_many_callers_at_once(rng):
    """Python threads share the pool, or run serially beside it; each gets its own result."""
    hw.set_num_threads(4)
    problems = [rng.integers(-9, 9, (2, 150 + i, 150 + i)).astype(np.float64) for i in range(8)]
    failures = []

    def work(a, b):
        for _ in range(20):
            if not (hw.matmul(a, b) == a @ b).all():
                failures.append(a.shape)

    threads = [threading.Thread(target=work, args=p) for p in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_fork_with_a_running_pool():
    code = """
        import os, sys, warnings
        import numpy as np, halfwave as hw
        warnings.simplefilter("ignore")
        hw.set_num_threads(4)
        a = np.random.default_rng(0).standard_normal((300, 300))
        expected = hw.matmul(a, a)
        for generation in range(3):
            child = os.fork()
            if child == 0:
                assert (hw.matmul(a, a) == expected).all()
                continue
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    result = python(code)
    assert result.returncode == 0, result.stderr


def test_other_python_threads_run_during_a_call():
    """The GIL is released: a counter keeps counting while a product takes its time."""
    runtime.use_isa("baseline")
    hw.set_num_threads(1)
    a = np.ones((500, 500), np.float32)
    counts, done = [], threading.Event()

    def count():
        while not done.is_set():
            counts.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begin = time.perf_counter()
    hw.matmul(a, a)
    end = time.perf_counter()
    done.set()
    thread.join()
    assert end - begin > 0.02, "too quick to tell"
    assert sum(begin < t < end for t in counts) >= 3


@pytest.mark.parametrize("threads", ["1", "2"])
def test_control_c_ends_a_long_call(threads):
    """A product of several seconds stops soon after SIGINT, as a KeyboardInterrupt."""
    code = """
        import numpy as np, halfwave as hw
        a = np.ones((4000, 4000), np.float32)
        print("ready", flush=True)
        try:
            while True:
                hw.matmul(a, a)
        except KeyboardInterrupt:
            assert hw.matmul(a[:2], a).max() == 4000   # and it still works
            print("stopped", flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"HALFWAVE_ISA": "baseline", "HALFWAVE_NUM_THREADS": threads},
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.5)
            begin = time.perf_counter()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "stopped\n"
            assert time.perf_counter() - begin < 5  # a whole product takes minutes here
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_control_c_ends_a_long_call_of_short_loops(threads):
    """Backward weight by Winograd goes segment by segment; it stops before the result is there."""
    code = """
        import signal
        import numpy as np, halfwave as hw
        x, out = np.ones((64, 64, 64, 16), np.float32), np.zeros((16, 16, 3, 3), np.float32)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            hw.conv2d_backward_weight(
                x, x, out.shape, padding=1, layout="NHWC", algorithm="winograd", out=out
            )
        except KeyboardInterrupt:
            print("stopped", out.any())
    """
    assert (
        python(code, HALFWAVE_ISA="baseline", HALFWAVE_NUM_THREADS=threads).stdout
        == "stopped False\n"
    )


def test_workers_block_signals():
    """A signal reaches the process's own threads, never one of the pool."""
    code = """
        import os
        import numpy as np, halfwave as hw
        hw.set_num_threads(4)
        hw.matmul(np.ones((400, 400)), np.ones((400, 400)))
        for task in os.listdir("/proc/self/task"):
            lines = open(f"/proc/self/task/{task}/status").read().splitlines()
            blocked = int(next(l for l in lines if l.startswith("SigBlk")).split()[1], 16)
            print("main" if int(task) == os.getpid() else "other", bool(blocked & 2))
    """
    lines = python(code, OPENBLAS_NUM_THREADS="1").stdout.split("\n")
    assert lines.count("main False") == 1
    assert lines.count("other True") == 3


# ---- the floating-point environment ----------------------------------------------------------------


def test_subnormals_survive_the_import():
    code = "import numpy as np, halfwave as hw; assert np.float64(5e-324) * 1 == 5e-324; hw.matmul(\
        np.ones((2, 2)), np.ones((2, 2))); assert np.float32(1e-45) * np.float32(1) > 0"
    assert python(code).returncode == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets MXCSR through glibc's fenv_t")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_environment_changes_no_bit_and_is_kept(threads, isa, rng):
    """Flush-to-zero, denormals-are-zero and rounding upward, as other libraries leave them."""
    libm = ctypes.CDLL("libm.so.6")
    hw.set_num_threads(threads)
    a = (rng.standard_normal((200, 200)) * 1e-20).astype(np.float32)
    expected = hw.matmul(a, a)
    assert (np.abs(expected[expected != 0]) < np.finfo(np.float32).tiny).any()
    environment, changed = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    libm.fegetenv(environment)
    out = np.empty_like(expected)
    try:
        ctypes.memmove(changed, environment, 32)
        changed[7] |= 0x8040 | 0x4000  # FTZ, DAZ, upward
        libm.fesetenv(changed)
        hw.matmul(a, a, out=out)
        libm.fegetenv(changed)
    finally:
        libm.fesetenv(environment)
    assert changed[7] & 0xC040 == 0xC040
    same_bits(out, expected)


def test_workspaces_do_not_grow(rng):
    """A hundred products of changing shapes leave no more memory behind than the kept workspace."""
    import resource

    a = rng.standard_normal((600, 600))
    hw.matmul(a, a)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(100):
        hw.matmul(a[: 600 - i], a[:, : 500 + i])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
