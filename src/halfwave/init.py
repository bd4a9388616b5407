"""Initializers: from all zeros to He et al., the same bits on every device and for every shard.

What the random ones have in common:

- ``seed``, in [0, 2**64), and ``stream``, an integer there or a name such as the parameter's,
  choose the values: the same on every device, for any number of threads.
- ``shard``, a tuple of slices of the whole array, gives exactly ``whole[shard]``, computed alone.
- ``dtype`` is float32, float64, or float16, which is the float32 values rounded.
- ``device`` is "cpu" for a NumPy array, "cuda" for a CuPy array, made where it lies.
- ``out``, an array on the device, is written and returned.

`zeros`, `constant`, `dirac` and `identity` take ``seed`` and ``stream`` too, and have no use for
them, so that one initializer can stand for another.

Weights have the shape (out, in/groups, kernel …) for ``layout="OIHW"``, (kernel …, in/groups, out)
for ``layout="HWIO"``; a dense layer's are those without a kernel. A transposed convolution's are
(in, out/groups, kernel …) and (kernel …, out/groups, in).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from . import _arrays, _truncation, random
from ._fans import fans, gain, he_scale
from ._fixed import constant, dirac, identity, zeros
from ._options import LARGEST, Common, Scaled, Shape, dtypes, real
from ._orthogonal import orthogonal

__all__ = [
    "constant", "dirac", "fans", "gain", "glorot_normal", "glorot_truncated_normal",
    "glorot_uniform", "he_normal", "he_truncated_normal", "he_uniform", "identity",
    "kaiming_normal", "kaiming_truncated_normal", "kaiming_uniform", "lecun_normal",
    "lecun_truncated_normal", "lecun_uniform", "normal", "orthogonal", "truncated_normal", "uniform",
    "variance_scaling", "xavier_normal", "xavier_truncated_normal", "xavier_uniform", "zeros",
]  # fmt: skip

MODES = ("fan_in", "fan_out", "fan_avg", "geo_avg")
DISTRIBUTIONS = ("normal", "uniform", "truncated_normal")

# ---- distributions -------------------------------------------------------------------------------


def normal(
    shape: Shape,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    seed: int,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """Normal variates: mean + std · Φ⁻¹(u), u the word of the element plus ½ as a fraction.

    Parameters
    ----------
    shape : int or sequence of int
        Of the whole array.
    mean, std : float
        std at least 0.
    seed, stream, dtype, device, out, shard
        See the module.

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
    Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied
    Statistics 37 (1988).
    """
    kind, number = dtypes(dtype, device)
    parameters = (real(mean, number, "mean"), _deviation(std, number))
    return random.fill("normal", parameters, shape, kind, seed, stream, out, shard, device)


def uniform(
    shape: Shape,
    low: float = 0.0,
    high: float = 1.0,
    *,
    seed: int,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """Uniform variates in [low, high): low + (high - low) · u, u of 24 bits (float64: 53).

    Rounding never gives `high` in float32 and float64; in float16 it may.

    Parameters
    ----------
    shape : int or sequence of int
        Of the whole array.
    low, high : float
        low < high, also after rounding to the dtype.
    seed, stream, dtype, device, out, shard
        See the module.

    Returns
    -------
    array
        Of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.
    """
    kind, number = dtypes(dtype, device)
    low, high = real(low, number, "low"), real(high, number, "high")
    if not low < high:
        raise ValueError(f"low must be less than high in {number}, not {low} and {high}")
    with np.errstate(over="ignore"):
        span = float(number.type(high) - number.type(low))
    if not math.isfinite(span):
        raise ValueError(f"high - low must be finite in {number}, not that of {high} and {low}")
    last = float(np.nextafter(number.type(high), number.type(low)))
    return random.fill("uniform", (low, span, last), shape, kind, seed, stream, out, shard, device)


def truncated_normal(
    shape: Shape,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    seed: int,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
) -> np.ndarray:
    """Normal variates given that they lie between two bounds, drawn without rejection.

    Parameters
    ----------
    shape : int or sequence of int
        Of the whole array.
    mean, std : float
        Of the normal before it is truncated; what is left has a smaller standard deviation
        (0.8796 std at ±2), which the variance-scaling initializers correct for.
    lower, upper : float
        The bounds, in standard deviations from the mean; either may be infinite. The probability
        between them must be at least 2**-90 (float64: 2**-900).
    seed, stream, dtype, device, out, shard
        See the module.

    Returns
    -------
    array
        Of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.
    """
    kind, number = dtypes(dtype, device)
    moments = real(mean, number, "mean"), _deviation(std, number)
    lower = real(lower, number, "lower", infinite=True)
    upper = real(upper, number, "upper", infinite=True)
    if not lower < upper:
        raise ValueError(f"lower must be less than upper in {number}, not {lower} and {upper}")
    constants = _truncation.constants(lower, upper, number == np.float32)
    if constants is None:
        raise ValueError(f"lower and upper must leave more probability than {lower} and {upper} do")
    parameters = (*moments, *constants)
    return random.fill(
        "truncated_normal", parameters, shape, kind, seed, stream, out, shard, device
    )


# ---- variance scaling ----------------------------------------------------------------------------


def variance_scaling(
    shape: Shape,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    *,
    seed: int,
    stream: int | str = 0,
    dtype: Any = "float32",
    device: str = "cpu",
    out: np.ndarray | None = None,
    shard: Sequence[slice] | None = None,
    groups: int = 1,
    transposed: bool = False,
    layout: str = "OIHW",
) -> np.ndarray:
    """Weights of mean 0 and variance scale / fan.

    Parameters
    ----------
    shape : sequence of int
        Of the whole weights, at least two dimensions.
    scale : float
        Positive: 1 for linear units, 2 / (1 + a²) for rectifiers of negative slope a.
    mode : {"fan_in", "fan_out", "fan_avg", "geo_avg"}
        The fan: inputs, outputs, their mean, or their geometric mean.
    distribution : {"normal", "uniform", "truncated_normal"}
        "truncated_normal" is cut at ±2 of its own std, which is larger by 1/0.8796, so that the
        weights have the variance asked for.
    seed, stream, dtype, device, out, shard, layout
        See the module.
    groups, transposed
        See `fans`.

    Returns
    -------
    array
        Of the shape `shape`, or the shard's.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, or lies outside what is allowed.
    """
    fan_in, fan_out = fans(shape, groups=groups, transposed=transposed, layout=layout)
    _arrays.choice(mode, "mode", MODES)
    _arrays.choice(distribution, "distribution", DISTRIBUTIONS)
    scale = _arrays.number(scale, "scale")
    if scale <= 0:
        raise ValueError(f"scale must be positive, not {scale}")
    if mode == "geo_avg":
        fan = math.sqrt(fan_in * fan_out)
    else:
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    variance = scale / (fan or 1)  # where a fan is 0 there is nothing to fill
    deviation, limit = math.sqrt(variance), math.sqrt(3 * variance)
    if distribution == "truncated_normal":
        deviation /= _truncation.STD_AT_2
    if (2 * limit if distribution == "uniform" else deviation) > LARGEST[
        dtypes(dtype, device)[1].itemsize
    ]:
        raise ValueError(
            f"scale, or the gain it is the square of, must leave weights finite in {dtype}; "
            f"a scale of {scale} does not"
        )
    common: Common = {"seed": seed, "stream": stream, "dtype": dtype}
    common |= {"device": device, "out": out, "shard": shard}
    if distribution == "normal":
        return normal(shape, 0.0, deviation, **common)
    if distribution == "uniform":
        return uniform(shape, -limit, limit, **common)
    return truncated_normal(shape, 0.0, deviation, -2.0, 2.0, **common)


def lecun_normal(
    shape: Shape, *, mode: str = "fan_in", gain: float = 1.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Normal weights of variance gain² / fan_in (LeCun et al. 1998); see `variance_scaling`."""
    return variance_scaling(shape, _square(gain), mode, "normal", **options)


def lecun_uniform(
    shape: Shape, *, mode: str = "fan_in", gain: float = 1.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Uniform weights of variance gain² / fan_in (LeCun et al. 1998); see `variance_scaling`."""
    return variance_scaling(shape, _square(gain), mode, "uniform", **options)


def lecun_truncated_normal(
    shape: Shape, *, mode: str = "fan_in", gain: float = 1.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Truncated normal weights of variance gain² / fan_in; see `variance_scaling`."""
    return variance_scaling(shape, _square(gain), mode, "truncated_normal", **options)


def xavier_normal(
    shape: Shape, *, mode: str = "fan_avg", gain: float = 1.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Normal weights of variance 2 gain² / (fan_in + fan_out); see `variance_scaling`.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 12.
    """
    return variance_scaling(shape, _square(gain), mode, "normal", **options)


def xavier_uniform(
    shape: Shape, *, mode: str = "fan_avg", gain: float = 1.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Uniform weights of variance 2 gain² / (fan_in + fan_out); see `variance_scaling`.

    Glorot and Bengio 2010, equation 16.
    """
    return variance_scaling(shape, _square(gain), mode, "uniform", **options)


def xavier_truncated_normal(
    shape: Shape, *, mode: str = "fan_avg", gain: float = 1.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Truncated normal weights of variance 2 gain² / (fan_in + fan_out); see `variance_scaling`."""
    return variance_scaling(shape, _square(gain), mode, "truncated_normal", **options)


def he_normal(
    shape: Shape, *, mode: str = "fan_in", negative_slope: float = 0.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Normal weights of variance 2 / ((1 + a²) fan), a the slope; see `variance_scaling`.

    He et al., "Delving deep into rectifiers", ICCV 2015: equations 10 (fan_in), 14 (fan_out, with
    which they train) and 15 (a PReLU's slope).
    """
    return variance_scaling(shape, he_scale(negative_slope), mode, "normal", **options)


def he_uniform(
    shape: Shape, *, mode: str = "fan_in", negative_slope: float = 0.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Uniform weights of variance 2 / ((1 + a²) fan), a the slope; see `he_normal`."""
    return variance_scaling(shape, he_scale(negative_slope), mode, "uniform", **options)


def he_truncated_normal(
    shape: Shape, *, mode: str = "fan_in", negative_slope: float = 0.0, **options: Unpack[Scaled]
) -> np.ndarray:
    """Truncated normal weights of variance 2 / ((1 + a²) fan), a the slope; see `he_normal`."""
    return variance_scaling(shape, he_scale(negative_slope), mode, "truncated_normal", **options)


glorot_normal, glorot_uniform = xavier_normal, xavier_uniform
glorot_truncated_normal = xavier_truncated_normal
kaiming_normal, kaiming_uniform = he_normal, he_uniform
kaiming_truncated_normal = he_truncated_normal

# What takes `groups`: all that goes by the fans, and the identity.
WITH_GROUPS = frozenset(
    [variance_scaling, lecun_normal, lecun_uniform, lecun_truncated_normal, xavier_normal,
     xavier_uniform, xavier_truncated_normal, he_normal, he_uniform, he_truncated_normal, dirac]
)  # fmt: skip


def _square(gain: Any) -> float:
    factor = _arrays.number(gain, "gain")
    if not 1e-100 <= factor <= 1e100:
        raise ValueError(f"gain must lie in [1e-100, 1e100], not {factor}")
    return factor * factor


def _deviation(std: Any, number: np.dtype) -> float:
    value = real(std, number, "std")
    if value < 0:
        raise ValueError(f"std must be at least 0, not {value}")
    return value
