"""The constants of a truncated normal, from probabilities worked out exactly enough to round right.

The C library's erfc differs from one system to the next in its last digit; decimal arithmetic does
not.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

# Beyond this many standard deviations a tail, no longer a normal number, counts as nothing.
_NOTHING = 38
# The standard deviation of a standard normal truncated at ±2.
STD_AT_2 = 0.87962566103423978


@lru_cache(maxsize=256)
def constants(lower: float, upper: float, single: bool) -> tuple[float, ...] | None:
    """What `hw_truncated_f32` (`single`) or `hw_truncated_f64` hold from the bounds on, in order.

    The bounds are numbers of the type itself, lower < upper. None where the probability between
    them is too small for the type.
    """
    number = np.float32 if single else np.float64
    bits, least = (32, -90) if single else (64, -900)
    smallest = float(np.finfo(number).smallest_normal)
    mirrored = upper <= 0
    if mirrored:
        lower, upper = -upper, -lower
    with localcontext() as context:
        context.prec = 100 + int(min(max(abs(lower), abs(upper)), _NOTHING) ** 2)
        below, above = _below(lower), _below(-upper)
        between = _below(-lower) - above if lower > 0 else 1 - below - above
        if between < Decimal(2) ** least:
            return None
        half = Decimal(1) / 2
        centre = 0 if lower >= 0 else round((half - below) / between * 2**bits)
        q0 = below - half if lower > 0 else Decimal(0)
        scale = between / 2**bits

    def rounded(x: Decimal) -> float:
        return float(number(float(x))) if x >= smallest else 0.0

    masses = rounded(below), rounded(above), rounded(q0), rounded(scale)
    top = 2**bits - 1
    return (lower, upper, *masses, min(centre, top), top if mirrored else 0)


def _below(x: float) -> Decimal:
    """P(Z < x), to well over 60 digits in the caller's context."""
    if abs(x) > _NOTHING:
        return Decimal(0 if x < 0 else 1)
    return Decimal(1) / 2 + (1 if x > 0 else -1) * _centre_to(Decimal(abs(x)))


def _centre_to(x: Decimal) -> Decimal:
    """P(0 < Z < x): φ(x) (x + x³/3 + x⁵/(3·5) + …), whose terms are all positive."""
    total, term, k = Decimal(0), x, 1
    while total + term != total:
        total += term
        k += 2
        term = term * x * x / k
    return total * (-x * x / 2).exp() / (2 * _pi()).sqrt()


def _pi() -> Decimal:
    """π by Machin's formula, in the caller's precision."""

    def arctan_inverse(n: int) -> Decimal:
        total, power, k = Decimal(0), Decimal(1) / n, 1
        while total + power / k != total:
            total += power / k
            power, k = -power / (n * n), k + 2
        return total

    return 16 * arctan_inverse(5) - 4 * arctan_inverse(239)
