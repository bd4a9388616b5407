"""halfwave beside what a user would pick instead: `python bench/compare.py [suite …] --threads N`.

Every peer runs in a process of its own, so that no library's idle threads take another's cores. The
peers take turns, a round at a time; a round is the median of a few calls, the ratio of a case is the
median over the rounds of (halfwave's speed / the peer's) in the same round, with its spread. All get
the same inputs, and their outputs are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SUITES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
ROUNDS = 7
ROUND_SECONDS = 0.05
IDLE_SECONDS = 0.1  # until the last peer's idle threads have stopped spinning


class Peer:
    """A process that serves one peer of one suite."""

    def __init__(self, suite: str, name: str, threads: int):
        environment = os.environ | {
            key: str(threads)
            for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                        "HALFWAVE_NUM_THREADS")
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", suite, name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.version = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, request: str):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(suite_name: str, peer_name: str, threads: int) -> None:
    """Answer the parent: a case's name prepares it and checks it, "time" times a round of it."""
    suite = importlib.import_module(f"bench_{suite_name}")
    try:
        version = suite.PEERS[peer_name](None, threads)
    except ImportError:
        version = None
    print(json.dumps(version), flush=True)
    call, repeats = None, 1
    for line in sys.stdin:
        request = json.loads(line)
        if request == "time":
            call()
            times = []
            for _ in range(5):
                begin = time.perf_counter()
                for _ in range(repeats):
                    call()
                times.append((time.perf_counter() - begin) / repeats)
            answer = statistics.median(times)
        else:
            call = suite.PEERS[peer_name](suite.CASES[request], threads)
            answer = None  # the peer has nothing of the kind
            if call is not None:
                answer = suite.digest(call())
                begin = time.perf_counter()
                call()
                took = time.perf_counter() - begin
                repeats = max(1, int(ROUND_SECONDS / 5 / max(took, 1e-9)))
        print(json.dumps(answer), flush=True)


def compare(suite_name: str, threads: int, only: str) -> dict:
    """Run one suite; prints a line a case, returns everything measured."""
    suite = importlib.import_module(f"bench_{suite_name}")
    peers = {name: Peer(suite_name, name, threads) for name in suite.PEERS}
    versions = {name: peer.version for name, peer in peers.items()}
    missing = [name for name, version in versions.items() if version is None]
    others = [name for name in peers if name != "halfwave" and name not in missing]
    installed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    absent = f" (not installed: {', '.join(missing)})" if missing else ""
    print(f"\n{suite_name}, {threads} threads, {suite.UNIT}: {installed}{absent}")
    print(
        f"{'case':32}{'halfwave':>9}"
        + "".join(f"{n:>13}{'ratio':>7} {'spread':<11}" for n in others)
    )
    cases = {}
    for case, parameters in suite.CASES.items():
        if only not in case:
            continue
        digests = {name: peers[name].ask(case) for name in ["halfwave", *others]}
        running = [name for name, digest in digests.items() if digest is not None]
        for name in running:
            if not suite.agree(digests[name], digests["halfwave"]):
                raise SystemExit(f"{case}: {name} computes something else: {digests}")
        times: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(ROUNDS):
            for name in running:
                time.sleep(IDLE_SECONDS)
                times[name].append(peers[name].ask("time"))
        speeds = {n: suite.work(parameters) / statistics.median(t) / 1e9 for n, t in times.items()}
        line = f"{case:32}{speeds['halfwave']:9.4g}"
        ratios = {}
        for name in others:
            if name not in running:
                line += f"{'–':>13}{'':7} {'':11}"
                continue
            each = sorted(b / a for a, b in zip(times["halfwave"], times[name], strict=True))
            ratios[name] = {"median": statistics.median(each), "low": each[0], "high": each[-1]}
            spread = f"{each[0]:.2f}–{each[-1]:.2f}"
            line += f"{speeds[name]:13.4g}{ratios[name]['median']:7.2f} {spread:<11}"
        print(line, flush=True)
        cases[case] = {"speed": speeds, "ratio": ratios, "seconds": times}
    for peer in peers.values():
        peer.close()
    return {"unit": suite.UNIT, "threads": threads, "versions": versions, "cases": cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)}; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    arguments = parser.parse_args()
    for suite in arguments.suites:
        if suite not in SUITES:
            parser.error(f"no suite {suite!r}; there are {', '.join(SUITES)}")
    results = {
        suite: compare(suite, arguments.threads, arguments.only)
        for suite in arguments.suites or SUITES
    }
    if arguments.json:
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        arguments.json.write_text(json.dumps(machine | {"suites": results}, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
