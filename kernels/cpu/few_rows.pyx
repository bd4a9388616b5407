"""Products of few rows: b is used once, and must not be waited for.

Where rows of b are contiguous, or few steps of the chain need a panel of it transposed, all chains of
a task advance together, some steps at a time, in the order in which b lies in memory. Where b is
contiguous along the chain and there is but one row, as in a matrix times a vector, nothing is
transposed: eight scalar chains at a time each go along their own line of b.
"""
from libc.stdint cimport int64_t

from halfwave._cpu.axis cimport at, run_of
from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.packing cimport (
    PAD, Product, ceil_div, even_steps, pack_b, real, run_tile, strip_of_a,
)
from halfwave._cpu.runtime cimport HW_RESUME

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef enum:
    FEW_ROWS = 16
    STEPS_TRANSPOSED = 128      # of a panel that is packed: 16 KiB, for the L1 cache
    CHAINS = 8                  # of scalars, at a time


# Steps of every chain at a time, and elements of a row of b that a task goes along, as measured with
# 4096 × 4096. One or two rows wait for memory, which likes long lines; more gain from more steps,
# of which twice as many must stay in the L2 cache even where all fall on few sets of it.
cdef inline int64_t steps_at_once(const Product *product) noexcept nogil:
    if not product.b_rows_adjacent:
        return STEPS_TRANSPOSED
    return 8 if product.problem.rows <= 2 else 32


cdef inline int64_t line_of_b(const Product *product) noexcept nogil:
    return (8192 if product.problem.rows <= 2 else 4096) // product.problem.itemsize


cdef bint has_few_rows(const Product *product) noexcept nogil:
    cdef int64_t rows = product.problem.rows
    return rows <= FEW_ROWS and (rows < 4 or not product.b_in_place)


cdef bint scalar(const Product *product) noexcept nogil:
    return product.problem.rows == 1 and product.b_k_adjacent


cdef int64_t few_rows_elements(const Product *product) noexcept nogil:
    """Of a worker's memory."""
    return product.tile_columns * HW_SEGMENT + product.problem.rows * (
        line_of_b(product) + PAD + HW_SEGMENT + PAD)


cdef int64_t few_rows_tasks(const Product *product, int threads) noexcept nogil:
    cdef int64_t lines = line_of_b(product) // product.tile_columns if product.b_rows_adjacent else 1
    return max(ceil_div(product.panels, lines), min(product.panels, threads))


cdef void few_rows_task(Product *product, int64_t index, char *packing) noexcept nogil:
    if product.problem.itemsize == 4:
        if scalar(product):
            lines_of_b[float](product, index, <float *>packing)
        else:
            few_rows[float](product, index, <float *>packing)
    elif scalar(product):
        lines_of_b[double](product, index, <double *>packing)
    else:
        few_rows[double](product, index, <double *>packing)


cdef void few_rows(Product *product, int64_t index, real *packing) noexcept nogil:
    """All rows × a range of panels, some steps of every chain at a time.

    Chains go on in memory beside c (HW_RESUME). The steps after these are asked for by the tiles, a row
    of b with each step: prefetchers do not keep up with so many rows, and asking for all at once would
    keep the tile waiting (of 16 rows: 1.5 times as fast as without; 1.3 times asked for at once). Where
    b is contiguous along the chain, a panel of it is packed, as much as stays in the L1 cache.
    """
    cdef const Contraction *problem = product.problem
    cdef int64_t width = product.tile_columns, rows = problem.rows
    cdef int64_t panel_begin = product.panels * index // product.column_chunks
    cdef int64_t panel_end = product.panels * (index + 1) // product.column_chunks
    cdef int64_t first = panel_begin * width
    cdef int64_t line_length = (panel_end - panel_begin) * width + PAD
    cdef int64_t k_begin = product.k_begin, k_end, begin, k, panel, column, columns
    cdef int64_t steps = steps_at_once(product)
    cdef int64_t strip, row, height, a_row = 0, a_k = 0, b_k = 0, i, j
    cdef const real *a
    cdef const real *b
    cdef const real *next
    cdef real *chains = packing + width * HW_SEGMENT
    cdef real *strip_memory = chains + rows * (line_of_b(product) + PAD)
    cdef real *c = <real *>product.c
    cdef real *line
    cdef real value
    while k_begin < product.k_end:
        k_end = min(k_begin + HW_SEGMENT, product.k_end)
        k = k_end - k_begin
        # Packed, unless rows are adjacent: else all could fall on one set of the L1 cache.
        a = strip_of_a[real](product, 0, rows, k_begin, k,
                             product.a_row_adjacent and even_steps(product, k_begin, k), strip_memory,
                             &a_row, &a_k)
        begin = k_begin
        while begin < k_end:
            k = min(steps, k_end - begin)
            for panel in range(panel_begin, panel_end):
                column = panel * width
                columns = min(width, problem.columns - column)
                if product.b_rows_adjacent and columns == width:
                    b = <const real *>product.b + at(&problem.b_k, begin)
                    b += at(&problem.b_column, column)
                    b_k = problem.b_k.stride
                    next = b + steps * b_k if begin + 2 * steps <= product.k_end else NULL
                else:
                    b_k = width if columns * 2 > width else width // 2
                    pack_b[real](product, column, columns, begin, k, packing, 0, b_k)
                    b, next = packing, NULL
                for strip in range(product.strips):
                    row = rows * strip // product.strips
                    height = rows * (strip + 1) // product.strips - row
                    run_tile[real](product, columns * 2 <= width, height, k,
                                   a + row * a_row + (begin - k_begin) * a_k, a_row, a_k, 0,
                                   b, b_k, next, b_k, chains + row * line_length + column - first,
                                   line_length, HW_RESUME if begin > k_begin else 0, NULL, NULL)
                    next = NULL
            begin += k
        for i in range(rows):
            line = c + at(&product.c_row, i)
            for j in range(first, min(panel_end * width, problem.columns)):
                value = chains[i * line_length + j - first]
                if k_begin > product.k_begin:
                    value = line[at(&product.c_column, j)] + value
                if k_end == product.k_end:
                    if product.row_bias != NULL:
                        value = value + (<const real *>product.row_bias)[i]
                    if product.column_bias != NULL:
                        value = value + (<const real *>product.column_bias)[j]
                line[at(&product.c_column, j)] = value
        k_begin = k_end


cdef void lines_of_b(Product *product, int64_t index, real *packing) noexcept nogil:
    """One row × some panels, b contiguous along the chain."""
    cdef const Contraction *problem = product.problem
    cdef int64_t first = product.panels * index // product.column_chunks * product.tile_columns
    cdef int64_t end = min(product.panels * (index + 1) // product.column_chunks
                           * product.tile_columns, problem.columns)
    cdef int64_t lines[CHAINS]
    cdef real sums[CHAINS]
    cdef int64_t column, k_begin, k, p, steps, i, a_row = 0, a_k = 0
    cdef const real *a
    cdef const real *b
    cdef real *to
    cdef real value
    cdef bint even_k
    column = first
    while column < end:
        for i in range(CHAINS):     # beyond the last column: that one again
            lines[i] = at(&problem.b_column, min(column + i, end - 1))
        k_begin = product.k_begin
        while k_begin < product.k_end:
            k = min(HW_SEGMENT, product.k_end - k_begin)
            even_k = even_steps(product, k_begin, k)
            a = strip_of_a[real](product, 0, 1, k_begin, k, even_k, packing, &a_row, &a_k)
            for i in range(CHAINS):
                sums[i] = 0
            p = 0
            while p < k:
                steps = run_of(&problem.b_k, k_begin + p, k - p, 1)
                b = <const real *>product.b + at(&problem.b_k, k_begin + p)
                if real is float:
                    product.tiles.chains_f32(steps, a + p * a_k, a_k, b, lines, sums)
                else:
                    product.tiles.chains_f64(steps, a + p * a_k, a_k, b, lines, sums)
                p += steps
            for i in range(min(CHAINS, end - column)):
                to = <real *>product.c + at(&product.c_row, 0)
                to += at(&product.c_column, column + i)
                value = sums[i]
                if k_begin > product.k_begin:
                    value = to[0] + value
                if k_begin + k == product.k_end:
                    if product.row_bias != NULL:
                        value = value + (<const real *>product.row_bias)[0]
                    if product.column_bias != NULL:
                        value = value + (<const real *>product.column_bias)[column + i]
                to[0] = value
            k_begin += k
        column += CHAINS
