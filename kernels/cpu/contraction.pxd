"""The blocked contraction that matmul and every convolution pass are an instance of."""
from libc.stdint cimport int64_t

from halfwave._cpu.axis cimport Axis

# c[slice, i, j] = fold over segments of chains over p of a[slice, i, p] * b[slice, p, j], + bias.
# Every operand is memory plus offsets: a[at(a_slice, s) + at(a_row, i) + at(a_k, p)], and so on; that
# is how strides, layouts, padding and im2col look the same from here.
cdef struct Contraction:
    int64_t itemsize            # 4 or 8
    int64_t slices, rows, columns, k
    const void *a
    const void *b
    void *c
    Axis a_slice, a_row, a_k
    Axis b_slice, b_k, b_column
    Axis c_slice, c_row, c_column
    const void *row_bias        # one of the two, or none: bias[at(bias_slice, s) + i] or [… + j]
    const void *column_bias
    Axis bias_slice

cdef int contract(const Contraction *problem) except -1 nogil

# The axis of `dims` dimensions in C order: sums of index * stride. What is not even takes the next part
# of the table.
cdef Axis axis_of(int64_t **table, int dims, const int64_t *shape, const int64_t *strides) noexcept nogil

# Memory for that many offsets, to be freed; NULL also where their bytes are no size_t: a broadcast axis
# may be longer than memory.
cdef int64_t *offsets_memory(int64_t slices, int64_t rows, int64_t columns, int64_t k) noexcept nogil
