"""halfwave's functions for NumPy arrays, computed on a chosen device: what the fingerprint calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from . import _arrays


class Operations:
    """The functions of a module: their NumPy arrays are put on `device` first, results fetched.

    What is written in place is fetched too; functions that make arrays are told the device.
    """

    device = "cpu"

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        return Operations(function) if isinstance(function, ModuleType) else partial(_run, function)


def _run(function: Callable, *arguments: Any, **options: Any) -> Any:
    if Operations.device == "cpu":
        return function(*arguments, **options)

    def put(x: Any) -> Any:
        return _arrays.to_device(x, "cuda") if isinstance(x, np.ndarray) else x

    if "device" in inspect.signature(function).parameters:
        options["device"] = "cuda"
    there = [put(x) for x in arguments]
    result = function(*there, **{name: put(x) for name, x in options.items()})
    if result is None:
        for here, moved in zip(arguments, there, strict=True):
            here[...] = moved.get()
        return None
    fetched = [_arrays.to_host(x) for x in (result if isinstance(result, tuple) else (result,))]
    return tuple(fetched) if isinstance(result, tuple) else fetched[0]
