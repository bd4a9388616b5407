"""The experiments of the paper on real digits: `halfwave study`.

Each experiment has a `run`, which finds figures, and a function of the same name in `plots`. An
experiment's plots and figures are written when it is done, so an interrupted study leaves all that it
finished. The figures depend on the seed and the data alone; the times taken go to a file of their own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import halfwave as hw
from halfwave.study import depth, initializers, plots, prelu, report
from halfwave.study.data import Images
from halfwave.study.training import Figures, Settings, Tick

FIGURES = "figures.json"
TIMES = "times.json"


class Experiment(NamedTuple):
    """A name, what it does for the progress bar, and its three functions."""

    name: str
    title: str
    ticks: Callable[[Settings], int]
    run: Callable[[Images, Settings, Tick], Figures]
    plot: Callable[[Figures, Path, str], list[str]]


EXPERIMENTS = (
    Experiment("depth", "Depth: He and Xavier", depth.ticks, depth.run, plots.depth),
    Experiment(
        "initializers", "Initializers", initializers.ticks, initializers.run, plots.initializers
    ),
    Experiment("prelu", "PReLU and ReLU", prelu.ticks, prelu.run, plots.prelu),
)


class Interrupted(Exception):
    """The study was stopped from outside; the message says what is finished."""


def run(images: Images, settings: Settings, out: Path, console: Console) -> Figures:
    """Runs all experiments, writes their plots and figures into `out`, and prints a summary."""
    out.mkdir(parents=True, exist_ok=True)
    figures: Figures = {  # the same on every device
        "settings": {name: n for name, n in asdict(settings).items() if name != "device"},
        "data": images.name,
        "data_sha256": images.digest(),
    }
    times: Figures = {
        "device": settings.device, "isa": hw.info()["isa"], "threads": hw.get_num_threads(),
        "seconds": {},
    }  # fmt: skip
    done: list[str] = []
    written: list[str] = []
    try:
        with Progress(
            TextColumn("{task.description:<21}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as progress:
            tasks = {
                item.name: progress.add_task(item.title, total=item.ticks(settings), start=False)
                for item in EXPERIMENTS
            }
            for item in EXPERIMENTS:
                task = tasks[item.name]
                progress.start_task(task)
                started = time.perf_counter()
                found = item.run(images, settings, lambda task=task: progress.advance(task))
                written += item.plot(found, out, images.name)
                figures[item.name] = found
                times["seconds"][item.name] = round(time.perf_counter() - started, 3)
                report.write_json(out / FIGURES, figures)
                report.write_json(out / TIMES, times)
                done.append(item.name)
    except KeyboardInterrupt:
        console.print(report.table(figures)) if done else None
        rest = [item.name for item in EXPERIMENTS if item.name not in done]
        raise Interrupted(
            f"finished and readable in {out}: {', '.join(done) or 'nothing'}; "
            f"not finished: {', '.join(rest) or 'nothing'}"
        ) from None
    console.print(report.table(figures))
    console.print(f"SHA-256 of all trained weights: {weights_digest(figures)}", soft_wrap=True)
    console.print(f"{len(written)} plots and {FIGURES} are in {out}", soft_wrap=True)
    return figures


def weights_digest(figures: Figures) -> str:
    """One SHA-256 over those of all trained nets, in the order of the figures."""
    sha = hashlib.sha256()

    def collect(found: Figures) -> None:
        for name, value in found.items():
            if name == "weights_sha256":
                sha.update("".join(value).encode())
            elif isinstance(value, dict):
                collect(value)

    collect(figures)
    return sha.hexdigest()
