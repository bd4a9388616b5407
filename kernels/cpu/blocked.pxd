"""One product of one slice over one super-segment: blocks of c, shared out to the threads."""
from libc.stdint cimport int64_t

from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.runtime cimport hw_contraction_tiles

# A group of offsets that are evenly spaced; else stride is 0.
cdef struct Spacing:
    bint even
    int64_t stride

# One product of one slice over one super-segment, and the memory to pack it in.
cdef struct Product:
    const Contraction *problem
    const hw_contraction_tiles *tiles
    int64_t tile_columns
    Spacing a_k, b_k, b_column              # the same for all slices
    const char *a               # of the slice
    const char *b
    char *c
    int64_t c_segment           # elements from one segment's sums to the next one's, if apart; else 0
    const int64_t *c_row
    const int64_t *c_column
    const char *row_bias
    const char *column_bias
    int64_t k_begin, k_end
    char *packing               # a worker's share each
    int64_t packing_bytes
    int64_t strips, panels      # tiles of the whole of c
    int64_t block_panels        # of a block, at most
    int64_t panel_size          # elements from a packed panel to the next
    bint few_strips             # so few that b should not be waited for
    bint a_row_adjacent, b_column_adjacent  # the latter mostly
    bint a_across               # rows of a are adjacent, its steps far apart
    bint b_rows_adjacent        # b is an ordinary matrix, of any distance between rows
    bint b_in_place, few_rows
    int64_t row_chunks, column_chunks       # how c is cut

cdef int multiply(Product *product, int threads) except -1 nogil

# Fills in what holds for all slices.
cdef void survey(Product *product, const Contraction *problem,
                 const hw_contraction_tiles *tiles) noexcept nogil


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b
