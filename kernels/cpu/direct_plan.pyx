"""The plan of a direct convolution: what lies in the lanes, what a task is, whether x is copied.

Lanes are pixels (rows of the tile: outputs), loaded from the image as vectors, or lanes are outputs (rows
of the tile: pixels), and the image's elements are broadcast. The first suits NCHW and few outputs, the
second NHWC and small images; what is left over in lanes, and what must be transposed, decides.

A task is a strip: images, rows or columns of y, so that the part of x they read stays in the L2. With
more weights than pixels, strips are few and large, since each reads all weights, and tasks have a part of
the outputs each. Where x needs padding, or lanes want a stride of 1, the strip copies its part of x
first, columns (and rows) of the same residue modulo the stride side by side, so that lanes may run on
across rows and images: the pixels between the end of one row and the beginning of the next are computed
and thrown away. They are few, since the zeros after a row are those before the next: none where an input
meets every tap (1.5 times as fast for LeNet's second layer, backward input).

Nothing here decides a bit of the result.
"""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport hw_direct_tiles, tiles

cdef enum:
    N, C, H, W
    STRIP = 96 * 1024       # floats of x that a strip reads, at most where it can be helped
    LARGE_STRIP = 512 * 1024        # where the weights are many
    LARGE_PANEL = 64 * 1024     # floats of weights, too many to read for every tile
    SLACK = 128             # floats after a strip that its last vectors may read


cdef inline int64_t a_strip(int64_t pixels, int64_t wanted) noexcept nogil:
    """How many pixels of y a strip should have at most, for so many strips."""
    return max(ceil_div(pixels, wanted), 64)


cdef inline double waste(int64_t multiply_adds, int64_t loads) noexcept nogil:
    """By how much a step of a tile is slower than its multiply-adds."""
    return max(1.0, <double>loads / multiply_adds)


cdef bint lanes_for_pixels(Plan *plan, int threads) noexcept nogil:
    """Compares the two orientations by time a useful multiply-add, in that of a tile's."""
    cdef const Correlation *of = &plan.of
    cdef const hw_direct_tiles *table = plan.tiles
    cdef int64_t lanes = table.lanes, outputs = of.outputs
    cdef int64_t height = plan.size[0], width = plan.size[1]
    cdef int64_t pixels = of.y.shape[N] * height * width
    cdef bint pixels_last = of.y.strides[W] == 1 and of.spread[1] == 1
    cdef bint planar = of.x.strides[C] != 1
    # A transposed element of y costs some cycles, its chain k / lanes of them; and so for x.
    cdef double transposed = 8.0 * lanes / 16 / max(plan.most_k, 1)
    cdef double moved = 8.0 * lanes / 16 * of.stride[0] * of.stride[1] * of.channels / (
        max(plan.most_k, 1) * outputs)
    cdef double across, along
    cdef int64_t vectors, rows, positions

    vectors = 4 if outputs <= table.rows[2] else 2
    rows = share(outputs, table.rows[2 if vectors == 4 else 1])
    across = <double>pitch(plan, 1, width) / width
    if height * width < 1024:
        across *= <double>pitch(plan, 0, height) / height
    positions = <int64_t>(min(a_strip(pixels, 4 * threads), pixels) * across)
    across *= <double>ceil_div(positions, lanes) * lanes / positions
    across *= waste(rows * vectors, 2 * vectors + rows // 2 + 1)
    across += (0 if pixels_last else transposed) + moved * (0.3 if planar else 1.0)

    vectors = 2 if outputs > lanes else 1
    rows = share(width, table.rows[vectors - 1])
    along = <double>ceil_div(outputs, lanes) * lanes / outputs
    along *= waste(rows * vectors, vectors + rows // 2 + 1)
    along += 0 if of.y.strides[C] == 1 and outputs % lanes == 0 else transposed
    return across < along


cdef inline int64_t read_by(const Plan *plan, int axis, int64_t outputs) noexcept nogil:
    """How many rows or columns of a phase so many outputs read."""
    return outputs + (plan.reach[axis] - 1) // plan.of.stride[axis]


cdef int64_t pitch(const Plan *plan, int axis, int64_t outputs) noexcept nogil:
    """From one row of a planar copy to the next (axis 1), or from one image to the next (0).

    The zeros at the end of one and those at the beginning of the next are the same where both are whole.
    """
    cdef const Correlation *of = &plan.of
    cdef int64_t before = -plan.lowest[axis], after, reach = plan.reach[axis]
    cdef int64_t size = read_by(plan, axis, outputs)
    after = (outputs - 1) * of.stride[axis] + reach - before - of.x.shape[H + axis]
    if not plan.straight and outputs == plan.size[axis] and min(before, after) > 0:
        size -= min(min(before, after), reach - 1) // of.stride[axis]
    return size


cdef int64_t frame_layout(Plan *plan) noexcept nogil:
    """Sets the strides of a strip's copy, returns its size."""
    cdef const Correlation *of = &plan.of
    if plan.lanes_are_pixels:
        plan.strip_rows, plan.strip_columns = pitch(plan, 0, plan.rows), pitch(plan, 1, plan.columns)
        plan.column = 1
        plan.row = plan.strip_columns
        plan.image = plan.row * plan.strip_rows
        plan.column_phase = (plan.image * (plan.images - 1) + plan.row * (
            read_by(plan, 0, plan.rows) - 1) + read_by(plan, 1, plan.columns))
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
    cdef int64_t batch = of.y.shape[N], height = plan.size[0], width = plan.size[1]
    cdef int64_t unit, strips, image, most = STRIP, wanted = 4 * threads, pixels
    plan.images, plan.rows, plan.columns = 1, height, width
    image = frame_layout(plan)
    if <double>plan.most_k * of.outputs > 2.0 * batch * image:
        most, wanted = LARGE_STRIP, 1
    pixels = a_strip(batch * height * width, wanted)
    if image <= most and height * width <= pixels:
        plan.images = max(min(min(most // max(image, 1), pixels // (height * width)), batch), 1)
        plan.images = share(batch, plan.images)
    else:
        plan.rows = min(max(pixels // width, 1), height)
        while plan.rows > 1 and frame_layout(plan) > most:
            plan.rows = ceil_div(plan.rows, 2) if plan.rows > 8 else plan.rows - 1
        plan.rows = share(height, plan.rows)
        if plan.rows == 1:
            unit = plan.tiles.lanes << plan.vectors
            if not plan.lanes_are_pixels:
                unit = plan.tiles.rows[plan.vectors]
            plan.columns = ceil_div(min(width, pixels), unit) * unit
            while plan.columns > 2 * unit and frame_layout(plan) > most:
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
    if (of.taps[0][0].count == of.taps[1][0].count == of.stride[0] == of.stride[1] == 1
            and of.spread[0] == of.spread[1] == 1
            and of.taps[0][0].first == of.taps[1][0].first == 0
            and rows == of.x.shape[H] and columns == of.x.shape[W]
            and of.x.strides[H] == columns * of.x.strides[W]
            and of.y.strides[H] == columns * of.y.strides[W]):
        of.x.shape[W] = of.y.shape[W] = rows * columns
        of.x.shape[H] = of.y.shape[H] = 1


cdef bint rows_are_straight(const Plan *plan) noexcept nogil:
    """Whether lanes that end with a row of y cost less than lanes that run on and a copy to y.

    The last vector of a row begins earlier where it would not fit. A copied element costs a cycle.
    """
    cdef const Correlation *of = &plan.of
    cdef int64_t lanes = plan.tiles.lanes, last = (plan.size[1] - 1) % plan.columns + 1
    cdef int64_t more = ceil_div(plan.columns, lanes) * lanes - plan.strip_columns
    return (of.y.strides[W] == 1 and of.spread[1] == 1 and last >= lanes
            and plan.most_k * more < lanes * plan.columns)


cdef void measure(Plan *plan, int axis) noexcept nogil:
    """What all residues' taps read along an axis."""
    cdef const Correlation *of = &plan.of
    cdef Taps taps
    cdef int64_t d, last, highest = 0
    cdef bint none = True
    plan.lowest[axis] = 0
    for d in range(of.spread[axis]):
        taps = of.taps[axis][d]
        if taps.count == 0:
            continue
        last = taps.first + (taps.count - 1) * taps.step
        if none:
            plan.lowest[axis] = highest = last
            none = False
        plan.lowest[axis] = min(plan.lowest[axis], min(taps.first, last))
        highest = max(highest, max(taps.first, last))
    plan.reach[axis] = highest - plan.lowest[axis] + 1
    plan.size[axis] = ceil_div(of.y.shape[H + axis], of.spread[axis])
    plan.phases[axis] = min(of.stride[axis], plan.reach[axis])


cdef void make_plan(Plan *plan, const Correlation *given, int threads) noexcept nogil:
    cdef Correlation *of = &plan.of
    cdef const hw_direct_tiles *table = tiles().direct
    cdef int axis
    cdef int64_t i, j
    cdef bint inside = True
    of[0] = given[0]
    one_row(of)
    plan.tiles = table
    for axis in range(2):
        measure(plan, axis)
        inside = (inside and plan.lowest[axis] >= 0
                  and (plan.size[axis] - 1) * of.stride[axis] + plan.lowest[axis]
                  + plan.reach[axis] <= of.x.shape[H + axis])
    plan.most_k = 0
    for i in range(of.spread[0]):
        for j in range(of.spread[1]):
            plan.parts[i][j].k = of.channels * of.taps[0][i].count * of.taps[1][j].count
            plan.most_k = max(plan.most_k, plan.parts[i][j].k)
    plan.straight = False
    plan.lanes_are_pixels = lanes_for_pixels(plan, threads)
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
    frame_layout(plan)
    plan.straight = plan.lanes_are_pixels and rows_are_straight(plan)
    if plan.lanes_are_pixels:
        # Vectors of x itself are read if none runs on beyond its row.
        if of.stride[1] != 1 or of.x.strides[W] != 1 or not plan.straight:
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
    plan.segmented = not plan.lanes_are_pixels and plan.most_k * plan.width > LARGE_PANEL
    plan.pitch = table.lanes << plan.vectors
    if plan.lanes_are_pixels:
        plan.pitch *= ceil_div(plan.images * plan.strip_rows * plan.strip_columns, plan.pitch)
        if plan.pitch % 256 == 0:
            plan.pitch += 16
        plan.scratch_floats = plan.width * plan.pitch
    else:
        plan.scratch_floats = plan.columns * of.spread[1] * plan.pitch
        if plan.segmented:
            plan.scratch_floats *= plan.rows * plan.images
    plan.scratch_floats = ceil_div(plan.scratch_floats, 16) * 16


cdef void fill_tables(Plan *plan, int64_t *memory) noexcept nogil:
    cdef const Correlation *of = &plan.of
    cdef Taps rows, columns
    cdef int64_t i, j, c, r, s, p, down, across, at
    cdef bint phased = plan.lanes_are_pixels and plan.copied
    plan.w_k = memory
    for p in range(plan.most_k):
        memory[p] = p * plan.width
    for i in range(of.spread[0]):
        for j in range(of.spread[1]):
            memory += plan.most_k
            plan.parts[i][j].x_k = memory
            rows, columns = of.taps[0][i], of.taps[1][j]
            p = 0
            for c in range(of.channels):
                for r in range(rows.count):
                    down = rows.first + r * rows.step - plan.lowest[0]
                    for s in range(columns.count):
                        across = columns.first + s * columns.step - plan.lowest[1]
                        if phased:
                            at = (down % of.stride[0] * plan.row_phase
                                  + down // of.stride[0] * plan.row
                                  + across % of.stride[1] * plan.column_phase
                                  + across // of.stride[1])
                        else:
                            at = down * plan.row + across * plan.column
                        memory[p] = c * plan.channel + at
                        p += 1
