"""The blocked product: c[i, j] = Σ_p a[i, p] · b[p, j] of one slice, over one super-segment at most.

c is cut into blocks, and a block is one task that waits for no other: it reads or packs what it needs
of a and b in memory of its own. Loops inside a block, outermost first:

    segments    512 steps of the contracted axis: one chain of fused multiply-adds
    strips      as many rows as a tile is high, whose part of a stays in the L1 cache
    panels      as many columns as a tile is wide, whose parts of b stay in the L2

A tile reads its operands at any stride, so what lies evenly is not packed, strip by strip of a (unless
it would be thrown out of the L1 cache by itself); b is, unless it is small, since rows of b far apart
would fall on one another in the caches. What the next tiles need is asked for ahead, where no
prefetcher would. Products of few rows are few_rows.pyx's.

Nothing here decides a bit of the result: the tile does the chain, and c folds in ascending order.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from halfwave._cpu.axis cimport Axis, at, even, evenly_spaced, gap, run_of
from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.few_rows cimport (
    few_rows_elements, few_rows_task, few_rows_tasks, has_few_rows,
)
from halfwave._cpu.packing cimport (
    PAD, Product, ceil_div, even_steps, mostly_adjacent, pack_b, real, run_tile, strip_of_a,
)
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, HW_COLUMN_BIAS, HW_ROW_BIAS, hw_contraction_tiles, parallel_for,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef extern from *:
    """
    #include <unistd.h>

    /* Bytes of the L2 cache, 1 MiB where the system does not tell. */
    static inline int64_t l2_bytes(void) {
        long bytes = 0;
    #ifdef _SC_LEVEL2_CACHE_SIZE
        bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    #endif
        return bytes > 0 ? bytes : 1 << 20;
    }
    """
    int64_t l2_bytes() noexcept

# Bytes of b, the panels at a time together: half of the L2 cache of 1 MiB where it was measured.
cdef int64_t BLOCK_BYTES = min(max(l2_bytes() // 2, 1 << 18), 1 << 19)

# Measured on a Zen 4 core, GFLOP/s of 117. Strips of 8 or 14 rows in place: 113 and 113 for 256³, 110
# and 77 for 1024³, 103 and 84 for 4096 × 4096 × 64; a packed: 108, 105, 78. b in place or packed:
# 113 and 110 for 256³, 77 and 110 for 1024³. What comes next asked for or not: 93 and 76 for 25088 ×
# 256 × 64, 85 and 70 for its transpose times the result. a whose rows are adjacent, in place or packed:
# 105 and 100 for 512³, 89 and 94 for 1024³. With AVX2, 512 or 256 KiB of b at a time: 102 and 98 for
# 2048³; a whose rows are adjacent, packed or in place: 100 and 85 for 512³, 92 and 73 for 1000³, but 62
# and 70 for 256 × 25088 × 64.
cdef enum:
    MOST_PANELS = 64            # at a time
    FEW_STRIPS = 16             # b is then used so little that it should not be waited for
    FEW_STEPS = 64              # of a row: asking for the next one costs more than waiting for it
    ROWS_IN_PLACE = 8           # of a: at worst all fall on one set of the L1 cache, which has 8 ways
    BYTES_IN_PLACE = 1 << 19    # of b, from the first row of a segment to its last
    SAME_SET = 4096             # bytes: so far apart, lines fall on one set of the L1 cache
    LINE = 64                   # bytes of the caches
    MANY_PANELS = 8             # each strip of a is read so often that packing it pays
    LEAST_ROWS = 64             # of a block, where there are enough for the threads
    LEAST_COLUMNS = 128
    MOST_WORK = 1 << 30         # multiply-adds of a block: signals are looked for between them

# ---- tiles ----------------------------------------------------------------------------------------


cdef void edge_tile(Product *product, real *c, int64_t row, int64_t rows, int64_t column, int64_t columns,
                    int64_t k, const real *a, int64_t a_row, int64_t a_k, int64_t a_ahead,
                    const real *b, int64_t b_k, const real *next, int64_t next_k,
                    int flags) noexcept nogil:
    """A tile that c cannot take as it is: computed beside it, then copied run by run."""
    cdef real tile[16 * 64]
    cdef real column_bias[64]
    cdef real *line
    cdef int64_t i, j, count, width = product.tile_columns
    cdef const Axis *to = &product.c_column
    if flags & HW_ACCUMULATE:
        for i in range(rows):
            line = c + at(&product.c_row, row + i)
            for j in range(columns):
                tile[i * width + j] = line[at(to, column + j)]
    if flags & HW_COLUMN_BIAS:
        memcpy(column_bias, <const real *>product.column_bias + column, columns * sizeof(real))
    run_tile[real](product, columns * 2 <= width, rows, k, a, a_row, a_k, a_ahead, b, b_k, next,
                   next_k, tile, width, flags, <const real *>product.row_bias + row, column_bias)
    j = 0
    while j < columns:
        count = run_of(to, column + j, columns - j, 1)
        for i in range(rows):
            line = c + at(&product.c_row, row + i) + at(to, column + j)
            if count > 1:
                memcpy(line, tile + i * width + j, count * sizeof(real))
            else:
                line[0] = tile[i * width + j]
        j += count


# What the next segment, or the next panels, will read, where prefetchers do not do better by themselves:
# as many rows of a, or columns of b, as a tile is wide, go with a tile of now, step by step. All of
# many steps at once would keep a tile waiting (256 × 25088 × 256, a transposed: 146 GFLOP/s, now 188).
cdef struct Ahead:
    int64_t a_groups, b_groups
    const char *a
    const char *b


cdef Ahead look_ahead(const Product *product, int64_t row, int64_t rows, int64_t column,
                      int64_t columns, int64_t k_begin) noexcept nogil:
    """Of these rows and columns, from k_begin."""
    cdef const Contraction *problem = product.problem
    cdef int64_t size = problem.itemsize, width = product.tile_columns
    cdef Ahead ahead
    memset(&ahead, 0, sizeof(Ahead))
    if k_begin >= product.k_end or columns <= 0:
        return ahead
    if product.a_row_adjacent and even(&problem.a_k):
        ahead.a = product.a + (at(&problem.a_row, row) + at(&problem.a_k, k_begin)) * size
        ahead.a_groups = ceil_div(rows, width)
    if (product.b_column_adjacent and even(&problem.b_k)
            and (product.few_strips or product.a_row_adjacent)):
        ahead.b = product.b + (at(&problem.b_column, column) + at(&problem.b_k, k_begin)) * size
        ahead.b_groups = ceil_div(columns, width)
    return ahead


cdef inline const char *asked_for(const Product *product, const Ahead *ahead, int64_t tile,
                                  int64_t tiles, int64_t *step) noexcept nogil:
    """By one of the tiles: a group, and from step to step; or NULL."""
    cdef int64_t bytes = product.tile_columns * product.problem.itemsize
    cdef int64_t groups = ahead.a_groups + ahead.b_groups
    cdef int64_t group
    if groups == 0:
        return NULL
    group = tile * groups // tiles
    if group == (tile + 1) * groups // tiles:
        return NULL
    if group < ahead.a_groups:
        step[0] = product.problem.a_k.stride
        return ahead.a + group * bytes
    step[0] = product.problem.b_k.stride
    return ahead.b + (group - ahead.a_groups) * bytes


cdef void block(Product *product, int64_t index, real *packing, real typed) noexcept nogil:
    """All of a block of c: a range of strips × a range of panels, as many at a time as stay in L2."""
    cdef int64_t row_chunk = index // product.column_chunks
    cdef int64_t column_chunk = index % product.column_chunks
    cdef int64_t panel = product.panels * column_chunk // product.column_chunks
    cdef int64_t panel_end = product.panels * (column_chunk + 1) // product.column_chunks
    cdef int64_t parts = ceil_div(panel_end - panel, product.block_panels), part
    cdef int64_t begin, end = panel
    for part in range(parts):
        begin, end = end, panel + (panel_end - panel) * (part + 1) // parts
        some_panels[real](product, product.strips * row_chunk // product.row_chunks,
                          product.strips * (row_chunk + 1) // product.row_chunks, begin, end,
                          panel + (panel_end - panel) * (part + 2) // parts if part + 1 < parts else end,
                          packing)


cdef void some_panels(Product *product, int64_t strip_begin, int64_t strip_end, int64_t panel_begin,
                      int64_t panel_end, int64_t next_end, real *packing) noexcept nogil:
    """Strips × panels; after them those up to next_end will come."""
    cdef const Contraction *problem = product.problem
    cdef int64_t width = product.tile_columns
    cdef int64_t first = panel_begin * width
    cdef int64_t total = min(panel_end * width, problem.columns) - first
    cdef int64_t first_row = problem.rows * strip_begin // product.strips
    cdef int64_t total_rows = problem.rows * strip_end // product.strips - first_row
    cdef int64_t panel_size = product.panel_size, in_place = 0, pitch
    cdef int64_t tiles = (strip_end - strip_begin) * (panel_end - panel_begin), tile
    cdef bint fits[MOST_PANELS]         # c takes a whole tile there
    cdef const real *b
    cdef const real *a
    cdef const real *next
    cdef real *strip_memory = packing + product.block_panels * panel_size
    cdef int64_t group = 0, group_end = 0       # rows of a packed together
    cdef int64_t a_row = 0, a_k = 0, a_ahead, b_k, k_begin, k, strip, panel, row, rows, column, columns
    cdef int64_t i, stride, next_k = 0
    cdef bint even_rows, even_k
    cdef int flags
    cdef Ahead ahead
    cdef real *c = <real *>product.c
    cdef real *to
    for panel in range(panel_begin, panel_end):
        column = panel * width
        fits[panel - panel_begin] = (
            problem.columns - column >= width and evenly_spaced(&product.c_column, column, width, 1))
    if product.b_in_place:
        in_place = total // width * width
    pitch = width if (total - in_place) * 2 > width else width // 2
    k_begin = product.k_begin
    while k_begin < product.k_end:
        k = min(HW_SEGMENT, product.k_end - k_begin)
        flags = HW_ACCUMULATE if k_begin > product.k_begin else 0
        if k_begin + k == product.k_end:
            flags |= HW_ROW_BIAS if product.row_bias != NULL else 0
            flags |= HW_COLUMN_BIAS if product.column_bias != NULL else 0
            ahead = look_ahead(product, first_row, total_rows, panel_end * width,
                               min(next_end * width, problem.columns) - panel_end * width,
                               product.k_begin)
        else:
            ahead = look_ahead(product, first_row, total_rows, first, total, k_begin + k)
        even_k = even_steps(product, k_begin, k)
        if in_place < total:
            pack_b[real](product, first + in_place, total - in_place, k_begin, k,
                         packing + in_place // width * panel_size, panel_size, pitch)
        tile = 0
        for strip in range(strip_begin, strip_end):
            row = problem.rows * strip // product.strips
            rows = problem.rows * (strip + 1) // product.strips - row
            if product.a_across:
                if row + rows > group_end or strip == strip_begin:
                    group, group_end = row, min(row + product.a_width, problem.rows)
                    a = <const real *>product.a + at(&problem.a_row, row) + at(&problem.a_k, k_begin)
                    if real is float:
                        product.tiles.copy_f32(k, a, problem.a_k.stride, 0, group_end - group,
                                               strip_memory, 0, product.a_width)
                    else:
                        product.tiles.copy_f64(k, a, problem.a_k.stride, 0, group_end - group,
                                               strip_memory, 0, product.a_width)
                a, a_row, a_k = strip_memory + row - group, 1, product.a_width
            else:
                a = strip_of_a[real](product, row, rows, k_begin, k, even_k, strip_memory, &a_row,
                                     &a_k)
            a_ahead = 0         # of the next strip, to be asked for by the first tile of this one
            if even_k and a_k == 1 and a != strip_memory and strip + 1 < strip_end and k > FEW_STEPS:
                a_ahead = at(&problem.a_row, row + rows) - at(&problem.a_row, row)
            stride = gap(&product.c_row, row) if rows > 1 else 0
            even_rows = evenly_spaced(&product.c_row, row, rows, stride)
            to = c + at(&product.c_row, row)
            for panel in range(panel_begin, panel_end):
                i = panel - panel_begin
                column = panel * width
                next = <const real *>asked_for(product, &ahead, tile, tiles, &next_k)
                tile += 1
                if i * width < in_place:
                    b = <const real *>product.b + at(&problem.b_k, k_begin)
                    b += at(&problem.b_column, column)
                    b_k = problem.b_k.stride
                else:
                    b, b_k = packing + i * panel_size, pitch
                if even_rows and fits[i]:
                    run_tile[real](
                        product, False, rows, k, a, a_row, a_k, a_ahead, b, b_k, next, next_k,
                        to + at(&product.c_column, column), stride, flags,
                        <const real *>product.row_bias + row,
                        <const real *>product.column_bias + column)
                else:
                    columns = min(width, problem.columns - column)
                    edge_tile[real](product, c, row, rows, column, columns, k, a, a_row, a_k, a_ahead,
                                    b, b_k, next, next_k, flags)
                a_ahead = 0
        k_begin += k


cdef void block_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Product *product = <Product *>context
    cdef char *packing = product.packing + worker * product.packing_bytes
    if product.few_rows:
        few_rows_task(product, index, packing)
    elif product.problem.itemsize == 4:
        block[float](product, index, <float *>packing, 0)
    else:
        block[double](product, index, <double *>packing, 0)

# ---- one product ----------------------------------------------------------------------------------


cdef void survey(Product *product, const Contraction *problem,
                 const hw_contraction_tiles *tiles) noexcept nogil:
    cdef int64_t width, rows, elements, k = min(problem.k, HW_SEGMENT)
    cdef bint low       # strips use less than half of a line of a whose rows are adjacent
    product.problem = problem
    product.tiles = tiles
    product.tile_columns = width = tiles.columns_f32 if problem.itemsize == 4 else tiles.columns_f64
    product.c_row = problem.c_row
    product.c_column = problem.c_column
    product.b_rows_adjacent = (even(&problem.b_k) and even(&problem.b_column)
                               and problem.b_column.stride == 1)
    product.b_in_place = (
        product.b_rows_adjacent
        and 0 <= problem.b_k.stride * problem.itemsize <= BYTES_IN_PLACE // k)
    product.a_row_adjacent = problem.rows > 1 and evenly_spaced(&problem.a_row, 0, problem.rows, 1)
    product.b_column_adjacent = problem.columns > 1 and mostly_adjacent(&problem.b_column, 0,
                                                                        problem.columns)
    product.b_k_adjacent = mostly_adjacent(&problem.b_k, 0, problem.k)
    product.few_strips = problem.rows <= FEW_STRIPS * ROWS_IN_PLACE
    product.panels = ceil_div(problem.columns, width)
    rows = min(tiles.rows, ROWS_IN_PLACE)
    low = rows * problem.itemsize * 2 < LINE
    product.a_across = product.a_row_adjacent and even(&problem.a_k) and (
        problem.a_k.stride * problem.itemsize % SAME_SET == 0
        or (low and product.panels >= MANY_PANELS))
    product.a_width = width // 2 if low else width
    product.strips = ceil_div(problem.rows, rows)
    product.block_panels = min(BLOCK_BYTES // (k * width * problem.itemsize), MOST_PANELS,
                               product.panels)
    if product.few_strips and not product.b_in_place:       # there is another one, asked for ahead
        product.block_panels = ceil_div(product.block_panels, 2)
    product.panel_size = width * k + PAD
    product.few_rows = has_few_rows(product)
    if product.few_rows:
        elements = few_rows_elements(product)
    else:
        elements = (product.block_panels * product.panel_size
                    + max(tiles.rows, width) * (HW_SEGMENT + PAD))
    product.packing_bytes = ceil_div(elements * problem.itemsize, 64) * 64


cdef void cut(Product *product, int threads) noexcept nogil:
    """Into blocks: enough for the threads, and the longer side first, for what is read twice then.

    More blocks than threads even out what disturbs one of them, where blocks stay large. They are
    numbered row by row, and cut by rows first where b is read in place: so a thread has rows of c of
    its own. Of parts of rows, lines at the ends, and those that a prefetcher takes beyond them, move
    from thread to thread with every call (256³ with caches apart: 196 µs, by rows 158).
    """
    cdef int64_t rows = product.problem.rows, columns = product.problem.columns
    cdef int64_t row_chunks = 1, column_chunks = 1, blocks = 1
    # The baseline's tiles, of 4 rows, compute fused multiply-adds in software.
    cdef double most = MOST_WORK if product.tiles.rows > 4 else MOST_WORK >> 4
    cdef double least = <double>rows * columns * (product.k_end - product.k_begin) / most
    # A few panels that threads cannot share evenly stay together, if strips can be cut better.
    cdef bint uneven = (product.panels % threads != 0
                        and product.panels < min(4 * threads, product.strips))
    cdef bint by_rows, small
    while blocks < least or (threads > 1 and blocks < 4 * threads):
        by_rows = (rows // row_chunks > 2 * (columns // column_chunks)
                   or (product.b_in_place and blocks < threads
                       and rows // row_chunks >= 2 * LEAST_ROWS)
                   or column_chunks == product.panels or (uneven and row_chunks < product.strips))
        if by_rows:
            small = rows // row_chunks < 2 * LEAST_ROWS
        else:
            small = columns // column_chunks < 2 * LEAST_COLUMNS
        if ((small and blocks >= least and blocks % threads == 0)
                or (by_rows and row_chunks == product.strips)):
            break
        if by_rows:
            row_chunks = min(row_chunks + (row_chunks if blocks >= threads else 1), product.strips)
        else:
            column_chunks = min(column_chunks + (column_chunks if blocks >= threads else 1),
                                product.panels)
        blocks = row_chunks * column_chunks
    product.row_chunks, product.column_chunks = row_chunks, column_chunks


cdef int multiply(Product *product, int threads) except -1 nogil:
    if product.few_rows:
        product.row_chunks, product.column_chunks = 1, few_rows_tasks(product, threads)
    else:
        cut(product, threads)
    return parallel_for(block_task, product, product.row_chunks * product.column_chunks, threads)
