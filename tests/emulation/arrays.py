"""What halfwave uses of CuPy's arrays, over host memory: the emulation's stand-in for the module cupy.

An array is no NumPy array and gives no buffer, so that a CPU kernel that is handed one refuses it.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

float16, float32, float64, uint32 = np.float16, np.float32, np.float64, np.uint32
CUDA = 2
current = 0  # the number of the GPU that computes, on which arrays are made


class ndarray:  # the name that CuPy's has
    """A CuPy array's attributes and views; `host` is the NumPy array behind it, `gpu` where it lies."""

    def __init__(self, host, gpu=None):
        self.host = host
        self.gpu = current if gpu is None else gpu

    shape = property(lambda self: self.host.shape)
    strides = property(lambda self: self.host.strides)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    T = property(lambda self: self._view(self.host.T))

    def _view(self, host):
        return ndarray(host, self.gpu)

    @property
    def flags(self):
        flags = self.host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous)

    @property
    def data(self):
        return SimpleNamespace(ptr=self.host.ctypes.data, device_id=self.gpu)

    @property
    def __cuda_array_interface__(self):
        host = self.host
        return {"shape": host.shape, "strides": host.strides, "typestr": host.dtype.str,
                "data": (host.ctypes.data, False), "version": 3}  # fmt: skip

    def __dlpack_device__(self):
        return CUDA, self.gpu

    def __len__(self):
        return len(self.host)

    def __getitem__(self, key):
        return self._view(self.host[key])

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("a NumPy array is not converted implicitly")  # nor by CuPy
        self.host[key] = value.host if isinstance(value, ndarray) else value

    def reshape(self, *shape):
        return self._view(self.host.reshape(*shape))

    def transpose(self, *axes):
        return self._view(self.host.transpose(*axes))

    def swapaxes(self, a, b):
        return self._view(self.host.swapaxes(a, b))

    def view(self, dtype):
        return self._view(self.host.view(dtype))

    def copy(self):
        return ndarray(np.array(self.host, order="C"))

    def astype(self, dtype, copy=True):
        return ndarray(np.array(self.host.astype(dtype), order="C"))

    def fill(self, value):
        self.host.fill(value)

    def set(self, values):
        self.host[...] = values

    def get(self):
        return self.host.copy()

    def item(self):
        return self.host.item()

    def __float__(self):
        return float(self.host)

    def __array__(self, *arguments, **options):
        raise TypeError("implicit conversion to a NumPy array is not allowed")


def empty(shape, dtype=np.float64):
    host = np.empty(shape, dtype)
    host.reshape(-1).view(np.uint8).fill(0xFF)  # NaN: what is not written shows
    return ndarray(host)


def zeros(shape, dtype=np.float64):
    return ndarray(np.zeros(shape, dtype))


def ones(shape, dtype=np.float64):
    return ndarray(np.ones(shape, dtype))


def asarray(x, dtype=None):
    return x if isinstance(x, ndarray) else ndarray(np.array(x, dtype, order="C"))


array = asarray


def ascontiguousarray(x, dtype=None):
    if x.host.flags.c_contiguous and (dtype is None or x.dtype == dtype):
        return x
    return ndarray(np.ascontiguousarray(x.host, dtype))


def asnumpy(x):
    return x.host.copy()


def broadcast_to(x, shape):
    return x._view(np.broadcast_to(x.host, shape))


def copyto(to, values):
    to[...] = values
