"""From what compare.py measured to tables: rows, the terminal's table, README's.

Everything shown is worked out here from the seconds in the JSON, so that a table can be made again.
"""

from __future__ import annotations

import collections
import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"<!-- made by bench/compare.py from bench/results/(\S+) -->\n(.*?)\n<!-- end of what it made -->",
    re.DOTALL,
)


@dataclass
class Row:
    """halfwave, in one of its layouts or ways, in one case."""

    suite: str
    case: str
    kind: str | None
    who: str  # halfwave and its layout
    unit: str
    speed: float
    peer: str | None = None  # the best one and its layout, or what halfwave is held against
    peer_speed: float = math.nan
    ratio: float = math.nan  # of the seconds, turn by turn: their median and quartiles
    low: float = math.nan
    high: float = math.nan
    ceiling: str | None = None  # the one that binds
    share: float = math.nan  # of it; in the suite scaling, of what it gains


def shown(case: dict, seconds: float) -> float:
    """In the case's unit."""
    return seconds * 1e6 if case["unit"] == "µs" else case["work"] / seconds / 1e9


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, statistics.median(values), high


def fastest_ways(seconds: dict[str, list[float]], one_thread: bool) -> dict[str, list[float]]:
    """The seconds of each resource, turn by turn, at the way that takes least."""
    found: dict[str, list[float]] = {}
    for name, times in seconds.items():
        if name.startswith("ceiling ") and name.endswith(" 1 thread") == one_thread:
            resource = name.split()[1]
            found[resource] = min(found.get(resource, times), times, key=statistics.median)
    return found


def ceiling(seconds: dict[str, list[float]], one_thread: bool) -> tuple[str, list[float]] | None:
    """The resource that takes longest, and its seconds."""
    found = fastest_ways(seconds, one_thread)
    binding = max(found, key=lambda resource: statistics.median(found[resource]), default=None)
    return (binding, found[binding]) if binding else None


def ceilings(results: dict) -> str:
    """What was measured of each: from the lowest case to the highest, so that a busy machine shows."""
    speeds: dict[str, list[float]] = {}
    for cases in results["suites"].values():
        for case in cases.values():
            for resource, times in fastest_ways(case["seconds"], False).items():
                speed = case["bounds"][resource] / statistics.median(times) / 1e9
                speeds.setdefault(resource, []).append(speed)
    said = [
        f"{resource} {number(min(found))} to {number(max(found))} "
        + ("GFLOP/s" if resource == "fma" else "GB/s")
        for resource, found in speeds.items()
    ]
    return f"Ceilings, case by case: {', '.join(said)}." if said else ""


def rows(results: dict) -> list[Row]:
    found = []
    for suite, cases in results["suites"].items():
        for name, case in cases.items():
            seconds = case["seconds"]
            peers = {n: t for n, t in seconds.items() if not n.startswith(("halfwave", "ceiling"))}
            against = case["reference"] or min(
                peers, key=lambda n: statistics.median(peers[n]), default=None
            )
            for who, times in seconds.items():
                if not who.startswith("halfwave") or who == against:
                    continue
                middle = statistics.median(times)
                row = Row(suite, name, case["kind"], who, case["unit"], shown(case, middle))
                if against in seconds:
                    row.peer = against
                    row.peer_speed = shown(case, statistics.median(seconds[against]))
                    each = [b / a for a, b in zip(times, seconds[against], strict=False)]
                    row.low, row.ratio, row.high = quartiles(each)
                if bound := ceiling(seconds, False):
                    row.ceiling = bound[0]
                    row.share = statistics.median(
                        [c / a for a, c in zip(times, bound[1], strict=False)]
                    )
                    if one := ceiling(seconds, True):
                        row.share = row.ratio / (
                            statistics.median(one[1]) / statistics.median(bound[1])
                        )
                found.append(row)
    return found


def number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"


def terminal_table(title: str, rows: list[Row]):
    """A suite, for the terminal."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_edge=False)
    for heading, options in (
        ("case", {"overflow": "fold"}), ("halfwave", {}), ("", {"justify": "right"}),
        ("of the ceiling", {"justify": "right"}), ("best peer", {}), ("", {"justify": "right"}),
        ("ratio", {"justify": "right"}), ("quartiles", {}),
    ):  # fmt: skip
        table.add_column(heading, **options)
    for row in rows:
        bound = f"{percent(row.share)} {row.ceiling}" if row.ceiling else ""
        spread = "" if math.isnan(row.ratio) else f"{number(row.low)} to {number(row.high)}"
        style = "red" if row.ratio < 0.995 and row.suite not in ("scaling", "threads") else None
        table.add_row(
            row.case, row.who.removeprefix("halfwave").strip(), number(row.speed), bound,
            row.peer or "", number(row.peer_speed), number(row.ratio), spread, style=style,
        )  # fmt: skip
    return table


def kinds(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of each kind of work, in the order of the suites."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind and not math.isnan(row.ratio):
            groups.setdefault(row.kind, []).append(row)
    return groups


def markdown(results: dict) -> str:
    """README's table: a line a kind of work."""
    lines = []
    versions = results["versions"]
    libraries = ", ".join(
        f"{name} {version}" for name, version in versions.items()
        if name != "halfwave" and not name.startswith("NumPy as")
    )  # fmt: skip
    machine = results["machine"]
    held = ", all held to AVX2" if results["isa"] == "avx2" else ""
    left_out = f" (not {', '.join(results['left_out'])}: no switch)" if results["left_out"] else ""
    where = f"{results['threads']} threads of {machine['cpu']} ({machine['cpus']} CPUs, "
    where += f"{results['isa']}{held}{left_out})"
    if results["isa"] == "cuda":
        where = machine["cpu"]
    lines += [
        f"{where}, {results['date']}, float32. Peers: {libraries}. {ceilings(results)}".rstrip(),
        "",
        "| work | cases | over the best peer: middle (lowest to highest) | spread | best peers "
        "| of the ceiling |",
        "|---|---|---|---|---|---|",
    ]
    for kind, group in kinds(rows(results)).items():
        ratios = [row.ratio for row in group]
        middle = math.exp(statistics.fmean(map(math.log, ratios)))
        spread = statistics.median([(row.high - row.low) / 2 / row.ratio for row in group])
        best = collections.Counter(row.peer for row in group)
        names = ", ".join(
            f"{name} ({count})" if len(best) > 1 else name for name, count in best.most_common(3)
        )
        shares = [row.share for row in group if not math.isnan(row.share)]
        share = f"{percent(min(shares))} to {percent(max(shares))}" if shares else ""
        if len(shares) == 1:
            share = percent(shares[0])
        extent = f" ({number(min(ratios))} to {number(max(ratios))})" if len(group) > 1 else ""
        lines.append(
            f"| {kind} | {len(group)} | **{number(middle)}**{extent} | ±{percent(spread)} "
            f"| {names.removeprefix('halfwave ')} | {share} |"
        )
    return "\n".join(lines)


def into_readme(path: Path, name: str, results: dict) -> None:
    """Put the table between the marks that name its JSON."""
    text = path.read_text()
    for block in BLOCK.finditer(text):
        if block[1] == name:
            begin, end = block.span(2)
            path.write_text(text[:begin] + markdown(results) + text[end:])
            return
    raise SystemExit(f"{path} has no marks for a table from {name}")


def merged(old: dict, new: dict) -> dict:
    """`new`, with the cases that `old` has more."""
    for key in ("threads", "isa", "machine"):
        if old[key] != new[key]:
            raise ValueError(f"{key} was {old[key]!r} and is {new[key]!r}: not the same run")
    suites = {}
    for suite in [*old["suites"], *(s for s in new["suites"] if s not in old["suites"])]:
        suites[suite] = old["suites"].get(suite, {}) | new["suites"].get(suite, {})
    return new | {"suites": suites, "versions": old["versions"] | new["versions"]}
