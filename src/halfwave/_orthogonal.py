"""The orthogonal initializer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _arrays, random
from ._cpu import init as _kernels
from ._cuda import init as _cuda
from ._fans import LAYOUTS
from ._options import Shape, dtypes, real


def orthogonal(
    shape: Shape,
    gain: float = 1.0,
    *,
    layout: str = "OIHW",
    seed: int,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """Orthogonal weights, distributed evenly (by Haar's measure), times a gain.

    As a matrix (out channels × all else) the weights are G = Q R with G standard normal, Q of
    orthonormal columns and R's diagonal positive, from a Householder decomposition in float64; of a
    matrix with more columns than rows the rows are orthonormal, and the transpose is decomposed.

    Parameters
    ----------
    shape : sequence of int
        Of the whole weights, at least two dimensions.
    gain : float
        Finite in the dtype.
    layout : {"OIHW", "HWIO"}
        Whether the out channels are the first dimension or the last.
    seed, stream, dtype, device, out, shard
        See the module `halfwave.init`. A shard costs as much as the whole.

    Returns
    -------
    array
        Of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.

    References
    ----------
    Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks", ICLR 2014. Mezzadri, "How to generate random matrices from the
    classical compact groups", Notices of the AMS 54 (2007): the sign of R's diagonal.
    """
    kind, number = dtypes(dtype, device)
    gain = real(gain, number, "gain")
    _arrays.choice(layout, "layout", LAYOUTS)
    whole = _arrays.shape(shape)
    if len(whole) < 2:
        raise ValueError(f"shape must have at least 2 dimensions, not {whole}")
    part = random.shard_slices(shard, whole)
    target, finish = _arrays.output(out, random.shard_shape(part), kind, device=device)
    normal = random.fill("normal", (0.0, 1.0), whole, number, seed, stream, None, None, device)
    if target.size:
        side = whole[0] if layout == "OIHW" else whole[-1]
        rest = math.prod(whole) // side
        matrix = (side, rest) if layout == "OIHW" else (rest, side)

        def tall(array: np.ndarray) -> np.ndarray:
            values = array.reshape(matrix)
            return values if matrix[0] >= matrix[1] else values.T

        if device == "cuda":
            direct = shard is None
            weights = target if direct else _arrays.library(target).empty(whole, kind)
            _cuda.orthogonal(tall(normal), tall(weights), gain)
            if not direct:
                target[...] = weights[tuple(shard)]
        else:
            _kernels.orthogonal(tall(normal), tall(normal), gain)
            target[...] = normal[tuple(shard or ())]
    return finish()
