"""Operands as tiles take them: what a product is, its tiles, and packing where its offsets are not even."""
from libc.stdint cimport int64_t

from halfwave._cpu.axis cimport Axis, evenly_spaced, gap
from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.runtime cimport hw_contraction_tiles

ctypedef fused real:
    float
    double

# One product of one slice over one super-segment, and the memory to pack it in.
cdef struct Product:
    const Contraction *problem
    const hw_contraction_tiles *tiles
    int64_t tile_columns
    const char *a               # of the slice
    const char *b
    char *c
    Axis c_row, c_column
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
    int64_t a_width             # rows packed together then
    bint b_k_adjacent           # mostly
    bint b_rows_adjacent        # b is an ordinary matrix, of any distance between rows
    bint b_in_place, few_rows
    int64_t row_chunks, column_chunks       # how c is cut


cdef enum:
    PAD = 16        # elements after what would else be a power of two apart


cdef inline void run_tile(Product *product, bint narrow, int64_t rows, int64_t k, const real *a,
                          int64_t a_row, int64_t a_k, int64_t a_ahead, const real *b, int64_t b_k,
                          const real *next, int64_t next_k, real *c, int64_t c_row, int flags,
                          const real *row_bias, const real *column_bias) noexcept nogil:
    if real is float:
        if narrow:
            product.tiles.narrow_f32[rows](k, a, a_row, a_k, a_ahead, b, b_k, next, next_k, c, c_row,
                                           flags, row_bias, column_bias)
        else:
            product.tiles.f32[rows](k, a, a_row, a_k, a_ahead, b, b_k, next, next_k, c, c_row, flags,
                                    row_bias, column_bias)
    elif narrow:
        product.tiles.narrow_f64[rows](k, a, a_row, a_k, a_ahead, b, b_k, next, next_k, c, c_row,
                                       flags, row_bias, column_bias)
    else:
        product.tiles.f64[rows](k, a, a_row, a_k, a_ahead, b, b_k, next, next_k, c, c_row, flags,
                                row_bias, column_bias)


cdef inline bint even_steps(const Product *product, int64_t k_begin, int64_t k) noexcept nogil:
    """Whether those of a are, of a segment."""
    cdef const Axis *along = &product.problem.a_k
    return k == 1 or evenly_spaced(along, k_begin, k, gap(along, k_begin))


cdef bint mostly_adjacent(const Axis *axis, int64_t first, int64_t count) noexcept nogil
cdef void pack_b(Product *product, int64_t column, int64_t columns, int64_t k_begin, int64_t k,
                 real *panels, int64_t panel, int64_t pitch) noexcept nogil
cdef const real *strip_of_a(Product *product, int64_t row, int64_t rows, int64_t k_begin, int64_t k,
                            bint even_k, real *strip, int64_t *a_row, int64_t *a_k) noexcept nogil


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b
