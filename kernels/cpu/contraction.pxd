"""The blocked contraction that matmul and every convolution pass are an instance of."""
from libc.stdint cimport int64_t

# c[slice, i, j] = fold over segments of chains over p of a[slice, i, p] * b[slice, p, j], + bias.
# Every operand is memory plus offsets in elements: a[a_slice[s] + a_row[i] + a_k[p]], and so on; that
# is how strides, layouts, padding and im2col look the same from here.
cdef struct Contraction:
    int64_t itemsize            # 4 or 8
    int64_t slices, rows, columns, k
    const void *a
    const void *b
    void *c
    const int64_t *a_slice
    const int64_t *a_row
    const int64_t *a_k
    const int64_t *b_slice
    const int64_t *b_k
    const int64_t *b_column
    const int64_t *c_slice
    const int64_t *c_row
    const int64_t *c_column
    const void *row_bias        # one of the two, or none: bias[bias_slice[s] + i] or [… + j]
    const void *column_bias
    const int64_t *bias_slice

cdef int contract(const Contraction *problem) except -1 nogil

# Offsets of the elements of `dims` dimensions in C order: base + sum of index * stride.
cdef void fill_offsets(int64_t *offsets, int64_t base, int dims, const int64_t *shape,
                       const int64_t *strides) noexcept nogil

# Memory for that many offsets, to be freed; NULL also where their bytes are no size_t: a broadcast axis
# may be longer than memory.
cdef int64_t *offsets_memory(int64_t slices, int64_t rows, int64_t columns, int64_t k) noexcept nogil
