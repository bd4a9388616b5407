"""Random words and variates on the GPU against the CPU's, to the bit."""

import sys

import numpy as np
import pytest
from conftest import same_bits
from halfwave._cpu import random as cpu

import halfwave as hw
from halfwave._cuda import random as gpu
from halfwave._cuda import runtime

DTYPES = ["float32", "float64", "float16"]
SIZES = [(), 0, 1, 3, 4, 5, 2047, 2048, 2052, 4096, 8195, (3, 5, 7), (4, 0, 2)]
ENDS = [(0, 0), (2**64 - 1, 2**64 - 1), (2**32, 2**32 - 1), (7, "conv1")]
WHOLE = (6, 10, 96)
SHARDS = [
    np.s_[:3], np.s_[2:], np.s_[1:5, 3:], np.s_[:, :, 32:64], np.s_[:, :, 33:66], np.s_[:, :, ::2],
    np.s_[::-1], np.s_[:, ::-2, 8:], np.s_[::-2, 7:1:-3, 90:3:-5], np.s_[5:2], np.s_[3:4, 2:3, 7:8],
]  # fmt: skip
BOUNDS = [(-2.0, 2.0), (-np.inf, 0.5), (1.0, np.inf), (-np.inf, -6.5), (-6.6, -6.5), (-0.1, 7.0)]


def agrees(cuda, function, *arguments, **options):
    """Fails unless the devices' arrays have the same bits."""
    expected = function(*arguments, **options)
    actual = function(*arguments, device="cuda", **options)
    assert isinstance(actual, cuda.arrays.ndarray)
    same_bits(cuda.get(actual), expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bits(cuda, size):
    for seed, stream in ENDS:
        agrees(cuda, hw.random.bits, size, seed=seed, stream=stream)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(cuda, size, dtype):
    options = {"seed": 5, "stream": 2**63, "dtype": dtype}
    agrees(cuda, hw.init.uniform, size, -3.0, 2.5, **options)
    agrees(cuda, hw.init.normal, size, 0.5, 2.0, **options)
    agrees(cuda, hw.init.truncated_normal, size, -1.0, 3.0, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shard", SHARDS, ids=str)
def test_shards(cuda, shard, dtype):
    shard = shard if isinstance(shard, tuple) else (shard,)
    agrees(cuda, hw.random.bits, WHOLE, seed=3, shard=shard)
    agrees(cuda, hw.init.normal, WHOLE, seed=3, dtype=dtype, shard=shard)
    if len(range(*shard[0].indices(6))) > 2:
        large = (6, 64, 96)  # whole blocks of threads
        agrees(cuda, hw.init.uniform, large, seed=3, dtype=dtype, shard=shard)


def test_far_elements_and_many_dimensions(cuda):
    first = 2**58 - 5000
    for step in (1, 3):
        agrees(cuda, hw.random.bits, 2**58, seed=7, stream=3, shard=(slice(first, None, step),))
    agrees(cuda, hw.init.normal, 2**58, seed=7, dtype="float64", shard=(slice(first, None),))
    shape, shard = (3,) * 8, (slice(None, None, 2),) * 8
    agrees(cuda, hw.init.uniform, shape, seed=1, shard=shard)
    shape, shard = (2, 2, 3) * 4 + (8, 3, 8), (*[slice(1), slice(2), slice(2)] * 4, slice(2, 8))
    agrees(cuda, hw.init.uniform, shape, seed=1, shard=shard)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lower", "upper"), BOUNDS, ids=str)
def test_truncated(cuda, lower, upper, dtype):
    for mean, std in ((0.0, 1.0), (-3.0, 0.25)):
        agrees(cuda, hw.init.truncated_normal, 4099, mean, std, lower, upper, seed=9, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_parameters(cuda, dtype):
    largest = float(np.finfo(dtype).max)
    agrees(cuda, hw.init.uniform, 4099, 1.0, 1.0009765625, seed=9, dtype=dtype)  # rounds to high
    agrees(cuda, hw.init.uniform, 4099, 0.0, largest, seed=9, dtype=dtype)
    agrees(cuda, hw.init.normal, 4099, largest, largest, seed=9, dtype=dtype)  # overflows
    agrees(cuda, hw.init.normal, 4099, 0.0, 1e-7, seed=9, dtype=dtype)  # float16: subnormal
    agrees(cuda, hw.init.normal, 4099, 1.0, 0.0, seed=9, dtype=dtype)


@pytest.mark.parametrize(("dtype", "bits"), [("f4", 32), ("f8", 64)])
def test_normals_of_words(cuda, rng, dtype, bits):
    """The extreme words, those about the centre and where the regions meet, and others."""
    ends = [0, 2 ** (bits - 1), int(0.925 * 2**bits), 2**28, 2 ** (bits - 36)]
    near = [(end + i) % 2**bits for end in ends for i in range(-40, 40)]
    others = rng.integers(2**bits, size=999, dtype=f"u{bits // 8}")
    words = np.concatenate([np.array(near, others.dtype), others])
    expected = np.empty(words.shape, dtype)
    cpu.draw(words, expected, "normal", (0.0, 1.0))
    out = cuda.arrays.empty(words.shape, dtype)
    gpu.normals(cuda.put(words), out)
    same_bits(cuda.get(out), expected)


def test_variance_scaling(cuda):
    for name in ("he_normal", "xavier_uniform", "lecun_truncated_normal"):
        agrees(cuda, getattr(hw.init, name), (16, 8, 3, 3), seed=1, stream="conv1")
        agrees(cuda, getattr(hw.init, name), (3, 3, 8, 16), seed=1, layout="HWIO", dtype="float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_out(cuda, dtype):
    expected = hw.init.normal((33, 120), seed=2, dtype=dtype)
    whole = cuda.put(np.zeros((33, 240), dtype))
    flat = cuda.put(np.zeros(33 * 120 + 3, dtype))
    options = {"seed": 2, "dtype": dtype, "device": "cuda"}
    for out in (whole[:, ::2], whole[::-1, 1::2], flat[1:-2].reshape(33, 120)):
        assert hw.init.normal((33, 120), out=out, **options) is out
        same_bits(cuda.get(out), expected)
    assert not cuda.get(flat)[[0, -2, -1]].any()
    words = cuda.put(np.zeros((9, 4), "u4"))
    assert hw.random.bits((9, 4), seed=1, device="cuda", out=words) is words
    same_bits(cuda.get(words), hw.random.bits((9, 4), seed=1))


def test_refuses(cuda):
    here, there = np.zeros(5, "f4"), cuda.put(np.zeros(5, "f4"))
    for function in (hw.init.normal, hw.init.uniform, hw.random.bits):
        with pytest.raises(TypeError, match="out must be a CuPy array"):
            function(5, seed=1, device="cuda", out=here)
        with pytest.raises(TypeError, match="out must be a NumPy array"):
            function(5, seed=1, out=there)
        with pytest.raises(ValueError, match="device must be one of 'cpu', 'cuda', not 'gpu'"):
            function(5, seed=1, device="gpu")
        with pytest.raises(TypeError, match="device must be one of 'cpu', 'cuda', not int"):
            function(5, seed=1, device=0)
    with pytest.raises(TypeError, match="out must be uint32"):
        hw.random.bits(5, seed=1, device="cuda", out=there)
    with pytest.raises(ValueError, match="out must have shape"):
        hw.init.normal(6, seed=1, device="cuda", out=there)


def test_no_cupy(monkeypatch):
    monkeypatch.setattr(runtime, "_device", None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match="GPU arrays need CuPy"):
        hw.init.normal(5, seed=1, device="cuda")
