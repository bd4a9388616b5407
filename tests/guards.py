"""Arrays between guard bytes, and the table test of bad calls."""

import numpy as np
import pytest

GUARD = 4096
PATTERN = 0xA5


class Guards:
    """Hands out arrays with guard bytes on both sides; `intact()` checks them all."""

    def __init__(self):
        self._buffers = []

    def array(self, like):
        """A copy of `like`, of its strides' order, between guards."""
        like = np.asarray(like)
        buffer = np.full(like.nbytes + 2 * GUARD, PATTERN, np.uint8)
        inner = buffer[GUARD : GUARD + like.nbytes].view(like.dtype).reshape(like.shape)
        inner[...] = like
        self._buffers.append((buffer, like.nbytes, inner.tobytes()))
        return inner

    def intact(self):
        """Whether no guard byte has changed."""
        return all(
            (buffer[:GUARD] == PATTERN).all() and (buffer[GUARD + size :] == PATTERN).all()
            for buffer, size, _ in self._buffers
        )

    def untouched(self):
        """Whether the arrays themselves hold what they were made with, too."""
        return self.intact() and all(
            buffer[GUARD : GUARD + size].tobytes() == content
            for buffer, size, content in self._buffers
        )


def refuses(function, good, change, names):
    """Assert that function(**good | change) raises, naming a parameter, and that nothing moved.

    Every array among the good arguments stands between guard bytes, and is compared afterwards.
    """
    guards = Guards()
    arguments = {
        key: guards.array(value) if isinstance(value, np.ndarray) else value
        for key, value in good.items()
    }
    arguments.update(change)
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    message = str(caught.value)
    assert any(name in message for name in names), message
    assert guards.untouched()


def bad_arrays(good, *, shapes=False):
    """Values that are no float array of float32 `good`'s dtype; with `shapes`, or not of its shape."""
    values = [
        None, 1.0, "x", b"abcd", good.tolist(), memoryview(good), good.astype("f2"),
        good.astype("i4"), good > 0, good.astype("c8"), good.astype(">f4"), good.astype(object),
        good.astype("M8[s]"),
    ]  # fmt: skip
    if shapes:
        values += [good[0], good[None], good[..., :-1], good.astype("f8")]
    return values


def bad_outs(good):
    """Values that cannot take a result of float32 `good`'s shape."""
    locked = good.copy()
    locked.flags.writeable = False
    sliding = np.lib.stride_tricks.as_strided(
        np.zeros(good.size, "f4"), good.shape, (4,) * good.ndim
    )
    return [
        1.0, good.tolist(), bytearray(good.nbytes), good.astype("f8"), good.astype("i4"),
        good.astype(">f4"), good.astype("M8[s]"), good[..., :-1].copy(), good[None], locked,
        np.broadcast_to(np.float32(0), good.shape), sliding,
    ]  # fmt: skip


def table(parameter, values):
    """Changes of one parameter to each of `values`, as pytest parameters."""
    return [
        pytest.param({parameter: value}, parameter, id=f"{parameter}-{i}")
        for i, value in enumerate(values)
    ]
