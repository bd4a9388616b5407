"""One product of one slice over one super-segment, blocked, packed and shared out to the threads."""
from libc.stdint cimport int64_t

from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.runtime cimport hw_contraction_tiles

# One product of one slice over one super-segment, and the memory to pack it in.
cdef struct Product:
    const Contraction *problem
    const hw_contraction_tiles *tiles
    int64_t tile_rows, tile_columns
    const char *a               # of the slice
    const char *b
    char *c
    const int64_t *c_row
    const int64_t *c_column
    const char *row_bias
    const char *column_bias
    int64_t k_begin, k_end
    char *packed_a
    char *packed_b
    # where the loops stand
    int64_t column_begin, column_end, row_begin, row_end, segment_begin, segment_end
    int64_t column_panels, row_panels       # of the block
    int64_t row_chunk, row_chunks           # panels a chunk, chunks a block
    bint pack_columns

cdef int multiply(Product *product, int threads) except -1 nogil

# What packed_a and packed_b must hold, at most.
cdef int64_t packed_a_bytes(const Contraction *problem, int64_t tile_rows) noexcept nogil
cdef int64_t packed_b_bytes(const Contraction *problem, int64_t tile_columns) noexcept nogil


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b
