"""Matrix products: the axes of the contraction, from arrays of any strides.

product(a, b, bias, out, slices, rows, columns, contracted) reads the dimensions of
    a as (slices…, rows…, contracted…),  b as (slices…, contracted…, columns…),
    out as (slices…, rows…, columns…),
so that forward and both backward passes, batches and sums over a broadcast batch are the same call on
transposed views. Each group of dimensions is flattened in C order; that is the contracted order.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memset

from halfwave._cpu.axis cimport Axis
from halfwave._cpu.contraction cimport Contraction, axis_of, contract, offsets_memory
from halfwave._cpu.runtime cimport Hold, Plain, View, fresh


cdef int64_t group_size(const View *view, int first, int dims) noexcept nogil:
    cdef int64_t size = 1
    cdef int i
    for i in range(first, first + dims):
        size *= view.shape[i]
    return size


cdef Axis group(int64_t **table, const View *view, int first, int dims) noexcept nogil:
    return axis_of(table, dims, view.shape + first, view.strides + first)


def product(a, b, bias, out, int slices, int rows, int columns, int contracted):
    """Fill `out`; all arguments are checked by halfwave.matmul. `bias` runs along the columns."""
    cdef Hold hold = Hold()
    cdef View view_a, view_b, view_c, view_bias
    cdef Contraction problem
    cdef int64_t *table
    cdef int64_t *next
    hold.view(a, &view_a, False)
    hold.view(b, &view_b, False)
    hold.view(out, &view_c, True)
    problem.itemsize = view_c.itemsize
    problem.a, problem.b, problem.c = view_a.data, view_b.data, view_c.data
    problem.row_bias = problem.column_bias = NULL
    if bias is not None:
        hold.view(bias, &view_bias, False)
        problem.column_bias = view_bias.data
    problem.slices = group_size(&view_c, 0, slices)
    problem.rows = group_size(&view_c, slices, rows)
    problem.columns = group_size(&view_c, slices + rows, columns)
    problem.k = group_size(&view_a, slices + rows, contracted)
    if view_c.size == 0:
        return
    with nogil:
        table = offsets_memory(problem.slices, problem.rows, problem.columns, problem.k)
        if table == NULL:
            with gil:
                raise MemoryError("no memory for the offsets of a matrix product")
        try:
            next = table
            problem.a_slice = group(&next, &view_a, 0, slices)
            problem.b_slice = group(&next, &view_b, 0, slices)
            problem.c_slice = group(&next, &view_c, 0, slices)
            problem.bias_slice = Axis(NULL, 0)
            problem.a_row = group(&next, &view_a, slices, rows)
            problem.a_k = group(&next, &view_a, slices + rows, contracted)
            problem.b_k = group(&next, &view_b, slices, contracted)
            problem.b_column = group(&next, &view_b, slices + contracted, columns)
            problem.c_row = group(&next, &view_c, slices, rows)
            problem.c_column = group(&next, &view_c, slices + rows, columns)
            contract(&problem)
        finally:
            free(table)


def plain(a, b, out):
    """out, or a fresh array, = a @ b of plain matrices that fit; None, with nothing done, where not.

    The short way in: it saves a small product the checks in Python, which take longer than it.
    """
    cdef Plain arrays = Plain()
    cdef Contraction problem
    cdef int64_t m, n, k
    memset(&problem, 0, sizeof(Contraction))
    problem.a = arrays.add(a, False, False)
    problem.b = arrays.add(b, False, False) if problem.a != NULL else NULL
    if problem.b == NULL or arrays.buffers[0].ndim != 2 or arrays.buffers[1].ndim != 2:
        return None
    m, k = arrays.buffers[0].shape[0], arrays.buffers[0].shape[1]
    n = arrays.buffers[1].shape[1]
    out = fresh(a, (m, n)) if out is None else out
    problem.c = arrays.add(out, True, False)
    if problem.c == NULL or arrays.buffers[2].ndim != 2:
        return None
    if (arrays.buffers[1].shape[0] != k or arrays.buffers[2].shape[0] != m
            or arrays.buffers[2].shape[1] != n or m == 0 or n == 0):
        return None
    if (problem.c == problem.a or problem.c == problem.b
            or arrays.overlap(0, 2) or arrays.overlap(1, 2)):
        return None
    problem.itemsize = arrays.buffers[0].itemsize
    problem.slices, problem.rows, problem.columns, problem.k = 1, m, n, k
    problem.a_row, problem.a_k = Axis(NULL, k), Axis(NULL, 1)
    problem.b_k, problem.b_column = Axis(NULL, n if k > 1 else 1), Axis(NULL, 1)
    problem.c_row, problem.c_column = Axis(NULL, n), Axis(NULL, 1)
    with nogil:
        contract(&problem)
    return out
