"""The only code that checks arguments and knows devices, layouts and `out=`.

Every public function calls it before any memory is touched, so a bad argument ends in a TypeError or
ValueError that says which parameter it was, what was given and what is allowed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._cpu.runtime import all_apart, fresh_array
from ._cuda import runtime

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
FLOATS = (FLOAT32, FLOAT64)
MAX_DIMENSIONS = 64  # NumPy's


def array(
    x: Any,
    name: str,
    *,
    ndim: int | None = None,
    beside: np.ndarray | None = None,
    like: str = "the other arrays",
) -> np.ndarray:
    """`x` as an aligned array of native float32 or float64, without a copy where it is one.

    Takes NumPy and CuPy arrays, and whatever offers ``__dlpack__`` or ``__cuda_array_interface__``;
    gives a NumPy array, or where `x` lies in GPU memory a CuPy array. Strides are kept. `beside` is
    an array whose dtype and device it must share.
    """
    if not isinstance(x, np.ndarray):
        if isinstance(beside, np.ndarray) and runtime.is_gpu(x):  # said without waking the GPU
            raise TypeError(f"{name} must lie in CPU memory as {like}, not GPU")
        x = foreign(x, name)
    elif type(x) is not np.ndarray:
        x = np.asarray(x)
    kind = x.dtype
    if kind is not FLOAT32 and kind is not FLOAT64 and kind not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64 in native byte order, not {x.dtype!r}")
    if beside is not None:
        if kind is not beside.dtype and kind != beside.dtype:
            raise TypeError(f"{name} must be {beside.dtype} as {like}, not {x.dtype}")
        same_device(x, name, beside, like)
    if ndim is not None and x.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, not {x.ndim} (shape {x.shape})")
    flags = x.flags
    whole = flags.c_contiguous or not any(s % x.itemsize for s in x.strides)
    if not whole or not (x.data.ptr % x.itemsize == 0 if on_gpu(x) else flags.aligned):
        x = x.copy()
    return x


def on_gpu(x: np.ndarray) -> bool:
    """Whether an array that `array` gave is a CuPy array."""
    return not isinstance(x, np.ndarray)


def device(x: np.ndarray) -> str:
    """Where an array that `array` gave lies: "cpu" or "cuda"."""
    return "cuda" if on_gpu(x) else "cpu"


def same_device(x: np.ndarray, name: str, beside: np.ndarray, like: str) -> None:
    """A TypeError unless both arrays are NumPy's, or both CuPy's."""
    if on_gpu(x) != on_gpu(beside):
        there, here = ("GPU", "CPU") if on_gpu(beside) else ("CPU", "GPU")
        raise TypeError(f"{name} must lie in {there} memory as {like}, not {here}")


def on_current_gpu(x: Any, name: str) -> Any:
    """The CuPy array itself; a ValueError unless it lies on the GPU that CuPy computes on."""
    current, where = runtime.device().current(), x.data.device_id
    if where != current:
        raise ValueError(
            f"{name} must lie on GPU {current}, which is CuPy's current one, not on GPU {where}: "
            f"call within cupy.cuda.Device({where})"
        )
    return x


def foreign(x: Any, name: str) -> np.ndarray:
    """Another library's array, where it lies: a NumPy array or a CuPy array of its memory."""
    if runtime.is_gpu(x):
        device = runtime.device()
        try:
            there = device.asarray(x)
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name} cannot be read as a CuPy array: {error}") from error
        return on_current_gpu(there, name)
    if not hasattr(x, "__dlpack__"):
        raise TypeError(
            f"{name} must be a NumPy or CuPy array, or offer __dlpack__, not {type(x).__name__}"
        )
    try:
        return np.from_dlpack(x)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name} cannot be read through DLPack: {error}") from error


def library(x: np.ndarray | None) -> Any:
    """What makes arrays where `x` lies: the module numpy or cupy; numpy if there is none."""
    return np if x is None or isinstance(x, np.ndarray) else runtime.device().arrays


def fresh(arrays: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory for a result: NumPy's or CuPy's, as `arrays` is one or the other."""
    return fresh_array(shape, dtype) if arrays is np else arrays.empty(shape, dtype)


PRECISIONS = ("tf32", "bf16")


def precision(value: Any, x: np.ndarray) -> str | None:
    """None for the promised bits; or what the tensor cores are to round factors to, if `x` can."""
    if value is None:
        return None
    choice(value, "precision", PRECISIONS)
    if not on_gpu(x):
        raise ValueError(f"precision must be None on the CPU, not {value!r}: GPUs alone have that")
    if x.dtype != FLOAT32:
        raise TypeError(f"precision {value!r} is for float32 arrays, not {x.dtype}")
    capability = int(runtime.device().capability())
    if capability < 80:
        raise ValueError(
            f"precision {value!r} needs a GPU of compute capability 8.0 or newer, not "
            f"{capability / 10}"
        )
    return value


def contiguous(x: np.ndarray) -> np.ndarray:
    """`x` itself if its elements lie in C order without gaps, else such a copy."""
    return x if x.flags.c_contiguous else library(x).ascontiguousarray(x).reshape(x.shape)


def channels_second(x: np.ndarray, layout: str) -> np.ndarray:
    """The same array as (N, C, H, W), whatever the order in memory."""
    return x if layout == "NCHW" else x.transpose(0, 3, 1, 2)


def output(
    out: Any,
    shape: tuple[int, ...],
    dtype: np.dtype,
    inputs: Sequence[np.ndarray] = (),
    *,
    name: str = "out",
    strided: bool = False,
    device: str = "cpu",
) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
    """Where to write a result, and the function to call afterwards, which returns what to return.

    The first is C-contiguous (unless `strided`: then any aligned strides) and overlaps no input; where
    the caller's `out` is not so, it is fresh memory that the second copies into `out`. An input that
    *is* `out`, element for element, counts as no overlap only if the caller leaves it out of `inputs`.
    The result lies where the inputs do; without any, on the `device`. Of a subclass of NumPy's array
    the memory is written, whatever its own way of assigning: a masked array's mask hides nothing.
    """
    gpu = on_gpu(inputs[0]) if inputs else device == "cuda"
    arrays = runtime.device().arrays if gpu else np
    if out is None:
        new = fresh(arrays, shape, dtype)
        return new, lambda: new
    if not isinstance(out, arrays.ndarray):
        library = "CuPy" if gpu else "NumPy"
        raise TypeError(f"{name} must be a {library} array, not {type(out).__name__}")
    target = on_current_gpu(out, name) if gpu else np.asarray(out)
    if target.dtype is not dtype and target.dtype != dtype:
        raise TypeError(f"{name} must be {dtype} in native byte order, not {target.dtype!r}")
    if target.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, not {target.shape}")
    flags = target.flags
    if not gpu and not flags.writeable:
        raise ValueError(f"{name} is read-only")
    if not flags.c_contiguous and _overlaps_itself(target):
        raise ValueError(f"{name} has elements that share memory (strides {target.strides})")
    aligned = target.data.ptr % target.itemsize == 0 if gpu else flags.aligned
    regular = aligned and (
        flags.c_contiguous or (strided and not any(s % target.itemsize for s in target.strides))
    )
    if regular and (
        not any(overlap(target, x) for x in inputs) if gpu else all_apart(target, inputs)
    ):
        return target, lambda: out
    new = fresh(arrays, shape, dtype)

    def write_back() -> np.ndarray:
        target[...] = new
        return out

    return new, write_back


def to_device(x: np.ndarray, device: str) -> np.ndarray:
    """A NumPy array where it is to be computed: itself, or a copy in GPU memory."""
    return runtime.device().arrays.asarray(x) if device == "cuda" else x


def to_host(x: np.ndarray) -> np.ndarray:
    """A NumPy array of the values: `x` itself, or a copy from GPU memory."""
    return x.get() if on_gpu(x) else x


def address(x: np.ndarray) -> int:
    """Of the first element."""
    return x.data.ptr if on_gpu(x) else x.ctypes.data


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the memory from first to last element of two arrays has a byte in common."""
    (begin, end), (from_, to) = _span(a), _span(b)
    return begin < to and from_ < end


def _span(x: np.ndarray) -> tuple[int, int]:
    """The addresses from the first byte of an array to the one after its last."""
    begin = end = address(x)
    if x.flags.c_contiguous:
        return begin, begin + x.nbytes
    if not x.size:
        return begin, end
    for stride, length in zip(x.strides, x.shape, strict=True):
        if stride > 0:
            end += stride * (length - 1)
        else:
            begin += stride * (length - 1)
    return begin, end + x.itemsize


def _overlaps_itself(x: np.ndarray) -> bool:
    if x.size <= 1:
        return False
    reach = x.itemsize  # bytes spanned by the dimensions so far, shortest stride first
    for stride, length in sorted(
        (abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1
    ):
        if stride < reach:
            return True
        reach += stride * (length - 1)
    return False


def integer(
    value: Any, name: str, *, minimum: int | None = None, maximum: int | None = None
) -> int:
    """`value` as an int; bools and floats are refused."""
    if type(value) is int:
        number = value
    elif isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    else:
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {shown(number)}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be at most {maximum}, not {shown(number)}")
    return number


def shown(value: Any) -> str:
    """repr(value), which Python refuses for integers of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return f"this {type(value).__name__} of too many digits to show"


def number(value: Any, name: str) -> float:
    """`value` as a finite Python float; bools and strings are refused."""
    if type(value) is not float and isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}") from None
    except OverflowError:
        raise ValueError(f"{name} must be finite as a float, not {shown(value)}") from None
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite, not {result}")
    return result


def choice(value: Any, name: str, allowed: Sequence[str]) -> str:
    """`value` if it is one of the strings `allowed`."""
    if not isinstance(value, str):
        raise TypeError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, not {type(value).__name__}"
        )
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def axis(value: Any, ndim: int) -> int:
    """A dimension's index, counted from the end where negative."""
    index = integer(value, "axis")
    if not -ndim <= index < ndim:
        raise ValueError(f"axis must lie in [{-ndim}, {ndim}), not {shown(index)}")
    return index % ndim


def is_sequence(value: Any) -> bool:
    """Whether `value` holds things in order and has a length: no iterator, which may have no end."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    if isinstance(value, (tuple, list, int)):  # what needs no asking of an abstract class
        return not isinstance(value, int)
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def shape(value: Any, name: str = "shape") -> tuple[int, ...]:
    """A tuple of sizes, none negative, whose product is below 2**60; an int is one size."""
    sizes = value if type(value) is tuple else tuple(value) if is_sequence(value) else (value,)
    if len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"{name} must have at most {MAX_DIMENSIONS} dimensions, not {len(sizes)}")
    total = 1
    for n in sizes:
        if type(n) is not int or not 0 <= n < 2**63:
            return shape(
                tuple([integer(n, name, minimum=0, maximum=2**63 - 1) for n in sizes]), name
            )
        total *= n or 1
    if total >= 2**60:
        raise ValueError(f"{name} asks for too many elements: {sizes}")
    return sizes


def pair(value: Any, name: str, *, minimum: int = 1) -> tuple[int, int]:
    """An int for both directions, or a pair (vertical, horizontal)."""
    if type(value) is int and minimum <= value < 2**31:
        return value, value
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair, not {len(value)} values")
        vertical, horizontal = value
    else:
        vertical = horizontal = value
    first = integer(vertical, name, minimum=minimum, maximum=2**31 - 1)
    return first, integer(horizontal, name, minimum=minimum, maximum=2**31 - 1)


def padding(
    value: Any,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) from an int, a pair, a pair of pairs, "valid" or "same".

    "same" gives ceil(size / stride) outputs; an odd amount has the larger half at bottom and right.
    """
    if type(value) is int and 0 <= value < 2**31:
        return value, value, value, value
    if isinstance(value, str):
        choice(value, "padding", ("valid", "same"))
        if value == "valid":
            return (0, 0, 0, 0)
        ends: list[int] = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            ends += [total // 2, total - total // 2]
        return (ends[0], ends[1], ends[2], ends[3])
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(
                "padding must be an integer, a pair, ((top, bottom), (left, right)), "
                f'"valid" or "same", not {len(value)} values'
            )
        top, bottom = pair(value[0], "padding", minimum=0)
        left, right = pair(value[1], "padding", minimum=0)
        return (top, bottom, left, right)
    both = integer(value, "padding", minimum=0, maximum=2**31 - 1)
    return (both, both, both, both)
