"""How many threads the CPU kernels use."""

from __future__ import annotations

from . import _arrays
from ._cpu import runtime


def get_num_threads() -> int:
    """How many threads an operation may use.

    The CPUs that this process may run on, or the environment's ``HALFWAVE_NUM_THREADS``, until
    `set_num_threads` says otherwise. No result depends on it.
    """
    return runtime.get_num_threads()


def set_num_threads(n: int) -> None:
    """Let operations use at most `n` threads from here on.

    Parameters
    ----------
    n : int
        From 1 to 256. Small work uses fewer.

    Raises
    ------
    TypeError, ValueError
        If `n` is not such an integer.
    """
    runtime.set_num_threads(_arrays.integer(n, "n", minimum=1, maximum=256))


def register_with_threadpoolctl() -> None:
    """Let ``threadpoolctl.threadpool_limits`` reach the pool, where threadpoolctl is installed."""
    try:
        from threadpoolctl import LibController, register
    except ImportError:
        return

    class HalfwaveController(LibController):
        user_api = "halfwave"
        internal_api = "halfwave"
        filename_prefixes = ("runtime.abi3", "runtime.cpython")
        check_symbols = ("hw_get_num_threads", "hw_set_num_threads")

        def get_num_threads(self) -> int:
            return self.dynlib.hw_get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.hw_set_num_threads(num_threads)

        def get_version(self) -> None:
            return None

        def set_additional_attributes(self) -> None:
            pass

    register(HalfwaveController)
