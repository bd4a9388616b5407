"""A SHA-256 for every operation and initializer on fixed cases, and for a small training run.

Each case computes arrays from fixed inputs; their dtype, shape and little-endian bytes are hashed, with
every NaN written the same. The expected values are in fingerprint.json. Inputs of the operations are
made by integer arithmetic, so that a wrong generator shows in the random cases only.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import halfwave
from halfwave import _arrays, models, nn
from halfwave._operations import Operations

PATH = Path(__file__).with_suffix(".json")
DTYPES = ("float32", "float64")
Arrays = Iterable[np.ndarray]

CASES: dict[str, Callable[[], Arrays]] = {}


hw = Operations(halfwave)


def compute(name: str, device: str = "cpu") -> str:
    """The fingerprint of a case."""
    sha = hashlib.sha256()
    Operations.device = device
    for array in CASES[name]():
        array = np.array(array)
        if array.dtype.kind == "f":
            array[np.isnan(array)] = np.nan
        sha.update(f"{array.dtype.name}{array.shape}".encode())
        sha.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


def expected() -> dict[str, str]:
    """The value each case must have, on every machine."""
    return json.loads(PATH.read_text()) if PATH.exists() else {}


def write(values: dict[str, str]) -> None:
    """Makes `values` the expected ones; cases that no longer exist are dropped."""
    merged = expected() | values
    PATH.write_text(json.dumps({n: merged[n] for n in CASES if n in merged}, indent=1) + "\n")


def case(name: str, dtypes: tuple[str, ...] = DTYPES) -> Callable[[Callable], Callable]:
    """Registers a function of the dtype as the cases "name float32" and "name float64"."""

    def register(function: Callable[[str], Arrays]) -> Callable[[str], Arrays]:
        for dtype in dtypes:
            CASES[f"{name} {dtype}"] = partial(function, dtype)
        return function

    return register


# ---- inputs -------------------------------------------------------------------------------------


def numbers(shape: tuple[int, ...], dtype: str, key: str, *, spread: int = 8) -> np.ndarray:
    """Values of all mantissas and `spread` binades, of both signs; the same wherever it runs."""
    size = int(np.prod(shape, dtype=np.int64))
    z = np.arange(size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(zlib.crc32(key.encode()) << 20)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    z ^= z >> np.uint64(31)
    bits = 24 if dtype == "float32" else 53
    mantissa = (z >> np.uint64(64 - bits)).astype(np.int64) - (1 << (bits - 1))
    exponent = (z & np.uint64(0xFF)).astype(np.int32) % spread - (bits + spread // 2 - 2)
    return np.ldexp(mantissa.astype(dtype), exponent).reshape(shape)


def specials(dtype: str) -> np.ndarray:
    """NaN, infinities, zeros, subnormals, the largest and the smallest, and some in between."""
    about = np.finfo(dtype)
    positive = [0.0, about.smallest_subnormal, about.tiny - about.smallest_subnormal, about.tiny,
                about.eps, 0.5, 1.0, 1.5, 88.0, 710.0, about.max, np.inf]  # fmt: skip
    return np.array([sign * value for value in positive for sign in (1, -1)] + [np.nan], dtype)


def mixed(shape: tuple[int, ...], dtype: str, key: str) -> np.ndarray:
    """`numbers` with special values sprinkled in, each at several places."""
    x = numbers(shape, dtype, key, spread=16)
    flat, special = x.reshape(-1), specials(dtype)
    flat[::37] = np.resize(special, flat[::37].size)
    return x


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Every special value with every other."""
    special = specials(dtype)
    return np.repeat(special, special.size), np.tile(special, special.size)


# ---- random numbers and initializers --------------------------------------------------------------

SHAPE = (24, 10, 3, 3)


@case("random.philox4x32", ("uint32",))
def _philox(dtype: str) -> Iterator[np.ndarray]:
    yield hw.random.philox4x32((0, 0, 0, 0), (0, 0))
    yield hw.random.philox4x32((2**32 - 1,) * 4, (2**32 - 1,) * 2)
    yield hw.random.philox4x32((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
                               (0xA4093822, 0x299F31D0))  # fmt: skip


@case("random.bits", ("uint32",))
def _bits(dtype: str) -> Iterator[np.ndarray]:
    yield hw.random.bits((100_003,), seed=2**63 + 5, stream=2**64 - 1)
    yield hw.random.bits(
        (33, 31), seed=1, stream="conv1.weight", shard=(slice(3, 30, 2), slice(5, 7))
    )


def _initializer(name: str, *variants: dict[str, Any], shape: tuple[int, ...] = SHAPE) -> None:
    @case(f"init.{name}")
    def draw(dtype: str) -> Iterator[np.ndarray]:
        function = getattr(hw.init, name)
        for number, options in enumerate(variants or ({},)):
            options = {"seed": 7 + number, "stream": f"{name}.{number}", "dtype": dtype} | options
            yield function(options.pop("shape", shape), **options)


_SCALED: tuple[dict[str, Any], ...] = (
    {}, {"mode": "fan_out", "groups": 2}, {"mode": "geo_avg", "transposed": True},
    {"mode": "fan_avg", "shard": (slice(5, 20), slice(None), slice(1, 2))},
    {"shape": (70_001, 3)},
)  # fmt: skip
_initializer("zeros")
_initializer("constant", {"value": 0.1})
_initializer("normal", {}, {"std": 0.01, "mean": -3.0}, {"shape": (300_007,)})
_initializer("uniform", {}, {"low": -0.1, "high": 0.3}, {"shape": (300_007,)})
_initializer(
    "truncated_normal", {}, {"lower": 3.0, "upper": 5.0}, {"shape": (100_003,), "std": 0.3}
)
_initializer("variance_scaling", *({"scale": 1.7, "distribution": d}
                                   for d in ("normal", "uniform", "truncated_normal")))  # fmt: skip
for _scheme in ("lecun", "xavier", "he"):
    for _shape in ("normal", "uniform", "truncated_normal"):
        _slope: tuple[dict[str, Any], ...] = ({"negative_slope": 0.25},) if _scheme == "he" else ()
        _initializer(f"{_scheme}_{_shape}", *_SCALED, *_slope)
_initializer("dirac", {}, {"groups": 2})
_initializer("identity", {}, {"gain": 0.3}, shape=(17, 9))
_initializer("orthogonal", {}, {"gain": 2.0}, {"shape": (40, 90)}, {"shape": (130, 70)})

# ---- contractions ---------------------------------------------------------------------------------

# m, k, n: tile edges, segments of 512, super-segments of 16384, one long row or column.
PRODUCTS = ((5, 3, 7), (33, 1000, 17), (3, 20_000, 5), (64, 64, 64), (1, 300, 200), (130, 513, 1),
            (0, 4, 3), (4, 0, 3))  # fmt: skip


@case("matmul")
def _matmul(dtype: str) -> Iterator[np.ndarray]:
    for m, k, n in PRODUCTS:
        a, b = numbers((m, k), dtype, "a"), numbers((k, n), dtype, "b")
        yield hw.matmul(a, b)
        yield hw.matmul(a, b, bias=numbers((n,), dtype, "bias"))
    yield hw.matmul(numbers((40, 30), dtype, "a").T[::-1], numbers((50, 40), dtype, "b").T[:, ::2])
    yield hw.matmul(numbers((2, 1, 9, 30), dtype, "a"), numbers((5, 30, 8), dtype, "b"))
    yield hw.matmul(numbers((700,), dtype, "a"), numbers((700,), dtype, "b"))
    yield hw.matmul(mixed((20, 30), dtype, "a"), mixed((30, 20), dtype, "b"))


@case("matmul_backward")
def _matmul_backward(dtype: str) -> Iterator[np.ndarray]:
    for a, b in (((33, 20), (20, 17)), ((2, 1, 9, 30), (5, 30, 8)), ((20_000, 3), (3, 2))):
        dy = numbers((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), dtype, "dy")
        yield from hw.matmul_backward(dy, numbers(a, dtype, "a"), numbers(b, dtype, "b"))
    yield hw.matmul_backward_bias(numbers((5001, 7), dtype, "dy"))


CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 3, 11, 13), (5, 3, 3, 3), {}),
    ((2, 3, 30, 31), (8, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 16, 14, 14), (20, 16, 3, 3), {"padding": "same"}),
    ((2, 12, 9, 10), (8, 3, 2, 3), {"groups": 4, "stride": (2, 3), "padding": ((1, 0), (2, 1))}),
    ((2, 9, 12, 7), (9, 1, 3, 3), {"groups": 9, "padding": 1}),
    ((1, 5, 15, 16), (4, 5, 3, 2), {"dilation": (2, 3), "padding": 2}),
    ((3, 24, 8, 8), (10, 24, 1, 1), {}),
    ((1, 700, 5, 5), (3, 700, 5, 5), {"padding": 1}),
    ((2, 2, 100, 97), (2, 2, 3, 3), {"padding": 1, "stride": 1}),
    ((2, 6, 7, 7), (4, 6, 2, 2), {"stride": 3}),
    ((0, 3, 5, 5), (2, 3, 3, 3), {}),
)  # fmt: skip


# By Winograd's algorithm, whatever "auto" prefers: 520 channels in or out, and 1250 tiles, are
# several segments.
WINOGRAD = tuple(
    (x_shape, w_shape, options | {"algorithm": "winograd"})
    for x_shape, w_shape, options in (
        ((2, 3, 11, 13), (5, 3, 3, 3), {}),
        ((1, 20, 14, 9), (33, 20, 3, 3), {"padding": "same"}),
        ((2, 12, 9, 10), (8, 3, 3, 3), {"groups": 4, "padding": ((1, 0), (2, 3))}),
        ((1, 520, 5, 6), (3, 520, 3, 3), {"padding": 1}),
        ((1, 3, 5, 6), (520, 3, 3, 3), {"padding": 2}),
        ((2, 2, 100, 97), (2, 2, 3, 3), {"padding": 1}),
        ((0, 3, 5, 5), (2, 3, 3, 3), {}),
    )
)


def _convolution(which: str, cases: tuple = CONVOLUTIONS) -> Callable[[str], Iterator[np.ndarray]]:
    def run(dtype: str) -> Iterator[np.ndarray]:
        for number, (x_shape, w_shape, options) in enumerate(cases):
            make = mixed if number == 0 else numbers
            x, w = make(x_shape, dtype, "x"), numbers(w_shape, dtype, "w")
            for layout in ("NCHW", "NHWC"):
                if layout == "NHWC":
                    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
                options = options | {"layout": layout}
                bias = numbers(w_shape[:1], dtype, "bias") if number % 2 else None
                if which == "forward":
                    yield hw.conv2d(x, w, bias, **options)
                    continue
                dy = numbers(hw.conv2d(x, w, **options).shape, dtype, "dy")
                if which == "input":
                    yield hw.conv2d_backward_input(dy, w, x.shape, **options)
                elif which == "weight":
                    yield hw.conv2d_backward_weight(dy, x, w.shape, **options)
                else:
                    yield hw.conv2d_backward_bias(dy, layout=layout)

    return run


case("conv2d")(_convolution("forward"))
case("conv2d_backward_input")(_convolution("input"))
case("conv2d_backward_weight")(_convolution("weight"))
case("conv2d_backward_bias")(_convolution("bias"))
case("conv2d by Winograd")(_convolution("forward", WINOGRAD))
case("conv2d_backward_input by Winograd")(_convolution("input", WINOGRAD))
case("conv2d_backward_weight by Winograd")(_convolution("weight", WINOGRAD))

# ---- elementwise ----------------------------------------------------------------------------------

SIZES = ((1031,), (9, 1001), (3, 7, 5, 6))  # ends inside vectors, chunks of 4096 and more


def _elementwise(name: str, *, of_result: bool = False) -> None:
    """Forward, and backward from x or (`of_result`) from y."""
    forward, backward = getattr(hw, name), getattr(hw, f"{name}_backward")

    @case(name)
    def run_forward(dtype: str) -> Iterator[np.ndarray]:
        for shape in SIZES:
            yield forward(mixed(shape, dtype, "x"))
        yield forward(mixed((40, 30), dtype, "x").T[::2, ::-1])

    @case(f"{name}_backward")
    def run_backward(dtype: str) -> Iterator[np.ndarray]:
        for shape in SIZES:
            x = mixed(shape, dtype, "x")
            yield backward(mixed(shape, dtype, "dy")[..., ::-1], forward(x) if of_result else x)
        yield backward(*pairs(dtype))


_elementwise("relu")
_elementwise("sigmoid", of_result=True)
_elementwise("tanh", of_result=True)


def _slopes(dtype: str) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    for shape, axis in (((3, 7, 5, 6), 1), ((2, 3, 50, 50), 1), ((70, 90), -1), ((5, 9001), 0)):
        x = numbers(shape, dtype, "x")
        yield x, numbers((1,), dtype, "alpha"), axis
        yield x, numbers((shape[axis],), dtype, "alpha"), axis
    x, alpha = pairs(dtype)
    yield x[None, :], alpha, 1


@case("prelu")
def _prelu(dtype: str) -> Iterator[np.ndarray]:
    for x, alpha, axis in _slopes(dtype):
        yield hw.prelu(x, alpha, axis=axis)


@case("prelu_backward")
def _prelu_backward(dtype: str) -> Iterator[np.ndarray]:
    for x, alpha, axis in _slopes(dtype):
        yield from hw.prelu_backward(numbers(x.shape, dtype, "dy"), x, alpha, axis=axis)


# ---- pooling, loss, dropout, optimizer ------------------------------------------------------------

POOLS: tuple[tuple[tuple[int, ...], int | tuple[int, int], dict[str, Any]], ...] = (
    ((2, 5, 11, 12), 2, {}),
    ((2, 3, 13, 17), 3, {"stride": 2, "padding": 1}),
    ((1, 20, 9, 9), (2, 4), {"stride": (1, 3), "layout": "NHWC"}),
    ((2, 3, 16, 16), 3, {"stride": 3, "dilation": 2, "ceil_mode": True}),
)  # fmt: skip


@case("max_pool2d")
def _max_pool2d(dtype: str) -> Iterator[np.ndarray]:
    for shape, size, options in POOLS:
        yield hw.max_pool2d(mixed(shape, dtype, "x"), size, **options)


@case("max_pool2d_backward")
def _max_pool2d_backward(dtype: str) -> Iterator[np.ndarray]:
    for shape, size, options in POOLS:
        x = mixed(shape, dtype, "x")
        dy = numbers(hw.max_pool2d(x, size, **options).shape, dtype, "dy")
        yield hw.max_pool2d_backward(dy, x, size, **options)


@case("spatial_pyramid_pool")
def _spatial_pyramid_pool(dtype: str) -> Iterator[np.ndarray]:
    for layout in ("NCHW", "NHWC"):
        yield hw.spatial_pyramid_pool(
            mixed((2, 9, 11, 13), dtype, "x"), (6, 3, 2, 1), layout=layout
        )


@case("spatial_pyramid_pool_backward")
def _spatial_pyramid_pool_backward(dtype: str) -> Iterator[np.ndarray]:
    for layout, channels in (("NCHW", 9), ("NHWC", 13)):
        dy = numbers((2, channels * 50), dtype, "dy")
        x = mixed((2, 9, 11, 13), dtype, "x")
        yield hw.spatial_pyramid_pool_backward(dy, x, (6, 3, 2, 1), layout=layout)


def _logits(dtype: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for shape in ((1, 1), (7, 10), (300, 37), (5000, 3)):
        yield numbers(shape, dtype, "logits", spread=12), np.arange(shape[0]) % shape[1]
    yield mixed((90, 11), dtype, "logits"), np.arange(90) % 11


@case("softmax_cross_entropy")
def _softmax_cross_entropy(dtype: str) -> Iterator[np.ndarray]:
    for logits, labels in _logits(dtype):
        for reduction in ("mean", "sum", "none"):
            yield np.asarray(hw.softmax_cross_entropy(logits, labels, reduction=reduction))


@case("softmax_cross_entropy_backward")
def _softmax_cross_entropy_backward(dtype: str) -> Iterator[np.ndarray]:
    for logits, labels in _logits(dtype):
        yield hw.softmax_cross_entropy_backward(logits, labels)


@case("dropout")
def _dropout(dtype: str) -> Iterator[np.ndarray]:
    for rate, stream in ((0.5, 0), (0.1, "fc1"), (0.0, 3)):
        yield hw.dropout(mixed((3, 3001), dtype, "x"), rate, seed=11, stream=stream)
        yield hw.dropout_backward(numbers((41, 7), dtype, "dy"), rate, seed=11, stream=stream)


@case("sgd_momentum")
def _sgd_momentum(dtype: str) -> Iterator[np.ndarray]:
    for decay in (0.0, 5e-4):
        w, velocity = mixed((5003,), dtype, "w"), numbers((5003,), dtype, "velocity")
        hw.sgd_momentum(w, mixed((5003,), dtype, "dw")[::-1], velocity, learning_rate=0.01,
                        momentum=0.9, weight_decay=decay)  # fmt: skip
        yield from (w, velocity)


# ---- training -------------------------------------------------------------------------------------


@case("training of a PReLU net, 50 steps")
def _training(dtype: str) -> Iterator[np.ndarray]:
    """Weights, slopes and losses of a conv net that learns to tell four made patterns apart."""
    net = models.Network("fingerprint", (
        models.Conv(3, 6), models.Pool(2, 2), models.Conv(3, 8, 2), models.Pyramid((2, 1)),
        models.Full(16), models.Full(4))).build(
            image=12, channels=2, classes=4, seed=3, dtype=dtype, device=Operations.device,
            initializer=partial(halfwave.init.he_normal, negative_slope=0.25))  # fmt: skip
    optimizer = nn.SGD(net.parameters(), learning_rate=0.02, momentum=0.9, weight_decay=5e-4)
    losses = []
    for step in range(50):
        labels = np.arange(16) % 4
        x = numbers((16, 2, 12, 12), dtype, f"x{step % 7}", spread=2)
        for image, label in zip(x, labels, strict=True):
            image[:, 6 * (label // 2) :, 6 * (label % 2) :] *= np.asarray(2, dtype)
        x, labels = (_arrays.to_device(array, net.device) for array in (x, labels))
        logits = net.forward(x, training=True)
        loss = halfwave.softmax_cross_entropy(logits, labels)
        losses.append(loss if net.device == "cpu" else loss.get())
        net.backward(halfwave.softmax_cross_entropy_backward(logits, labels), input_gradient=False)
        optimizer.step()
    yield from (_arrays.to_host(p.value) for p in net.parameters())
    yield np.array(losses)
