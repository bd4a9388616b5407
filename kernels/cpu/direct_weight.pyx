"""Backward weight in float32: dw[o, c, r, s] = Σ over (n, i, j) of dy[n, o, i, j] · x[n, c, h, …].

Lanes are outputs o; the rows of a tile are neighbours along c or s, whichever has more. Elements of x
are broadcast from where they lie, so no im2col is made; vectors of dy are read where they lie (NHWC)
or from panels of a segment. A task has some of the rows and some of the outputs; and one super-segment
of 16384 positions, where the sums of all of them are small (then they are added up in order at the
end), else all, one after the other:

    segments            512 positions: the part of x they read is copied if it needs padding, and
                        that of dy into panels as wide as a tile
    panels, tiles       of outputs, of rows: one chain of fused multiply-adds
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from halfwave._cpu.direct cimport Correlation
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, hw_direct_tiles, parallel_for, tiles, workspace_give, workspace_take,
    worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT
    int64_t HW_SUPER_SEGMENT

cdef enum:
    N, C, H, W
    SUMS = 64 * 1024        # floats of dw that a task sums, at most
    PARTIALS = 4 * 1024 * 1024      # floats that the sums of all super-segments may take


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t share(int64_t size, int64_t most) noexcept nogil:
    return ceil_div(size, ceil_div(size, most))

cdef struct Plan:
    Correlation of
    const hw_direct_tiles *tiles
    int64_t k
    bint copied, packed, along_channels
    int64_t reach[2]
    int64_t tile_rows, line_tiles       # of a tile; tiles a line of rows
    int64_t tiles_all, tiles_a_task, row_tasks
    int64_t outputs_a_task, output_tasks
    int64_t supers              # that are tasks of their own
    int vectors                 # of a tile, as its index
    int64_t lanes
    # x, or its copy: strides
    int64_t channel, row, column, frame_rows, frame_columns, frame_channels
    int64_t frame_floats, packed_floats, sums_floats, worker_floats
    float *workers
    float *partials             # [super][task][tile][row][output]


cdef struct Tile:
    int64_t c, r, s, rows


cdef inline Tile tile_of(const Plan *plan, int64_t index) noexcept nogil:
    """Tiles in the order (c, r, part of s), or (part of c, r, s)."""
    cdef const Correlation *of = &plan.of
    cdef Tile tile
    if plan.along_channels:
        tile.s = index % of.taps[1]
        tile.r = index // of.taps[1] % of.taps[0]
        tile.c = index // (of.taps[0] * of.taps[1]) * plan.tile_rows
        tile.rows = min(plan.tile_rows, of.channels - tile.c)
    else:
        tile.s = index % plan.line_tiles * plan.tile_rows
        tile.r = index // plan.line_tiles % of.taps[0]
        tile.c = index // (plan.line_tiles * of.taps[0])
        tile.rows = min(plan.tile_rows, of.taps[1] - tile.s)
    return tile


cdef void make_plan(Plan *plan, const Correlation *given, int threads) noexcept nogil:
    cdef Correlation *of = &plan.of
    cdef const hw_direct_tiles *table = tiles().direct
    cdef int axis
    cdef bint inside = True
    cdef int64_t wanted, rows
    of[0] = given[0]
    plan.tiles = table
    for axis in range(2):
        plan.reach[axis] = (of.taps[axis] - 1) * of.step[axis] + 1
        inside = (inside and of.first[axis] >= 0
                  and (of.y.shape[H + axis] - 1) * of.stride[axis] + of.first[axis]
                  + plan.reach[axis] <= of.x.shape[H + axis])
    if inside and of.taps[0] == of.taps[1] == 1 and of.y.strides[C] != 1 and of.channels < of.outputs:
        # A product: x in the lanes, of which there is less to transpose.
        of.x, of.y = given.y, given.x
        of.y.shape[H], of.y.shape[W] = given.y.shape[H], given.y.shape[W]
        of.y.data += 4 * (of.first[0] * of.y.strides[H] + of.first[1] * of.y.strides[W])
        for axis in range(2):
            of.y.strides[H + axis] *= of.stride[axis]
            of.stride[axis] = 1
            of.first[axis] = 0
        of.channels, of.outputs = given.outputs, given.channels
        of.w_strides[0], of.w_strides[1] = given.w_strides[1], given.w_strides[0]
    plan.k = of.y.shape[N] * of.y.shape[H] * of.y.shape[W]
    plan.copied = not inside or of.x.strides[W] * of.stride[1] % 1024 == 0
    plan.along_channels = of.channels >= of.taps[1]
    rows = of.channels if plan.along_channels else of.taps[1]
    plan.vectors = 0 if of.outputs <= table.lanes else 1
    if rows <= table.rows[2] and of.outputs % (4 * table.lanes) == 0:
        plan.vectors = 2
    plan.lanes = table.lanes << plan.vectors
    plan.tile_rows = share(rows, table.rows[plan.vectors])
    plan.line_tiles = ceil_div(rows, plan.tile_rows)
    plan.tiles_all = plan.line_tiles * of.taps[0] * (
        of.taps[1] if plan.along_channels else of.channels)
    plan.outputs_a_task = min(ceil_div(of.outputs, plan.lanes) * plan.lanes, 256)
    plan.output_tasks = ceil_div(of.outputs, plan.outputs_a_task)
    plan.supers = ceil_div(plan.k, HW_SUPER_SEGMENT)
    if <double>plan.supers * of.groups * plan.output_tasks * plan.outputs_a_task * (
            plan.tiles_all * plan.tile_rows) > PARTIALS:
        plan.supers = 1
    wanted = 1
    if threads > 1:
        wanted = ceil_div(2 * threads, plan.output_tasks * of.groups * plan.supers)
    plan.tiles_a_task = max(min(SUMS // (plan.outputs_a_task * plan.tile_rows),
                                plan.tiles_all // wanted), 1)
    plan.tiles_a_task = share(plan.tiles_all, plan.tiles_a_task)
    plan.row_tasks = ceil_div(plan.tiles_all, plan.tiles_a_task)
    plan.packed = of.y.strides[C] != 1 or of.outputs % table.lanes != 0 or of.outputs > plan.lanes
    plan.sums_floats = ceil_div(
        plan.tiles_a_task * plan.tile_rows * plan.outputs_a_task, 16) * 16
    plan.packed_floats = HW_SEGMENT * plan.outputs_a_task if plan.packed else 0
    plan.channel, plan.row, plan.column = of.x.strides[C], of.x.strides[H], of.x.strides[W]
    plan.frame_floats = 0
    if plan.copied:
        rows = HW_SEGMENT // of.y.shape[W] + 2
        rows = min(rows, of.y.shape[N] * of.y.shape[H])
        plan.frame_rows = rows * of.stride[0] + (rows // of.y.shape[H] + 2) * plan.reach[0]
        plan.frame_columns = (of.y.shape[W] - 1) * of.stride[1] + plan.reach[1]
        plan.frame_channels = of.channels
        if plan.along_channels:     # of the lines that a task's tiles may touch
            plan.frame_channels = min(of.channels, plan.tile_rows * (
                plan.tiles_a_task // (of.taps[0] * of.taps[1]) + 2))
        else:
            plan.frame_channels = min(of.channels, plan.tiles_a_task // (
                plan.line_tiles * of.taps[0]) + 2)
        if of.x.strides[C] == 1:
            plan.channel = 1
            plan.column = plan.frame_channels
            if plan.column * of.stride[1] % 1024 == 0:
                plan.column += 16
            plan.row = plan.column * plan.frame_columns
            plan.frame_floats = plan.row * plan.frame_rows
        else:
            plan.column = 1
            plan.row = plan.frame_columns
            plan.channel = plan.row * plan.frame_rows
            if plan.channel % 256 == 0:
                plan.channel += 16
            plan.frame_floats = plan.channel * plan.frame_channels
        plan.frame_floats = ceil_div(plan.frame_floats, 16) * 16
    plan.worker_floats = (4 * HW_SEGMENT + plan.frame_floats + plan.packed_floats
                          + plan.sums_floats)


cdef void copy_row(const Plan *plan, int64_t n, int64_t i, int64_t group, int64_t channel,
                   int64_t channels, float *to) noexcept nogil:
    """Row i (from the first that y reads) of image n, zeros beyond the border."""
    cdef const Correlation *of = &plan.of
    cdef int64_t h = i + of.first[0], begin = plan.frame_columns, end = begin, c
    cdef const float *line = NULL
    if 0 <= h < of.x.shape[H]:
        begin = min(max(-of.first[1], 0), plan.frame_columns)
        end = max(min(of.x.shape[W] - of.first[1], plan.frame_columns), begin)
        line = (<const float *>of.x.data + n * of.x.strides[N] + h * of.x.strides[H]
                + (group * of.channels + channel) * of.x.strides[C]
                + (begin + of.first[1]) * of.x.strides[W])
    if plan.column == 1 and plan.channel != 1:
        for c in range(channels):
            memset(to + c * plan.channel, 0, begin * sizeof(float))
            memset(to + c * plan.channel + end, 0, (plan.frame_columns - end) * sizeof(float))
        plan.tiles.move(channels, end - begin, line, of.x.strides[C], of.x.strides[W], to + begin,
                        plan.channel, 1)
        return
    memset(to, 0, begin * plan.column * sizeof(float))
    memset(to + end * plan.column, 0, (plan.frame_columns - end) * plan.column * sizeof(float))
    plan.tiles.move(end - begin, channels, line, of.x.strides[W], 1, to + begin * plan.column,
                    plan.column, 1)


cdef void prepare(const Plan *plan, int64_t begin, int64_t end, int64_t group, int64_t output,
                  int64_t outputs, int64_t channel, int64_t channels, int64_t *x_k, int64_t *y_k,
                  float *frame, float *panel) noexcept nogil:
    """The offsets of one segment's positions, and copies of what they read."""
    cdef const Correlation *of = &plan.of
    cdef int64_t height = of.y.shape[H], width = of.y.shape[W], p = begin
    cdef int64_t n, i, j, count, row = 0, last = -1, image = -1, q, at
    cdef const float *dy = <const float *>of.y.data + (group * of.outputs + output) * of.y.strides[C]
    while p < end:
        i, j = p // width, p % width
        n, i = i // height, i % height
        count = min(width - j, end - p)
        if plan.copied:
            if n != image:          # rows of the copy go on from the last image's
                row = last + 1 - i * of.stride[0]
                image = n
            while last < row + i * of.stride[0] + plan.reach[0] - 1:
                last += 1
                copy_row(plan, n, last - row, group, channel, channels, frame + last * plan.row)
            at = (row + i * of.stride[0]) * plan.row
        else:
            at = n * of.x.strides[N] + (i * of.stride[0] + of.first[0]) * plan.row
            at += of.first[1] * plan.column
        for q in range(count):
            x_k[p - begin + q] = at + (j + q) * of.stride[1] * plan.column
        at = n * of.y.strides[N] + i * of.y.strides[H] + j * of.y.strides[W]
        if plan.packed:
            q = 0
            while q < outputs:
                plan.tiles.move(min(plan.lanes, outputs - q), count, dy + at + q * of.y.strides[C],
                                of.y.strides[C], of.y.strides[W],
                                panel + q * HW_SEGMENT + (p - begin) * plan.lanes, 1, plan.lanes)
                q += plan.lanes
        for q in range(count):
            if plan.packed:
                y_k[p - begin + q] = (p - begin + q) * plan.lanes
            else:
                y_k[p - begin + q] = at + q * of.y.strides[W]
        p += count


cdef struct Part:
    int64_t group, output, outputs      # of dw
    int64_t first, last                 # tiles


cdef inline Part part_of(const Plan *plan, int64_t index) noexcept nogil:
    cdef Part part
    part.first = index % plan.row_tasks * plan.tiles_a_task
    index //= plan.row_tasks
    part.output = index % plan.output_tasks * plan.outputs_a_task
    part.group = index // plan.output_tasks
    part.last = min(part.first + plan.tiles_a_task, plan.tiles_all)
    part.outputs = min(plan.outputs_a_task, plan.of.outputs - part.output)
    return part


cdef void weight_task(void *context, int64_t index, int worker) noexcept nogil:
    """index is super * parts + part."""
    cdef const Plan *plan = <const Plan *>context
    cdef const Correlation *of = &plan.of
    cdef int64_t parts = plan.row_tasks * plan.output_tasks * of.groups
    cdef Part part = part_of(plan, index % parts)
    cdef int64_t t, panel, begin, end, last, channel = 0, channels = of.channels, i
    cdef int64_t size = plan.tile_rows * plan.outputs_a_task
    cdef int vectors
    cdef Tile tile
    cdef float *memory = plan.workers + worker * plan.worker_floats
    cdef int64_t *x_k = <int64_t *>memory
    cdef int64_t *y_k = x_k + HW_SEGMENT
    cdef float *frame = memory + 4 * HW_SEGMENT
    cdef float *packed = frame + plan.frame_floats
    cdef float *sums = packed + plan.packed_floats
    cdef float *total = plan.partials + index * plan.sums_floats
    cdef float *to
    cdef const float *x
    cdef const float *dy
    x = <const float *>of.x.data + part.group * of.channels * of.x.strides[C]
    if plan.copied:
        channel = tile_of(plan, part.first).c
        tile = tile_of(plan, part.last - 1)
        channels = tile.c + (tile.rows if plan.along_channels else 1) - channel
        x = frame
    if not plan.packed:
        dy = <const float *>of.y.data + (part.group * of.outputs + part.output) * of.y.strides[C]
    elif part.outputs < plan.outputs_a_task:
        memset(packed, 0, plan.packed_floats * sizeof(float))
    begin, last = 0, plan.k
    if plan.supers > 1:
        begin = index // parts * HW_SUPER_SEGMENT
        last = min(begin + HW_SUPER_SEGMENT, plan.k)
    while begin < last:
        end = min(begin + HW_SEGMENT, last)
        prepare(plan, begin, end, part.group, part.output, part.outputs, channel, channels, x_k, y_k,
                frame, packed)
        to = total if plan.supers > 1 or begin < HW_SUPER_SEGMENT else sums
        panel = 0
        while panel < part.outputs:
            if plan.packed:
                dy = packed + panel * HW_SEGMENT
            vectors = plan.vectors
            if vectors == 1 and part.outputs - panel <= plan.tiles.lanes:
                vectors = 0
            for t in range(part.first, part.last):
                tile = tile_of(plan, t)
                plan.tiles.tile[vectors][tile.rows](
                    end - begin,
                    x + (tile.c - channel) * plan.channel + tile.r * of.step[0] * plan.row
                    + tile.s * of.step[1] * plan.column,
                    plan.channel if plan.along_channels else of.step[1] * plan.column, x_k,
                    dy, y_k, to + (t - part.first) * size + panel, plan.outputs_a_task,
                    0 if begin % HW_SUPER_SEGMENT == 0 else HW_ACCUMULATE, NULL)
            panel += plan.lanes
        if to == sums and (end == last or end % HW_SUPER_SEGMENT == 0):
            for i in range(plan.sums_floats):
                total[i] += sums[i]
        begin = end


cdef void fold_task(void *context, int64_t index, int worker) noexcept nogil:
    """One tile: its super-segments added up in order, and put where dw has them."""
    cdef const Plan *plan = <const Plan *>context
    cdef const Correlation *of = &plan.of
    cdef int64_t parts = plan.row_tasks * plan.output_tasks * of.groups, super, i, t
    cdef int64_t size = plan.tile_rows * plan.outputs_a_task
    cdef Part part = part_of(plan, index // plan.tiles_a_task)
    cdef Tile tile
    cdef float *total
    cdef const float *partial
    t = part.first + index % plan.tiles_a_task
    if t >= part.last:
        return
    tile = tile_of(plan, t)
    total = (plan.partials + index // plan.tiles_a_task * plan.sums_floats
             + (t - part.first) * size)
    for super in range(1, plan.supers):
        partial = total + super * parts * plan.sums_floats
        for i in range(tile.rows * plan.outputs_a_task):
            total[i] += partial[i]
    plan.tiles.move(
        tile.rows, part.outputs, total, plan.outputs_a_task, 1,
        <float *>of.w + part.group * of.w_group + part.output * of.w_strides[0]
        + tile.c * of.w_strides[1] + tile.r * of.w_strides[2] + tile.s * of.w_strides[3],
        of.w_strides[1] if plan.along_channels else of.w_strides[3], of.w_strides[0])


cdef int correlate_weight(const Correlation *given) except -1 nogil:
    cdef Plan plan
    cdef int threads
    cdef int64_t parts
    cdef double products = <double>given.y.size * given.channels * given.taps[0] * given.taps[1]
    tiles()
    threads = worthwhile_threads(products / 32)
    make_plan(&plan, given, threads)
    parts = plan.row_tasks * plan.output_tasks * given.groups
    plan.workers = <float *>workspace_take(
        4 * (threads * plan.worker_floats + plan.supers * parts * plan.sums_floats))
    plan.partials = plan.workers + threads * plan.worker_floats
    try:
        parallel_for(weight_task, &plan, plan.supers * parts, threads)
        return parallel_for(fold_task, &plan, parts * plan.tiles_a_task, min(
            threads, worthwhile_threads(<double>plan.supers * parts * plan.sums_floats)))
    finally:
        workspace_give(plan.workers)
