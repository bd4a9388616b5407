"""Gates on the CUDA kernels, without a GPU: compiles every family for every architecture.

Each family's module in halfwave._cuda names its VARIANTS: the macros that its launches use. Of each
cubin: registers within limits, no spills, no local memory. Of the PTX: no flush to zero, no atomics on
floats, no approximate division or square root, no multiply-add whose rounding is not said, and
in contractions no multiply that is not fused. A module may name ARCHITECTURES that its families are
for; of Hopper's own, the PTX has wgmma and the bulk copy, and the compiler lets products overlap.
"""

import importlib
import pkgutil
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import halfwave._cuda
from halfwave._cuda import compiler

ARCHITECTURES = ("sm_80", "sm_90", "sm_90a")
REALS = ("float", "double")
# Registers a thread: so many that blocks of 256 threads leave room for another beside them; more for
# kernels that hold a tile of fragments, or lanes of doubles.
REGISTERS, MORE_REGISTERS = 128, {"matmul": 184, "conv_tensor": 184, "wgmma": 168}
REGISTERS_OF_DOUBLES = 176
ALONE = {("matmul", 4): 240}  # tiles by HW_TILE that have a multiprocessor to themselves
FORBIDDEN = re.compile(
    r"\.ftz|\.approx|\bmad\.(rn\.)?f(32|64)|\b(atom|red)\.[\w.]*\.f(32|64)|\.local\b"
)
CHAINS = ("matmul", "conv", "fold")  # families whose every multiply is a fused one
UNFUSED = re.compile(r"\bmul\.(\w+\.)*f(32|64)")
NEEDED = {"wgmma": ("wgmma.mma_async", "cp.async.bulk.tensor", "setmaxnreg")}
SERIAL = re.compile(r"serializ|setmaxnreg ignored|C75\d\d", re.I)  # notes of ptxas, not warnings
USAGE = re.compile(
    r"Compiling entry function '(?P<name>\w+)'(?:.*?)(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)


def variants() -> list[tuple[str, dict, str]]:
    """(family, macros, architecture) of all that is ever compiled."""
    found = []
    for module in pkgutil.iter_modules(halfwave._cuda.__path__):
        family = importlib.import_module(f"halfwave._cuda.{module.name}")
        for name, macros in getattr(family, "VARIANTS", ()):
            reals = (macros["HW_REAL"],) if "HW_REAL" in macros else REALS
            architectures = getattr(family, "ARCHITECTURES", ARCHITECTURES)
            found += [
                (name, {**macros, "HW_REAL": real}, arch)
                for real in reals
                for arch in architectures
            ]
    return found


def check(job: tuple[str, dict, str]) -> tuple[list[str], int]:
    """(problems, kernels seen) of one compilation."""
    family, macros, arch = job
    where = f"{family}.cu {' '.join(compiler.defines(macros))} {arch}"
    _, ptx, log = compiler.compile_source(family, macros, arch, extra=("--ptxas-options=-v",))
    code = [line.partition("//")[0] for line in ptx.splitlines()]
    problems = [
        f"{where}: PTX has {line.strip()}"
        for line in code
        if FORBIDDEN.search(line) or (family in CHAINS and UNFUSED.search(line))
    ]
    problems += [f"{where}: PTX has no {x}" for x in NEEDED.get(family, ()) if x not in ptx]
    if " warning" in log or SERIAL.search(log):
        problems.append(f"{where}: {log}")
    seen = list(USAGE.finditer(log))
    for use in seen:
        print(f"{where}: {use['name']}: {use['registers']} registers")
        most = MORE_REGISTERS.get(family, REGISTERS)
        most = ALONE.get((family, macros.get("HW_TILE")), most)
        if macros["HW_REAL"] == "double":
            most = max(most, REGISTERS_OF_DOUBLES)
        if int(use["registers"]) > most:
            problems.append(f"{where}: {use['name']}: {use['registers']} registers, above {most}")
        if any(int(use[part]) for part in ("stack", "stores", "loads")):
            problems.append(
                f"{where}: {use['name']}: stack {use['stack']}, spills {use['stores']} bytes out, "
                f"{use['loads']} in"
            )
    expected = set(re.findall(r"\.entry (\w+)", ptx))
    if not expected or expected != {use["name"] for use in seen}:
        problems.append(f"{where}: no resources of {expected - {use['name'] for use in seen}}")
    return problems, len(seen)


def main() -> int:
    only = sys.argv[1:]
    jobs = [job for job in variants() if not only or job[0] in only]
    families = {family for family, *_ in jobs}
    files = {path.stem for path in (compiler.KERNELS / "cuda").glob("*.cu")}
    problems = [f"{name}.cu: no module names its VARIANTS" for name in files - families if not only]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(check, jobs))
    problems += [problem for found, _ in results for problem in found]
    print(f"{len(jobs)} compilations of {len(families)} families, "
          f"{sum(count for _, count in results)} kernels")  # fmt: skip
    print("\n".join(problems) or "clean")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
