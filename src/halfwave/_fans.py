"""Fans and gains: what sets the variance of a layer's weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _arrays
from ._options import Shape

LAYOUTS = ("OIHW", "HWIO")
GAINS = ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "prelu")


def fans(
    shape: Shape, *, groups: int = 1, transposed: bool = False, layout: str = "OIHW"
) -> tuple[int, int]:
    """How many inputs an output of a layer sums over, and how many outputs an input reaches.

    Parameters
    ----------
    shape : sequence of int
        Of the weights, at least two dimensions.
    groups : int
        Of the convolution: fan_out is that of one group, out/groups × kernel.
    transposed : bool
        Whether the weights are a transposed convolution's.
    layout : {"OIHW", "HWIO"}
        Whether the channels stand before or behind the kernel; see the module.

    Returns
    -------
    fan_in, fan_out : int
        in/groups × kernel and out/groups × kernel. A stride is not taken account of.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, there are fewer than two dimensions, or the groups do
        not divide the channels.
    """
    sizes = _arrays.shape(shape)
    groups = _arrays.integer(groups, "groups", minimum=1, maximum=2**31 - 1)
    _arrays.choice(layout, "layout", LAYOUTS)
    if not isinstance(transposed, (bool, np.bool_)):
        raise TypeError(f"transposed must be a bool, not {type(transposed).__name__}")
    if len(sizes) < 2:
        raise ValueError(f"shape must have at least 2 dimensions to have fans, not {sizes}")
    if layout == "OIHW":
        first, second, kernel = sizes[0], sizes[1], sizes[2:]
    else:
        first, second, kernel = sizes[-1], sizes[-2], sizes[:-2]
    if first % groups:
        raise ValueError(f"groups must divide the {first} channels of shape {sizes}, not {groups}")
    of_first, of_second = first // groups * math.prod(kernel), second * math.prod(kernel)
    return (of_first, of_second) if transposed else (of_second, of_first)


def gain(nonlinearity: str, slope: float | None = None) -> float:
    """The factor on the standard deviation that keeps a signal's variance through a nonlinearity.

    Parameters
    ----------
    nonlinearity : {"linear", "sigmoid", "tanh", "relu", "leaky_relu", "prelu"}
        1, 1, 5/3, √2, and √(2 / (1 + slope²)) for the last two (He et al. 2015, equation 15).
    slope : float, optional
        Of the negative part, for "leaky_relu" (0.01 if not given) and "prelu" (0.25).

    Raises
    ------
    TypeError, ValueError
        If the name is not one of these, or a slope is given to one that has none.
    """
    _arrays.choice(nonlinearity, "nonlinearity", GAINS)
    if nonlinearity in ("leaky_relu", "prelu"):
        default = 0.01 if nonlinearity == "leaky_relu" else 0.25
        return math.sqrt(he_scale(default if slope is None else slope, "slope"))
    if slope is not None:
        raise ValueError(f"slope must be None for {nonlinearity!r}, not {_arrays.shown(slope)}")
    return {"tanh": 5 / 3, "relu": math.sqrt(2)}.get(nonlinearity, 1.0)


def he_scale(slope: Any, name: str = "negative_slope") -> float:
    """2 / (1 + slope²): the variance that a rectifier's weights have, times the fan."""
    a = _arrays.number(slope, name)
    if abs(a) > 1e100:
        raise ValueError(f"{name} must be at most 1e100 in size, not {a}")
    return 2 / (1 + a * a)
