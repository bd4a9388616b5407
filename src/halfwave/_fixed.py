"""Initializers without chance: constants and identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _arrays, random
from ._cuda import init as _cuda
from ._fans import LAYOUTS
from ._options import Shape, dtypes, real


def zeros(
    shape: Shape,
    *,
    seed: int | None = None,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """Zeros, as `constant` of 0."""
    return constant(
        shape, 0.0, seed=seed, stream=stream, dtype=dtype, device=device, out=out, shard=shard
    )


def constant(
    shape: Shape,
    value: float,
    *,
    seed: int | None = None,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """The same number everywhere.

    Parameters
    ----------
    shape : int or sequence of int
        Of the whole array.
    value : float
        Finite in the dtype.
    seed, stream, dtype, device, out, shard
        See the module `halfwave.init`.

    Returns
    -------
    array
        Of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.
    """
    kind, _ = dtypes(dtype, device)
    number = real(value, kind, "value")
    part = _part(_arrays.shape(shape), seed, stream, shard)
    target, finish = _target(out, part, kind, device)
    if device == "cuda":
        _cuda.constant(target, number)
    else:
        target[...] = number
    return finish()


def identity(
    shape: Shape,
    gain: float = 1.0,
    *,
    seed: int | None = None,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """A matrix with `gain` on the diagonal and 0 elsewhere.

    Parameters
    ----------
    shape : pair of int
        Of the whole matrix; it need not be square.
    gain : float
        Finite in the dtype.
    seed, stream, dtype, device, out, shard
        See the module `halfwave.init`.

    Returns
    -------
    array
        Of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.
    """
    kind, _ = dtypes(dtype, device)
    number = real(gain, kind, "gain")
    whole = _arrays.shape(shape)
    if len(whole) != 2:
        raise ValueError(f"shape must have 2 dimensions, not {len(whole)}")
    part = _part(whole, seed, stream, shard)
    target, finish = _target(out, part, kind, device)
    if not target.size:  # however long its other dimension is
        return finish()
    if device == "cuda":
        _cuda.diagonal(target, number, part, 0, 1, max(whole), {})
        return finish()
    rows, columns = _indices(part)
    target[...] = np.where(rows == columns, kind.type(number), kind.type(0))
    return finish()


def dirac(
    shape: Shape,
    *,
    groups: int = 1,
    layout: str = "OIHW",
    seed: int | None = None,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """Convolution weights that hand on their input: 1 at the kernel's centre, channel to channel.

    Output channel o of each group is its input channel o, as far as there is one; the others are 0.
    The centre of a kernel of size k is k // 2.

    Parameters
    ----------
    shape : sequence of int
        Of the whole weights, at least three dimensions.
    groups : int
        Of the convolution.
    layout : {"OIHW", "HWIO"}
        See the module `halfwave.init`.
    seed, stream, dtype, device, out, shard
        See the module `halfwave.init`.

    Returns
    -------
    array
        Of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.
    """
    kind, _ = dtypes(dtype, device)
    groups = _arrays.integer(groups, "groups", minimum=1, maximum=2**31 - 1)
    _arrays.choice(layout, "layout", LAYOUTS)
    whole = _arrays.shape(shape)
    if len(whole) < 3:
        raise ValueError(f"shape must have at least 3 dimensions, not {len(whole)}")
    channels = whole[0] if layout == "OIHW" else whole[-1]
    if channels % groups:
        raise ValueError(f"groups must divide the {channels} channels of {whole}, not {groups}")
    part = _part(whole, seed, stream, shard)
    target, finish = _target(out, part, kind, device)
    if not target.size:
        return finish()
    last = len(whole) - 1
    to, of = (0, 1) if layout == "OIHW" else (last, last - 1)
    period = channels // groups
    centres = {d: n // 2 for d, n in enumerate(whole) if d not in (to, of)}
    if device == "cuda":
        _cuda.diagonal(target, 1, part, to, of, period, centres)
        return finish()
    index = _indices(part)
    ones = index[to] % period == index[of]
    for d, centre in centres.items():
        ones = ones & (index[d] == centre)
    target[...] = ones
    return finish()


def _indices(part: tuple[range, ...]) -> tuple[np.ndarray, ...]:
    """The part's indices along each dimension, shaped to broadcast."""
    return np.ix_(*(np.arange(r.start, r.stop, r.step, np.int64) for r in part))


def _target(
    out: Any, part: tuple[range, ...], kind: np.dtype, device: str
) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
    """`_arrays.output`; a GPU's kernels fill contiguous arrays, the CPU's any."""
    shape = random.shard_shape(part)
    return _arrays.output(out, shape, kind, strided=device == "cpu", device=device)


def _part(whole: tuple[int, ...], seed: Any, stream: Any, shard: Any) -> tuple[range, ...]:
    """The shard, checked; and seed and stream, which nothing here uses."""
    if seed is not None:
        random.seed_number(seed)
    random.stream_number(stream)
    return random.shard_slices(shard, whole)
