"""A chart of what compare.py measured: `python bench/compare.py --read --json FILE --chart PNG`."""

from __future__ import annotations

import math
from pathlib import Path

import report
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = {  # of the Okabe-Ito palette, which color-blind readers tell apart
    "PyTorch": "#D55E00", "oneDNN": "#E69F00", "NumPy": "#0072B2", "ONNX Runtime": "#009E73",
    "cuBLAS": "#0072B2", "cuDNN": "#E69F00", "CuPy": "#009E73", "curand": "#56B4E9",
    "JAX": "#CC79A7", "Thinc": "#56B4E9", "halfwave": "#444444",
}  # fmt: skip


def library(label: str) -> str:
    """Whose colour."""
    return next(name for name in COLORS if label.startswith(name))


def draw(results: dict, path: Path) -> None:
    """Above, each case by kind: halfwave's speed over the best peer's; below, speed against size."""
    rows = report.rows(results)
    kinds = {
        kind: group for kind, group in report.kinds(rows).items()
        if group[0].suite not in ("scaling", "threads")
    }  # fmt: skip
    sizes = [row for row in rows if row.suite == "scaling" and ", size " in row.case]
    heights = [0.36 * len(kinds) + 1.2] * bool(kinds) + [3] * bool(sizes)
    figure = Figure(figsize=(9, sum(heights) or 1), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if kinds:
        draw_ratios(parts[0].subplots(), kinds, results)
    if sizes:
        draw_sizes(parts[-1], results["suites"]["scaling"])
    figure.savefig(path)


def draw_ratios(axes, kinds: dict[str, list[report.Row]], results: dict) -> None:
    seen = {}
    for place, group in enumerate(kinds.values()):
        for index, row in enumerate(sorted(group, key=lambda row: row.ratio)):
            name = library(row.peer)
            height = place + 0.5 * ((index + 0.5) / len(group) - 0.5)
            mark = axes.errorbar(
                row.ratio, height, xerr=[[row.ratio - row.low], [row.high - row.ratio]],
                fmt="o", ms=3.5, lw=1, color=COLORS[name],
            )  # fmt: skip
            seen.setdefault(name, mark)
    axes.axvline(1, color="#444444", lw=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.set_yticks(range(len(kinds)), list(kinds), fontsize=8)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_xlabel("halfwave's speed / the best peer's (median and quartiles of the turns)")
    axes.set_title(
        ("" if results["isa"] == "cuda" else f"{results['threads']} threads of ")
        + f"{results['machine']['cpu']}, {results['isa']}: "
        "a dot a case; right of 1× halfwave is faster", fontsize=9,
    )  # fmt: skip
    axes.legend(seen.values(), seen, title="best peer", fontsize=7, title_fontsize=7)


def draw_sizes(part, cases: dict) -> None:
    """Speed against size, on one thread and on all."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, case in cases.items():
        what, _, size = name.partition(", size ")
        for who, times in case["seconds"].items():
            if size and who.startswith("halfwave"):
                speed = report.shown(case, report.quartiles(times)[1])
                found.setdefault(what, {}).setdefault(who, []).append((float(size), speed))
    units = {"product": "GFLOP/s, n × n × n", "relu": "GB/s, n floats",
             "convolution": "GFLOP/s, 64 channels @n, 3×3, N=4"}  # fmt: skip
    for axes, (what, lines) in zip(
        part.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        for who, points in lines.items():
            axes.plot(*zip(*points, strict=True), "o-", ms=3, lw=1, label=who)
        axes.set_xscale("log", base=2)
        axes.set_xticks([size for size, _ in points])
        axes.xaxis.set_major_formatter(
            lambda value, _: f"{value:g}" if value < 1000 else f"2$^{{{math.log2(value):.0f}}}$"
        )
        axes.minorticks_off()
        axes.set_title(f"{what}\n{units[what]}", fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.legend(fontsize=7)
