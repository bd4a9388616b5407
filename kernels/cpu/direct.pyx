"""Direct convolution in float32: y[n, o, i, j] = Σ over (c, r, s) of w[o, c, r, s] · x[n, c, h, …].

No im2col: a tile takes the image by a table of offsets, one for each term of the chain. Either the
lanes are pixels (rows of the tile: outputs), loaded from the image as vectors; or the lanes are
outputs (rows: pixels), and the image's elements are broadcast. The first suits NCHW and few outputs,
the second NHWC and small images; what is left over in lanes decides.

Loops, outermost first:

    strips      of images, rows or columns of y, so that the part of x they read stays in the L2:
                one task each (with few strips, each also for chunks of outputs)
    panels      of outputs, as many as a tile has; their weights are packed once, for all strips
    tiles       blocks of the strip's pixels
    segments    512 terms: a chain of fused multiply-adds

Where x needs padding, or lanes want a stride of 1, the strip copies its part of x first, columns (and
rows) of the same residue modulo the stride side by side, so that lanes may run on across rows: the
pixels between the end of one row and the beginning of the next are computed and thrown away.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, HW_COLUMN_BIAS, HW_ROW_BIAS, hw_direct_tiles, parallel_for, tiles,
    workspace_give, workspace_take, worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT
    int64_t HW_SUPER_SEGMENT

cdef enum:
    N, C, H, W
    STRIP = 96 * 1024       # floats of x that a strip reads, at most where it can be helped
    SLACK = 128             # floats after a strip that its last vectors may read


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t share(int64_t size, int64_t most) noexcept nogil:
    """The size of parts, as equal as can be and none above `most`."""
    return ceil_div(size, ceil_div(size, most))

# ---- zeros ----------------------------------------------------------------------------------------


cdef void zero_row(void *context, int64_t index, int worker) noexcept nogil:
    cdef const View *y = <const View *>context
    cdef float *row = (<float *>y.data + index // y.shape[H] * y.strides[N]
                       + index % y.shape[H] * y.strides[H])
    cdef int64_t outer = C, inner = W, i, j
    if y.strides[C] == 1:
        outer, inner = W, C
    for i in range(y.shape[outer]):
        if y.strides[inner] == 1:
            memset(row + i * y.strides[outer], 0, y.shape[inner] * sizeof(float))
        else:
            for j in range(y.shape[inner]):
                row[i * y.strides[outer] + j * y.strides[inner]] = 0


cdef int fill_with_zeros(View *y) except -1 nogil:
    return parallel_for(zero_row, y, y.shape[N] * y.shape[H], worthwhile_threads(
        <double>y.shape[N] * y.shape[H] * y.shape[W] * y.shape[C] * 0.2))

# ---- the plan -------------------------------------------------------------------------------------

cdef struct Plan:
    Correlation of
    const hw_direct_tiles *tiles
    int64_t k
    int64_t reach[2]            # how many rows, columns of x an output reads, gaps included
    int64_t lowest[2]           # the first of them, from i · stride
    bint lanes_are_pixels, copied, planar
    int vectors                 # index of the tile's: 0, 1, 2 for 1, 2, 4
    int64_t width, panels       # outputs a panel
    # a task
    int64_t images, rows, columns
    int64_t image_parts, row_parts, column_parts
    int64_t chunk, chunks       # panels a task, tasks a strip
    # the strip's copy of x, or x: strides of its elements
    int64_t phases[2]
    int64_t image, channel, row, column, row_phase, column_phase
    int64_t strip_rows, strip_columns       # of one image in a copy
    int64_t frame_floats, scratch_floats, pitch
    const int64_t *x_k
    const int64_t *w_k
    float *weights
    float *biases
    float *workers


cdef bint correlates(const Correlation *given) noexcept nogil:
    cdef int64_t taps = given.taps[0] * given.taps[1]
    cdef double spread = given.channels
    cdef int axis
    for axis in range(2):
        spread *= (<double>given.taps[axis] * max(given.step[axis], -given.step[axis])
                   + 32.0 * given.stride[axis])
    return (given.x.itemsize == 4 and 0 < taps <= HW_SUPER_SEGMENT
            and 0 < given.channels <= HW_SUPER_SEGMENT // taps and spread < 2.0**30)


cdef inline double waste(int64_t multiply_adds, int64_t loads) noexcept nogil:
    """By how much a step of a tile is slower than its multiply-adds."""
    return max(1.0, <double>loads / multiply_adds)


cdef bint lanes_for_pixels(Plan *plan) noexcept nogil:
    """Compares the two orientations by time a useful multiply-add, in that of a tile's."""
    cdef const Correlation *of = &plan.of
    cdef const hw_direct_tiles *table = plan.tiles
    cdef int64_t lanes = table.lanes, outputs = of.outputs
    cdef int64_t height = of.y.shape[H], width = of.y.shape[W]
    cdef int64_t pixels = of.y.shape[N] * height * width
    cdef bint pixels_last = of.y.strides[W] == 1, planar = of.x.strides[C] != 1
    # A transposed element of y costs some cycles, its chain k / lanes of them; and so for x.
    cdef double transposed = 8.0 * lanes / 16 / plan.k
    cdef double moved = 8.0 * lanes / 16 * of.stride[0] * of.stride[1] / (
        of.taps[0] * of.taps[1] * outputs)
    cdef double across, along
    cdef int64_t vectors, rows, positions

    vectors = 4 if outputs <= table.rows[2] else 2
    rows = share(outputs, table.rows[2 if vectors == 4 else 1])
    positions = width + (plan.reach[1] - 1) // of.stride[1]
    across = <double>positions / width
    if height * width < 1024:
        across *= <double>(height + (plan.reach[0] - 1) // of.stride[0]) / height
    positions = <int64_t>(min(pixels, 1024) * across)
    across *= <double>ceil_div(positions, vectors * lanes) * vectors * lanes / positions
    across *= waste(rows * vectors, 2 * vectors + rows // 2 + 1)
    across += (0 if pixels_last else transposed) + moved * (0.3 if planar else 1.0)

    vectors = 2 if outputs > lanes else 1
    rows = share(width, table.rows[vectors - 1])
    along = <double>ceil_div(outputs, lanes) * lanes / outputs
    along *= waste(rows * vectors, vectors + rows // 2 + 1)
    along += 0 if of.y.strides[C] == 1 and outputs % lanes == 0 else transposed
    return across < along


cdef int64_t frame_layout(Plan *plan) noexcept nogil:
    """Sets the strides of a strip's copy, returns its size."""
    cdef const Correlation *of = &plan.of
    if plan.lanes_are_pixels:
        plan.strip_rows = plan.rows + (plan.reach[0] - 1) // of.stride[0]
        plan.strip_columns = plan.columns + (plan.reach[1] - 1) // of.stride[1]
        plan.column = 1
        plan.row = plan.strip_columns
        plan.image = plan.row * plan.strip_rows
        plan.column_phase = plan.image * plan.images
        plan.row_phase = plan.column_phase * plan.phases[1]
        plan.channel = plan.row_phase * plan.phases[0]
        if plan.channel % 256 == 0:         # else channels would meet in few sets of the cache
            plan.channel += 16
        return plan.channel * of.channels
    plan.strip_rows = (plan.rows - 1) * of.stride[0] + plan.reach[0]
    plan.strip_columns = (plan.columns - 1) * of.stride[1] + plan.reach[1]
    if plan.planar:
        plan.column = 1
        plan.row = plan.strip_columns
        plan.channel = plan.row * plan.strip_rows
        plan.image = plan.channel * of.channels
        return plan.image * plan.images
    plan.channel = 1
    plan.column = of.channels
    if plan.column * of.stride[1] % 1024 == 0:
        plan.column += 16
    plan.row = plan.column * plan.strip_columns
    plan.image = plan.row * plan.strip_rows
    return plan.image * plan.images


cdef void cut(Plan *plan, int threads) noexcept nogil:
    """Chooses the strips: whole images, or rows, or columns."""
    cdef const Correlation *of = &plan.of
    cdef int64_t batch = of.y.shape[N], height = of.y.shape[H], width = of.y.shape[W]
    cdef int64_t unit, strips
    cdef int64_t pixels = max(ceil_div(batch * height * width, 4 * threads), 64)
    plan.images, plan.rows, plan.columns = 1, height, width
    if frame_layout(plan) <= STRIP and height * width <= pixels:
        plan.images = max(min(min(STRIP // frame_layout(plan), pixels // (height * width)), batch), 1)
        plan.images = share(batch, plan.images)
    else:
        plan.rows = min(max(pixels // width, 1), height)
        while plan.rows > 1 and frame_layout(plan) > STRIP:
            plan.rows = ceil_div(plan.rows, 2) if plan.rows > 8 else plan.rows - 1
        plan.rows = share(height, plan.rows)
        if plan.rows == 1:
            unit = plan.tiles.lanes << plan.vectors
            if not plan.lanes_are_pixels:
                unit = plan.tiles.rows[plan.vectors]
            plan.columns = ceil_div(min(width, pixels), unit) * unit
            while plan.columns > 2 * unit and frame_layout(plan) > STRIP:
                plan.columns -= unit
            plan.columns = min(ceil_div(share(width, plan.columns), unit) * unit, width)
    plan.image_parts = ceil_div(batch, plan.images)
    plan.row_parts = ceil_div(height, plan.rows)
    plan.column_parts = ceil_div(width, plan.columns)
    strips = plan.image_parts * plan.row_parts * plan.column_parts * of.groups
    plan.chunks = min(plan.panels, ceil_div(2 * threads, strips)) if threads > 1 else 1
    plan.chunk = ceil_div(plan.panels, plan.chunks)
    plan.chunks = ceil_div(plan.panels, plan.chunk)


cdef void one_row(Correlation *of) noexcept nogil:
    """With 1 × 1 taps and nothing beyond the border, an image is one long row if memory says so."""
    cdef int64_t rows = of.y.shape[H], columns = of.y.shape[W]
    if (of.taps[0] == of.taps[1] == of.stride[0] == of.stride[1] == 1
            and of.first[0] == of.first[1] == 0
            and rows == of.x.shape[H] and columns == of.x.shape[W]
            and of.x.strides[H] == columns * of.x.strides[W]
            and of.y.strides[H] == columns * of.y.strides[W]):
        of.x.shape[W] = of.y.shape[W] = rows * columns
        of.x.shape[H] = of.y.shape[H] = 1


cdef void make_plan(Plan *plan, const Correlation *given, int threads) noexcept nogil:
    cdef Correlation *of = &plan.of
    cdef const hw_direct_tiles *table = tiles().direct
    cdef int axis
    cdef int64_t last
    cdef bint inside = True
    of[0] = given[0]
    one_row(of)
    plan.tiles = table
    plan.k = of.channels * of.taps[0] * of.taps[1]
    for axis in range(2):
        plan.reach[axis] = (of.taps[axis] - 1) * max(of.step[axis], -of.step[axis]) + 1
        plan.lowest[axis] = of.first[axis] + min(0, (of.taps[axis] - 1) * of.step[axis])
        plan.phases[axis] = min(of.stride[axis], plan.reach[axis])
        inside = (inside and plan.lowest[axis] >= 0
                  and (of.y.shape[H + axis] - 1) * of.stride[axis] + plan.lowest[axis]
                  + plan.reach[axis] <= of.x.shape[H + axis])
    plan.lanes_are_pixels = lanes_for_pixels(plan)
    plan.planar = plan.lanes_are_pixels or of.x.strides[C] != 1
    if plan.lanes_are_pixels:
        plan.vectors = 2 if of.outputs <= table.rows[2] else 1
        plan.width = share(of.outputs, table.rows[plan.vectors])
    else:
        plan.vectors = 1 if of.outputs > table.lanes else 0
        plan.width = table.lanes << plan.vectors
    plan.panels = ceil_div(of.outputs, plan.width)
    cut(plan, threads)
    plan.copied = not inside
    if plan.lanes_are_pixels:
        # Vectors of x itself: of one row, which is long enough that its last one ends inside it.
        last = (of.y.shape[W] - 1) % plan.columns + 1
        if (of.stride[1] != 1 or of.x.strides[W] != 1 or of.y.strides[W] != 1 or plan.images > 1
                or plan.rows > 1 or last < table.lanes << plan.vectors):
            plan.copied = True
    elif of.x.strides[W] * of.stride[1] % 1024 == 0:
        plan.copied = True      # its pixels meet in one set of the cache
    plan.frame_floats = 0
    if plan.copied:
        plan.frame_floats = ceil_div(frame_layout(plan) + SLACK, 16) * 16
    else:
        plan.image, plan.channel = of.x.strides[N], of.x.strides[C]
        plan.row, plan.column = of.x.strides[H], of.x.strides[W]
        plan.strip_rows, plan.strip_columns = plan.rows, plan.columns
        plan.phases[0] = plan.phases[1] = 1
    plan.pitch = table.lanes << plan.vectors
    if plan.lanes_are_pixels:
        plan.pitch *= ceil_div(plan.images * plan.strip_rows * plan.strip_columns, plan.pitch)
        if plan.pitch % 256 == 0:
            plan.pitch += 16
        plan.scratch_floats = plan.width * plan.pitch
    else:
        plan.scratch_floats = plan.columns * plan.pitch
    plan.scratch_floats = ceil_div(plan.scratch_floats, 16) * 16


cdef void fill_tables(Plan *plan, int64_t *x_k, int64_t *w_k) noexcept nogil:
    cdef const Correlation *of = &plan.of
    cdef int64_t c, r, s, p = 0, down, across
    cdef bint phased = plan.lanes_are_pixels and plan.copied
    for c in range(of.channels):
        for r in range(of.taps[0]):
            for s in range(of.taps[1]):
                down = r * of.step[0] + of.first[0] - plan.lowest[0]
                across = s * of.step[1] + of.first[1] - plan.lowest[1]
                x_k[p] = c * plan.channel
                if phased:
                    x_k[p] += (down % of.stride[0] * plan.row_phase
                               + down // of.stride[0] * plan.row
                               + across % of.stride[1] * plan.column_phase
                               + across // of.stride[1])
                else:
                    x_k[p] += down * plan.row + across * plan.column
                w_k[p] = p * plan.width
                p += 1
    plan.x_k = x_k
    plan.w_k = w_k

# ---- packing --------------------------------------------------------------------------------------


cdef void pack_task(void *context, int64_t index, int worker) noexcept nogil:
    """One panel of weights, [term][output], and its biases."""
    cdef Plan *plan = <Plan *>context
    cdef const Correlation *of = &plan.of
    cdef int64_t group = index // plan.panels, output = index % plan.panels * plan.width
    cdef int64_t count = min(plan.width, of.outputs - output), r, s
    cdef const int64_t *strides = &of.w_strides[0]
    cdef const float *w = of.w + group * of.w_group + output * strides[0]
    cdef float *panel = plan.weights + index * plan.k * plan.width
    cdef float *bias = plan.biases + index * plan.width
    if count < plan.width:
        memset(panel, 0, plan.k * plan.width * sizeof(float))
        memset(bias, 0, plan.width * sizeof(float))
    if of.bias != NULL:
        memcpy(bias, of.bias + group * of.outputs + output, count * sizeof(float))
    if strides[3] == 1 and strides[2] == of.taps[1] and strides[1] == of.taps[0] * of.taps[1]:
        plan.tiles.move(count, plan.k, w, strides[0], 1, panel, 1, plan.width)
        return
    for r in range(of.taps[0]):
        for s in range(of.taps[1]):
            plan.tiles.move(count, of.channels, w + r * strides[2] + s * strides[3], strides[0],
                            strides[1], panel + (r * of.taps[1] + s) * plan.width, 1,
                            of.taps[0] * of.taps[1] * plan.width)

cdef struct Strip:
    int64_t group
    int64_t image, row, column          # of y, where it begins
    int64_t images, rows, columns
    const float *x
    float *scratch


cdef inline void zero(float *to, int64_t rows, int64_t stride, int64_t n) noexcept nogil:
    cdef int64_t i, j
    for i in range(rows if n > 0 else 0):
        for j in range(n):
            to[i * stride + j] = 0


cdef void copy_row(const Plan *plan, const float *line, int64_t first, int64_t step, int64_t count,
                   float *to) noexcept nogil:
    """Columns first, first + step, … of one row of x, all channels, zeros beyond the border.

    line is the row's first element, or NULL for a row beyond the border.
    """
    cdef const Correlation *of = &plan.of
    cdef int64_t channels = of.channels, size = of.x.shape[W]
    cdef int64_t begin = count, end = count
    if line != NULL:
        begin = min(ceil_div(-first, step) if first < 0 else 0, count)
        end = max(min(ceil_div(size - first, step) if first < size else 0, count), begin)
        line += (first + begin * step) * of.x.strides[W]
    if plan.planar:
        zero(to, channels, plan.channel, begin)
        plan.tiles.move(channels, end - begin, line, of.x.strides[C], step * of.x.strides[W],
                        to + begin, plan.channel, 1)
        zero(to + end, channels, plan.channel, count - end)
        return
    memset(to, 0, begin * plan.column * sizeof(float))
    if plan.column == channels and step * of.x.strides[W] == channels:
        plan.tiles.move(1, (end - begin) * channels, line, 0, 1, to + begin * channels, 0, 1)
    else:
        plan.tiles.move(end - begin, channels, line, step * of.x.strides[W], 1,
                        to + begin * plan.column, plan.column, 1)
    memset(to + end * plan.column, 0, (count - end) * plan.column * sizeof(float))


cdef void copy_strip(const Plan *plan, const Strip *strip, float *frame) noexcept nogil:
    cdef const Correlation *of = &plan.of
    cdef const float *x = <const float *>of.x.data + strip.group * of.channels * of.x.strides[C]
    cdef const float *line
    cdef float *to
    cdef int64_t n, i, h, phase, columns
    cdef int64_t left = strip.column * of.stride[1] + plan.lowest[1]
    columns = (strip.columns - 1) * of.stride[1] + plan.reach[1]
    for n in range(strip.images):
        for i in range((strip.rows - 1) * of.stride[0] + plan.reach[0]):
            h = strip.row * of.stride[0] + plan.lowest[0] + i
            line = NULL
            if 0 <= h < of.x.shape[H]:
                line = x + (strip.image + n) * of.x.strides[N] + h * of.x.strides[H]
            to = frame + n * plan.image
            if not plan.lanes_are_pixels:
                copy_row(plan, line, left, 1, columns, to + i * plan.row)
                continue
            if i % of.stride[0] >= plan.phases[0]:
                continue
            to += i % of.stride[0] * plan.row_phase + i // of.stride[0] * plan.row
            for phase in range(plan.phases[1]):
                copy_row(plan, line, left + phase, of.stride[1],
                         ceil_div(columns - phase, of.stride[1]), to + phase * plan.column_phase)

# ---- tiles ----------------------------------------------------------------------------------------


cdef inline void chain(const Plan *plan, int vectors, int64_t rows, const float *a, int64_t a_row,
                       const int64_t *a_k, const float *b, const int64_t *b_k, float *c,
                       int64_t c_row, int bias_flag, const float *bias) noexcept nogil:
    """One tile over all segments."""
    cdef int64_t p = 0, n
    cdef int flags = 0
    while p < plan.k:
        n = min(HW_SEGMENT, plan.k - p)
        if p + n == plan.k:
            flags |= bias_flag
        plan.tiles.tile[vectors][rows](n, a, a_row, a_k + p, b, b_k + p, c, c_row, flags, bias)
        flags = HW_ACCUMULATE
        p += n


cdef inline float *target(const Plan *plan, const Strip *strip, int64_t output, int64_t n,
                          int64_t i) noexcept nogil:
    cdef const View *y = &plan.of.y
    return (<float *>y.data + (strip.group * plan.of.outputs + output) * y.strides[C]
            + (strip.image + n) * y.strides[N] + (strip.row + i) * y.strides[H]
            + strip.column * y.strides[W])


cdef void panel_of_pixels(const Plan *plan, const Strip *strip, int64_t output, int64_t count,
                          const float *weights, const float *bias) noexcept nogil:
    """Lanes are pixels: they run on across rows and images of the strip, `lanes` at a time."""
    cdef const Correlation *of = &plan.of
    cdef int64_t lanes = plan.tiles.lanes << plan.vectors, q = 0, n, i
    cdef int64_t image = plan.strip_rows * plan.strip_columns
    cdef int64_t end = ((strip.images - 1) * image + (strip.rows - 1) * plan.strip_columns
                        + strip.columns)
    cdef int flag = HW_ROW_BIAS if of.bias != NULL else 0
    cdef float *c = strip.scratch
    cdef int64_t c_row = plan.pitch
    # One row of y takes vectors as they are; its last one begins earlier, to end where the row does.
    cdef bint straight = (strip.rows == 1 and strip.images == 1 and of.y.strides[W] == 1
                          and end >= lanes)
    if straight:
        c = target(plan, strip, output, 0, 0)
        c_row = of.y.strides[C]
    while q < end:
        if straight and q + lanes > end:
            q = end - lanes
        chain(plan, plan.vectors, count, weights, 1, plan.w_k, strip.x + q, plan.x_k, c + q, c_row,
              flag, bias)
        q += lanes
    if straight:
        return
    for n in range(strip.images):
        for i in range(strip.rows):
            plan.tiles.move(count, strip.columns, c + n * image + i * plan.strip_columns, c_row, 1,
                            target(plan, strip, output, n, i), of.y.strides[C], of.y.strides[W])


cdef void panel_of_outputs(const Plan *plan, const Strip *strip, int64_t output, int64_t count,
                           const float *weights, const float *bias) noexcept nogil:
    """Lanes are outputs: rows of the tile are neighbouring pixels."""
    cdef const Correlation *of = &plan.of
    cdef int vectors = 1 if count > plan.tiles.lanes else 0
    cdef int64_t lanes = plan.tiles.lanes << vectors, n, i, j, rows, c_row
    cdef int64_t most = share(strip.columns, plan.tiles.rows[vectors])
    cdef int flag = HW_COLUMN_BIAS if of.bias != NULL else 0
    cdef bint straight = of.y.strides[C] == 1 and count == lanes
    cdef const float *x
    cdef float *c
    for n in range(strip.images):
        for i in range(strip.rows):
            x = strip.x + n * plan.image + i * of.stride[0] * plan.row
            c = strip.scratch
            c_row = lanes
            if straight:
                c = target(plan, strip, output, n, i)
                c_row = of.y.strides[W]
            j = 0
            while j < strip.columns:
                rows = min(most, strip.columns - j)
                chain(plan, vectors, rows, x + j * of.stride[1] * plan.column,
                      of.stride[1] * plan.column, plan.x_k, weights, plan.w_k, c + j * c_row,
                      c_row, flag, bias)
                j += rows
            if not straight:
                plan.tiles.move(strip.columns, count, c, c_row, 1,
                                target(plan, strip, output, n, i), of.y.strides[W],
                                of.y.strides[C])


cdef void strip_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef const Plan *plan = <const Plan *>context
    cdef const Correlation *of = &plan.of
    cdef Strip strip
    cdef int64_t panel = index % plan.chunks * plan.chunk, last, at
    cdef float *frame = plan.workers + worker * (plan.frame_floats + plan.scratch_floats)
    last = min(panel + plan.chunk, plan.panels)
    index //= plan.chunks
    strip.column = index % plan.column_parts * plan.columns
    index //= plan.column_parts
    strip.row = index % plan.row_parts * plan.rows
    index //= plan.row_parts
    strip.image = index % plan.image_parts * plan.images
    strip.group = index // plan.image_parts
    strip.columns = min(plan.columns, of.y.shape[W] - strip.column)
    strip.rows = min(plan.rows, of.y.shape[H] - strip.row)
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
    while panel < last:
        at = strip.group * plan.panels + panel
        if plan.lanes_are_pixels:
            panel_of_pixels(plan, &strip, panel * plan.width,
                            min(plan.width, of.outputs - panel * plan.width),
                            plan.weights + at * plan.k * plan.width, plan.biases + at * plan.width)
        else:
            panel_of_outputs(plan, &strip, panel * plan.width,
                             min(plan.width, of.outputs - panel * plan.width),
                             plan.weights + at * plan.k * plan.width,
                             plan.biases + at * plan.width)
        panel += 1


cdef int correlate(const Correlation *given) except -1 nogil:
    cdef Plan plan
    cdef int64_t pixels = given.y.shape[N] * given.y.shape[H] * given.y.shape[W]
    cdef int64_t panels, floats
    cdef int threads
    cdef char *memory
    if pixels * given.outputs * given.groups == 0:
        return 0
    tiles()
    threads = worthwhile_threads(<double>pixels * given.outputs * given.groups * given.channels
                                 * given.taps[0] * given.taps[1] / 32)
    make_plan(&plan, given, threads)
    panels = plan.panels * given.groups
    floats = panels * (plan.k + 1) * plan.width + 16
    floats = ceil_div(floats, 16) * 16
    memory = <char *>workspace_take(
        16 * ceil_div(plan.k, 8) * 8
        + 4 * (floats + threads * (plan.frame_floats + plan.scratch_floats)))
    try:
        fill_tables(&plan, <int64_t *>memory, <int64_t *>memory + ceil_div(plan.k, 8) * 8)
        plan.weights = <float *>(memory + 16 * ceil_div(plan.k, 8) * 8)
        plan.biases = plan.weights + panels * plan.k * plan.width
        plan.workers = plan.weights + floats
        parallel_for(pack_task, &plan, panels,
                     min(threads, worthwhile_threads(<double>given.groups * given.outputs * plan.k)))
        parallel_for(strip_task, &plan, plan.image_parts * plan.row_parts * plan.column_parts
                     * plan.chunks * given.groups, threads)
        return 0
    finally:
        workspace_give(memory)
