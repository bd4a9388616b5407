"""Random words: Philox4x32-10, any element on its own, the same on every device.

An array's words are a function of the seed, the stream and the element's index in the whole array.
A stream is a number or a name, such as a parameter's: a new layer then changes no other's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _arrays
from ._cpu import random as _kernels
from ._cuda import random as _cuda
from ._options import DEVICES

__all__ = ["bits", "philox4x32"]

UINT32, UINT64 = 2**32 - 1, 2**64 - 1


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> np.ndarray:
    """Apply Philox4x32-10 to one counter.

    Parameters
    ----------
    counter : sequence of 4 integers
        Each in [0, 2**32).
    key : sequence of 2 integers
        Each in [0, 2**32).

    Returns
    -------
    numpy.ndarray
        Shape (4,), uint32.

    Raises
    ------
    TypeError, ValueError
        If a word is not an integer, or lies outside 32 bits, or their number is wrong.

    References
    ----------
    Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> [f"{word:08x}" for word in philox4x32((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    words = _kernels.philox4x32(_words(counter, 4, "counter"), _words(key, 2, "key"))
    return np.array(words, np.uint32)


def bits(
    shape: int | Sequence[int],
    *,
    seed: int,
    stream: int | str = 0,
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """Random 32-bit words.

    Element i in C order is word i mod 4 of Philox4x32-10 with the key `seed` and the counter
    (i div 4, `stream`), each of 64 bits, low half first.

    Parameters
    ----------
    shape : int or sequence of int
        Of the whole array.
    seed : int
        In [0, 2**64).
    stream : int or str
        In [0, 2**64), or a name, of which a hash is taken.
    device : {"cpu", "cuda"}
        Where the array is made: a NumPy array, or a CuPy array of the same words.
    out : array of uint32 on the device, optional
        Where to write; it is returned.
    shard : sequence of slice, optional
        The part of the whole array to compute, as in ``whole[shard]``; dimensions beyond the last
        slice are taken whole.

    Returns
    -------
    array
        uint32, of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.
    """
    _arrays.choice(device, "device", DEVICES)
    return fill("bits", (), shape, np.dtype(np.uint32), seed, stream, out, shard, device)


def seed_number(seed: Any) -> int:
    """The seed, checked."""
    return _arrays.integer(seed, "seed", minimum=0, maximum=UINT64)


def stream_number(stream: Any) -> int:
    """The 64-bit number of a stream: itself, or the hash of its name.

    The hash is FNV-1a of the UTF-8 bytes, its bits then mixed by MurmurHash3's 64-bit finalizer.
    """
    if not isinstance(stream, str):
        if isinstance(stream, (bytes, float)):
            raise TypeError(f"stream must be an integer or a str, not {type(stream).__name__}")
        return _arrays.integer(stream, "stream", minimum=0, maximum=UINT64)
    try:
        name = stream.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"stream must be a name that UTF-8 can write, not {stream!r}") from error
    h = 0xCBF29CE484222325
    for byte in name:
        h = (h ^ byte) * 0x100000001B3 & UINT64
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & UINT64
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & UINT64
    return h ^ h >> 33


def fill(
    distribution: str,
    parameters: tuple[float, ...],
    shape: Any,
    dtype: np.dtype,
    seed: Any,
    stream: Any,
    out: Any,
    shard: Any,
    device: str,
) -> np.ndarray:
    """Check what every random array shares, and draw it."""
    whole = _arrays.shape(shape)
    seed, stream = seed_number(seed), stream_number(stream)
    if shard is None:
        target, finish = _arrays.output(out, whole, dtype, device=device)
        layout = 0, (target.size,), (1,)
    else:
        part = shard_slices(shard, whole)
        target, finish = _arrays.output(out, shard_shape(part), dtype, device=device)
        layout = _collapse(part, whole) if target.size else (0, (0,), (1,))
    if target.size:
        draw = _cuda.fill if device == "cuda" else _kernels.fill
        draw(target.reshape(-1), distribution, parameters, seed, stream, *layout)
    return finish()


def shard_slices(shard: Any, whole: tuple[int, ...]) -> tuple[range, ...]:
    """The indices that a shard takes along each dimension."""
    if shard is None:
        return tuple([range(n) for n in whole])
    if not isinstance(shard, (tuple, list)):
        raise TypeError(f"shard must be a tuple of slices, not {type(shard).__name__}")
    if len(shard) > len(whole):
        raise ValueError(f"shard has {len(shard)} slices for {len(whole)} dimensions")
    for s in shard:
        if not isinstance(s, slice):
            raise TypeError(f"shard must hold slices only, not {type(s).__name__}")
    shard = (*shard, *[slice(None)] * (len(whole) - len(shard)))
    try:
        return tuple(range(*s.indices(n)) for s, n in zip(shard, whole, strict=True))
    except (TypeError, ValueError) as error:
        raise type(error)(f"shard holds a slice that cannot be taken: {error}") from None


def shard_shape(part: tuple[range, ...]) -> tuple[int, ...]:
    return tuple(len(r) for r in part)


def _collapse(
    part: tuple[range, ...], whole: tuple[int, ...]
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """First element, counts and steps of a shard, with as few dimensions as describe it."""
    base, stride = 0, 1
    dimensions: list[tuple[int, int]] = []  # (count, step), innermost first
    for indices, n in zip(reversed(part), reversed(whole), strict=True):
        base += indices[0] * stride
        step = indices.step * stride
        if dimensions and step == dimensions[-1][0] * dimensions[-1][1]:
            dimensions[-1] = (dimensions[-1][0] * len(indices), dimensions[-1][1])
        elif len(indices) > 1:
            dimensions.append((len(indices), step))
        stride *= n
    if len(dimensions) > 16:
        raise ValueError("shard takes steps along more than 16 dimensions")
    counts, steps = zip(*reversed(dimensions or [(1, 1)]), strict=True)
    return base, counts, steps


def _words(value: Any, count: int, name: str) -> tuple[int, ...]:
    if not _arrays.is_sequence(value):
        raise TypeError(f"{name} must hold {count} integers, not be {type(value).__name__}")
    words = tuple(_arrays.integer(word, name, minimum=0, maximum=UINT32) for word in value)
    if len(words) != count:
        raise ValueError(f"{name} must hold {count} integers, not {len(words)}")
    return words
