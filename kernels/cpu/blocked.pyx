"""The blocked product: c[i, j] = Σ_p a[i, p] · b[p, j] of one slice, over one super-segment at most.

c is cut into blocks, and a block is one task that waits for no other: it reads or packs what it needs
of a and b in memory of its own. Loops inside a block, outermost first:

    segments    512 steps of the contracted axis: one chain of fused multiply-adds
    strips      as many rows as a tile is high, whose part of a stays in the L1 cache
    panels      as many columns as a tile is wide, whose parts of b stay in the L2

A tile reads its operands at any stride. So evenly spaced rows of a are never packed; b is, unless it
is small, since rows of b far apart would fall on one another in the caches. A product of few rows
uses b once and must not wait for it: few_rows goes through it in the order of memory, as fast as that
can be read, some steps of every chain at a time.

Nothing here decides a bit of the result: the tile does the chain, and c folds in ascending order.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, HW_COLUMN_BIAS, HW_RESUME, HW_ROW_BIAS, hw_contraction_tiles, parallel_for,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef extern from "transpose.h" nogil:
    void hw_transpose_f32(const float *from_0, const float *from_1, const float *from_2,
                          const float *from_3, float *to, int64_t stride)
    void hw_transpose_f64(const double *from_0, const double *from_1, double *to, int64_t stride)

ctypedef fused real:
    float
    double

# Measured on a Zen 4 core, GFLOP/s of 117. Strips of 8 or 14 rows in place: 113 and 113 for 256³, 110
# and 77 for 1024³, 103 and 84 for 4096 × 4096 × 64; a packed: 108, 105, 78. b in place or packed:
# 113 and 110 for 256³, 77 and 110 for 1024³.
cdef enum:
    PANELS_A_BLOCK = 8          # of b, packed: 512 KiB, for the L2 cache
    ROWS_IN_PLACE = 8           # of a: at worst all fall on one set of the L1 cache, which has 8 ways
    BYTES_IN_PLACE = 1 << 20    # of b, from the first row of a segment to its last
    FEW_ROWS = 16
    LINES_OF_B = 64             # panels a task of few_rows goes along at a time: 8 KiB of a row of b
    PAD = 16

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


cdef const real *panel_of_b(Product *product, int64_t column, int64_t columns, int64_t k_begin,
                            int64_t k, bint in_place, real *panel, int64_t *stride) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a panel: in place, or packed into `panel`."""
    cdef const Contraction *problem = product.problem
    cdef int64_t width = product.tile_columns
    cdef const real *b = <const real *>product.b + problem.b_k[k_begin] + problem.b_column[column]
    cdef bint whole = columns == width and product.b_k.even and product.b_column.even
    stride[0] = width
    if whole and product.b_column.stride == 1:
        if in_place:
            stride[0] = product.b_k.stride
            return b
        if real is float:
            product.tiles.copy_f32(k, b, product.b_k.stride, panel)
        else:
            product.tiles.copy_f64(k, b, product.b_k.stride, panel)
    elif whole and product.b_k.stride == 1:
        if real is float:
            product.tiles.transpose_f32(k, b, product.b_column.stride, panel)
        else:
            product.tiles.transpose_f64(k, b, product.b_column.stride, panel)
    else:
        if columns * 2 <= width:
            stride[0] = width // 2
        pack_panel[real](<const real *>product.b, problem.b_column + column, problem.b_k + k_begin,
                         columns, stride[0], k, panel)
    return panel


cdef const real *strip_of_a(Product *product, int64_t row, int64_t rows, int64_t k_begin, int64_t k,
                            real *strip, int64_t *a_row, int64_t *a_k) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a strip: in place, or packed where nothing is even."""
    cdef const Contraction *problem = product.problem
    if product.a_row.even and product.a_k.even:
        a_row[0], a_k[0] = product.a_row.stride, product.a_k.stride
        return <const real *>product.a + problem.a_row[row] + problem.a_k[k_begin]
    a_row[0], a_k[0] = 1, rows
    pack_panel[real](<const real *>product.a, problem.a_row + row, problem.a_k + k_begin, rows, rows,
                     k, strip)
    return strip

# ---- tiles ----------------------------------------------------------------------------------------


cdef inline void run_tile(Product *product, bint narrow, int64_t rows, int64_t k, const real *a,
                          int64_t a_row, int64_t a_k, const real *b, int64_t b_k, real *c,
                          int64_t c_row, int flags, const real *row_bias,
                          const real *column_bias) noexcept nogil:
    if real is float:
        if narrow:
            product.tiles.narrow_f32[rows](k, a, a_row, a_k, b, b_k, c, c_row, flags, row_bias,
                                           column_bias)
        else:
            product.tiles.f32[rows](k, a, a_row, a_k, b, b_k, c, c_row, flags, row_bias, column_bias)
    elif narrow:
        product.tiles.narrow_f64[rows](k, a, a_row, a_k, b, b_k, c, c_row, flags, row_bias,
                                       column_bias)
    else:
        product.tiles.f64[rows](k, a, a_row, a_k, b, b_k, c, c_row, flags, row_bias, column_bias)


cdef void edge_tile(Product *product, int64_t row, int64_t rows, int64_t column, int64_t columns,
                    int64_t k, const real *a, int64_t a_row, int64_t a_k, const real *b,
                    int64_t b_k, int flags) noexcept nogil:
    """A tile that c cannot take as it is: computed beside it, then copied element by element."""
    cdef real tile[16 * 64]
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
    if flags & HW_COLUMN_BIAS:
        memcpy(column_bias, <const real *>product.column_bias + column, columns * sizeof(real))
    run_tile[real](product, columns * 2 <= width, rows, k, a, a_row, a_k, b, b_k, tile, width, flags,
                   <const real *>product.row_bias + row, column_bias)
    for i in range(rows):
        line = c + product.c_row[row + i]
        for j in range(columns):
            line[to[j]] = tile[i * width + j]


cdef void block(Product *product, int64_t index, real *packing, real typed) noexcept nogil:
    """All of a block of c: a range of strips × a range of panels."""
    cdef const Contraction *problem = product.problem
    cdef int64_t width = product.tile_columns
    cdef int64_t row_chunk = index % product.row_chunks
    cdef int64_t column_chunk = index // product.row_chunks
    cdef int64_t strip_begin = product.strips * row_chunk // product.row_chunks
    cdef int64_t strip_end = product.strips * (row_chunk + 1) // product.row_chunks
    cdef int64_t panel_begin = product.panels * column_chunk // product.column_chunks
    cdef int64_t panel_end = product.panels * (column_chunk + 1) // product.column_chunks
    cdef const real *b[PANELS_A_BLOCK]
    cdef int64_t b_k[PANELS_A_BLOCK]
    cdef const real *a
    cdef real *strip_memory = packing + PANELS_A_BLOCK * width * HW_SEGMENT
    cdef int64_t a_row = 0, a_k = 0, k_begin, k, strip, panel, row, rows, column, columns, stride, i
    cdef bint even
    cdef int flags
    k_begin = product.k_begin
    while k_begin < product.k_end:
        k = min(HW_SEGMENT, product.k_end - k_begin)
        flags = HW_ACCUMULATE if k_begin > product.k_begin else 0
        if k_begin + k == product.k_end:
            flags |= HW_ROW_BIAS if product.row_bias != NULL else 0
            flags |= HW_COLUMN_BIAS if product.column_bias != NULL else 0
        for panel in range(panel_begin, panel_end):
            i = panel - panel_begin
            column = panel * width
            b[i] = panel_of_b[real](product, column, min(width, problem.columns - column), k_begin, k,
                                    product.b_in_place, packing + i * width * k, &b_k[i])
        for strip in range(strip_begin, strip_end):
            row = problem.rows * strip // product.strips
            rows = problem.rows * (strip + 1) // product.strips - row
            a = strip_of_a[real](product, row, rows, k_begin, k, strip_memory, &a_row, &a_k)
            stride = product.c_row[row + 1] - product.c_row[row] if rows > 1 else 0
            even = evenly_spaced(product.c_row + row, rows, stride)
            for panel in range(panel_begin, panel_end):
                i = panel - panel_begin
                column = panel * width
                columns = min(width, problem.columns - column)
                if even and columns == width and evenly_spaced(product.c_column + column, columns, 1):
                    run_tile[real](
                        product, False, rows, k, a, a_row, a_k, b[i], b_k[i],
                        <real *>product.c + product.c_row[row] + product.c_column[column], stride,
                        flags, <const real *>product.row_bias + row,
                        <const real *>product.column_bias + column)
                else:
                    edge_tile[real](product, row, rows, column, columns, k, a, a_row, a_k, b[i],
                                    b_k[i], flags)
        k_begin += k


cdef void few_rows(Product *product, int64_t index, real *packing, real typed) noexcept nogil:
    """All rows × a range of panels, some steps of every chain at a time.

    Chains go on in memory beside c (HW_RESUME). 8 rows of b at a time are what prefetchers follow
    best (42 GB/s of the 43 that reading alone reaches); more, where arithmetic takes longer.
    """
    cdef const Contraction *problem = product.problem
    cdef int64_t width = product.tile_columns, rows = problem.rows
    cdef int64_t panel_begin = product.panels * index // product.column_chunks
    cdef int64_t panel_end = product.panels * (index + 1) // product.column_chunks
    cdef int64_t first = panel_begin * width
    cdef int64_t line_length = (panel_end - panel_begin) * width + PAD
    cdef int64_t k_begin = product.k_begin, k_end, at, k, steps, panel, column, columns
    cdef int64_t strip, row, height, a_row = 0, a_k = 0, b_k = 0, i, j
    cdef const real *a
    cdef const real *b
    cdef real *chains = packing + width * HW_SEGMENT
    cdef real *strip_memory = chains + rows * (LINES_OF_B * width + PAD)
    cdef real *c = <real *>product.c
    cdef real *line
    cdef real value
    if product.b_k.even and product.b_column.even and product.b_column.stride == 1:
        steps = 8 if rows <= 4 and not product.b_in_place else 16
    else:
        steps = HW_SEGMENT
    while k_begin < product.k_end:
        k_end = min(k_begin + HW_SEGMENT, product.k_end)
        at = k_begin
        while at < k_end:
            k = min(steps, k_end - at)
            for panel in range(panel_begin, panel_end):
                column = panel * width
                columns = min(width, problem.columns - column)
                b = panel_of_b[real](product, column, columns, at, k, True, packing, &b_k)
                for strip in range(product.strips):
                    row = rows * strip // product.strips
                    height = rows * (strip + 1) // product.strips - row
                    a = strip_of_a[real](product, row, height, at, k, strip_memory, &a_row, &a_k)
                    run_tile[real](product, columns * 2 <= width, height, k, a, a_row, a_k, b, b_k,
                                   chains + row * line_length + column - first, line_length,
                                   HW_RESUME if at > k_begin else 0, NULL, NULL)
            at += k
        for i in range(rows):
            line = c + product.c_row[i]
            for j in range(first, min(panel_end * width, problem.columns)):
                value = chains[i * line_length + j - first]
                if k_begin > product.k_begin:
                    value = line[product.c_column[j]] + value
                if k_end == product.k_end:
                    if product.row_bias != NULL:
                        value = value + (<const real *>product.row_bias)[i]
                    if product.column_bias != NULL:
                        value = value + (<const real *>product.column_bias)[j]
                line[product.c_column[j]] = value
        k_begin = k_end


cdef void block_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Product *product = <Product *>context
    cdef char *packing = product.packing + worker * product.packing_bytes
    if product.few_rows:
        if product.problem.itemsize == 4:
            few_rows[float](product, index, <float *>packing, 0)
        else:
            few_rows[double](product, index, <double *>packing, 0)
    elif product.problem.itemsize == 4:
        block[float](product, index, <float *>packing, 0)
    else:
        block[double](product, index, <double *>packing, 0)

# ---- one product ----------------------------------------------------------------------------------


cdef Spacing spacing(const int64_t *offsets, int64_t count) noexcept nogil:
    cdef Spacing result
    result.stride = offsets[1] - offsets[0] if count > 1 else 1
    result.even = evenly_spaced(offsets, count, result.stride)
    return result


cdef void survey(Product *product, const Contraction *problem,
                 const hw_contraction_tiles *tiles) noexcept nogil:
    cdef int64_t width, height = tiles.rows, elements
    product.problem = problem
    product.tiles = tiles
    product.tile_columns = width = tiles.columns_f32 if problem.itemsize == 4 else tiles.columns_f64
    product.c_row = problem.c_row
    product.c_column = problem.c_column
    product.a_row = spacing(problem.a_row, problem.rows)
    product.a_k = spacing(problem.a_k, problem.k)
    product.b_k = spacing(problem.b_k, problem.k)
    product.b_column = spacing(problem.b_column, problem.columns)
    product.b_in_place = (
        product.b_k.even and product.b_column.even and product.b_column.stride == 1
        and 0 <= product.b_k.stride * problem.itemsize <= BYTES_IN_PLACE // min(problem.k, HW_SEGMENT))
    if product.a_row.even and product.a_k.even:
        height = min(height, ROWS_IN_PLACE)
    product.strips = ceil_div(problem.rows, height)
    product.panels = ceil_div(problem.columns, width)
    product.few_rows = problem.rows <= FEW_ROWS and (problem.rows < 4 or not product.b_in_place)
    if product.few_rows:
        elements = width * HW_SEGMENT + problem.rows * (LINES_OF_B * width + PAD)
    else:
        elements = PANELS_A_BLOCK * width * HW_SEGMENT
    elements += tiles.rows * HW_SEGMENT
    product.packing_bytes = ceil_div(elements * problem.itemsize, 64) * 64


cdef void cut(Product *product, int threads) noexcept nogil:
    """Into blocks: enough for the threads, and the longer side first, for what is read twice then."""
    cdef int64_t rows = product.problem.rows, columns = product.problem.columns
    cdef int64_t wanted = threads
    product.row_chunks = 1
    product.column_chunks = ceil_div(product.panels, PANELS_A_BLOCK)
    if threads == 1:
        return
    if <double>rows * columns * (product.k_end - product.k_begin) > 2.0**22 * threads:
        wanted = 4 * threads
    while product.row_chunks * product.column_chunks < wanted:
        if (rows // product.row_chunks > 2 * (columns // product.column_chunks)
                or product.column_chunks == product.panels):
            if product.row_chunks == product.strips:
                return
            product.row_chunks += 1
        else:
            product.column_chunks += 1


cdef int multiply(Product *product, int threads) except -1 nogil:
    if product.few_rows:
        product.row_chunks = 1
        product.column_chunks = max(ceil_div(product.panels, LINES_OF_B), min(product.panels, threads))
    else:
        cut(product, threads)
    return parallel_for(block_task, product, product.row_chunks * product.column_chunks, threads)
