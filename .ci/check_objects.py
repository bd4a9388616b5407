"""Gates on the disassembly of a build folder.

1. Nothing outside the AVX2 and AVX-512 tiles uses a register or encoding above baseline x86-64.
2. No inner loop of a register tile has vectors on the stack: its sums stay in registers.
"""

import re
import subprocess
import sys
from pathlib import Path

FMA = re.compile(r"\bvfn?m(add|sub)\d+p[sd]\b")
STACK = re.compile(r"(\(%r[sb]p.*%[xyz]mm|%[xyz]mm.*\(%r[sb]p)")
ABOVE_BASELINE = re.compile(r"%[yz]mm|\{%k[0-7]\}|^v[a-z]")


def functions(path: Path) -> dict[str, list[tuple[int, str]]]:
    """Name → [(address, instruction)], of one object file."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, list[tuple[int, str]]] = {}
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            found[head[1]] = body = []
        elif step := re.match(r"\s*([0-9a-f]+):\s+(.+)$", line):
            body.append((int(step[1], 16), step[2].strip()))
    return found


def inner_loops(body: list[tuple[int, str]]) -> list[list[str]]:
    """The instructions between each backward jump and its target, where no other loop lies inside."""
    loops = []
    for address, instruction in body:
        jump = re.match(r"j\w+\s+([0-9a-f]+)", instruction)
        if jump and (target := int(jump[1], 16)) < address:
            loops.append((target, address))
    return [
        [text for address, text in body if begin <= address <= end]
        for begin, end in loops
        if not any((b, e) != (begin, end) and begin <= b and e <= end for b, e in loops)
    ]


def main(folder: Path) -> int:
    problems = []
    objects = sorted(folder.rglob("*.o"))
    tiles = [p for p in objects if re.search(r"tiles_avx(2|512)\.dir", str(p))]
    baseline = [p for p in objects if p not in tiles]
    for path in baseline:
        for name, body in functions(path).items():
            for _, text in body:
                if ABOVE_BASELINE.search(text):
                    problems.append(f"{path.name}: {name}: above the baseline: {text}")
                    break
    checked = 0
    for path in tiles:
        for name, body in functions(path).items():
            if not name.startswith("tile_"):
                continue
            for loop in inner_loops(body):
                if not any(FMA.search(text) for text in loop):
                    continue
                checked += 1
                if spill := next((text for text in loop if STACK.search(text)), None):
                    problems.append(f"{path.parent}: {name}: spills: {spill}")
    print(
        f"{len(baseline)} baseline objects, {len(tiles)} objects of tiles, {checked} loops of tiles"
    )
    if not baseline or not checked:
        problems.append(f"found too little to check in {folder}")
    print("\n".join(problems) or "clean")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
