"""Matrix products: offset tables for the contraction, from arrays of any strides.

product(a, b, bias, out, slices, rows, columns, contracted) reads the dimensions of
    a as (slices…, rows…, contracted…),  b as (slices…, contracted…, columns…),
    out as (slices…, rows…, columns…),
so that forward and both backward passes, batches and sums over a broadcast batch are the same call on
transposed views. Each group of dimensions is flattened in C order; that is the contracted order.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from halfwave._cpu.contraction cimport Contraction, contract, fill_offsets
from halfwave._cpu.runtime cimport Hold, View


cdef int64_t group_size(const View *view, int first, int dims) noexcept nogil:
    cdef int64_t size = 1
    cdef int i
    for i in range(first, first + dims):
        size *= view.shape[i]
    return size


cdef int64_t *group_offsets(int64_t **table, const View *view, int first, int dims) noexcept nogil:
    """Fills the next part of the table with one group's offsets; returns where it begins."""
    cdef int64_t *offsets = table[0]
    fill_offsets(offsets, 0, dims, view.shape + first, view.strides + first)
    table[0] += group_size(view, first, dims)
    return offsets


def product(a, b, bias, out, int slices, int rows, int columns, int contracted):
    """Fill `out`; all arguments are checked by halfwave.matmul. `bias` runs along the columns."""
    cdef Hold hold = Hold()
    cdef View view_a, view_b, view_c, view_bias
    cdef Contraction problem
    cdef int64_t *table
    cdef int64_t *next
    cdef int64_t i
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
        table = <int64_t *>malloc(8 * (4 * problem.slices + 2 * (
            problem.rows + problem.columns + problem.k)))
        if table == NULL:
            with gil:
                raise MemoryError("no memory for the offsets of a matrix product")
        try:
            next = table
            problem.a_slice = group_offsets(&next, &view_a, 0, slices)
            problem.b_slice = group_offsets(&next, &view_b, 0, slices)
            problem.c_slice = group_offsets(&next, &view_c, 0, slices)
            problem.bias_slice = next
            for i in range(problem.slices):
                next[i] = 0
            next += problem.slices
            problem.a_row = group_offsets(&next, &view_a, slices, rows)
            problem.a_k = group_offsets(&next, &view_a, slices + rows, contracted)
            problem.b_k = group_offsets(&next, &view_b, slices, contracted)
            problem.b_column = group_offsets(&next, &view_b, slices + contracted, columns)
            problem.c_row = group_offsets(&next, &view_c, slices, rows)
            problem.c_column = group_offsets(&next, &view_c, slices + rows, columns)
            contract(&problem)
        finally:
            free(table)
