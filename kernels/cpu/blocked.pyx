"""The blocked product: c[i, j] = Σ_p a[i, p] · b[p, j] of one slice, over one super-segment at most.

Loops, outermost first:

    column blocks   as many columns as keep one segment of packed b in the outer caches
    segments        512 steps of the contracted axis: one chain of fused multiply-adds
    row blocks      likewise for a
    tiles           a chunk of row panels × a chunk of column panels is one task

Operands are packed a segment at a time into panels as wide as a register tile, so that the tile reads
both with unit stride whatever the operand's layout is. Packing and tiles are two parallel steps.
Nothing here decides a bit of the result: the tile does the chain, and c folds in ascending order.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.runtime cimport HW_ACCUMULATE, HW_COLUMN_BIAS, HW_ROW_BIAS, parallel_for

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef extern from "transpose.h" nogil:
    void hw_transpose_f32(const float *from_0, const float *from_1, const float *from_2,
                          const float *from_3, float *to, int64_t stride)
    void hw_transpose_f64(const double *from_0, const double *from_1, double *to, int64_t stride)

ctypedef fused real:
    float
    double

# Blocks, in multiples of a tile. Inside a chunk one row panel (14 · 512 floats) stays in the L1 cache
# while the chunk's column panels (4 · 32 · 512 floats) stream from the L2; the packed blocks take a
# share of the L3.
cdef enum:
    ROW_PANELS_A_CHUNK = 16
    COLUMN_PANELS_A_CHUNK = 4
    ROW_PANELS_A_BLOCK = 144
    COLUMN_PANELS_A_BLOCK = 64

# ---- packing --------------------------------------------------------------------------------------


cdef inline bint evenly_spaced(const int64_t *offsets, int64_t count, int64_t stride) noexcept nogil:
    cdef int64_t i
    for i in range(1, count):
        if offsets[i] - offsets[i - 1] != stride:
            return False
    return True


cdef void pack_panel(const real *source, const int64_t *across, const int64_t *along, int64_t count,
                     int64_t width, int64_t k, real *panel) noexcept nogil:
    """panel[p][j] = source[along[p] + across[j]] for j < count, 0 up to width."""
    cdef int64_t starts[64]
    cdef int64_t lengths[64]
    cdef int64_t runs = 0, j, p, run, n
    cdef const real *line
    cdef real *to
    for j in range(count):
        if runs and across[j] == across[j - 1] + 1:
            lengths[runs - 1] += 1
        else:
            starts[runs] = j
            lengths[runs] = 1
            runs += 1
    if runs == 1 and count == width:
        for p in range(k):
            memcpy(panel + p * width, source + along[p] + across[0], width * sizeof(real))
        return
    if count < width:
        memset(panel, 0, k * width * sizeof(real))
    if runs * 4 <= count:
        for p in range(k):
            line = source + along[p]
            to = panel + p * width
            for run in range(runs):
                n = lengths[run]
                memcpy(to + starts[run], line + across[starts[run]], n * sizeof(real))
    elif k > 1 and along[1] == along[0] + 1:
        pack_transposed(source, across, along, count, width, k, panel)
    else:
        for p in range(k):
            line = source + along[p]
            to = panel + p * width
            for j in range(count):
                to[j] = line[across[j]]


cdef void pack_transposed(const real *source, const int64_t *across, const int64_t *along,
                          int64_t count, int64_t width, int64_t k, real *panel) noexcept nogil:
    """The same where the contracted axis is mostly the contiguous one: a 16-byte square at a time."""
    cdef int64_t side = 16 // sizeof(real)
    cdef int64_t j = 0, p, i
    cdef const real *line
    while j < count:
        if count - j < side <= count:
            j = count - side        # the last square overlaps the one before
        p = 0
        while p < k:
            if count < side or k - p < side or not evenly_spaced(along + p, side, 1):
                # Not a square: one step of the contracted axis, or a row's end.
                for i in range(j, min(j + side, count)):
                    panel[p * width + i] = source[across[i] + along[p]]
                p += 1
                continue
            line = source + along[p]
            if real is float:
                hw_transpose_f32(line + across[j], line + across[j + 1], line + across[j + 2],
                                 line + across[j + 3], panel + p * width + j, width)
            else:
                hw_transpose_f64(line + across[j], line + across[j + 1], panel + p * width + j,
                                 width)
            p += side
        j += side


cdef void pack_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Product *product = <Product *>context
    if product.problem.itemsize == 4:
        pack_one[float](product, index, 0)
    else:
        pack_one[double](product, index, 0)


cdef void pack_one(Product *product, int64_t index, real typed) noexcept nogil:
    """Packs one panel: the block's column panels first, if they are due, then its row panels."""
    cdef const Contraction *problem = product.problem
    cdef int64_t k = product.segment_end - product.segment_begin
    cdef int64_t first, count
    if product.pack_columns:
        if index < product.column_panels:
            first = product.column_begin + index * product.tile_columns
            count = min(product.tile_columns, product.column_end - first)
            pack_panel[real](<const real *>product.b, problem.b_column + first,
                             problem.b_k + product.segment_begin, count, product.tile_columns, k,
                             <real *>product.packed_b + index * product.tile_columns * k)
            return
        index -= product.column_panels
    first = product.row_begin + index * product.tile_rows
    count = min(product.tile_rows, product.row_end - first)
    pack_panel[real](<const real *>product.a, problem.a_row + first,
                     problem.a_k + product.segment_begin, count, product.tile_rows, k,
                     <real *>product.packed_a + index * product.tile_rows * k)

# ---- tiles ----------------------------------------------------------------------------------------


cdef inline void run_tile(Product *product, int64_t rows, int64_t k, const real *a, const real *b,
                          real *c, int64_t row_stride, int flags, const real *row_bias,
                          const real *column_bias) noexcept nogil:
    if real is float:
        product.tiles.f32[rows](k, a, 1, product.tile_rows, b, product.tile_columns, c, row_stride,
                                flags, row_bias, column_bias)
    else:
        product.tiles.f64[rows](k, a, 1, product.tile_rows, b, product.tile_columns, c, row_stride,
                                flags, row_bias, column_bias)


cdef void edge_tile(Product *product, int64_t row, int64_t rows, int64_t column, int64_t columns,
                    int64_t k, const real *a, const real *b, int flags) noexcept nogil:
    """A tile that c cannot take as it is: computed beside it, then copied element by element."""
    cdef real tile[16 * 64]
    cdef real row_bias[16]
    cdef real column_bias[64]
    cdef real *c = <real *>product.c
    cdef real *line
    cdef int64_t i, j, width = product.tile_columns
    cdef const int64_t *to = product.c_column + column
    if flags & HW_ACCUMULATE:
        for i in range(rows):
            line = c + product.c_row[row + i]
            for j in range(columns):
                tile[i * width + j] = line[to[j]]
    if flags & HW_ROW_BIAS:
        memcpy(row_bias, <const real *>product.row_bias + row, rows * sizeof(real))
    if flags & HW_COLUMN_BIAS:
        memcpy(column_bias, <const real *>product.column_bias + column, columns * sizeof(real))
    run_tile[real](product, rows, k, a, b, tile, width, flags, row_bias, column_bias)
    for i in range(rows):
        line = c + product.c_row[row + i]
        for j in range(columns):
            line[to[j]] = tile[i * width + j]


cdef void tile_chunk(Product *product, int64_t index, real typed) noexcept nogil:
    """One chunk of column panels × one chunk of row panels, over one segment."""
    cdef int64_t k = product.segment_end - product.segment_begin
    cdef int64_t tile_rows = product.tile_rows, tile_columns = product.tile_columns
    cdef int64_t panel_begin = index // product.row_chunks * COLUMN_PANELS_A_CHUNK
    cdef int64_t panel_end = min(panel_begin + COLUMN_PANELS_A_CHUNK, product.column_panels)
    cdef int64_t strip_begin = index % product.row_chunks * product.row_chunk
    cdef int64_t strip_end = min(strip_begin + product.row_chunk, product.row_panels)
    cdef int64_t panel, strip, row, rows, column, columns, stride
    cdef const real *a
    cdef const real *b
    cdef bint even
    cdef int flags = 0
    if product.segment_begin > product.k_begin:
        flags |= HW_ACCUMULATE
    if product.segment_end == product.k_end:
        flags |= HW_ROW_BIAS if product.row_bias != NULL else 0
        flags |= HW_COLUMN_BIAS if product.column_bias != NULL else 0
    for strip in range(strip_begin, strip_end):
        row = product.row_begin + strip * tile_rows
        rows = min(tile_rows, product.row_end - row)
        a = <const real *>product.packed_a + strip * tile_rows * k
        stride = product.c_row[row + 1] - product.c_row[row] if rows > 1 else 0
        even = (product.tiles.tile_rows[rows] == rows
                and evenly_spaced(product.c_row + row, rows, stride))
        for panel in range(panel_begin, panel_end):
            column = product.column_begin + panel * tile_columns
            columns = min(tile_columns, product.column_end - column)
            b = <const real *>product.packed_b + panel * tile_columns * k
            if (even and columns == tile_columns
                    and evenly_spaced(product.c_column + column, columns, 1)):
                run_tile[real](
                    product, rows, k, a, b,
                    <real *>product.c + product.c_row[row] + product.c_column[column], stride,
                    flags, <const real *>product.row_bias + row,
                    <const real *>product.column_bias + column)
            else:
                edge_tile[real](product, row, rows, column, columns, k, a, b, flags)


cdef void tile_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Product *product = <Product *>context
    if product.problem.itemsize == 4:
        tile_chunk[float](product, index, 0)
    else:
        tile_chunk[double](product, index, 0)

# ---- one product ----------------------------------------------------------------------------------


cdef int64_t packed_a_bytes(const Contraction *problem, int64_t tile_rows) noexcept nogil:
    cdef int64_t panels = min(ceil_div(problem.rows, tile_rows), ROW_PANELS_A_BLOCK)
    return ceil_div(panels * tile_rows * min(problem.k, HW_SEGMENT) * problem.itemsize, 64) * 64


cdef int64_t packed_b_bytes(const Contraction *problem, int64_t tile_columns) noexcept nogil:
    cdef int64_t panels = min(ceil_div(problem.columns, tile_columns), COLUMN_PANELS_A_BLOCK)
    return panels * tile_columns * min(problem.k, HW_SEGMENT) * problem.itemsize


cdef int multiply(Product *product, int threads) except -1 nogil:
    cdef const Contraction *problem = product.problem
    cdef int64_t column_block = COLUMN_PANELS_A_BLOCK * product.tile_columns
    cdef int64_t row_block = ROW_PANELS_A_BLOCK * product.tile_rows
    cdef int64_t column = 0, row, k, chunks
    while column < problem.columns:
        product.column_begin = column
        product.column_end = min(column + column_block, problem.columns)
        product.column_panels = ceil_div(product.column_end - column, product.tile_columns)
        k = product.k_begin
        while k < product.k_end:
            product.segment_begin = k
            product.segment_end = min(k + HW_SEGMENT, product.k_end)
            row = 0
            while row < problem.rows:
                product.row_begin = row
                product.row_end = min(row + row_block, problem.rows)
                product.row_panels = ceil_div(product.row_end - row, product.tile_rows)
                chunks = ceil_div(product.column_panels, COLUMN_PANELS_A_CHUNK)
                # Smaller chunks than the caches would take where threads would go without.
                product.row_chunks = max(ceil_div(product.row_panels, ROW_PANELS_A_CHUNK),
                                         min(product.row_panels, ceil_div(4 * threads, chunks)))
                product.row_chunk = ceil_div(product.row_panels, product.row_chunks)
                product.pack_columns = row == 0
                parallel_for(pack_task, product, product.row_panels
                             + (product.column_panels if row == 0 else 0), threads)
                parallel_for(tile_task, product, chunks * product.row_chunks, threads)
                row = product.row_end
            k = product.segment_end
        column = product.column_end
    return 0
