"""Matrix products, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays, _plan
from ._cpu import matmul as _cpu
from ._cpu import reduction as _cpu_reduction
from ._cuda import matmul as _cuda
from ._cuda import reduction as _cuda_reduction


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    *,
    bias: np.ndarray | None = None,
    precision: str | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Matrix product ``a @ b (+ bias)`` by NumPy's rules for shapes.

    Every output is a chain of fused multiply-adds over each 512 terms, folded in order (CONTRACT.md
    section 3): the same bits for every instruction set, thread count, stride and batch.

    Parameters
    ----------
    a : array, shape (..., m, k) or (k,)
    b : array, shape (..., k, n) or (k,)
        float32 or float64, as `a`. Leading dimensions broadcast.
    bias : array, shape (n,), optional
        Added to every row, after the sum. Not for a `b` of one dimension.
    precision : {None, "tf32", "bf16"}
        None for the same bits everywhere. The others, for float32 GPU arrays, round factors to TF32
        (11 bits) or bfloat16 (8 bits) and sum in float32 on the tensor cores: the same from run to
        run, and no more.
    out : array, shape (..., m, n), optional
        Where to write; any strides. It may overlap the inputs.

    Returns
    -------
    array
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or dtypes differ.
    ValueError
        If the shapes do not fit, or `out` cannot be written.
    """
    if bias is None and precision is None:
        product = _cpu.plain(a, b, out)
        if product is not None:
            return product
        product = _cuda.plain(a, b, out)
        if product is not None:
            return product
    a = _arrays.array(a, "a")
    b = _arrays.array(b, "b", beside=a, like="a is")
    batch, rows, _, columns = _plan.matmul_sizes(a.shape, b.shape)
    chosen = _chosen(_arrays.precision(precision, a))
    shape = batch
    shape += (rows,) if a.ndim > 1 else ()
    shape += (columns,) if b.ndim > 1 else ()
    inputs = [a, b]
    if bias is not None:
        if b.ndim == 1:
            raise ValueError("bias must be None where b has one dimension")
        bias = _arrays.contiguous(_arrays.array(bias, "bias", ndim=1, beside=a, like="a is"))
        if bias.shape != (columns,):
            raise ValueError(f"bias must have shape ({columns},), not {bias.shape}")
        inputs.append(bias)
    target, finish = _arrays.output(out, shape, a.dtype, inputs, strided=True)
    view = target
    if b.ndim == 1:
        b, view = b[:, None], view[..., None]
    if a.ndim == 1:
        a, view = a[None, :], view[..., None, :]
    if b.ndim == 2:  # a's batch is only more rows
        _kernels(a).product(a, b, bias, view, 0, a.ndim - 1, 1, 1, *chosen)
    else:
        a = _broadcast(a, batch + a.shape[-2:])
        b = _broadcast(b, batch + b.shape[-2:])
        _kernels(a).product(a, b, bias, view, len(batch), 1, 1, 1, *chosen)
    return finish()


def matmul_backward(
    dy: np.ndarray, a: np.ndarray, b: np.ndarray, *, precision: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``matmul(a, b)``: ``dy @ bᵀ`` and ``aᵀ @ dy``.

    Where an operand was broadcast over a batch, its gradient sums over that batch in the same
    contraction: the contracted axis is the batch and the rows (or columns), in C order.

    Parameters
    ----------
    dy : array
        Gradient of the result, of its shape and dtype.
    a, b : array
        The operands of the forward pass.
    precision : {None, "tf32", "bf16"}
        As of `matmul`.

    Returns
    -------
    da, db : array
        Of the shapes of `a` and `b`.

    Raises
    ------
    TypeError, ValueError
        If dtypes differ or `dy` does not have the shape of ``matmul(a, b)``.
    """
    dy = _arrays.array(dy, "dy")
    a = _arrays.array(a, "a", beside=dy, like="dy is")
    b = _arrays.array(b, "b", beside=dy, like="dy is")
    batch, rows, _, columns = _plan.matmul_sizes(a.shape, b.shape)
    shape = batch
    shape += (rows,) if a.ndim > 1 else ()
    shape += (columns,) if b.ndim > 1 else ()
    if dy.shape != shape:
        raise ValueError(f"dy must have shape {shape}, not {dy.shape}")
    chosen = _chosen(_arrays.precision(precision, dy))
    if a.ndim == b.ndim == 2:
        library, kernels = _arrays.library(dy), _kernels(dy)
        da = _arrays.fresh(library, a.shape, dy.dtype)
        db = _arrays.fresh(library, b.shape, dy.dtype)
        kernels.product(dy, b.T, None, da, 0, 1, 1, 1, *chosen)
        kernels.product(a.T, dy, None, db, 0, 1, 1, 1, *chosen)
        return da, db
    dy = dy.reshape((*batch, rows, columns))  # adds dimensions of size 1 only: a view
    matrix_a = a[None, :] if a.ndim == 1 else a
    matrix_b = b[:, None] if b.ndim == 1 else b
    da = _product_summed(dy, _swap(matrix_b), matrix_a.shape, chosen)
    db = _product_summed(_swap(matrix_a), dy, matrix_b.shape, chosen)
    return da.reshape(a.shape), db.reshape(b.shape)


def matmul_backward_bias(dy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient of a product's bias: the sum of ``dy`` over all dimensions but the last.

    Parameters
    ----------
    dy : array, shape (..., n)
    out : array, shape (n,), optional

    Returns
    -------
    array, shape (n,)
        By CONTRACT.md section 5.

    Raises
    ------
    TypeError, ValueError
        If `dy` is no float array of at least one dimension, or `out` cannot be written.
    """
    dy = _arrays.array(dy, "dy")
    if dy.ndim == 0:
        raise ValueError("dy must have at least one dimension")
    columns = dy.shape[-1]
    target, finish = _arrays.output(out, (columns,), dy.dtype, [dy])
    rows = dy.size // columns if columns else 0
    reduction = _cuda_reduction if _arrays.on_gpu(dy) else _cpu_reduction
    reduction.channel_sums(_arrays.contiguous(dy).reshape(rows, columns, 1), target)
    return finish()


def _chosen(precision: str | None) -> tuple[str, ...]:
    """What a product takes last, of a GPU that was asked for something else than the same bits."""
    return () if precision is None else (precision,)


def _kernels(x: np.ndarray) -> Any:
    return _cuda if _arrays.on_gpu(x) else _cpu


def _broadcast(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return _arrays.library(x).broadcast_to(x, shape)


def _swap(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(-1, -2)


def _product_summed(
    x: np.ndarray, y: np.ndarray, shape: tuple[int, ...], chosen: tuple[str, ...]
) -> np.ndarray:
    """``x @ y`` summed over the batch dimensions that the result, of `shape`, does not have."""
    batch = x.shape[:-2] if x.ndim > y.ndim else y.shape[:-2]
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2], batch)
    x = _broadcast(x, batch + x.shape[-2:])
    y = _broadcast(y, batch + y.shape[-2:])
    out = _arrays.fresh(_arrays.library(x), shape, x.dtype)
    own = (1,) * (len(batch) + 2 - len(shape)) + shape[:-2]
    summed = [i for i, n in enumerate(batch) if own[i] == 1 and n != 1]
    kept = [i for i in range(len(batch)) if i not in summed]
    row, column = len(batch), len(batch) + 1
    x = x.transpose(*kept, row, *summed, column)
    y = y.transpose(*kept, *summed, row, column)
    target = out.reshape([batch[i] for i in kept] + [shape[-2], shape[-1]])
    _kernels(x).product(x, y, None, target, len(kept), 1, 1, len(summed) + 1, *chosen)
    return out
