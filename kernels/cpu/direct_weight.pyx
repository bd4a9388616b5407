"""Backward weight in float32: dw[o, c, r, s] = Σ over (n, i, j) of dy[n, o, i, j] · x[n, c, h, …].

Lanes are outputs o; the rows of a tile are neighbours along c or s, whichever has more. Elements of x
are broadcast from where they lie, so no im2col is made; vectors of dy are read where they lie (NHWC)
or from panels of a segment. A task has some of the rows and some of the outputs; and one segment of 512
positions, or one super-segment of 16384, where the sums of all of them are small (then they are added
up in order at the end), else all, one after the other:

    segments            512 positions: the part of x they read is copied if it needs padding, and
                        that of dy into panels as wide as a tile (ahead, for all tasks at once,
                        where several need the same)
    panels, tiles       of outputs, of rows: one chain of fused multiply-adds

Sums lie as [c, r, s][o], so that the last step, which puts them where dw has them, is a transpose.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from halfwave._cpu.direct_copy cimport Span, copy_window
from halfwave._cpu.direct_plan cimport Correlation, ceil_div
from halfwave._cpu.direct_weight_plan cimport Tile, WeightPlan, make_weight_plan, tile_of
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, View, hw_direct_tile, parallel_for, tiles, workspace_give, workspace_take,
    worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT
    int64_t HW_SUPER_SEGMENT

cdef enum:
    N, C, H, W
    FOLD_ROWS = 64          # of sums that are put into dw at a time

# ---- segments -------------------------------------------------------------------------------------

cdef struct Part:
    int64_t piece, group, output, outputs       # of dw
    int64_t first, last                 # tiles
    int64_t channel, channels           # of x that they read
    int64_t *x_k
    int64_t *y_k
    float *frame
    float *panels


cdef void pack_run(const WeightPlan *plan, const float *dy, int64_t outputs, int64_t count,
                   float *panels) noexcept nogil:
    """So many positions of dy, evenly spaced, into the panels."""
    cdef const View *y = &plan.of.y
    cdef int64_t q = 0
    while q < outputs:
        plan.tiles.move(min(plan.lanes, outputs - q), count, dy + q * y.strides[C], y.strides[C],
                        y.strides[W], panels + q * HW_SEGMENT, 1, plan.lanes)
        q += plan.lanes


cdef void pack(const WeightPlan *plan, int64_t group, int64_t output, int64_t outputs, int64_t begin,
               int64_t end, float *panels) noexcept nogil:
    """Positions begin to end, by rows of y, or whole images where rows follow one another."""
    cdef const View *y = &plan.of.y
    cdef int64_t height = y.shape[H], width = y.shape[W], run = width, p = begin, count
    cdef const float *dy = (<const float *>y.data
                            + (group * plan.of.outputs + output) * y.strides[C])
    if outputs % plan.lanes:
        memset(panels + outputs // plan.lanes * plan.lanes * HW_SEGMENT, 0,
               plan.lanes * HW_SEGMENT * sizeof(float))
    if y.strides[H] == width * y.strides[W]:
        run = height * width
    while p < end:
        count = min(end - p, run - p % run)
        pack_run(plan, dy + p // (height * width) * y.strides[N]
                 + p // width % height * y.strides[H] + p % width * y.strides[W],
                 outputs, count, panels + (p - begin) * plan.lanes)
        p += count


cdef void pack_task(void *context, int64_t index, int worker) noexcept nogil:
    """A segment of dy for all tasks."""
    cdef const WeightPlan *plan = <const WeightPlan *>context
    cdef int64_t segments = ceil_div(plan.k, HW_SEGMENT), begin = index % segments * HW_SEGMENT
    pack(plan, index // segments, 0, plan.of.outputs, begin, min(begin + HW_SEGMENT, plan.k),
         plan.packs + index * HW_SEGMENT * plan.output_tasks * plan.outputs_a_task)


cdef inline void spread(int64_t *offsets, int64_t count, int64_t first, int64_t step) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        offsets[i] = first + i * step


cdef void prepare(const WeightPlan *plan, Part *part, int64_t begin, int64_t end) noexcept nogil:
    """The offsets of one segment's positions, and copies of what they read, image by image."""
    cdef const Correlation *of = &plan.of
    cdef int64_t height = of.y.shape[H], width = of.y.shape[W], p = begin, count, last, n, i, j, at
    cdef int64_t row = 0        # of the copy, where the image's first goes
    cdef Span rows, columns
    if plan.shared:
        part.panels = plan.packs + HW_SEGMENT * (part.output + (
            part.group * ceil_div(plan.k, HW_SEGMENT) + begin // HW_SEGMENT)
            * plan.output_tasks * plan.outputs_a_task)
    elif plan.packed:
        pack(plan, part.group, part.output, part.outputs, begin, end, part.panels)
    rows.step = columns.step = 1
    columns.first, columns.count = plan.first[1], plan.frame_columns
    while p < end:
        n, i, j = p // (height * width), p // width % height, p % width
        last = min(end, (n + 1) * height * width)
        at = n * of.x.strides[N] + (i * of.stride[0] + plan.first[0]) * plan.row
        at += plan.first[1] * plan.column
        if plan.copied:
            at = row * plan.row
            rows.first = i * of.stride[0] + plan.first[0]
            rows.count = ((last - 1) // width % height - i) * of.stride[0] + plan.reach[0]
            copy_window(plan.tiles, &of.x, n, part.group * of.channels + part.channel,
                        part.channels, rows, columns, part.frame + at, plan.channel, plan.row,
                        plan.column)
            row += rows.count
        while p < last:         # a row of y, or what the segment has of it
            count = min(width - j, last - p)
            spread(part.x_k + p - begin, count, at + j * of.stride[1] * plan.column,
                   of.stride[1] * plan.column)
            if not plan.packed:
                spread(part.y_k + p - begin, count, n * of.y.strides[N] + i * of.y.strides[H]
                       + j * of.y.strides[W], of.y.strides[W])
            p += count
            at += of.stride[0] * plan.row
            i += 1
            j = 0

# ---- tasks ----------------------------------------------------------------------------------------


cdef inline Part part_of(const WeightPlan *plan, int64_t index) noexcept nogil:
    cdef Part part
    cdef Tile tile
    part.first = index % plan.row_tasks * plan.tiles_a_task
    index //= plan.row_tasks
    part.output = index % plan.output_tasks * plan.outputs_a_task
    index //= plan.output_tasks
    part.group = index % plan.of.groups
    part.piece = index // plan.of.groups
    part.last = min(part.first + plan.tiles_a_task, plan.tiles_all)
    part.outputs = min(plan.outputs_a_task, plan.of.outputs - part.output)
    part.channel = tile_of(plan, part.first).c
    tile = tile_of(plan, part.last - 1)
    part.channels = tile.c + (tile.rows if plan.along_channels else 1) - part.channel
    return part


cdef inline int64_t sums_of(const WeightPlan *plan, const Part *part, Tile tile) noexcept nogil:
    """Where a tile's first row stands among the sums."""
    return (part.group * plan.sums_group + part.output + plan.sums_row * (
        tile.c * plan.taps + tile.r * plan.of.w_taps[1] + tile.s))


cdef void sum_segment(const WeightPlan *plan, const Part *part, int64_t count, bint first,
                      float *to) noexcept nogil:
    """The tiles of one segment of so many positions."""
    cdef const Correlation *of = &plan.of
    cdef const float *x = part.frame
    cdef const float *dy
    cdef int64_t panel = 0, t, a_row, c_row
    cdef int vectors
    cdef hw_direct_tile multiply
    cdef Tile tile
    a_row, c_row = plan.step[1] * plan.column, plan.sums_row
    if plan.along_channels:
        a_row, c_row = plan.channel, plan.taps * plan.sums_row
    if not plan.copied:
        x = (<const float *>of.x.data
             + (part.group * of.channels + part.channel) * of.x.strides[C])
    while panel < part.outputs:
        if plan.packed:
            dy = part.panels + panel * HW_SEGMENT
        else:
            dy = (<const float *>of.y.data
                  + (part.group * of.outputs + part.output) * of.y.strides[C])
        vectors = plan.vectors
        if vectors == 1 and part.outputs - panel <= plan.tiles.lanes:
            vectors = 0
        for t in range(part.first, part.last):
            tile = tile_of(plan, t)
            multiply = plan.tiles.tile[vectors][tile.rows]
            if plan.halves:
                multiply = plan.tiles.half[tile.rows]
            multiply(
                count, x + (tile.c - part.channel) * plan.channel
                + tile.r * plan.step[0] * plan.row + tile.s * plan.step[1] * plan.column,
                a_row, part.x_k, dy, part.y_k, to + sums_of(plan, part, tile) + panel, c_row,
                0 if first else HW_ACCUMULATE, NULL)
        panel += plan.lanes


cdef void fold_super(const WeightPlan *plan, const Part *part) noexcept nogil:
    """The sums of one super-segment are added to those of the earlier ones."""
    cdef int64_t t, _row, j, at
    cdef Tile tile
    for t in range(part.first, part.last):
        tile = tile_of(plan, t)
        at = sums_of(plan, part, tile)
        for _row in range(tile.rows):
            for j in range(part.outputs):
                plan.totals[at + j] += plan.sums[at + j]
            at += plan.sums_row * (plan.taps if plan.along_channels else 1)


cdef void weight_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef const WeightPlan *plan = <const WeightPlan *>context
    cdef Part part = part_of(plan, index)
    cdef int64_t begin = part.piece * plan.piece, end, last = min(begin + plan.piece, plan.k)
    cdef float *memory = plan.workers + worker * plan.worker_floats
    cdef float *to = plan.totals + part.piece * plan.sums_floats
    cdef bint first
    part.x_k = <int64_t *>memory
    part.y_k = part.x_k + HW_SEGMENT
    part.frame = memory + 4 * HW_SEGMENT
    part.panels = part.frame + plan.frame_floats
    if plan.packed:
        spread(part.y_k, HW_SEGMENT, 0, plan.lanes)
    while begin < last:
        end = min(begin + HW_SEGMENT, last)
        if plan.pieces == 1 and begin >= HW_SUPER_SEGMENT:
            to = plan.sums
        first = begin % min(plan.piece, HW_SUPER_SEGMENT) == 0
        prepare(plan, &part, begin, end)
        sum_segment(plan, &part, end - begin, first, to)
        if to == plan.sums and (end == last or end % HW_SUPER_SEGMENT == 0):
            fold_super(plan, &part)
        begin = end


cdef inline void add(float *to, const float *more, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        to[i] += more[i]


cdef void fold_task(void *context, int64_t index, int worker) noexcept nogil:
    """Some rows: their pieces added up in order, and put where dw has them."""
    cdef const WeightPlan *plan = <const WeightPlan *>context
    cdef const Correlation *of = &plan.of
    cdef int64_t chunks = ceil_div(of.channels * plan.taps, FOLD_ROWS), piece, i
    cdef int64_t group = index // chunks, row = index % chunks * FOLD_ROWS
    cdef int64_t rows = min(FOLD_ROWS, of.channels * plan.taps - row)
    cdef const int64_t *strides = &of.w_strides[0]
    cdef float *total = plan.totals + group * plan.sums_group + row * plan.sums_row
    cdef float *super = total       # the first piece of the super-segment that is added up
    cdef float *dw = <float *>of.w + group * of.w_group
    for piece in range(1, plan.pieces):
        if piece * plan.piece % HW_SUPER_SEGMENT:
            add(super, total + piece * plan.sums_floats, rows * plan.sums_row)
            continue
        if super != total:
            add(total, super, rows * plan.sums_row)
        super = total + piece * plan.sums_floats
    if super != total:
        add(total, super, rows * plan.sums_row)
    if plan.taps == 1:
        plan.tiles.move(rows, of.outputs, total, plan.sums_row, 1, dw + row * strides[1],
                        strides[1], strides[0])
    elif strides[3] == 1 and strides[2] == of.w_taps[1] and strides[1] == plan.taps:
        plan.tiles.move(rows, of.outputs, total, plan.sums_row, 1, dw + row, 1, strides[0])
    else:
        for i in range(row, row + rows):
            plan.tiles.move(1, of.outputs, total + (i - row) * plan.sums_row, 0, 1,
                            dw + i // plan.taps * strides[1]
                            + i // of.w_taps[1] % of.w_taps[0] * strides[2]
                            + i % of.w_taps[1] * strides[3], 0, strides[0])


cdef int correlate_weight(const Correlation *given) except -1 nogil:
    cdef WeightPlan plan
    cdef int threads
    cdef int64_t sums
    cdef double products = <double>given.y.size * given.channels * (
        given.w_taps[0] * given.w_taps[1])
    tiles()
    threads = worthwhile_threads(products / 32)
    make_weight_plan(&plan, given, threads)
    sums = plan.sums_floats * plan.pieces
    if plan.pieces == 1 and plan.k > HW_SUPER_SEGMENT:
        sums += plan.sums_floats
    plan.workers = <float *>workspace_take(
        4 * (threads * plan.worker_floats + plan.shared_floats + sums))
    plan.packs = plan.workers + threads * plan.worker_floats
    plan.totals = plan.packs + plan.shared_floats
    plan.sums = plan.totals + plan.sums_floats if plan.pieces == 1 else NULL
    try:
        if plan.shared:
            parallel_for(pack_task, &plan, given.groups * ceil_div(plan.k, HW_SEGMENT), threads)
        parallel_for(weight_task, &plan, plan.pieces * given.groups * plan.output_tasks
                     * plan.row_tasks, threads)
        return parallel_for(
            fold_task, &plan, given.groups * ceil_div(plan.of.channels * plan.taps, FOLD_ROWS),
            min(threads, worthwhile_threads(<double>plan.pieces * plan.sums_floats)))
    finally:
        workspace_give(plan.workers)
