"""What only a GPU can show; collected where one is found (see conftest.py).

All CUDA tests of the other files run on it too, as the parameter "gpu" of the fixture `cuda`.
"""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import same_bits
from test_generator_proofs import ALL_NORMALS

import halfwave as hw
from halfwave import fingerprint
from halfwave._cuda import random

cupy = pytest.importorskip("cupy")
pytestmark = pytest.mark.gpu


def on_gpu(rng, *shape):
    return cupy.asarray(rng.standard_normal(shape, dtype=np.float32))


@pytest.mark.parametrize("name", fingerprint.CASES)
def test_fingerprint(name):
    assert fingerprint.compute(name, "cuda") == fingerprint.expected()[name]


@pytest.mark.slow
def test_all_normals():
    """Those of the words 0 … 2**32 - 1: CONTRACT.md has their hash."""
    sha, piece = hashlib.sha256(), 1 << 26
    out = cupy.empty(piece, cupy.float32)
    for begin in range(0, 1 << 32, piece):
        random.normals(cupy.arange(begin, begin + piece, dtype=cupy.uint32), out)
        sha.update(out.get())
    assert sha.hexdigest() == ALL_NORMALS


# ---- arrays of more than 2**31 elements: a part is computed on the CPU ------------------------------

MANY = 2**31 + 4096 * 3 + 5


def ends_agree(function, *whole):
    """An elementwise function's first and last elements."""
    result = function(*whole)
    for part in (slice(0, 5000), slice(2**31 - 2500, 2**31 + 2500), slice(-5000, None)):
        same_bits(result[part].get(), function(*(x[part].get() for x in whole)))


@pytest.fixture
def many():
    yield hw.init.normal(MANY, seed=1, device="cuda")
    cupy.get_default_memory_pool().free_all_blocks()


def test_many_activations(many):
    ends_agree(hw.relu, many)
    ends_agree(lambda x: hw.prelu(x, cupy.get_array_module(x).full(1, 0.25, "f4")), many)


def test_many_random_numbers(many):
    for part in (slice(0, 5000), slice(2**31 - 2500, 2**31 + 2500), slice(MANY - 5000, MANY)):
        same_bits(many[part].get(), hw.init.normal(MANY, seed=1, shard=(part,)))


def test_many_dropped(many):
    for part in (slice(0, 5000), slice(2**31 - 2500, 2**31 + 2500), slice(MANY - 5000, MANY)):
        words = hw.random.bits(MANY, seed=2, shard=(part,))
        expected = np.where(words >> 8 >= 2**23, many[part].get() * 2, np.float32(0))
        same_bits(hw.dropout(many, 0.5, seed=2)[part].get(), expected)


def test_many_in_a_sum(many):
    """Of ±1, so that any order of the sum is exact."""
    ones = cupy.ones(MANY, cupy.float32)
    ones[::2] = -1
    total = hw.matmul_backward_bias(ones.reshape(-1, 1))
    assert total.get() == [-1.0]


def test_many_outputs_of_a_product():
    a, b = cupy.ones((2**16 + 3, 2), cupy.float32), cupy.ones((2, 2**15 + 1), cupy.float32)
    a[-1], b[:, -1] = 2, 3
    c = hw.matmul(a, b)
    assert c.size > 2**31
    assert c[-1, -1] == 12
    assert c[0, 0] == 2
    assert c[-1, 0] == 4


def test_many_pixels_of_a_convolution():
    x = cupy.ones((1, 2, 2**15 + 4, 2**15), cupy.float32)
    w = np.arange(18, dtype="f4").reshape(1, 2, 3, 3)
    for algorithm in ("direct", "winograd"):
        y = hw.conv2d(x, cupy.asarray(w), algorithm=algorithm)
        part = hw.conv2d(np.ones((1, 2, 12, 12), "f4"), w, algorithm=algorithm)
        same_bits(y[0, 0, -10:, -10:].get(), part[0, 0])


ROWS = 2**19 + 3  # of 4096 numbers each: more than 2**31


def rows_agree(result, function, *whole):
    """The first rows, those around number 2**31, and the last ones, computed on the CPU from theirs."""
    for part in (slice(0, 2), slice(2**19 - 1, 2**19 + 1), slice(-2, None)):
        same_bits(result[part].get(), function(*(x[part].get() for x in whole)))


def test_many_maxima(many):
    images = many[: ROWS * 4096].reshape(ROWS, 1, 64, 64)
    y = hw.max_pool2d(images, 3, stride=2)
    rows_agree(y, lambda x: hw.max_pool2d(x, 3, stride=2), images)
    dx = hw.max_pool2d_backward(y, images, 3, stride=2)
    rows_agree(dx, lambda dy, x: hw.max_pool2d_backward(dy, x, 3, stride=2), y, images)


def test_many_logits(many):
    logits, labels = many[: ROWS * 4096].reshape(ROWS, 4096), cupy.asarray(np.arange(ROWS) % 4096)
    losses = hw.softmax_cross_entropy(logits, labels, reduction="none")
    rows_agree(
        losses, lambda x, y: hw.softmax_cross_entropy(x, y, reduction="none"), logits, labels
    )


def test_many_weights(many):
    w, velocity = many.copy(), cupy.ones_like(many)
    hw.sgd_momentum(w, many, velocity, learning_rate=0.1)

    def step(before):
        after, speed = before.copy(), np.ones_like(before)
        hw.sgd_momentum(after, before, speed, learning_rate=0.1)
        return after

    for part in (slice(0, 5000), slice(2**31 - 2500, 2**31 + 2500), slice(-5000, None)):
        same_bits(w[part].get(), step(many[part].get()))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_many_pixels_of_a_depthwise_convolution(many, layout):
    images = many[: ROWS * 4096].reshape(ROWS, *((4, 32, 32) if layout == "NCHW" else (32, 32, 4)))
    w = hw.init.normal((4, 1, 3, 3), seed=3)
    options = {"padding": 1, "groups": 4, "layout": layout}
    y = hw.conv2d(images, cupy.asarray(w), **options)
    rows_agree(y, lambda x: hw.conv2d(x, w, **options), images)


# ---- streams, graphs, memory ------------------------------------------------------------------------


def operations(rng):
    """Calls that write to out=, by name, of every family."""
    x, dy = on_gpu(rng, 4, 32, 28, 28), on_gpu(rng, 4, 32, 28, 28)
    w, alpha = on_gpu(rng, 32, 32, 3, 3), on_gpu(rng, 32)
    a, b, c = on_gpu(rng, 200, 700), on_gpu(rng, 700, 300), on_gpu(rng, 200, 300)
    y, dw, pooled = cupy.empty_like(x), cupy.empty_like(w), cupy.empty((4, 32, 14, 14), "f4")
    return {
        "relu": lambda: hw.relu(x, out=y),
        "prelu_backward": lambda: hw.prelu_backward(dy, x, alpha, out=y)[0],
        "matmul": lambda: hw.matmul(a, b, out=c),
        "direct": lambda: hw.conv2d(x, w, padding=1, algorithm="direct", out=y),
        "winograd": lambda: hw.conv2d(x, w, padding=1, out=y),
        "backward_weight": lambda: hw.conv2d_backward_weight(dy, x, w.shape, padding=1, out=dw),
        "max_pool2d": lambda: hw.max_pool2d(x, 2, out=pooled),
        "dropout": lambda: hw.dropout(x, 0.5, seed=1, out=y),
        "normal": lambda: hw.init.normal(y.shape, seed=1, device="cuda", out=y),
    }


def test_on_another_stream(rng):
    for name, call in operations(rng).items():
        expected = call().get()
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            found = call().get()
        print(name)  # shown where the next line fails
        same_bits(found, expected)


def test_in_a_graph(rng):
    for name, call in operations(rng).items():
        expected = call().get()
        stream = cupy.cuda.Stream(non_blocking=True)
        pool = cupy.cuda.MemoryPool()  # of the graph alone: its temporary memory is nobody else's
        with stream, cupy.cuda.using_allocator(pool.malloc):
            result = call()
            stream.begin_capture()
            call()
            graph = stream.end_capture()
            result.fill(7)
            graph.launch(stream)
        stream.synchronize()
        print(name)
        same_bits(result.get(), expected)


def test_memory_is_stable(rng):
    calls = operations(rng)
    for call in calls.values():
        call()
    cupy.cuda.Device().synchronize()
    before = cupy.get_default_memory_pool().total_bytes()
    for _ in range(10_000 // len(calls) + 1):
        for call in calls.values():
            call()
    cupy.cuda.Device().synchronize()
    assert cupy.get_default_memory_pool().total_bytes() == before


def test_memory_comes_from_the_current_allocator(rng):
    x = on_gpu(rng, 1000)
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        y = hw.relu(x)
    assert pool.used_bytes() >= y.nbytes


def test_fortran_order(rng):
    a, b = rng.standard_normal((40, 50), dtype="f4"), rng.standard_normal((50, 30), dtype="f4")
    there = [cupy.asarray(m.T.copy()).T for m in (a, b)]
    out = cupy.zeros((30, 40), "f4").T
    assert hw.matmul(*there, out=out) is out
    same_bits(out.get(), hw.matmul(a, b))


def test_torch_tensors_are_taken(rng):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("a PyTorch without CUDA")
    x = torch.randn(100, device="cuda")
    same_bits(hw.relu(x).get(), hw.relu(x.cpu().numpy()))
    with pytest.raises(TypeError, match="x cannot be read as a CuPy array"):
        hw.relu(x.requires_grad_())


def test_import_wakes_no_gpu():
    code = "import halfwave, sys; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
