"""The CUDA loss against the CPU's, to the bit."""

import numpy as np
import pytest
from conftest import same_bits

import halfwave as hw

SHAPES = [(1, 1), (7, 10), (3, 32), (5, 33), (2, 1500), (9, 4096), (2, 4097), (3, 9000)]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_cross_entropy(cuda, rng, shape, dtype):
    logits = rng.standard_normal(shape).astype(dtype) * 5
    labels = rng.integers(0, shape[1], shape[0])
    expected = [
        hw.softmax_cross_entropy(logits, labels, reduction=r) for r in ("mean", "sum", "none")
    ]
    for number, reduction in zip(expected, ("mean", "sum", "none"), strict=True):
        actual = hw.softmax_cross_entropy(cuda.put(logits), cuda.put(labels), reduction=reduction)
        assert actual.shape == np.shape(number)
        same_bits(cuda.get(actual), np.asarray(number))
    for reduction in ("mean", "sum"):
        cuda.agrees(hw.softmax_cross_entropy_backward, logits, labels, reduction=reduction)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_special_logits(cuda, rng, dtype):
    logits = rng.standard_normal((12, 40)).astype(dtype)
    logits[1, 3], logits[2, 5], logits[3] = np.nan, np.inf, -np.inf
    logits[4], logits[5], logits[6, 7] = 0, -0.0, -np.inf
    labels = np.arange(12, dtype=np.uint8)
    cuda.agrees(hw.softmax_cross_entropy, logits, labels, reduction="none")
    cuda.agrees(hw.softmax_cross_entropy_backward, logits, labels)


def test_no_rows(cuda):
    logits, labels = np.zeros((0, 5), "f4"), np.zeros(0, np.int64)
    for reduction in ("mean", "sum"):
        got = hw.softmax_cross_entropy(cuda.put(logits), cuda.put(labels), reduction=reduction)
        same_bits(
            cuda.get(got), np.asarray(hw.softmax_cross_entropy(logits, labels, reduction=reduction))
        )
    cuda.agrees(hw.softmax_cross_entropy_backward, logits, labels)


def test_a_label_out_of_range_is_nan(cuda, rng):
    logits = rng.standard_normal((4, 6)).astype("f4")
    labels = np.array([0, 6, -1, 5])
    losses = cuda.get(
        hw.softmax_cross_entropy(cuda.put(logits), cuda.put(labels), reduction="none")
    )
    gradient = cuda.get(hw.softmax_cross_entropy_backward(cuda.put(logits), cuda.put(labels)))
    assert np.isnan(losses).tolist() == [False, True, True, False]
    assert np.isnan(gradient).all(1).tolist() == [False, True, True, False]
    assert np.isfinite(gradient[[0, 3]]).all()


def test_mixed_devices(cuda, rng):
    logits, labels = rng.standard_normal((4, 6)).astype("f4"), np.arange(4)
    with pytest.raises(TypeError, match="labels must lie in GPU memory"):
        hw.softmax_cross_entropy(cuda.put(logits), labels)
    with pytest.raises(TypeError, match="labels must lie in CPU memory"):
        hw.softmax_cross_entropy(logits, cuda.put(labels))
