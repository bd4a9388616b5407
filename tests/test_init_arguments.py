"""What the initializers refuse: each names the parameter, and writes nothing."""

import numpy as np
import pytest
from conftest import same_bits

import halfwave as hw

# name, what is changed, error: for every random initializer
COMMON = [
    ("seed", {"seed": -1}, ValueError),
    ("seed", {"seed": 2**64}, ValueError),
    ("seed", {"seed": 0.0}, TypeError),
    ("seed", {"seed": "0"}, TypeError),
    ("seed", {"seed": True}, TypeError),
    ("seed", {"seed": np.array([1, 2])}, TypeError),
    ("stream", {"stream": -1}, ValueError),
    ("stream", {"stream": 2**64}, ValueError),
    ("stream", {"stream": 1.5}, TypeError),
    ("stream", {"stream": b"conv"}, TypeError),
    ("stream", {"stream": None}, TypeError),
    ("stream", {"stream": "\ud800"}, ValueError),
    ("dtype", {"dtype": "int32"}, TypeError),
    ("dtype", {"dtype": "complex64"}, TypeError),
    ("dtype", {"dtype": ">f4"}, TypeError),
    ("dtype", {"dtype": None}, TypeError),
    ("dtype", {"dtype": "bfloat16"}, TypeError),
    ("dtype", {"dtype": 32}, TypeError),
    ("device", {"device": "gpu"}, ValueError),
    ("device", {"device": None}, TypeError),
    ("out", {"out": [0.0]}, TypeError),
    ("out", {"out": np.zeros((8, 6, 3, 3))}, TypeError),
    ("out", {"out": np.zeros((8, 6, 3, 3), ">f4")}, TypeError),
    ("out", {"out": np.zeros((8, 6, 3, 4), np.float32)}, ValueError),
    ("out", {"out": np.zeros((8, 6, 9), np.float32)}, ValueError),
    ("out", {"out": np.broadcast_to(np.float32(5), (8, 6, 3, 3))}, ValueError),
    ("out", {"out": np.zeros((8, 6, 3, 3), np.float32), "shard": (slice(2),)}, ValueError),
    ("shard", {"shard": (slice(None),) * 5}, ValueError),
    ("shard", {"shard": (0,)}, TypeError),
    ("shard", {"shard": slice(3)}, TypeError),
    ("shard", {"shard": (slice(None, None, 0),)}, ValueError),
    ("shard", {"shard": (slice("a"),)}, TypeError),
    ("shape", {"shape": (8, -6, 3, 3)}, ValueError),
    ("shape", {"shape": (8, 6.0, 3, 3)}, TypeError),
    ("shape", {"shape": "8633"}, TypeError),
    ("shape", {"shape": None}, TypeError),
    ("shape", {"shape": (2**31, 2**31)}, ValueError),
]
REAL_NUMBER = [np.nan, "1", None, True, [1.0], 1j]
SCALING = [
    ("mode", {"mode": "fan"}, ValueError),
    ("mode", {"mode": 1}, TypeError),
    ("groups", {"groups": 0}, ValueError),
    ("groups", {"groups": 3}, ValueError),
    ("groups", {"groups": 2.0}, TypeError),
    ("transposed", {"transposed": 1}, TypeError),
    ("layout", {"layout": "NCHW"}, ValueError),
    ("layout", {"layout": None}, TypeError),
    ("shape", {"shape": (8,)}, ValueError),
    ("shape", {"shape": 8}, ValueError),
]


def numbers(*names):
    return [
        (name, {name: value}, ValueError if isinstance(value, float) else TypeError)
        for name in names
        for value in REAL_NUMBER
    ]


BAD = {
    "normal": [
        *numbers("mean", "std"),
        ("mean", {"mean": np.inf}, ValueError),
        ("mean", {"mean": 1e39}, ValueError),
        ("std", {"std": -1.0}, ValueError),
        ("std", {"std": 1e39}, ValueError),
    ],
    "uniform": [
        *numbers("low", "high"),
        ("low", {"low": 1.0}, ValueError),
        ("low", {"low": 2.0}, ValueError),
        ("low", {"low": 1.0, "high": 1.0 + 1e-9}, ValueError),
        ("high", {"high": np.inf}, ValueError),
        ("high", {"low": -3e38, "high": 3e38}, ValueError),
    ],
    "truncated_normal": [
        *numbers("mean", "std", "lower", "upper"),
        ("std", {"std": -1.0}, ValueError),
        ("lower", {"lower": 2.0}, ValueError),
        ("lower", {"lower": 3.0}, ValueError),
        ("lower", {"lower": np.inf}, ValueError),
        ("upper", {"upper": -np.inf}, ValueError),
        ("lower", {"lower": 12.0, "upper": 13.0}, ValueError),
        ("lower", {"lower": 50.0, "upper": 60.0}, ValueError),
        ("lower", {"lower": 0.5, "upper": 0.5 + 1e-12}, ValueError),
    ],
    "variance_scaling": [
        *numbers("scale"),
        *SCALING,
        ("scale", {"scale": 0.0}, ValueError),
        ("scale", {"scale": -2.0}, ValueError),
        *[
            ("scale", {"scale": 1e308, "distribution": name}, ValueError)
            for name in hw.init.DISTRIBUTIONS
        ],
        ("distribution", {"distribution": "gaussian"}, ValueError),
        ("distribution", {"distribution": None}, TypeError),
    ],
    "orthogonal": [
        *numbers("gain"),
        ("layout", {"layout": "OHWI"}, ValueError),
        ("shape", {"shape": (8,)}, ValueError),
    ],
    "constant": [*numbers("value"), ("value", {"value": 1e39}, ValueError)],
    "zeros": [],
    "identity": [*numbers("gain"), ("shape", {"shape": (3, 3, 3)}, ValueError)],
    "dirac": [
        ("groups", {"groups": 3}, ValueError),
        ("groups", {"groups": 0}, ValueError),
        ("groups", {"groups": None}, TypeError),
        ("layout", {"layout": "HW"}, ValueError),
        ("shape", {"shape": (8, 6)}, ValueError),
    ],
}
for family in ("lecun", "xavier", "he"):
    for kind in ("normal", "uniform", "truncated_normal"):
        factor = "negative_slope" if family == "he" else "gain"
        too_large = (factor, {factor: 1e200}, ValueError)
        BAD[f"{family}_{kind}"] = [*numbers(factor), *SCALING, too_large]
        if family != "he":
            BAD[f"{family}_{kind}"].append(("gain", {"gain": 0.0}, ValueError))


@pytest.mark.parametrize("function", BAD)
def test_bad_arguments(function):
    arguments = {"shape": (8, 6, 3, 3), "seed": 1}
    if function == "constant":
        arguments["value"] = 1.0
    if function == "identity":
        arguments["shape"] = (8, 6)
    cases = COMMON + BAD[function]
    assert len(cases) >= 30
    for name, change, error in cases:
        out = change.get("out")
        before = out.copy() if isinstance(out, np.ndarray) else None
        with pytest.raises(error, match=rf"\b{name}\b"):
            getattr(hw.init, function)(**(arguments | change))
        if before is not None:
            same_bits(out, before)


def test_the_seed_is_required():
    for function in BAD:
        if function not in ("zeros", "constant", "identity", "dirac"):
            with pytest.raises(TypeError, match="seed"):
                getattr(hw.init, function)((8, 6, 3, 3))


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        (("elu",), ValueError, "nonlinearity"),
        ((None,), TypeError, "nonlinearity"),
        (("relu", 0.1), ValueError, "slope"),
        (("prelu", "a"), TypeError, "slope"),
        (("prelu", np.inf), ValueError, "slope"),
        (("leaky_relu", 1e200), ValueError, "slope"),
    ],
)
def test_gain_refuses(arguments, error, name):
    with pytest.raises(error, match=name):
        hw.init.gain(*arguments)


@pytest.mark.parametrize(("name", "change", "error"), SCALING[2:])
def test_fans_refuses(name, change, error):
    with pytest.raises(error, match=name):
        hw.init.fans(**({"shape": (8, 6, 3, 3)} | change))
