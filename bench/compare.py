"""halfwave beside what a user would pick instead: `python bench/compare.py [suite ...] --threads N`.

On a GPU: --device cuda, see gpu.py; what follows is about the CPU. Each library runs in a process of
its own, with the same threads, CPUs and inputs; outputs are held against halfwave's before anything is
timed. Then they take turns: a turn is the median of a few calls, after a pause in which the idle threads
of the one before stop spinning. A ratio is the median over the turns of (the best peer's seconds /
halfwave's) in the same turn, its spread the quartiles; above 1 halfwave is ahead. The machine's ceilings
(fused multiply-adds on registers, reading, copying) take turns with the rest.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import math
import os
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import peers
import report
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

HERE = Path(__file__).parent
SUITES = ["matmul", "conv", "activation", "init", "overhead", "scaling", "threads"]
TURNS, QUICK_TURNS = 7, 3
TURN_SECONDS, QUICK_TURN_SECONDS = 0.05, 0.01
CASE_SECONDS = 5  # for the turns of one case; three are had whatever they take
PAUSE = 0.1
HOPELESS = 2  # whose second call takes so many times the best peer's is not timed further
TOLERANCE = 2e-4  # of the largest value: sums of some thousands of products, Winograd or not


class Failed(Exception):
    """A library could not do a case."""


class Process:
    """A library in a process of its own."""

    def __init__(self, library: peers.Library, threads: int, isa: str | None):
        chosen = peers.cpus(threads)
        self.library = library
        self.process = subprocess.Popen(
            [sys.executable, HERE / "peers.py", library.module, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=None if os.environ.get("HALFWAVE_BENCH_DEBUG") else subprocess.DEVNULL,
            env=peers.environment(library, threads, isa),
            preexec_fn=lambda: os.sched_setaffinity(0, chosen),
        )  # fmt: skip
        self.version = self.answer().get("version")

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": "the process died"}

    def ask(self, *request):
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed("the process died") from None
        answer = self.answer()
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer["answer"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def label(library: peers.Library, variant: str) -> str:
    return f"{library.name} {variant}".strip()


def prepare(processes: list[Process], suite_name: str, case: str, threads: int, notes: list[str]):
    """Contestants ready for this case: label → (process, key), and the seconds of a trial each."""
    suite = importlib.import_module(f"bench_{suite_name}")
    ready, trials, reference = {}, {}, None
    agree = getattr(suite, "agree", lambda a, b: peers.difference(a, b) <= TOLERANCE)
    for process in processes:
        library = process.library
        if not hasattr(suite, library.module) or (
            library.blas_only and not getattr(suite, "BLAS", False)
        ):
            continue
        for variant in getattr(suite, "VARIANTS", {}).get(library.module, ("",)):
            name = label(library, variant)
            try:
                reply = process.ask("prepare", suite_name, case, variant)
            except Failed as error:
                notes.append(f"{suite_name}, {case}: {name} failed: {error}")
                continue
            if reply is None:
                continue
            seen = np.frombuffer(base64.b64decode(reply["sample"]), np.float32)
            if reference is None:
                reference = seen
            elif not agree(seen, reference):
                notes.append(f"{suite_name}, {case}: {name} COMPUTES SOMETHING ELSE")
                continue
            ready[name] = (process, variant)
            trials[name] = reply["seconds"]
    if processes[0].library.module == "halfwave" and hasattr(suite, "bounds"):
        for resource, amount in suite.bounds(suite.CASES[case]).items():
            ways = (
                [resource, f"{resource} streaming"] if resource in ("copy", "write") else [resource]
            )
            for way in ways:
                for suffix, count in getattr(suite, "CEILINGS", {"": None}).items():
                    name = f"ceiling {way}{suffix}"
                    processes[0].ask("ceiling", name, way, amount, count or threads)
                    ready[name] = (processes[0], name)
    return ready, trials


def is_peer(name: str) -> bool:
    return not name.startswith(("halfwave", "ceiling"))


def measure(ready: dict, trials: dict, turns: int, turn_seconds: float) -> dict[str, list[float]]:
    """Seconds of each contestant, turn by turn."""
    best = min((trials[name] for name in ready if is_peer(name)), default=0)
    running, times = [], {}
    for name in ready:
        if is_peer(name) and trials[name] > max(HOPELESS * best, 0.02):
            times[name] = [trials[name]]
        else:
            running.append(name)
            times[name] = []
    spent = time.perf_counter()
    for turn in range(turns):
        random.Random(turn).shuffle(running)
        for name in running:
            process, key = ready[name]
            time.sleep(PAUSE)
            times[name].append(process.ask("time", key, turn_seconds))
        if turn >= 2 and time.perf_counter() - spent > CASE_SECONDS:
            break
    return times


def selected(suite_name: str, only: list[str], everything: bool) -> list[str]:
    """The cases to run of a suite."""
    suite = importlib.import_module(f"bench_{suite_name}")
    extra = getattr(suite, "extra", lambda case: False)
    if only:
        return [name for name in suite.CASES if all(part in name for part in only)]
    return [name for name, case in suite.CASES.items() if everything or not extra(case)]


def run(arguments: argparse.Namespace, cases: dict[str, list[str]], show) -> dict:
    """Everything that was measured, as --json writes it; show(cases done, what is done next)."""
    import halfwave

    libraries = [
        library for library in peers.LIBRARIES
        if not arguments.peers or any(p.lower() in library.name.lower() for p in arguments.peers)
    ]  # fmt: skip
    left_out = []
    if arguments.isa:
        left_out = [x.name for x in libraries if x.avx2 is None and not x.blas_only]
        libraries = [library for library in libraries if library.avx2 is not None]
    show(0, "starting the libraries")
    started = [Process(library, arguments.threads, arguments.isa) for library in libraries]
    processes = [process for process in started if process.version is not None]
    notes: list[str] = []
    suites: dict[str, dict] = {}
    turns, turn_seconds = (
        (QUICK_TURNS, QUICK_TURN_SECONDS) if arguments.quick else (TURNS, TURN_SECONDS)
    )
    done = 0
    try:
        for suite_name, names in cases.items():
            suite = importlib.import_module(f"bench_{suite_name}")
            suites[suite_name] = {}
            for name in names:
                show(done, f"{suite_name}: {name}")
                ready, trials = prepare(processes, suite_name, name, arguments.threads, notes)
                times = measure(ready, trials, turns, turn_seconds)
                for process in processes:
                    process.ask("forget")
                case = suite.CASES[name]
                suites[suite_name][name] = {
                    "kind": suite.kind(case), "unit": suite.UNIT, "work": suite.work(case),
                    "reference": getattr(suite, "REFERENCE", None),
                    "bounds": suite.bounds(case) if hasattr(suite, "bounds") else {},
                    "seconds": {n: [float(f"{t:.4g}") for t in ts] for n, ts in times.items()},
                }  # fmt: skip
                done += 1
    except KeyboardInterrupt:
        notes.append("interrupted: the rest was not measured")
    finally:
        for process in started:
            process.close()
    return {
        "machine": machine(), "isa": arguments.isa or halfwave.info()["isa"],
        "threads": arguments.threads, "date": time.strftime("%Y-%m-%d"),
        "versions": {process.library.name: process.version for process in processes},
        "missing": [p.library.name for p in started if p.version is None],
        "left_out": left_out, "notes": notes, "suites": suites,
    }  # fmt: skip


def machine() -> dict:
    """What the figures were taken on."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cpus": len(os.sched_getaffinity(0)), "machine": platform.machine(),
            "python": platform.python_version()}  # fmt: skip


def write(results: dict, arguments: argparse.Namespace) -> None:
    """The files that were asked for."""
    if arguments.json and not arguments.read:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if arguments.chart:
        import chart

        chart.draw(results, arguments.chart)
    if arguments.readme:
        report.into_readme(HERE.parent / "README.md", arguments.json.name, results)
    if arguments.markdown:
        print(report.markdown(results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
    )  # fmt: skip
    option = parser.add_argument
    option("suites", nargs="*", metavar="suite", help=f"of {', '.join(SUITES)}; default: all")
    option("--threads", type=int, default=len(os.sched_getaffinity(0)),
           help="for each library (default: the CPUs of this process, %(default)s)")  # fmt: skip
    option("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute")
    option("--isa", choices=["avx2"], help="hold halfwave and the peers to this instruction set")
    option("--only", action="append", default=[], metavar="PART",
           help="cases with this in their name; again: and this")  # fmt: skip
    option("--all", action="store_true", help="ResNet-50's layers too (some ten minutes more)")
    option("--peers", action="append", default=[], metavar="PART",
           help="libraries with this in their name; again: or this. Name halfwave too")  # fmt: skip
    option("--quick", action="store_true", help=f"{QUICK_TURNS} short turns instead of {TURNS}")
    option("--json", type=Path, metavar="FILE", help="write all that was measured")
    option("--add", action="store_true", help="keep the other cases that FILE has already")
    option("--read", action="store_true", help="measure nothing: show what FILE of --json has")
    option("--chart", type=Path, metavar="PNG", help="draw what was measured")
    option("--markdown", action="store_true", help="print README's table")
    option(
        "--readme",
        action="store_true",
        help="write it into README.md, between the marks that name FILE",
    )
    arguments = parser.parse_args()
    for suite in arguments.suites:
        if suite not in SUITES:
            parser.error(f"no suite {suite!r}; there are {', '.join(SUITES)}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1, not {arguments.threads}")
    if (arguments.read or arguments.add or arguments.readme) and not arguments.json:
        parser.error("--read, --add and --readme need --json FILE")
    return arguments


def main() -> int:
    arguments = parse()
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has room
        console = Console(highlight=False, width=150)
    if arguments.read:
        results = json.loads(arguments.json.read_text())
        if not arguments.markdown:
            print_results(results, console)
        write(results, arguments)
        return 0
    if arguments.device == "cuda":
        import gpu

        suites = [suite for suite in arguments.suites or gpu.SUITES if suite in gpu.SUITES]
        total = None  # cases are made as their turn comes
    else:
        suites = arguments.suites or SUITES
        cases = {s: selected(s, arguments.only, arguments.all) for s in suites}
        total = sum(map(len, cases.values()))
    with Progress(
        *Progress.get_default_columns(), TimeElapsedColumn(), console=console
    ) as progress:
        bar = progress.add_task("", total=total)

        def show(done: int, doing: str) -> None:
            progress.update(bar, completed=done, description=doing)

        if arguments.device == "cuda":
            results = gpu.run(suites, arguments.only, arguments.all, arguments.quick, show)
        else:
            results = run(arguments, cases, show)
    if arguments.add and arguments.json.exists():
        results = report.merged(json.loads(arguments.json.read_text()), results)
    write(results, arguments)
    if not arguments.markdown:
        print_results(results, console)
    return 1 if any("SOMETHING ELSE" in note for note in results["notes"]) else 0


def print_results(results: dict, console: Console) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    console.print(f"{versions}; {results['threads']} threads, {results['isa']}")
    console.print(report.ceilings(results))
    if results["missing"]:
        console.print(f"not installed: {', '.join(results['missing'])}")
    if results["left_out"]:
        console.print(f"left out, as nothing holds them to AVX2: {', '.join(results['left_out'])}")
    rows = report.rows(results)
    for suite, cases in results["suites"].items():
        units = ", ".join(dict.fromkeys(case["unit"] for case in cases.values()))
        console.print(report.terminal_table(
            f"\n{suite}, {units}", [row for row in rows if row.suite == suite]
        ))  # fmt: skip
    losses = [row for row in rows if row.ratio < 1 and row.suite not in ("scaling", "threads")]
    compared = [row for row in rows if not math.isnan(row.ratio)]
    console.print(f"\nbehind the best peer in {len(losses)} of {len(compared)} rows")
    for note in results["notes"]:
        console.print(note)


if __name__ == "__main__":
    sys.exit(main())
