"""The command `halfwave`.

Exit codes: 0 all is well; 1 a fingerprint differs, or what is needed is missing; 2 wrong usage;
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import _info
from ._options import DEVICES

DEFAULT_OUT = "halfwave-study"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    main = argparse.ArgumentParser(
        prog="halfwave",
        description="Rectifier-network passes and initializers with the same bits everywhere.",
        epilog="Environment: HALFWAVE_ISA (baseline, avx2, avx512, neon) forces an instruction set, "
        "HALFWAVE_NUM_THREADS the number of threads.",
    )
    main.add_argument("--version", action="version", version=f"halfwave {_info.info()['version']}")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    study = commands.add_parser(
        "study",
        help="train the paper's experiments on real digits and plot what they show",
        description="Experiments of He et al. 2015 in small, on 5000 real MNIST digits, computed by "
        "halfwave alone: depth (He against Xavier at 10, 22 and 30 layers), the older initializers, "
        "and PReLU against ReLU. Leaves PNG plots and figures.json in a folder. The same seed gives "
        "the same figures to the last digit, whatever the instruction set and number of threads.",
    )
    study.add_argument("--out", type=Path, default=Path(DEFAULT_OUT), metavar="FOLDER",
                       help="where to write plots and figures (default: ./%(default)s)")  # fmt: skip
    study.add_argument("--data", type=Path, metavar="FOLDER",
                       help="a folder with MNIST's IDX files (gzipped or not) or CIFAR-10's binary "
                       "files, to use these instead of the 5000 digits")  # fmt: skip
    study.add_argument("--seed", type=_seed, default=0, metavar="N",
                       help="a whole number from 0; the default is %(default)s")  # fmt: skip
    study.add_argument("--device", choices=DEVICES, default="cpu",
                       help="where to compute; the weights end the same, to the bit")  # fmt: skip
    study.add_argument("--quick", action="store_true",
                       help="shorter training and fewer seeds: at most half a minute")  # fmt: skip
    study.set_defaults(run=_study)

    fingerprint = commands.add_parser(
        "fingerprint",
        help="hash what every operation computes and compare with the expected values",
        description="Prints a SHA-256 for every operation and initializer on fixed cases, and for 50 "
        "steps of training, each compared with the value it must have on every machine. Exits with 1 "
        "if any differs.",
    )
    fingerprint.add_argument("names", nargs="*", metavar="NAME",
                             help="only those whose name contains one of these")  # fmt: skip
    fingerprint.add_argument("--device", choices=DEVICES, default="cpu",
                             help="where to compute; the values are the same")  # fmt: skip
    fingerprint.add_argument("--write", action="store_true",
                             help="for maintainers: make what is computed here the expected "
                             "values")  # fmt: skip
    fingerprint.set_defaults(run=_fingerprint)

    info = commands.add_parser(
        "info", help="version, instruction set, threads, caches, GPU",
        description="Prints what this installation computes with.",
    )  # fmt: skip
    info.set_defaults(run=_print_info)
    return main


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code."""
    try:
        arguments = parser().parse_args(argv)
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("halfwave: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^63 - 1, not {text!r}")
    return int(text)


def _fail(message: str) -> int:
    print(f"halfwave: {message}", file=sys.stderr)
    return 1


def _without_gpu(device: str) -> str | None:
    """Why nothing can be computed on the device, if so."""
    from ._cuda import runtime

    try:
        if device == "cuda":
            runtime.device()
    except RuntimeError as error:
        return f"--device cuda: {error}"
    return None


def _print_info(arguments: argparse.Namespace) -> int:
    print(_info.describe(_info.info()))
    return 0


def _fingerprint(arguments: argparse.Namespace) -> int:
    from . import fingerprint

    names = [name for name in fingerprint.CASES
             if not arguments.names or any(part in name for part in arguments.names)]  # fmt: skip
    if not names:
        return _fail(f"no fingerprint has {' or '.join(map(repr, arguments.names))} in its name")
    if missing := _without_gpu(arguments.device):
        return _fail(missing)
    expected = fingerprint.expected()
    found = {}
    for name in names:
        found[name] = fingerprint.compute(name, arguments.device)
        verdict = "ok" if found[name] == expected.get(name) else "DIFFERS"
        print(f"{name:<{max(map(len, names))}}  {found[name]}  {verdict}", flush=True)
    if arguments.write:
        fingerprint.write(found)
        print(f"written to {fingerprint.PATH}")
        return 0
    differ = sum(found[name] != expected.get(name) for name in names)
    print(f"{len(names) - differ} of {len(names)} as expected"
          + (f", {differ} DIFFER" if differ else ""))  # fmt: skip
    return 1 if differ else 0


def _study(arguments: argparse.Namespace) -> int:
    try:
        from rich.console import Console

        from . import study
        from .study.data import DataError, load
        from .study.training import settings
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("halfwave"):
            raise
        return _fail(f"the study needs {error.name}: pip install 'halfwave[study]'")
    if missing := _without_gpu(arguments.device):
        return _fail(missing)
    console = Console()
    try:
        images = load(arguments.data)
        chosen = settings(arguments.seed, device=arguments.device, quick=arguments.quick)
        study.run(images, chosen, arguments.out, console)
    except DataError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"cannot write to {arguments.out}: {error}")
    except study.Interrupted as stop:
        print(f"halfwave: interrupted; {stop}", file=sys.stderr)
        return 130
    return 0
