"""The blocked product: c[i, j] = Σ_p a[i, p] · b[p, j] of one slice, over one super-segment at most.

c is cut into blocks, and a block is one task that waits for no other: it reads or packs what it needs
of a and b in memory of its own. Loops inside a block, outermost first:

    segments    512 steps of the contracted axis: one chain of fused multiply-adds
    strips      as many rows as a tile is high, whose part of a stays in the L1 cache
    panels      as many columns as a tile is wide, whose parts of b stay in the L2

A tile reads its operands at any stride, so what lies evenly is not packed, strip by strip of a (unless
it would be thrown out of the L1 cache by itself); b is, unless it is small, since rows of b far apart
would fall on one another in the caches. Offsets that are not even, as at the borders of images, are
packed run by run. A product of few rows uses b once and must not wait for it: few_rows goes through it
in the order of memory, as fast as that can be read, some steps of every chain at a time.

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

cdef extern from *:
    """
    /* Asks for `rows` pieces of memory, for the L2 cache. */
    static inline void fetch(const void *first, int64_t stride, int64_t rows, int64_t bytes) {
        const char *row = (const char *)first;
        for (; rows > 0; rows--, row += stride) {
            for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
        }
    }
    """
    void fetch(const void *first, int64_t stride, int64_t rows, int64_t bytes) noexcept nogil

ctypedef fused real:
    float
    double

# Measured on a Zen 4 core, GFLOP/s of 117. Strips of 8 or 14 rows in place: 113 and 113 for 256³, 110
# and 77 for 1024³, 103 and 84 for 4096 × 4096 × 64; a packed: 108, 105, 78. b in place or packed:
# 113 and 110 for 256³, 77 and 110 for 1024³.
cdef enum:
    BLOCK_STEPS = 8 * 512       # of a block's panels together: 512 KiB of b, for the L2 cache
    MOST_PANELS = 64            # of a block
    ROWS_IN_PLACE = 8           # of a: at worst all fall on one set of the L1 cache, which has 8 ways
    BYTES_IN_PLACE = 1 << 20    # of b, from the first row of a segment to its last
    SAME_SET = 4096             # bytes: so far apart, lines fall on one set of the L1 cache
    FEW_ROWS = 16
    STEPS_TRANSPOSED = 128      # of a panel that few_rows packs: 16 KiB, for the L1 cache
    LINES_OF_B = 64             # panels a task of few_rows goes along at a time: 8 KiB of a row of b
    LEAST_ROWS = 64             # of a block, where there are enough for the threads
    LEAST_COLUMNS = 128
    PAD = 16                    # after what would else be a power of two apart

# ---- packing --------------------------------------------------------------------------------------


cdef inline int64_t run_of(const int64_t *offsets, int64_t count, int64_t stride) noexcept nogil:
    """How many of the offsets are evenly spaced, from the first one."""
    cdef int64_t i = 1
    while i < count and offsets[i] - offsets[i - 1] == stride:
        i += 1
    return i


cdef inline bint evenly_spaced(const int64_t *offsets, int64_t count, int64_t stride) noexcept nogil:
    return run_of(offsets, count, stride) == count


cdef inline bint mostly_adjacent(const int64_t *offsets, int64_t count) noexcept nogil:
    """Whether at least three in four are neighbours in memory."""
    cdef int64_t i, gaps = 0
    for i in range(1, count):
        gaps += offsets[i] - offsets[i - 1] != 1
    return gaps * 4 <= count


cdef void pack_b(Product *product, int64_t column, int64_t columns, int64_t k_begin, int64_t k,
                 real *panels, int64_t panel, int64_t pitch) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a block's columns, panels that far apart, steps at the pitch."""
    cdef const Contraction *problem = product.problem
    cdef const real *b = <const real *>product.b
    cdef const int64_t *across = problem.b_column + column
    cdef const int64_t *along = problem.b_k + k_begin
    cdef int64_t width = product.tile_columns, j = 0, p = 0, count, steps, stride
    cdef real *to
    if mostly_adjacent(across, columns) and columns > 1:
        while j < columns:
            count = run_of(across + j, columns - j, 1)
            p = 0
            while p < k:
                stride = along[p + 1] - along[p] if p + 1 < k else 0
                steps = run_of(along + p, k - p, stride)
                to = panels + p * pitch
                if real is float:
                    product.tiles.copy_f32(steps, b + along[p] + across[j], stride, j, count, to, panel,
                                            pitch)
                else:
                    product.tiles.copy_f64(steps, b + along[p] + across[j], stride, j, count, to, panel,
                                            pitch)
                p += steps
            j += count
    elif mostly_adjacent(along, k):
        while p < k:
            steps = run_of(along + p, k - p, 1)
            to = panels + p * pitch
            if real is float:
                product.tiles.transpose_f32(steps, b + along[p], across, columns, to, panel, pitch)
            else:
                product.tiles.transpose_f64(steps, b + along[p], across, columns, to, panel, pitch)
            p += steps
    else:
        while j < columns:
            to = panels + j // width * panel
            count = min(width, columns - j)
            for p in range(k):
                for stride in range(count):
                    to[p * pitch + stride] = b[along[p] + across[j + stride]]
            j += count


cdef const real *strip_of_a(Product *product, int64_t row, int64_t rows, int64_t k_begin, int64_t k,
                            bint even_k, real *strip, int64_t *a_row, int64_t *a_k) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a strip: in place or packed."""
    cdef const Contraction *problem = product.problem
    cdef const real *a = <const real *>product.a
    cdef const int64_t *across = problem.a_row + row
    cdef const int64_t *along = problem.a_k + k_begin
    cdef int64_t i, p, steps
    cdef bint even_rows
    a_row[0] = across[1] - across[0] if rows > 1 else 1
    a_k[0] = along[1] - along[0] if k > 1 else 1
    even_rows = evenly_spaced(across, rows, a_row[0])
    if even_rows and even_k:
        return a + across[0] + along[0]
    a_row[0], a_k[0] = HW_SEGMENT + PAD, 1
    for i in range(rows):
        p = 0
        while p < k:
            steps = run_of(along + p, k - p, 1)
            if steps > 1:
                memcpy(strip + i * a_row[0] + p, a + across[i] + along[p], steps * sizeof(real))
            else:
                strip[i * a_row[0] + p] = a[across[i] + along[p]]
            p += steps
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


cdef void edge_tile(Product *product, real *c, int64_t row, int64_t rows, int64_t column, int64_t columns,
                    int64_t k, const real *a, int64_t a_row, int64_t a_k, const real *b,
                    int64_t b_k, int flags) noexcept nogil:
    """A tile that c cannot take as it is: computed beside it, then copied run by run."""
    cdef real tile[16 * 64]
    cdef real column_bias[64]
    cdef real *line
    cdef int64_t i, j, count, width = product.tile_columns
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
    j = 0
    while j < columns:
        count = run_of(to + j, columns - j, 1)
        for i in range(rows):
            line = c + product.c_row[row + i] + to[j]
            if count > 1:
                memcpy(line, tile + i * width + j, count * sizeof(real))
            else:
                line[0] = tile[i * width + j]
        j += count


# What the next segment, or the next panels, will read: asked for a little with every tile.
cdef struct Ahead:
    int64_t steps
    const char *a               # pieces of so many bytes, one a step
    int64_t a_step, a_bytes
    const char *b
    int64_t b_step, b_bytes


cdef Ahead look_ahead(const Product *product, int64_t row, int64_t rows, int64_t column,
                      int64_t columns, int64_t k_begin) noexcept nogil:
    """Of these rows and columns, from k_begin; no steps where prefetchers do better by themselves."""
    cdef const Contraction *problem = product.problem
    cdef int64_t size = problem.itemsize
    cdef Ahead ahead
    memset(&ahead, 0, sizeof(Ahead))
    if k_begin >= product.k_end or columns <= 0:
        return ahead
    ahead.steps = min(HW_SEGMENT, product.k_end - k_begin)
    if product.a_row_adjacent and product.a_k.even:
        ahead.a = product.a + (problem.a_row[row] + problem.a_k[k_begin]) * size
        ahead.a_step, ahead.a_bytes = product.a_k.stride * size, rows * size
    if product.b_column_adjacent and product.b_k.even and product.few_strips:
        ahead.b = product.b + (problem.b_column[column] + problem.b_k[k_begin]) * size
        ahead.b_step, ahead.b_bytes = product.b_k.stride * size, columns * size
    return ahead


cdef inline void ask(const Ahead *ahead, int64_t part, int64_t parts) noexcept nogil:
    cdef int64_t begin = ahead.steps * part // parts, count = ahead.steps * (part + 1) // parts - begin
    fetch(ahead.a + begin * ahead.a_step, ahead.a_step, count, ahead.a_bytes)
    fetch(ahead.b + begin * ahead.b_step, ahead.b_step, count, ahead.b_bytes)


cdef void block(Product *product, int64_t index, real *packing, real typed) noexcept nogil:
    """All of a block of c: a range of strips × a range of panels, as many at a time as stay in L2."""
    cdef int64_t row_chunk = index % product.row_chunks
    cdef int64_t column_chunk = index // product.row_chunks
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
    cdef int64_t tiles = (strip_end - strip_begin) * (panel_end - panel_begin)
    cdef bint fits[MOST_PANELS]         # c takes a whole tile there
    cdef const real *b
    cdef const real *a
    cdef real *strip_memory = packing + product.block_panels * panel_size
    cdef int64_t group = 0, group_end = 0       # rows of a packed together
    cdef int64_t a_row = 0, a_k = 0, b_k, k_begin, k, strip, panel, row, rows, column, columns, stride, i
    cdef bint even, even_k
    cdef int flags
    cdef Ahead ahead
    cdef real *c = <real *>product.c
    for panel in range(panel_begin, panel_end):
        column = panel * width
        fits[panel - panel_begin] = (
            problem.columns - column >= width and evenly_spaced(product.c_column + column, width, 1))
    if product.b_in_place:
        in_place = total // width * width
    pitch = width if (total - in_place) * 2 > width else width // 2
    k_begin = product.k_begin
    while k_begin < product.k_end:
        k = min(HW_SEGMENT, product.k_end - k_begin)
        flags = HW_ACCUMULATE if k_begin > product.k_begin and product.c_segment == 0 else 0
        if k_begin + k == product.k_end:
            flags |= HW_ROW_BIAS if product.row_bias != NULL else 0
            flags |= HW_COLUMN_BIAS if product.column_bias != NULL else 0
            ahead = look_ahead(product, first_row, total_rows, panel_end * width,
                               min(next_end * width, problem.columns) - panel_end * width,
                               product.k_begin)
        else:
            ahead = look_ahead(product, first_row, total_rows, first, total, k_begin + k)
        even_k = product.a_k.even or evenly_spaced(
            problem.a_k + k_begin, k, problem.a_k[k_begin + 1] - problem.a_k[k_begin] if k > 1 else 1)
        if in_place < total:
            pack_b[real](product, first + in_place, total - in_place, k_begin, k,
                         packing + in_place // width * panel_size, panel_size, pitch)
        for strip in range(strip_begin, strip_end):
            row = problem.rows * strip // product.strips
            rows = problem.rows * (strip + 1) // product.strips - row
            if product.a_across:
                if row + rows > group_end or strip == strip_begin:
                    group, group_end = row, min(row + width, problem.rows)
                    a = <const real *>product.a + problem.a_row[row] + problem.a_k[k_begin]
                    if real is float:
                        product.tiles.copy_f32(k, a, product.a_k.stride, 0, group_end - group,
                                               strip_memory, 0, width)
                    else:
                        product.tiles.copy_f64(k, a, product.a_k.stride, 0, group_end - group,
                                               strip_memory, 0, width)
                a, a_row, a_k = strip_memory + row - group, 1, width
            else:
                a = strip_of_a[real](product, row, rows, k_begin, k, even_k, strip_memory, &a_row,
                                     &a_k)
                if a_k == 1 and strip + 1 < strip_end:
                    fetch(<const real *>product.a + problem.a_row[row + rows] + problem.a_k[k_begin],
                          a_row * sizeof(real), rows, k * sizeof(real))
            stride = product.c_row[row + 1] - product.c_row[row] if rows > 1 else 0
            even = evenly_spaced(product.c_row + row, rows, stride)
            for panel in range(panel_begin, panel_end):
                i = panel - panel_begin
                column = panel * width
                if ahead.steps:
                    ask(&ahead, (strip - strip_begin) * (panel_end - panel_begin) + i, tiles)
                if i * width < in_place:
                    b = <const real *>product.b + problem.b_k[k_begin] + problem.b_column[column]
                    b_k = product.b_k.stride
                else:
                    b, b_k = packing + i * panel_size, pitch
                if even and fits[i]:
                    run_tile[real](
                        product, False, rows, k, a, a_row, a_k, b, b_k,
                        c + product.c_row[row] + product.c_column[column], stride,
                        flags, <const real *>product.row_bias + row,
                        <const real *>product.column_bias + column)
                else:
                    columns = min(width, problem.columns - column)
                    edge_tile[real](product, c, row, rows, column, columns, k, a, a_row, a_k, b, b_k,
                                    flags)
        k_begin += k
        c += product.c_segment


cdef void few_rows(Product *product, int64_t index, real *packing, real typed) noexcept nogil:
    """All rows × a range of panels, some steps of every chain at a time.

    Chains go on in memory beside c (HW_RESUME). 8 rows of b at a time are what prefetchers follow
    best (42 GB/s of the 43 that reading alone reaches); more, where arithmetic takes longer. Where b
    is contiguous along the chain, a panel of it is packed, as much as stays in the L1 cache.
    """
    cdef const Contraction *problem = product.problem
    cdef int64_t width = product.tile_columns, rows = problem.rows
    cdef int64_t panel_begin = product.panels * index // product.column_chunks
    cdef int64_t panel_end = product.panels * (index + 1) // product.column_chunks
    cdef int64_t first = panel_begin * width
    cdef int64_t line_length = (panel_end - panel_begin) * width + PAD
    cdef int64_t k_begin = product.k_begin, k_end, at, k, steps, panel, column, columns
    cdef int64_t strip, row, height, b_k = 0, i, j
    cdef int64_t a_row[FEW_ROWS]
    cdef int64_t a_k[FEW_ROWS]
    cdef const real *a[FEW_ROWS]
    cdef const real *b
    cdef real *chains = packing + width * HW_SEGMENT
    cdef real *strip_memory = chains + rows * (LINES_OF_B * width + PAD)
    cdef real *c = <real *>product.c
    cdef real *line
    cdef real value
    cdef bint even_k
    if not product.b_rows_adjacent:
        steps = STEPS_TRANSPOSED
    else:
        steps = 8 if rows <= 4 and not product.b_in_place else 16
    while k_begin < product.k_end:
        k_end = min(k_begin + HW_SEGMENT, product.k_end)
        k = k_end - k_begin
        even_k = evenly_spaced(problem.a_k + k_begin, k,
                               problem.a_k[k_begin + 1] - problem.a_k[k_begin] if k > 1 else 1)
        for strip in range(product.strips):
            row = rows * strip // product.strips
            height = rows * (strip + 1) // product.strips - row
            a[strip] = strip_of_a[real](product, row, height, k_begin, k, even_k,
                                        strip_memory + row * (HW_SEGMENT + PAD), &a_row[strip],
                                        &a_k[strip])
        at = k_begin
        while at < k_end:
            k = min(steps, k_end - at)
            for panel in range(panel_begin, panel_end):
                column = panel * width
                columns = min(width, problem.columns - column)
                if product.b_rows_adjacent and columns == width:
                    b = <const real *>product.b + problem.b_k[at] + problem.b_column[column]
                    b_k = product.b_k.stride
                else:
                    b_k = width if columns * 2 > width else width // 2
                    pack_b[real](product, column, columns, at, k, packing, 0, b_k)
                    b = packing
                for strip in range(product.strips):
                    row = rows * strip // product.strips
                    height = rows * (strip + 1) // product.strips - row
                    run_tile[real](product, columns * 2 <= width, height, k,
                                   a[strip] + (at - k_begin) * a_k[strip], a_row[strip], a_k[strip],
                                   b, b_k, chains + row * line_length + column - first, line_length,
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
    cdef int64_t width, elements, k = min(problem.k, HW_SEGMENT)
    product.problem = problem
    product.tiles = tiles
    product.tile_columns = width = tiles.columns_f32 if problem.itemsize == 4 else tiles.columns_f64
    product.c_row = problem.c_row
    product.c_column = problem.c_column
    product.a_k = spacing(problem.a_k, problem.k)
    product.b_k = spacing(problem.b_k, problem.k)
    product.b_column = spacing(problem.b_column, problem.columns)
    product.b_rows_adjacent = (product.b_k.even and product.b_column.even
                               and product.b_column.stride == 1)
    product.b_in_place = (
        product.b_rows_adjacent
        and 0 <= product.b_k.stride * problem.itemsize <= BYTES_IN_PLACE // k)
    product.a_row_adjacent = problem.rows > 1 and evenly_spaced(problem.a_row, problem.rows, 1)
    product.b_column_adjacent = problem.columns > 1 and mostly_adjacent(problem.b_column,
                                                                        problem.columns)
    product.few_strips = problem.rows <= 32 * ROWS_IN_PLACE
    product.a_across = (
        product.a_row_adjacent and product.a_k.even
        and product.a_k.stride * problem.itemsize % SAME_SET == 0)
    product.strips = ceil_div(problem.rows, min(tiles.rows, ROWS_IN_PLACE))
    product.panels = ceil_div(problem.columns, width)
    product.block_panels = min(
        (BLOCK_STEPS // 2 if product.few_strips and not product.b_in_place else BLOCK_STEPS) // k, MOST_PANELS, product.panels)
    product.panel_size = width * k + PAD
    product.few_rows = problem.rows <= FEW_ROWS and (problem.rows < 4 or not product.b_in_place)
    if product.few_rows:
        elements = width * HW_SEGMENT + problem.rows * (LINES_OF_B * width + PAD + HW_SEGMENT + PAD)
    else:
        elements = product.block_panels * product.panel_size + max(tiles.rows, width) * (HW_SEGMENT + PAD)
    product.packing_bytes = ceil_div(elements * problem.itemsize, 64) * 64


cdef void cut(Product *product, int threads) noexcept nogil:
    """Into blocks: enough for the threads, and the longer side first, for what is read twice then.

    More blocks than threads even out what disturbs one of them, where blocks stay large.
    """
    cdef int64_t rows = product.problem.rows, columns = product.problem.columns
    cdef int64_t row_chunks = 1, column_chunks = 1, blocks = 1
    cdef bint by_rows, small
    while threads > 1 and blocks < 4 * threads:
        by_rows = (rows // row_chunks > 2 * (columns // column_chunks)
                   or column_chunks == product.panels)
        if by_rows:
            small = rows // row_chunks < 2 * LEAST_ROWS
        else:
            small = columns // column_chunks < 2 * LEAST_COLUMNS
        if (small and blocks % threads == 0) or (by_rows and row_chunks == product.strips):
            break
        if by_rows:
            row_chunks = min(row_chunks + (row_chunks if blocks >= threads else 1), product.strips)
        else:
            column_chunks = min(column_chunks + (column_chunks if blocks >= threads else 1),
                                product.panels)
        blocks = row_chunks * column_chunks
    product.row_chunks, product.column_chunks = row_chunks, column_chunks


cdef int multiply(Product *product, int threads) except -1 nogil:
    cdef int64_t lines
    if product.few_rows:
        lines = LINES_OF_B if product.b_rows_adjacent else 1
        product.row_chunks = 1
        product.column_chunks = max(ceil_div(product.panels, lines), min(product.panels, threads))
    else:
        cut(product, threads)
    return parallel_for(block_task, product, product.row_chunks * product.column_chunks, threads)
