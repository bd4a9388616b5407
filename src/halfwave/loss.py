"""Softmax cross-entropy: CONTRACT.md, section 9."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays
from ._cpu import loss as _cpu
from ._cpu import reduction as _reduction
from ._cuda import loss as _cuda
from ._cuda import reduction as _cuda_reduction


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, *, reduction: str = "mean"
) -> np.floating[Any] | np.ndarray:
    """Cross-entropy of softmax: ``loss[i] = -log(softmax(logits[i])[labels[i]])``.

    Computed as ``log(sum_j exp(x[j] - m)) - (x[label] - m)`` with m the largest logit of the row.

    Parameters
    ----------
    logits : array of float32 or float64, shape (N, K)
    labels : array of integers, shape (N,)
        Each in [0, K). On a GPU, where nothing waits to look, another label makes the row NaN.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    NumPy scalar of logits' dtype, or with "none" an array of it, shape (N,)
        The mean of no rows is NaN. Of GPU arrays, an array of shape () in place of a scalar.

    Raises
    ------
    TypeError, ValueError
        For another dtype or shape, a label out of range, or another reduction.
    """
    logits, labels = _checked(logits, labels)
    _arrays.choice(reduction, "reduction", ("mean", "sum", "none"))
    gpu = _arrays.on_gpu(logits)
    kernels, sums = (_cuda, _cuda_reduction) if gpu else (_cpu, _reduction)
    arrays = _arrays.library(logits)
    losses = arrays.empty(len(logits), logits.dtype)
    if len(logits):
        kernels.cross_entropy(logits, labels, losses)
    if reduction == "none":
        return losses
    total = arrays.empty(1, logits.dtype)
    sums.channel_sums(losses.reshape(1, 1, -1), total)
    if gpu:  # a scalar of NumPy's would be waited for
        if reduction == "mean":
            _cuda.divide(total, len(logits))
        return total.reshape(())
    if reduction == "sum":
        return total[0]
    return total[0] / logits.dtype.type(len(logits)) if len(logits) else logits.dtype.type(np.nan)


def softmax_cross_entropy_backward(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of `softmax_cross_entropy`: ``(softmax(logits) - onehot(labels)) / N``.

    Parameters
    ----------
    logits, labels
        What `softmax_cross_entropy` was given.
    reduction : {"mean", "sum"}
        "sum" does not divide by N.
    out : array of logits' shape and dtype, optional
        Where to write the gradient; returned.

    Returns
    -------
    array of logits' shape and dtype

    Raises
    ------
    TypeError, ValueError
        As for `softmax_cross_entropy`, and for an `out` as in `relu`.
    """
    logits, labels = _checked(logits, labels)
    _arrays.choice(reduction, "reduction", ("mean", "sum"))
    gradient, finish = _arrays.output(out, logits.shape, logits.dtype, [logits, labels])
    if logits.size:
        kernels = _cuda if _arrays.on_gpu(logits) else _cpu
        kernels.cross_entropy_backward(
            logits, labels, len(logits) if reduction == "mean" else 1, gradient
        )
    return finish()


def _checked(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    logits = _arrays.array(logits, "logits", ndim=2)
    if isinstance(labels, np.ndarray):
        labels = np.asarray(labels)  # a mask hides from the search below what the kernel reads
    elif hasattr(labels, "__dlpack__") or hasattr(labels, "__cuda_array_interface__"):
        labels = _arrays.foreign(labels, "labels")
    if not hasattr(labels, "dtype") or labels.dtype.kind not in "iu":
        kind = labels.dtype if hasattr(labels, "dtype") else type(labels).__name__
        raise TypeError(f"labels must be an array of integers, not {kind}")
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels must have shape ({logits.shape[0]},), one a row of logits, not {labels.shape}"
        )
    _arrays.same_device(labels, "labels", logits, "logits")
    logits = _arrays.contiguous(logits)  # so that what no memory can hold is not searched, either
    if _arrays.on_gpu(logits):  # to look at the labels here would be to wait for the GPU
        return logits, _arrays.contiguous(labels.astype(np.int64, copy=False))
    labels = labels.copy()  # ours alone: nobody changes what has been checked
    if labels.size:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= logits.shape[1]:
            raise ValueError(
                f"labels must lie in [0, {logits.shape[1]}), the columns of logits, "
                f"not {low if low < 0 else high}"
            )
    return logits, np.ascontiguousarray(labels, np.int64)
