"""Checks the arrays of an elementwise function, and runs its kernel on plain copies of them.

The way for what a CPU kernel, asked first, refuses with None: bad arguments, arrays that are not plain,
and GPU arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _arrays
from ._cuda import runtime as _runtime


def alike(arrays: dict[str, Any]) -> list[np.ndarray]:
    """The arrays, checked to be of one dtype and shape: that of the last one."""
    *others, (last, reference) = arrays.items()
    reference = _arrays.array(reference, last)
    checked = []
    for name, value in others:
        value = _arrays.array(value, name, beside=reference, like=last)
        if value.shape != reference.shape:
            raise ValueError(
                f"{name} must have the shape of {last}, {reference.shape}, not {value.shape}"
            )
        checked.append(value)
    return [*checked, reference]


def elsewhere(inputs: list[np.ndarray], out: Any) -> list[np.ndarray]:
    """The inputs that are not `out` itself, element for element."""
    if type(out) is not type(inputs[0]):
        return inputs
    return [x for x in inputs if not (_same_memory(x, out) and x.flags.c_contiguous)]


def _same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return (
        _arrays.address(a) == _arrays.address(b)
        and a.shape == b.shape
        and a.strides == b.strides
        and a.dtype == b.dtype
    )


def run(
    kernel: Callable[..., Any], cuda: Callable[..., None], inputs: dict[str, Any], out: Any
) -> np.ndarray:
    """kernel(*inputs, result), or cuda(…) of GPU arrays, over checked inputs of one shape.

    Returns `out`, or a fresh array.
    """
    given = inputs.values()
    target = _runtime.target(out, given)
    if target is not None:
        cuda(*given, target)
        return target
    arrays = alike(inputs)
    shape, dtype = arrays[-1].shape, arrays[-1].dtype
    result, finish = _arrays.output(
        out, shape, dtype, elsewhere(arrays, out), device=_arrays.device(arrays[-1])
    )
    copies = [_arrays.contiguous(x) for x in arrays]
    if _arrays.on_gpu(result):
        cuda(*copies, result)
    elif kernel(*copies, result) is None:
        raise AssertionError("the kernel refused plain arrays")
    return finish()
