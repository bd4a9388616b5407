"""Slow, obvious oracles of section 2 of CONTRACT.md, and of the log of section 6.

Words come from Python integers. Variates come from NumPy's elementwise arithmetic, which rounds
each operation once in the dtype of its operands, as the contract asks.
"""

import math

import mpmath
import numpy as np

MASK32, MASK64 = 2**32 - 1, 2**64 - 1

# ---- words ---------------------------------------------------------------------------------------


def philox4x32(counter, key, rounds=10):
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(rounds):
        a, b = 0xD2511F53 * x0, 0xCD9E8D57 * x2
        x0, x1, x2, x3 = b >> 32 ^ x1 ^ k0, b & MASK32, a >> 32 ^ x3 ^ k1, a & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return x0, x1, x2, x3


def stream_number(name):
    h = 0xCBF29CE484222325
    for b in name.encode("utf-8"):
        h = ((h ^ b) * 0x100000001B3) & MASK64
    h ^= h >> 33
    h = (h * 0xFF51AFD7ED558CCD) & MASK64
    h ^= h >> 33
    h = (h * 0xC4CEB9FE1A85EC53) & MASK64
    return h ^ (h >> 33)


def word(i, seed, stream):
    block = i // 4
    halves = (block & MASK32, block >> 32, stream & MASK32, stream >> 32)
    return philox4x32(halves, (seed & MASK32, seed >> 32))[i % 4]


def words(count, seed, stream, bits=32, first=0):
    """Those of the elements first … first + count - 1, uint32 or uint64."""
    stream = stream_number(stream) if isinstance(stream, str) else stream
    if bits == 32:
        return np.array([word(first + i, seed, stream) for i in range(count)], np.uint32)
    pairs = [
        word(2 * i, seed, stream) | word(2 * i + 1, seed, stream) << 32
        for i in range(first, first + count)
    ]
    return np.array(pairs, np.uint64)


# ---- log (section 6) and the normal's quantile ---------------------------------------------------

LOG = {
    np.float32: (
        ["0x1.55556cp-1", "0x1.996b76p-2", "0x1.30ad28p-2"],
        ["0x1.62e4p-1", "0x1.7f7d1cp-20"],
        (np.uint32, 0x3F3504F3, 24),
    ),
    np.float64: (
        [
            "0x1.555555555556ap-1", "0x1.999999998ccb5p-2", "0x1.24924936da933p-2",
            "0x1.c71c5ac827ec7p-3", "0x1.7464805ad52f4p-3", "0x1.39cd8e806c25ap-3",
            "0x1.2d56be5ea70d8p-3",
        ],
        ["0x1.62e42fefa38p-1", "0x1.ef35793c7673p-45"],
        (np.uint64, 0x3FE6A09E667F3BCD, 54),
    ),
}  # fmt: skip


def horner(coefficients, x):
    """Lowest first."""
    total = x.dtype.type(coefficients[-1])
    for c in coefficients[-2::-1]:
        total = x.dtype.type(c) + x * total
    return total


def log(x):
    real = x.dtype.type
    p, (high, low), (unsigned, sqrt_half, shift) = LOG[real]
    with np.errstate(all="ignore"):
        subnormal = x < np.finfo(x.dtype).smallest_normal
        scaled = np.where(subnormal, x * real(2.0**shift), x)
        mantissa, k = np.frexp(scaled)  # in [½, 1)
        small = mantissa < np.array(sqrt_half, unsigned).view(x.dtype)
        mantissa = np.where(small, mantissa * 2, mantissa)
        k = (k - small - np.where(subnormal, shift, 0)).astype(x.dtype)
        f = mantissa - real(1)
        s = f / (real(2) + f)
        z = s * s
        r = z * horner([float.fromhex(c) for c in p], z)
        h = (real(0.5) * f) * f
        high, low = real(float.fromhex(high)), real(float.fromhex(low))
        result = ((((s * (h + r)) + k * low) - h) + f) + k * high
    result = np.where(x == np.inf, x, result)
    result = np.where(x == 0, real(-np.inf), result)
    return np.where((x < 0) | np.isnan(x), real(np.nan), result)


PPND7 = [
    [3.3871327179, 50.434271938, 159.29113202, 59.109374720],
    [1.0, 17.895169469, 78.757757664, 67.187563600],
    [1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103],
    [1.0, 0.73700164250, 0.12021132975],
    [6.6579051150, 3.0812263860, 0.42868294337, 0.017337203997],
    [1.0, 0.24197894225, 0.012258202635],
]
PPND16 = [
    [
        3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
        45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727,
    ],
    [
        1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
        21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610,
    ],
    [
        1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550,
        3.64784832476320460504, 1.27045825245236838258, 0.241780725177450611770,
        0.0227238449892691845833, 7.74545014278341407640e-4,
    ],
    [
        1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
        0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ],
    [
        6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580,
        0.296560571828504891230, 0.0265321895265761230930, 1.24266094738807843860e-3,
        2.71155556874348757815e-5, 2.01033439929228813265e-7,
    ],
    [
        1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
        7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ],
]  # fmt: skip


def half_quantile(q, p):
    real = q.dtype.type
    a, b, c, d, e, f = PPND7 if real is np.float32 else PPND16
    r = real(0.180625) - q * q
    with np.errstate(all="ignore"):
        centre = (q * horner(a, r)) / horner(b, r)
        s = np.sqrt(-log(p))
        t = s - real(1.6)
        tail = horner(c, t) / horner(d, t)
        t = s - real(5)
        far = horner(e, t) / horner(f, t)
    return np.where(q <= real(0.425), centre, np.where(s > real(5), far, tail))


# ---- distributions, of words --------------------------------------------------------------------


def uniform(w, low, high):
    real, digits = (np.float32, 24) if w.dtype == np.uint32 else (np.float64, 53)
    u = (w >> w.dtype.type(w.itemsize * 8 - digits)).astype(real) * real(2.0**-digits)
    low, high = real(low), real(high)
    last = np.nextafter(high, low)
    return np.minimum(low + (high - low) * u, last)


def normal(w, mean=0.0, std=1.0):
    """mean + std z, with w an array of uint32 (float32) or uint64 (float64)."""
    real = np.float32 if w.dtype == np.uint32 else np.float64
    n = w.itemsize * 8
    half = w.dtype.type(2 ** (n - 1))
    upper = w >= half
    m = np.where(upper, w - half, half - w.dtype.type(1) - w)
    rest = half - w.dtype.type(1) - m
    q = (m.astype(real) + real(0.5)) * real(2.0**-n)
    p = (rest.astype(real) + real(0.5)) * real(2.0**-n)
    z = np.where(upper, half_quantile(q, p), -half_quantile(q, p))
    return real(mean) + real(std) * z


def truncated(w, mean=0.0, std=1.0, lower=-2.0, upper=2.0):
    """Φ by mpmath's ncdf, at hundreds of digits."""

    real, n = (np.float32, 32) if w.dtype == np.uint32 else (np.float64, 64)
    lower, upper = float(real(lower)), float(real(upper))
    mirrored = upper <= 0
    if mirrored:
        lower, upper = -upper, -lower
        w = ~w
    with mpmath.workdps(1000):
        phi = lambda x: mpmath.ncdf(x) if abs(x) <= 38 else mpmath.mpf(x > 0)  # noqa: E731
        below, above = phi(mpmath.mpf(lower)), phi(mpmath.mpf(-upper))
        between = 1 - below - above
        q0 = max(below - mpmath.mpf(0.5), 0)
        centre = 0 if lower >= 0 else int(mpmath.nint(2**n * (mpmath.mpf(0.5) - below) / between))
        scale = between / 2**n
        below, above, q0, scale = (
            real(float(x)) if x >= float(np.finfo(real).smallest_normal) else real(0)
            for x in (below, above, q0, scale)
        )
    centre = w.dtype.type(min(centre, 2**n - 1))
    side = w >= centre
    with np.errstate(over="ignore"):
        from_centre = np.where(side, w - centre, centre - w.dtype.type(1) - w)
    from_bound = np.where(side, ~w, w)
    q = q0 + (from_centre.astype(real) + real(0.5)) * scale
    p = np.where(side, above, below) + (from_bound.astype(real) + real(0.5)) * scale
    h = half_quantile(q, p)
    z = np.clip(np.where(side, h, -h), real(lower), real(upper))
    return real(mean) + real(std) * (-z if mirrored else z)


def he_std(fan, slope=0.0):
    return math.sqrt(2 / (1 + slope * slope) / fan)


# ---- orthogonal ----------------------------------------------------------------------------------


def orthogonal(a, gain):
    """gain · Q D of a tall float64 matrix, one column after the other."""
    a = a.astype(np.float64)
    m, n = a.shape
    reflections, signs = [], []
    for k in range(n):
        x = a[k:, k].copy()
        rest = np.float64(0)
        for value in x[1:]:
            rest = rest + value * value
        v = np.zeros(m - k)
        v[0] = 1
        if rest == 0:
            tau, beta = np.float64(0), x[0]
        else:
            norm = np.sqrt(x[0] * x[0] + rest)
            beta = norm if x[0] < 0 else -norm
            f = x[0] - beta
            v[1:] = x[1:] / f
            tau = -f / beta
        reflections.append((v, tau))
        signs.append(-1.0 if beta < 0 else 1.0)
        _reflect(a[k:, k + 1 :], v, tau)
    q = np.eye(m, n)
    for k in range(n - 1, -1, -1):
        _reflect(q[k:], *reflections[k])
    return gain * np.array(signs) * q


def _reflect(a, v, tau):
    """In place; the sum runs down the rows."""
    w = a[0].copy()
    for i in range(1, len(v)):
        w = w + v[i] * a[i]
    t = tau * w
    for i in range(len(v)):
        a[i] = a[i] - v[i] * t
