"""Random initializers beside numpy.random's: millions of float32 values a second, and the ratio.

    python bench/bench_init.py [threads]

halfwave and both NumPy generators (Philox, the same algorithm, and PCG64, its default) fill the same
array in turn, so that whatever else the machine does hits all of them. NumPy's run on one thread, as
they always do, and have no truncated normal: theirs is drawn by rejection at ±2, as is customary.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

import halfwave as hw

SIZE = 1 << 22  # 16 MB
REPEATS = 15


def numpy_truncated(generator: np.random.Generator, out: np.ndarray) -> None:
    generator.standard_normal(out=out, dtype=np.float32)
    while (outside := np.flatnonzero(np.abs(out) > 2)).size:
        out[outside] = generator.standard_normal(outside.size, dtype=np.float32)


def contenders(out: np.ndarray) -> dict[str, dict[str, Callable[[], object]]]:
    philox, pcg = (np.random.Generator(b(1)) for b in (np.random.Philox, np.random.PCG64))
    return {
        "normal": {
            "halfwave": lambda: hw.init.normal(SIZE, seed=1, out=out),
            "Philox": lambda: philox.standard_normal(out=out, dtype=np.float32),
            "PCG64": lambda: pcg.standard_normal(out=out, dtype=np.float32),
        },
        "uniform": {
            "halfwave": lambda: hw.init.uniform(SIZE, seed=1, out=out),
            "Philox": lambda: philox.random(out=out, dtype=np.float32),
            "PCG64": lambda: pcg.random(out=out, dtype=np.float32),
        },
        "truncated normal": {
            "halfwave": lambda: hw.init.truncated_normal(SIZE, seed=1, out=out),
            "Philox": lambda: numpy_truncated(philox, out),
            "PCG64": lambda: numpy_truncated(pcg, out),
        },
    }


def run(threads: int, repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """Prints a table; returns the median ratios, {distribution: {generator: ratio}}."""
    hw.set_num_threads(threads)
    out = np.empty(SIZE, np.float32)
    ratios: dict[str, dict[str, float]] = {}
    print(f"{SIZE:,} float32, halfwave on {threads} threads; ratio: median (least to greatest)")
    for distribution, functions in contenders(out).items():
        times: dict[str, list[float]] = {name: [] for name in functions}
        for round_number in range(repeats + 1):
            for name, function in functions.items():
                begin = time.perf_counter()
                function()
                if round_number:  # the first warms up
                    times[name].append(time.perf_counter() - begin)
        own = np.array(times["halfwave"])
        line = f"{distribution:17} halfwave {SIZE / np.median(own) / 1e6:5.0f} M/s"
        ratios[distribution] = {}
        for name in ("Philox", "PCG64"):
            ratio = np.array(times[name]) / own
            ratios[distribution][name] = float(np.median(ratio))
            line += (
                f"   {name} {SIZE / np.median(times[name]) / 1e6:4.0f} M/s, "
                f"{np.median(ratio):5.1f} × ({ratio.min():.1f} to {ratio.max():.1f})"
            )
        print(line)
    return ratios


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else hw.get_num_threads())
