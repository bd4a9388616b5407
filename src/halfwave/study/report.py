"""What the study leaves behind: files written whole or not at all, and a table in the terminal."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from rich.table import Table

from halfwave.study.training import Figures


def write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file under another name and renames it when it is complete."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            fill(stream)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    """`value` as JSON; what is not finite becomes null."""
    text = json.dumps(_plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write(path, lambda stream: stream.write(text.encode()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(figures: Figures) -> Table:
    """The main findings of those experiments that are done."""
    result = Table(title="halfwave study", title_style="bold", show_lines=False)
    result.add_column("What")
    result.add_column("Found", justify="right")
    result.add_column("Beside it")
    for name, rows in (("depth", _depth), ("initializers", _initializers), ("prelu", _prelu)):
        if name in figures:
            for row in rows(figures[name]):
                result.add_row(*row)
            result.add_section()
    return result


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _depth(figures: Figures) -> list[tuple[str, str, str]]:
    rows = []
    for layers, schemes in figures["curves"].items():
        rows.append(
            (
                f"Test error, {layers} layers, He",
                _percent(schemes["He"]["final_error"]),
                f"Xavier {_percent(schemes['Xavier']['final_error'])}; guessing 90%",
            )
        )
    ratio = figures["ratio"]
    first, glorot = ratio["first_layer"], ratio["first_layer_glorot"]
    rows.append(
        (
            f"First layer's gradient, {ratio['depth']} layers, He over Xavier",
            f"{first['mean']:,.0f} ± {first['std']:,.0f}",
            f"theory √2^{ratio['depth'] - 1} = {ratio['theory']:,.0f} "
            f"({100 * (first['over_theory'] - 1):+.1f}%)",
        )
    )
    rows.append(
        (
            "… He over Glorot's 2/(n + n̂)",
            f"{glorot['mean']:,.0f} ± {glorot['std']:,.0f}",
            f"theory {glorot['theory']:,.0f}",
        )
    )
    return rows


def _initializers(figures: Figures) -> list[tuple[str, str, str]]:
    rows = []
    for label, found in figures["start"]["relu"].items():
        tanh = figures["start"]["tanh"][label]["test_error"][-1]
        rows.append(
            (
                f"Test error from “{label}”, ReLU",
                _percent(found["test_error"][-1]),
                f"tanh {_percent(tanh)}; {found['step'][-1]} steps, "
                f"{len(found['activations']) + 1} layers",
            )
        )
    for activation, found in figures["zero"].items():
        if activation.endswith("He"):
            continue
        moved = [str(i) for i, value in enumerate(found["weights_moved"], 1) if value > 0]
        hidden = found["different_units"][:-1]
        rows.append(
            (
                f"Zero weights, {activation}: layers that move",
                ", ".join(moved) or "none",
                f"of {len(hidden) + 1}; different units in a hidden layer: {max(hidden)}",
            )
        )
    return rows


def _prelu(figures: Figures) -> list[tuple[str, str, str]]:
    curves, slopes = figures["curves"], figures["slopes"]["prelu"]
    names = list(slopes)
    return [
        (
            "Test error, small conv net, PReLU",
            _percent(curves["prelu"]["final_error"]),
            f"ReLU {_percent(curves['relu']['final_error'])}, "
            f"shared slopes {_percent(curves['prelu_shared']['final_error'])}",
        ),
        (
            f"Mean slope at {names[0]}",
            f"{slopes[names[0]]['mean']:.3f}",
            f"at {names[-1]} {slopes[names[-1]]['mean']:.3f}; start 0.25; paper's conv1 0.681 (shared)",
        ),
    ]
