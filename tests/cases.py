"""Shapes and values that several test files share."""

import numpy as np

DTYPES = (np.float32, np.float64)
EPSILON = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}


def specials(dtype):
    """NaN, infinities, zeros of both signs, subnormals, the largest and smallest, and some others."""
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.smallest_subnormal * 3, info.tiny, 1e-3, 0.5,
                1.0, 1.5, 3.0, info.max, np.inf]  # fmt: skip
    return np.array([np.nan] + [s * v for v in positive for s in (1, -1)], dtype)


def layouts_of(x):
    """The same values in memory of many kinds: strided, reversed, transposed, misaligned, read-only."""
    yield "contiguous", x.copy()
    yield "Fortran", np.asfortranarray(x)
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)[..., 1::2][..., : x.shape[-1]]
    wide[...] = x
    yield "strided", wide
    flipped = np.zeros_like(x)[(slice(None, None, -1),) * x.ndim]
    flipped[...] = x
    yield "reversed", flipped
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    raw[...] = x
    yield "misaligned", raw
    locked = x.copy()
    locked.flags.writeable = False
    yield "read-only", locked


def one_of_every_kind(*arrays):
    """The arrays, one of them of each kind of memory: of several, one may decide the path alone."""
    for i, x in enumerate(arrays):
        for _, other in layouts_of(x):
            yield *arrays[:i], other, *arrays[i + 1 :]
