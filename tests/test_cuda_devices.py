"""Several GPUs: a call's arrays all lie on the current one, or it is refused before it writes."""

import numpy as np
import pytest
from conftest import same_bits

import halfwave as hw


@pytest.fixture
def arrays(cuda, monkeypatch):
    """The emulation's arrays, whose number of the current GPU a test may change."""
    if not cuda.emulated:
        pytest.skip("of the emulation, which has as many GPUs as a test likes")
    monkeypatch.setattr(cuda.arrays, "current", 0)
    return cuda.arrays


def on(arrays, gpu, *shape, dtype=np.float32):
    return arrays.ndarray(np.ones(shape, dtype), gpu)


REFUSED = {
    "relu": ("x", lambda there, here: hw.relu(there(2))),
    "relu, out": ("out", lambda there, here: hw.relu(here(2), out=there(2))),
    "relu_backward": ("dy", lambda there, here: hw.relu_backward(there(2), here(2))),
    "prelu": ("alpha", lambda there, here: hw.prelu(here(2, 2), there(2))),
    "prelu_backward, out": (
        "out", lambda there, here: hw.prelu_backward(here(2), here(2), here(1), out=there(2))
    ),
    "dropout": ("x", lambda there, here: hw.dropout(there(2), 0.5, seed=1)),
    "matmul": ("b", lambda there, here: hw.matmul(here(2, 2), there(2, 2))),
    "matmul, bias": ("bias", lambda there, here: hw.matmul(here(2, 2), here(2, 2), bias=there(2))),
    "matmul, out": ("out", lambda there, here: hw.matmul(here(2, 2), here(2, 2), out=there(2, 2))),
    "matmul_backward": ("dy", lambda there, here: hw.matmul_backward(there(2, 2), *[here(2, 2)] * 2)),
    "conv2d": ("w", lambda there, here: hw.conv2d(here(1, 1, 3, 3), there(1, 1, 3, 3))),
    "max_pool2d": ("x", lambda there, here: hw.max_pool2d(there(1, 1, 2, 2), 2)),
    "labels": (
        "labels",
        lambda there, here: hw.softmax_cross_entropy(here(2, 3), there(2, dtype=np.int64)),
    ),
    "sgd_momentum": (
        "velocity", lambda there, here: hw.sgd_momentum(here(2), here(2), there(2), learning_rate=1.0)
    ),
    "bits": (
        "out", lambda there, here: hw.random.bits(2, seed=1, device="cuda",
                                                  out=there(2, dtype=np.uint32)),
    ),
    "he_normal": (
        "out", lambda there, here: hw.init.he_normal((2, 2), seed=1, device="cuda", out=there(2, 2))
    ),
    "constant": ("out", lambda there, here: hw.init.zeros(2, device="cuda", out=there(2))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_another_gpu_is_refused(cuda, arrays, name):
    parameter, call = REFUSED[name]
    made = []

    def there(*shape, **options):
        made.append(on(arrays, 1, *shape, **options))
        return made[-1]

    before = len(cuda.device.launched)
    message = (
        rf"^{parameter} must lie on GPU 0, which is CuPy's current one, not on GPU 1: call within"
    )
    with pytest.raises(ValueError, match=message):
        call(there, lambda *shape, **options: on(arrays, 0, *shape, **options))
    assert len(cuda.device.launched) == before
    assert all((x.host == 1).all() for x in made)


def test_the_current_gpu_computes(arrays, rng):
    x = rng.standard_normal((5, 7)).astype("f4")
    arrays.current = 1
    there = on(arrays, 1, 5, 7)
    there.set(x)
    y = hw.relu(there)
    assert y.gpu == 1
    same_bits(y.get(), hw.relu(x))
    product = hw.matmul(there, there.T)
    assert product.gpu == 1
    same_bits(product.get(), hw.matmul(x, x.T))
    assert hw.init.he_normal((2, 2), seed=1, device="cuda").gpu == 1
