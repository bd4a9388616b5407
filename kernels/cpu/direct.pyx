"""Direct convolution in float32: y[n, o, i, j] = Σ over (c, r, s) of w[o, c, r, s] · x[n, c, h, …].

No im2col: a tile takes the image by a table of offsets, one for each term of the chain. Backward input
with a stride is as many such sums as it has residues, each with the taps that meet it; they share a
strip of dy, and a row of dx is written once, when all its residues are there.

Loops, outermost first (direct_plan.pyx says how they are cut):

    strips      of images, rows or columns of y, so that the part of x they read stays in the L2:
                one task each (with few strips, each also for chunks of outputs)
    panels      of outputs, as many as a tile has; their weights are packed once, for all strips
    residues    of rows and columns, where y has a spread
    tiles       blocks of the strip's pixels
    segments    512 terms: a chain of fused multiply-adds (outside the loop over tiles where a panel's
                weights are too many for the L2)
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from halfwave._cpu.direct_copy cimport Span, copy_window
from halfwave._cpu.direct_plan cimport (
    MOST_SPREAD, Correlation, Part, Plan, Taps, ceil_div, fill_tables, make_plan, share,
)
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, HW_COLUMN_BIAS, HW_ROW_BIAS, View, parallel_for, tiles, workspace_give,
    workspace_take, worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT
    int64_t HW_SUPER_SEGMENT

cdef enum:
    N, C, H, W
    FEW_WEIGHTS = 16 * 1024     # floats that a core's caches hold besides a strip
    PLANE = 2048        # floats of weights that are transposed at a time, at most


cdef bint correlates(const Correlation *given) noexcept nogil:
    cdef int64_t i, j, terms, most = 0
    cdef double spread = given.channels, extent
    cdef int axis
    cdef Taps taps
    if given.x.itemsize != 4 or max(given.spread[0], given.spread[1]) > MOST_SPREAD:
        return False
    for axis in range(2):
        extent = 1
        for i in range(given.spread[axis]):
            taps = given.taps[axis][i]
            extent = max(extent, <double>taps.count * max(taps.step, -taps.step))
        spread *= extent + 32.0 * given.stride[axis]
    for i in range(given.spread[0]):
        for j in range(given.spread[1]):
            terms = given.taps[0][i].count
            if terms > HW_SUPER_SEGMENT or given.taps[1][j].count > HW_SUPER_SEGMENT:
                return False
            most = max(most, terms * given.taps[1][j].count)
    return most <= HW_SUPER_SEGMENT and most * given.channels <= HW_SUPER_SEGMENT and (
        spread < 2.0**30)

# ---- packing --------------------------------------------------------------------------------------


cdef inline void copy_tap(const Plan *plan, bint transposed, const float *plane, const float *w,
                          int64_t count, int64_t r, int64_t s, float *to) noexcept nogil:
    """A tap of one channel: the panel's outputs, from the transposed plane or from w."""
    cdef const int64_t *strides = &plan.of.w_strides[0]
    if transposed:
        memcpy(to, plane + (r * plan.of.w_taps[1] + s) * plan.width, count * sizeof(float))
    else:
        plan.tiles.move(1, count, w + r * strides[2] + s * strides[3], 0, strides[0], to, 0, 1)


cdef void pack_task(void *context, int64_t index, int worker) noexcept nogil:
    """One panel of weights, [term][output], for each residue, and its biases."""
    cdef Plan *plan = <Plan *>context
    cdef const Correlation *of = &plan.of
    cdef int64_t group = index // plan.panels, output = index % plan.panels * plan.width
    cdef int64_t count = min(plan.width, of.outputs - output), width = plan.width
    cdef int64_t c, i, j, r, s, taps = of.w_taps[0] * of.w_taps[1]
    cdef const int64_t *strides = &of.w_strides[0]
    cdef const float *w = of.w + group * of.w_group + output * strides[0]
    cdef float *bias = plan.biases + index * width
    cdef Taps rows, columns
    cdef Part *part
    cdef float *panel
    cdef float plane[PLANE]
    cdef bint adjacent = strides[3] == 1 and strides[2] == of.w_taps[1]
    if count < width:
        memset(bias, 0, width * sizeof(float))
    if of.bias != NULL:
        memcpy(bias, of.bias + group * of.outputs + output, count * sizeof(float))
    for i in range(of.spread[0]):
        for j in range(of.spread[1]):
            part = &plan.parts[i][j]
            if count < width and part.k:
                memset(part.weights + index * part.k * width, 0, part.k * width * sizeof(float))
    if adjacent and of.spread[0] == of.spread[1] == 1 and strides[1] == taps:
        panel = plan.parts[0][0].weights + index * plan.most_k * width
        plan.tiles.move(count, plan.most_k, w, strides[0], 1, panel, 1, width)
        return
    adjacent = adjacent and taps > 1 and taps * width <= PLANE
    for c in range(of.channels):
        if adjacent:        # all taps of a channel, transposed at once
            plan.tiles.move(taps, count, w + c * strides[1], 1, strides[0], plane, width, 1)
        for i in range(of.spread[0]):
            rows = of.taps[0][i]
            for j in range(of.spread[1]):
                columns = of.taps[1][j]
                part = &plan.parts[i][j]
                panel = part.weights + (index * part.k + c * rows.count * columns.count) * width
                for r in range(rows.count):
                    for s in range(columns.count):
                        copy_tap(plan, adjacent, plane, w + c * strides[1], count,
                                 rows.w_first + r * rows.w_step,
                                 columns.w_first + s * columns.w_step, panel)
                        panel += width

# ---- strips ---------------------------------------------------------------------------------------

cdef struct Strip:
    int64_t group
    int64_t image, row, column          # of y divided by the spread, where it begins
    int64_t images, rows, columns
    const float *x
    float *scratch


cdef void copy_strip(const Plan *plan, const Strip *strip, float *frame) noexcept nogil:
    cdef const Correlation *of = &plan.of
    cdef int64_t n, i, j
    cdef Span rows, columns
    cdef float *to
    rows.first = strip.row * of.stride[0] + plan.lowest[0]
    rows.step, rows.count = 1, (strip.rows - 1) * of.stride[0] + plan.reach[0]
    columns.first = strip.column * of.stride[1] + plan.lowest[1]
    columns.step, columns.count = 1, (strip.columns - 1) * of.stride[1] + plan.reach[1]
    for n in range(strip.images):
        to = frame + n * plan.image
        if not plan.lanes_are_pixels:
            copy_window(plan.tiles, &of.x, strip.image + n, strip.group * of.channels, of.channels,
                        rows, columns, to, plan.channel, plan.row, plan.column)
            continue
        for i in range(plan.phases[0]):
            for j in range(plan.phases[1]):
                copy_window(plan.tiles, &of.x, strip.image + n, strip.group * of.channels,
                            of.channels, phase_of(rows, of.stride[0], i),
                            phase_of(columns, of.stride[1], j),
                            to + i * plan.row_phase + j * plan.column_phase, plan.channel,
                            plan.row, 1)


cdef inline Span phase_of(Span span, int64_t stride, int64_t phase) noexcept nogil:
    cdef Span part
    part.first, part.step = span.first + phase, stride
    part.count = ceil_div(span.count - phase, stride)
    return part

# ---- tiles ----------------------------------------------------------------------------------------


cdef inline void chain(const Plan *plan, int64_t k, int64_t begin, int64_t end, int vectors,
                       int64_t rows, const float *a, int64_t a_row, const int64_t *a_k,
                       const float *b, const int64_t *b_k, float *c, int64_t c_row, int bias_flag,
                       const float *bias) noexcept nogil:
    """One tile over the segments from begin to end of k terms; of no terms, zeros."""
    cdef int64_t n
    cdef int flags
    while True:
        n = min(HW_SEGMENT, end - begin)
        flags = HW_ACCUMULATE if begin else 0
        if begin + n == k:
            flags |= bias_flag
        plan.tiles.tile[vectors][rows](n, a, a_row, a_k + begin, b, b_k + begin, c, c_row, flags,
                                       bias)
        begin += n
        if begin == end:
            return


cdef inline float *target(const Plan *plan, const Strip *strip, int64_t output, int64_t n,
                          int64_t i, int64_t j) noexcept nogil:
    """Where y has the strip's image n, and of its whole rows and columns (the spread's) i and j."""
    cdef const View *y = &plan.of.y
    return (<float *>y.data + (strip.group * plan.of.outputs + output) * y.strides[C]
            + (strip.image + n) * y.strides[N]
            + (strip.row * plan.of.spread[0] + i) * y.strides[H]
            + (strip.column * plan.of.spread[1] + j) * y.strides[W])


cdef inline int64_t extent(const Plan *plan, int axis, int64_t begin, int64_t count,
                           int64_t residue) noexcept nogil:
    """How many of a strip's rows or columns a residue has: the last one may be beyond y."""
    cdef int64_t size = ceil_div(plan.of.y.shape[H + axis] - residue, plan.of.spread[axis])
    return max(min(count, size - begin), 0)


cdef void residue_of_pixels(const Plan *plan, const Strip *strip, int64_t output, int64_t count,
                            int64_t panel, int64_t row, int64_t column) noexcept nogil:
    """Lanes are pixels: they run on across rows and images of the strip, into the scratch."""
    cdef const Correlation *of = &plan.of
    cdef const Part *part = &plan.parts[row][column]
    cdef int vectors = plan.vectors
    cdef int64_t lanes = plan.tiles.lanes, q = 0, n, i
    cdef int64_t rows = extent(plan, 0, strip.row, strip.rows, row)
    cdef int64_t columns = extent(plan, 1, strip.column, strip.columns, column)
    cdef int64_t image = plan.strip_rows * plan.strip_columns
    cdef int64_t end = (strip.images - 1) * image + (rows - 1) * plan.strip_columns + columns
    cdef int flag = HW_ROW_BIAS if of.bias != NULL else 0
    cdef bint whole = (columns == plan.strip_columns and of.spread[0] == of.spread[1] == 1
                       and of.y.strides[H] == columns * of.y.strides[W])     # rows as one
    if rows * columns == 0:
        return
    while q < end:
        while vectors and end - q <= lanes << (vectors - 1):    # the last
            vectors -= 1
        chain(plan, part.k, 0, part.k, vectors, count,
              part.weights + panel * part.k * plan.width, 1, plan.w_k, strip.x + q,
              part.x_k, strip.scratch + q, plan.pitch, flag,
              plan.biases + panel * plan.width)
        q += lanes << vectors
    if whole:
        columns *= rows
        rows = 1
    for n in range(strip.images):
        for i in range(rows):
            plan.tiles.move(count, columns,
                            strip.scratch + n * image + i * plan.strip_columns, plan.pitch, 1,
                            target(plan, strip, output, n, i * of.spread[0] + row, column),
                            of.y.strides[C], of.spread[1] * of.y.strides[W])


cdef void straight_pixels(const Plan *plan, const Strip *strip, int64_t output, int64_t count,
                          int64_t panel, int64_t row) noexcept nogil:
    """Lanes are pixels of one row of y, which the tiles write: no more vectors than they must."""
    cdef const Correlation *of = &plan.of
    cdef const Part *part = &plan.parts[row][0]
    cdef int64_t lanes = plan.tiles.lanes, columns = strip.columns, n, i, j
    cdef int64_t down = plan.row * (1 if plan.copied else of.stride[0])
    cdef int flag = HW_ROW_BIAS if of.bias != NULL else 0, vectors
    cdef const float *x
    cdef float *y
    for n in range(strip.images):
        for i in range(extent(plan, 0, strip.row, strip.rows, row)):
            x = strip.x + n * plan.image + i * down
            y = target(plan, strip, output, n, i * of.spread[0] + row, 0)
            j = 0
            while j < columns:
                vectors = plan.vectors
                while vectors and (columns - j <= lanes << (vectors - 1)
                                   or columns < lanes << vectors):
                    vectors -= 1
                j = min(j, columns - (lanes << vectors))
                chain(plan, part.k, 0, part.k, vectors, count,
                      part.weights + panel * part.k * plan.width, 1, plan.w_k, x + j,
                      part.x_k, y + j, of.y.strides[C], flag,
                      plan.biases + panel * plan.width)
                j += lanes << vectors


cdef void panel_of_outputs(const Plan *plan, const Strip *strip, int64_t output, int64_t count,
                           int64_t panel, int64_t row, int64_t first, int64_t end) noexcept nogil:
    """Lanes are outputs: rows of the tile are neighbouring pixels of one residue.

    Of the strip's rows first to end.
    """
    cdef const Correlation *of = &plan.of
    cdef const Part *part
    cdef int vectors = 1 if count > plan.tiles.lanes else 0
    cdef int64_t lanes = plan.tiles.lanes << vectors, n, i, j, rows, column, columns, width
    cdef int64_t most, spread = of.spread[1], c_row, p = 0
    cdef int64_t step = HW_SEGMENT if plan.segmented else max(plan.most_k, 1)
    cdef int flag = HW_COLUMN_BIAS if of.bias != NULL else 0
    cdef bint straight = of.y.strides[C] == 1 and count == lanes
    cdef const float *x
    cdef float *c
    width = min(strip.columns * spread, of.y.shape[W] - strip.column * spread)
    while p == 0 or p < plan.most_k:
        for n in range(strip.images):
            for i in range(first, min(end, extent(plan, 0, strip.row, strip.rows, row))):
                x = strip.x + n * plan.image + i * of.stride[0] * plan.row
                c = strip.scratch
                c_row = lanes
                if straight:
                    c = target(plan, strip, output, n, i * of.spread[0] + row, 0)
                    c_row = of.y.strides[W]
                elif plan.segmented:
                    c += (n * plan.rows + i) * plan.columns * spread * lanes
                for column in range(spread):
                    part = &plan.parts[row][column]
                    columns = extent(plan, 1, strip.column, strip.columns, column)
                    most = share(columns, plan.tiles.rows[vectors]) if columns else 1
                    j = columns if 0 < p >= part.k else 0
                    while j < columns:
                        rows = min(most, columns - j)
                        chain(plan, part.k, p, min(p + step, part.k), vectors, rows,
                              x + j * of.stride[1] * plan.column, of.stride[1] * plan.column,
                              part.x_k, part.weights + panel * part.k * plan.width, plan.w_k,
                              c + (j * spread + column) * c_row, spread * c_row, flag,
                              plan.biases + panel * plan.width)
                        j += rows
                if not straight and p + step >= plan.most_k:
                    plan.tiles.move(width, count, c, c_row, 1,
                                    target(plan, strip, output, n, i * of.spread[0] + row, 0),
                                    of.y.strides[W], of.y.strides[C])
        p += step


cdef void strip_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef const Plan *plan = <const Plan *>context
    cdef const Correlation *of = &plan.of
    cdef Strip strip
    cdef int64_t begin = index % plan.chunks * plan.chunk, last, panel, at, output, count
    cdef int64_t row, column, first = 0, step = plan.rows
    cdef float *frame = plan.workers + worker * (plan.frame_floats + plan.scratch_floats)
    last = min(begin + plan.chunk, plan.panels)
    index //= plan.chunks
    strip.column = index % plan.column_parts * plan.columns
    index //= plan.column_parts
    strip.row = index % plan.row_parts * plan.rows
    index //= plan.row_parts
    strip.image = index % plan.image_parts * plan.images
    strip.group = index // plan.image_parts
    strip.columns = min(plan.columns, plan.size[1] - strip.column)
    strip.rows = min(plan.rows, plan.size[0] - strip.row)
    strip.images = min(plan.images, of.y.shape[N] - strip.image)
    strip.scratch = frame + plan.frame_floats
    if plan.copied:
        copy_strip(plan, &strip, frame)
        strip.x = frame
    else:
        strip.x = (<const float *>of.x.data + strip.group * of.channels * of.x.strides[C]
                   + strip.image * of.x.strides[N]
                   + (strip.row * of.stride[0] + plan.lowest[0]) * of.x.strides[H]
                   + (strip.column * of.stride[1] + plan.lowest[1]) * of.x.strides[W])
    # Rows one after the other where all weights stay in the cache: y is written in its order.
    if not plan.lanes_are_pixels and plan.most_k * of.outputs <= FEW_WEIGHTS:
        step = 1
    while first < strip.rows:
        for panel in range(begin, last):
            output = panel * plan.width
            count = min(plan.width, of.outputs - output)
            at = strip.group * plan.panels + panel
            for row in range(of.spread[0]):
                if plan.straight:
                    straight_pixels(plan, &strip, output, count, at, row)
                elif plan.lanes_are_pixels:
                    for column in range(of.spread[1]):
                        residue_of_pixels(plan, &strip, output, count, at, row, column)
                else:
                    panel_of_outputs(plan, &strip, output, count, at, row, first, first + step)
        first += step


cdef int correlate(const Correlation *given) except -1 nogil:
    cdef Plan plan
    cdef int64_t pixels = given.y.shape[N] * given.y.shape[H] * given.y.shape[W]
    cdef int64_t i, j, panels, offsets, floats = 0, terms = 0
    cdef int threads
    cdef char *memory
    if pixels * given.outputs * given.groups == 0:
        return 0
    tiles()
    for i in range(given.spread[0]):
        for j in range(given.spread[1]):
            terms += given.taps[0][i].count * given.taps[1][j].count
    threads = worthwhile_threads(<double>pixels * given.outputs * given.groups * (
        given.channels * terms) / (32 * given.spread[0] * given.spread[1]))
    make_plan(&plan, given, threads)
    panels = plan.panels * given.groups
    terms *= given.channels
    floats = ceil_div(panels * (terms + 1) * plan.width, 16) * 16
    offsets = ceil_div((given.spread[0] * given.spread[1] + 1) * plan.most_k, 8) * 8
    memory = <char *>workspace_take(
        8 * offsets + 4 * (floats + threads * (plan.frame_floats + plan.scratch_floats)))
    try:
        fill_tables(&plan, <int64_t *>memory)
        plan.biases = <float *>(memory + 8 * offsets)
        plan.workers = plan.biases + floats
        floats = panels * plan.width
        for i in range(given.spread[0]):
            for j in range(given.spread[1]):
                plan.parts[i][j].weights = plan.biases + floats
                floats += panels * plan.width * plan.parts[i][j].k
        parallel_for(pack_task, &plan, panels, min(threads, worthwhile_threads(
            <double>given.groups * given.outputs * terms)))
        parallel_for(strip_task, &plan, plan.image_parts * plan.row_parts * plan.column_parts
                     * plan.chunks * given.groups, threads)
        return 0
    finally:
        workspace_give(memory)
