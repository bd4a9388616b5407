"""A chart of what compare.py measured: `python bench/chart.py results.json chart.png`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = ["#0072B2", "#D55E00", "#009E73"]


def draw(results: dict, path: Path) -> None:
    """One panel a suite: halfwave's speed over each peer's, case by case, with the spread."""
    suites = results["suites"]
    heights = [len(suite["cases"]) + 2 for suite in suites.values()]
    figure = Figure(figsize=(9, 0.24 * sum(heights) + 1), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(suites), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, suite) in zip(panels, suites.items(), strict=True):
        peers = [peer for peer, version in suite["versions"].items() if version][1:]
        rows = range(len(suite["cases"]))
        for color, peer in zip(COLORS, peers, strict=False):
            found = [case["ratio"].get(peer) for case in suite["cases"].values()]
            rows_found = [row for row, ratio in zip(rows, found, strict=True) if ratio]
            ratios = [ratio for ratio in found if ratio]
            middle = [ratio["median"] for ratio in ratios]
            spread = [
                [ratio["median"] - ratio["low"] for ratio in ratios],
                [ratio["high"] - ratio["median"] for ratio in ratios],
            ]
            axes.errorbar(
                middle, rows_found, xerr=spread, fmt="o", ms=4, lw=1, color=color,
                label=f"{peer} {suite['versions'][peer]}",
            )  # fmt: skip
        axes.axvline(1, color="#666666", lw=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
        axes.set_yticks(list(rows), list(suite["cases"]), fontsize=7)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_title(
            f"{name}: {suite['threads']} threads; right of 1× halfwave is faster", fontsize=9
        )
        axes.grid(True, axis="x", color="#dddddd", linewidth=0.6)
        axes.legend(fontsize=7, loc="best")
    panels[-1].set_xlabel("halfwave's speed / the peer's (median and range of 7 rounds)")
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="what compare.py --json wrote")
    parser.add_argument("chart", type=Path, help="the PNG to write")
    arguments = parser.parse_args()
    draw(json.loads(arguments.results.read_text()), arguments.chart)
