"""The study's PNG plots. Each reads on its own: what was measured, on what, in which units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from halfwave.study.report import write
from halfwave.study.training import Figures

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
SCHEME = {
    "He": {"color": BLUE, "marker": "o", "label": "He, ½ n Var[w] = 1"},
    "Xavier": {"color": ORANGE, "marker": "s", "label": "Xavier, n Var[w] = 1"},
}
ZERO_LABEL = {
    "relu": "ReLU, zero weights",
    "tanh": "tanh, zero weights",
    "sigmoid": "sigmoid, zero weights",
    "relu, He": "ReLU, He (for comparison)",
}
KIND = {
    "relu": {"color": GREY, "marker": "o", "label": "ReLU"},
    "prelu": {"color": BLUE, "marker": "s", "label": "PReLU, a slope a channel"},
    "prelu_shared": {"color": GREEN, "marker": "^", "label": "PReLU, a slope a layer"},
}


def _figure(
    rows: int,
    columns: int,
    size: tuple[float, float],
    title: str,
    *,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    for axes in grid.flat:
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(grid.flat)


def _save(figure: Figure, path: Path) -> str:
    write(path, lambda stream: figure.savefig(stream, format="png"))
    return path.name


def _curves(axes: Axes, curves: Figures, style: dict[str, str]) -> None:
    """The mean over seeds as a line, from the least to the largest as a band; percent."""
    errors = 100 * np.asarray(curves["test_error"])
    (line,) = axes.plot(curves["step"], errors.mean(0), markersize=4, **style)
    if len(errors) > 1:
        band = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
        axes.fill_between(curves["step"], errors.min(0), errors.max(0), **band)


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10)


def _layer_ticks(layers: int) -> list[int]:
    return [1, *range(5, layers + 1, 5)] if layers > 10 else list(range(1, layers + 1))


def _steps(curves: Figures) -> str:
    return f"training steps ({curves['batch']} images each)"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"mean of {count} seeds, band from best to worst"


# ---- depth --------------------------------------------------------------------------------------


def depth(figures: Figures, folder: Path, data: str) -> list[str]:
    """Error curves, the signal by layer at the start, and the gradient ratio by layer."""
    return [
        _depth_curves(figures["curves"], folder / "depth_curves.png", data),
        _depth_signal(figures["signal"], folder / "depth_signal.png"),
        _depth_ratio(figures["ratio"], folder / "depth_ratio.png"),
    ]


def _depth_curves(curves: Figures, path: Path, data: str) -> str:
    seeds = len(next(iter(curves.values()))["He"]["test_error"])
    figure, panels = _figure(
        1,
        len(curves),
        (4 * len(curves), 4.2),
        f"Deep rectifier nets: He's initialization against Xavier's\n{data}; {_seeds(seeds)}",
        sharex=True,
        sharey=True,
    )
    for axes, (layers, by_scheme) in zip(panels, curves.items(), strict=True):
        for scheme, style in SCHEME.items():
            _curves(axes, by_scheme[scheme], style)
        axes.axhline(90, color=GREY, linestyle=":", linewidth=1.2, label="guessing")
        axes.set_title(f"{layers} fully connected layers", fontsize=11)
        axes.set_xlabel(_steps(by_scheme["He"]))
    panels[0].set_ylim(0, 100)
    panels[0].set_ylabel("test error (%)")
    _legend_below(figure, panels[0])
    return _save(figure, path)


def _depth_signal(signal: Figures, path: Path) -> str:
    figure, panels = _figure(
        2,
        len(signal),
        (4 * len(signal), 6.4),
        "The signal at the start of training, before any step",
        sharey="row",
    )
    for column, (layers, by_scheme) in enumerate(signal.items()):
        forward, backward = panels[column], panels[len(signal) + column]
        for scheme, style in SCHEME.items():
            found = by_scheme[scheme]
            index = np.arange(1, len(found["response_std"]) + 1)
            forward.semilogy(index, found["response_std"], markersize=4, **style)
            backward.semilogy(index, found["gradient_std"], markersize=4, **style)
        forward.set_title(f"{layers} layers", fontsize=11)
        backward.set_xlabel("layer (1 is nearest the image)")
        for axes in (forward, backward):
            axes.set_xticks(_layer_ticks(len(found["response_std"])))
    panels[0].set_ylabel("std of the responses\n(before ReLU, no unit)")
    panels[len(signal)].set_ylabel("std of ∂loss/∂response\n(an image's loss, in nats)")
    _legend_below(figure, panels[0])
    return _save(figure, path)


def _depth_ratio(ratio: Figures, path: Path) -> str:
    layers, first = ratio["depth"], ratio["first_layer"]
    figure, (axes,) = _figure(
        1,
        1,
        (7, 4.6),
        "How much larger He's gradients are, layer by layer\n"
        f"{layers}-layer net at the start; mean of {len(first['seeds'])} seeds",
    )
    index = np.arange(1, layers + 1)
    axes.semilogy(
        index,
        np.sqrt(2) ** (layers - index),
        color=GREY,
        linestyle="--",
        label="theory: √2 to the power of the number of layers above",
    )
    axes.semilogy(
        index,
        ratio["by_layer"],
        color=BLUE,
        marker="o",
        markersize=4,
        linestyle="none",
        label="measured: He's std of ∂loss/∂response over Xavier's",
    )
    axes.annotate(
        f"layer 1: {first['mean']:,.0f} ± {first['std']:,.0f}\n"
        f"theory $\\sqrt{{2}}^{{\\,{layers - 1}}}$ = {ratio['theory']:,.0f}",
        (1, first["mean"]),
        xytext=(40, -14),
        textcoords="offset points",
        fontsize=10,
        arrowprops={"arrowstyle": "-", "color": GREY},
    )
    axes.set_xticks(_layer_ticks(layers))
    axes.set_xlabel("layer (1 is nearest the image)")
    axes.set_ylabel("gradient with He / with Xavier (no unit)")
    axes.legend(loc="lower left", fontsize=9)
    return _save(figure, path)


# ---- initializers -------------------------------------------------------------------------------


def initializers(figures: Figures, folder: Path, data: str) -> list[str]:
    """Histograms of activations and gradients by layer, and what zero weights do."""
    names = []
    for activation, label in (("relu", "ReLU"), ("tanh", "tanh")):
        start = figures["start"][activation]
        for quantity, what in (
            ("activations", "activations"),
            ("gradients", "gradients ∂loss/∂response"),
        ):
            names.append(
                _histograms(
                    start,
                    quantity,
                    f"Sizes of the {what} by layer at the start: {label} nets",
                    folder / f"initializers_{activation}_{quantity}.png",
                )
            )
    return [*names, _zero(figures["zero"], folder / "initializers_zero.png")]


def _histograms(start: Figures, quantity: str, title: str, path: Path) -> str:
    figure, panels = _figure(
        2,
        3,
        (12, 6.6),
        f"{title}\nshare of values in each factor of two; zeros are counted, not drawn",
        sharex=True,
        sharey=True,
    )
    layers = max(len(found[quantity]) for found in start.values())
    colors = colormaps["viridis"].resampled(layers)
    lowest, highest = _range(start, quantity)
    for axes, (label, found) in zip(panels, start.items(), strict=True):
        for layer, histogram in enumerate(found[quantity]):
            exponents = np.arange(lowest, highest + 1)
            shares = np.zeros(exponents.size)
            for exponent, count in zip(histogram["exponents"], histogram["counts"], strict=True):
                if lowest <= exponent <= highest:
                    shares[exponent - lowest] = 100 * count / histogram["count"]
            if shares.any():
                axes.plot(2.0 ** (exponents - 0.5), shares, color=colors(layer), linewidth=1.6)
        axes.set_title(label, fontsize=11)
        axes.text(
            0.02, 0.96, _remark(found, quantity), transform=axes.transAxes, va="top", fontsize=9
        )
    panels[0].set_xscale("log")
    panels[0].set_xlim(2.0**lowest, 2.0**highest)
    panels[0].set_ylim(
        0, 1.35 * max(line.get_ydata().max() for axes in panels for line in axes.get_lines())
    )
    for axes in panels[3:]:
        axes.set_xlabel(
            "size |value|" + (" (nats a unit)" if quantity == "gradients" else " (no unit)")
        )
    for axes in panels[::3]:
        axes.set_ylabel("share of the layer's values (%)")
    bar = figure.colorbar(
        _mappable(layers, colors), ax=panels, shrink=0.8, pad=0.01, ticks=range(1, layers + 1)
    )
    bar.set_label("layer (1 is nearest the image)")
    return _save(figure, path)


def _mappable(layers: int, colors: object) -> object:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(Normalize(0.5, layers + 0.5), colors)


def _range(start: Figures, quantity: str) -> tuple[int, int]:
    """The binary exponents between which all but a thousandth of each layer's values lie."""
    lows, highs = [], []
    for found in start.values():
        for histogram in found[quantity]:
            counts = np.asarray(histogram["counts"])
            if counts.size:
                within = np.cumsum(counts) / counts.sum()
                lows.append(histogram["exponents"][int(np.searchsorted(within, 0.005))])
                highs.append(histogram["exponents"][int(np.searchsorted(within, 0.999))])
    return (min(lows) - 1, max(highs) + 2) if lows else (-1, 1)


def _remark(found: Figures, quantity: str) -> str:
    histograms = found[quantity]
    zeros = [100 * h["zero"] / h["count"] for h in histograms]
    spread = found["activation_std" if quantity == "activations" else "gradient_std"]
    lines = [f"std: {_short(spread[0])} at layer 1, {_short(spread[-1])} at layer {len(spread)}"]
    if min(zeros) == 100:
        lines = ["all values are exactly zero"]
    elif max(zeros) > 1:
        lines.append(f"zeros: {min(zeros):.0f} to {max(zeros):.0f}%")
    if quantity == "activations" and found["saturated"] and max(found["saturated"]) > 0.01:
        lines.append(f"saturated (> 0.99): up to {100 * max(found['saturated']):.0f}%")
    if quantity == "gradients":
        lines.append(
            f"test error after {found['step'][-1]} steps: {100 * found['test_error'][-1]:.0f}%"
        )
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.2g}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.0e}"


def _zero(zero: Figures, path: Path) -> str:
    figure, panels = _figure(
        1,
        len(zero),
        (3.4 * len(zero), 4.4),
        "Zero weights: how far the layers move in training, and how many "
        "different units they have afterwards",
        sharey=True,
    )
    moved = [value for found in zero.values() for value in found["weights_moved"] if value > 0]
    floor = 10.0 ** np.floor(np.log10(min(moved)) - 1) if moved else 1e-9
    for axes, (label, found) in zip(panels, zero.items(), strict=True):
        values: Sequence[float] = found["weights_moved"]
        index = np.arange(1, len(values) + 1)
        heights = np.maximum(values, floor)
        color = GREEN if label.endswith("He") else BLUE
        axes.bar(index, heights, color=color, width=0.6)
        for x, value, height, different, units in zip(
            index, values, heights, found["different_units"], found["units"], strict=True
        ):
            still = "does\nnot move\n" if value == 0 else ""
            axes.text(
                x,
                height * 1.3,
                f"{still}{different} of\n{units}",
                ha="center",
                va="bottom",
                fontsize=9,
            )
        axes.set_yscale("log")
        axes.set_ylim(floor, 100 * max([*moved, floor]))
        axes.set_xticks(index)
        axes.set_title(ZERO_LABEL[label], fontsize=11)
        axes.set_xlabel("layer (1 is nearest the image)")
    panels[0].set_ylabel("largest change of a weight (no unit)")
    figure.supxlabel(
        "above each bar: how many different weight vectors the layer's units have", fontsize=10
    )
    return _save(figure, path)


# ---- PReLU --------------------------------------------------------------------------------------


def prelu(figures: Figures, folder: Path, data: str) -> list[str]:
    """Error curves and learned slopes."""
    return [
        _prelu_curves(figures["curves"], folder / "prelu_curves.png", data),
        _prelu_slopes(figures["slopes"], folder / "prelu_slopes.png"),
    ]


def _prelu_curves(curves: Figures, path: Path, data: str) -> str:
    seeds = len(curves["relu"]["test_error"])
    figure, (left, right) = _figure(
        1, 2, (11, 4.4), f"PReLU against ReLU on a small conv net\n{data}; {_seeds(seeds)}"
    )
    for kind, style in KIND.items():
        _curves(left, curves[kind], style)
        losses = np.asarray(curves[kind]["loss"])
        right.semilogy(curves[kind]["step"][1:], losses.mean(0), markersize=4, **style)
    left.set_yscale("log")
    left.set_ylabel("test error (%)")
    right.set_ylabel("training loss (nats an image)")
    for axes in (left, right):
        axes.set_xlabel(_steps(curves["relu"]))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    _legend_below(figure, left)
    return _save(figure, path)


def _prelu_slopes(slopes: Figures, path: Path) -> str:
    figure, (axes,) = _figure(
        1,
        1,
        (8, 4.6),
        "Learned slopes of PReLU, layer by layer\nall start at 0.25; no weight decay, no bounds",
    )
    names = list(next(iter(slopes.values())))
    index = np.arange(len(names))
    for shift, kind in ((-0.14, "prelu"), (0.14, "prelu_shared")):
        style = {**KIND[kind], "linestyle": "none"}
        mean = {**style, "markersize": 8, "label": f"{style['label']}: mean"}
        each = {**style, "markersize": 3, "label": None, "alpha": 0.3, "markeredgewidth": 0}
        found = [slopes[kind][name] for name in names]
        for x, layer in zip(index, found, strict=True):
            axes.plot([x + shift] * len(layer["values"]), layer["values"], **each)
        axes.plot(index + shift, [layer["mean"] for layer in found], **mean)
    axes.axhline(0.25, color=GREY, linestyle="--", linewidth=1, label="start")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(index, names)
    axes.set_xlabel("layer before the PReLU (small marks: every single slope, all seeds)")
    axes.set_ylabel("slope a for negative inputs (no unit)")
    _legend_below(figure, axes)
    return _save(figure, path)
