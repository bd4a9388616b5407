"""Softmax cross-entropy and the exponential under it, to the bit."""

import numpy as np
import pytest
import reference
import reference_random
from cases import layouts_of, specials
from conftest import everywhere, same_bits
from guards import bad_arrays, bad_outs, refuses, table

import halfwave as hw

DTYPES = ["f4", "f8"]


@pytest.mark.parametrize(("dtype", "low", "high"), [("f4", -104, 89), ("f8", -746, 710)])
def test_error_of_exp(dtype, low, high, rng):
    """Of the oracle, which the kernels equal; in extended precision, subnormal results too."""
    x = np.concatenate(
        [rng.uniform(low, high, 300_000), rng.standard_normal(100_000),
         np.exp(rng.uniform(-60, 0, 50_000)) * rng.choice([-1, 1], 50_000)]
    ).astype(dtype)  # fmt: skip
    result, exact = reference.exp(x), np.exp(x.astype(np.longdouble))
    finite = np.isfinite(result)
    assert np.all(exact[~finite] > np.finfo(dtype).max)
    error = np.abs(result[finite] - exact[finite]) / np.spacing(exact[finite].astype(dtype))
    assert error.max() < 1.1
    limits = np.array([np.inf, -np.inf, np.nan, 0, -0.0], dtype)
    same_bits(reference.exp(limits), np.array([np.inf, 0, np.nan, 1, 1], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "classes"),
    [(1, 1), (3, 2), (7, 10), (130, 33), (5, 1000), (2, 4097), (1, 12 * 4096 + 5), (5000, 3)],
)
def test_cross_entropy(rows, classes, dtype, rng):
    logits = (rng.standard_normal((rows, classes)) * 10).astype(dtype)
    labels = rng.integers(0, classes, rows)
    losses, gradient = reference.cross_entropy(logits, labels, reference_random.log)
    same_bits(
        everywhere(lambda: hw.softmax_cross_entropy(logits, labels, reduction="none")), losses
    )
    total = reference.sum_rule(losses)
    same_bits(hw.softmax_cross_entropy(logits, labels, reduction="sum"), total)
    same_bits(hw.softmax_cross_entropy(logits, labels), total / total.dtype.type(rows))
    same_bits(
        everywhere(lambda: hw.softmax_cross_entropy_backward(logits, labels)),
        gradient / total.dtype.type(rows),
    )
    same_bits(hw.softmax_cross_entropy_backward(logits, labels, reduction="sum"), gradient)

    wide = logits.astype("f8")
    shifted = wide - wide.max(1, keepdims=True)
    exact = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(rows), labels]
    assert np.all(np.abs(losses - exact) <= 8 * np.finfo(dtype).eps * (1 + np.abs(shifted).max(1)))
    softmax = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    softmax[np.arange(rows), labels] -= 1
    assert np.all(np.abs(gradient - softmax) <= 40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_logits(dtype, rng):
    logits = rng.choice(specials(dtype), (400, 5))
    logits[200:, 1:] = rng.standard_normal((200, 4))
    labels = rng.integers(0, 5, 400)
    losses, gradient = reference.cross_entropy(logits, labels, reference_random.log)
    same_bits(
        everywhere(lambda: hw.softmax_cross_entropy(logits, labels, reduction="none")), losses
    )
    same_bits(
        everywhere(lambda: hw.softmax_cross_entropy_backward(logits, labels, reduction="sum")),
        gradient,
    )


def test_gradient_is_the_derivative(rng):
    logits, labels = rng.standard_normal((4, 6)), np.array([0, 5, 2, 2])
    gradient = hw.softmax_cross_entropy_backward(logits, labels)
    for i, j in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[i, j] = 1e-5
        slope = (
            hw.softmax_cross_entropy(logits + step, labels)
            - hw.softmax_cross_entropy(logits - step, labels)
        ) / 2e-5
        assert abs(slope - gradient[i, j]) < 1e-9


def test_kinds_of_memory_labels_and_results(rng):
    logits, labels = rng.standard_normal((6, 10)).astype("f4"), rng.integers(0, 10, 6)
    loss = hw.softmax_cross_entropy(logits, labels)
    assert type(loss) is np.float32
    gradient = hw.softmax_cross_entropy_backward(logits, labels)
    for _, given in layouts_of(logits):
        same_bits(hw.softmax_cross_entropy(given, labels), loss)
        same_bits(hw.softmax_cross_entropy_backward(given, labels), gradient)
    for kind, out in layouts_of(np.zeros_like(logits)):
        if kind != "read-only":
            assert hw.softmax_cross_entropy_backward(logits, labels, out=out) is out
            same_bits(out, gradient)
    same_bits(
        hw.softmax_cross_entropy_backward(buffer := logits.copy(), labels, out=buffer), gradient
    )
    for dtype in ("u1", "i2", ">i4", "u8", "i8"):
        same_bits(hw.softmax_cross_entropy(logits, labels.astype(dtype)), loss)
    doubled = np.repeat(labels, 2)[::2]
    same_bits(hw.softmax_cross_entropy(logits, doubled), loss)
    none, nobody = logits[:0], labels[:0]
    assert np.isnan(hw.softmax_cross_entropy(none, nobody))
    assert hw.softmax_cross_entropy(none, nobody, reduction="sum") == 0
    assert hw.softmax_cross_entropy(none, nobody, reduction="none").shape == (0,)
    assert hw.softmax_cross_entropy_backward(none, nobody).shape == (0, 10)


LOGITS, LABELS = np.ones((3, 4), "f4"), np.array([0, 1, 3])
BAD = (
    table("logits", [*bad_arrays(LOGITS), LOGITS[0], LOGITS[None], LOGITS[:2], LOGITS[:, :3]])
    + table("labels", [None, 1, [0, 1, 3], LABELS.astype("f4"), LABELS > 0, LABELS.astype(object)])
    + table("labels", [LABELS[:2], LABELS[None], LABELS + 1, LABELS - 1, LABELS[:0]])
    + table("labels", [np.array([0, 1, 2**63], "u8"), np.array(["a", "b", "c"])])
    + table("labels", [np.ma.masked_array([0, 1, 10**9], [0, 0, 1])])  # hidden, and yet read
    + table("reduction", ["", "Mean", None, 1, "max"])
)


@pytest.mark.parametrize(("change", "name"), BAD)
def test_bad_cross_entropy(change, name):
    good = {"logits": LOGITS, "labels": LABELS}
    refuses(hw.softmax_cross_entropy, good, change, [name, "labels"])


@pytest.mark.parametrize(
    ("change", "name"), BAD + table("reduction", ["none"]) + table("out", bad_outs(LOGITS))
)
def test_bad_cross_entropy_backward(change, name):
    good = {"logits": LOGITS, "labels": LABELS, "out": LOGITS}
    refuses(hw.softmax_cross_entropy_backward, good, change, [name, "labels"])


def test_checked_labels_are_a_copy():
    """Another thread may change the caller's labels after the check; the kernel must not see it."""
    from halfwave.loss import _checked

    labels = np.array([0, 1], np.int64)
    assert not np.shares_memory(_checked(np.zeros((2, 3), np.float32), labels)[1], labels)
