"""The plan of a backward weight: what lies in the lanes and rows of a tile, and what a task is.

Outputs lie in the lanes, or, where a product has less of it to transpose, the channels of x. Rows are
neighbours along c or s, whichever has more, in parts as equal as tiles allow.

A task has some of the tiles, all outputs up to 256 of them, and a piece of the positions: one segment
where the sums of all segments are few, one super-segment likewise, else all. More pieces share the work
out more evenly and need no more copies; more parts of tiles make each copy what it reads. So tiles are
parted where there is but one piece, preferably by channels, of which each task then copies its own.
Nothing here decides a bit of the result.
"""
from libc.stdint cimport int64_t

from halfwave._cpu.direct_plan cimport Correlation, ceil_div, share
from halfwave._cpu.runtime cimport hw_direct_tiles, tiles

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT
    int64_t HW_SUPER_SEGMENT

cdef enum:
    N, C, H, W
    SUMS = 64 * 1024        # floats of dw that a task sums, at most
    SEGMENTS = 1024 * 1024  # floats that the sums of all segments may take,
    SUPERS = 4 * 1024 * 1024        # and of all super-segments


cdef void swap_operands(WeightPlan *plan, const Correlation *given) noexcept nogil:
    """A product has x in the lanes where that is less to transpose."""
    cdef Correlation *of = &plan.of
    cdef int axis
    of.x, of.y = given.y, given.x
    of.y.data += 4 * (plan.first[0] * of.y.strides[H] + plan.first[1] * of.y.strides[W])
    for axis in range(2):
        of.y.shape[H + axis] = given.y.shape[H + axis]
        of.y.strides[H + axis] *= of.stride[axis]
        of.stride[axis] = 1
        plan.first[axis] = 0
    of.channels, of.outputs = given.outputs, given.channels
    of.w_strides[0], of.w_strides[1] = given.w_strides[1], given.w_strides[0]


cdef void make_weight_plan(WeightPlan *plan, const Correlation *given, int threads) noexcept nogil:
    cdef Correlation *of = &plan.of
    cdef const hw_direct_tiles *table = tiles().direct
    cdef int axis
    cdef bint inside = True
    cdef int64_t wanted, rows
    of[0] = given[0]
    plan.tiles = table
    plan.taps = of.w_taps[0] * of.w_taps[1]
    for axis in range(2):
        plan.first[axis] = of.taps[axis][0].first
        plan.step[axis] = of.taps[axis][0].step
        plan.reach[axis] = (of.w_taps[axis] - 1) * plan.step[axis] + 1
        inside = (inside and plan.first[axis] >= 0
                  and (of.y.shape[H + axis] - 1) * of.stride[axis] + plan.first[axis]
                  + plan.reach[axis] <= of.x.shape[H + axis])
    if inside and plan.taps == 1 and of.y.strides[C] != 1 and of.channels < of.outputs:
        swap_operands(plan, given)
    plan.k = of.y.shape[N] * of.y.shape[H] * of.y.shape[W]
    plan.copied = not inside or of.x.strides[W] * of.stride[1] % 1024 == 0
    plan.along_channels = of.channels >= of.w_taps[1]
    rows = of.channels if plan.along_channels else of.w_taps[1]
    plan.vectors = 0 if of.outputs <= table.lanes else 1
    if rows <= table.rows[2] and of.outputs % (4 * table.lanes) == 0:
        plan.vectors = 2
    plan.lanes = table.lanes << plan.vectors
    plan.halves = of.outputs <= table.half_lanes
    if plan.halves:
        plan.lanes = table.half_lanes
    plan.tile_rows = share(rows, table.rows[plan.vectors])
    plan.line_tiles = ceil_div(rows, plan.tile_rows)
    plan.tiles_all = plan.line_tiles * of.w_taps[0] * (
        of.w_taps[1] if plan.along_channels else of.channels)
    plan.outputs_a_task = min(ceil_div(of.outputs, plan.lanes) * plan.lanes, 256)
    plan.output_tasks = ceil_div(of.outputs, plan.outputs_a_task)
    plan.sums_row = plan.output_tasks * plan.outputs_a_task
    if plan.sums_row % 256 == 0:        # else rows would meet in few sets of the cache
        plan.sums_row += 16
    plan.sums_group = of.channels * plan.taps * plan.sums_row
    plan.sums_floats = plan.sums_group * of.groups
    plan.piece = plan.k
    if <double>ceil_div(plan.k, HW_SEGMENT) * plan.sums_floats <= SEGMENTS:
        plan.piece = HW_SEGMENT
    elif <double>ceil_div(plan.k, HW_SUPER_SEGMENT) * plan.sums_floats <= SUPERS:
        plan.piece = HW_SUPER_SEGMENT
    plan.pieces = ceil_div(plan.k, plan.piece)
    wanted = 1
    if threads > 1:
        wanted = ceil_div(threads * (4 if plan.pieces == 1 else 3),
                          plan.output_tasks * of.groups * plan.pieces)
    plan.tiles_a_task = max(min(SUMS // (plan.outputs_a_task * plan.tile_rows),
                                ceil_div(plan.tiles_all, wanted)), 1)
    if plan.along_channels and plan.tiles_a_task > plan.taps:
        plan.tiles_a_task -= plan.tiles_a_task % plan.taps      # no channel for two tasks
    else:
        plan.tiles_a_task = share(plan.tiles_all, plan.tiles_a_task)
    plan.row_tasks = ceil_div(plan.tiles_all, plan.tiles_a_task)
    plan.packed = (of.y.strides[C] != 1 or of.outputs % min(table.lanes, plan.lanes) != 0
                   or of.outputs > plan.lanes)
    plan.shared = plan.packed and plan.row_tasks > 1 and plan.pieces == 1
    plan.packed_floats = HW_SEGMENT * plan.outputs_a_task if plan.packed else 0
    plan.shared_floats = 0
    if plan.shared:
        plan.shared_floats = plan.packed_floats * plan.output_tasks * of.groups * ceil_div(
            plan.k, HW_SEGMENT)
        plan.packed_floats = 0
    plan.channel, plan.row, plan.column = of.x.strides[C], of.x.strides[H], of.x.strides[W]
    plan.frame_floats = 0
    if plan.copied:
        frame_layout(plan)
    plan.worker_floats = 4 * HW_SEGMENT + plan.frame_floats + plan.packed_floats


cdef void frame_layout(WeightPlan *plan) noexcept nogil:
    """Of the copy of x that a segment reads: of the channels that a task's tiles may touch."""
    cdef const Correlation *of = &plan.of
    cdef int64_t rows = min(HW_SEGMENT // of.y.shape[W] + 2, of.y.shape[N] * of.y.shape[H])
    plan.frame_rows = rows * of.stride[0] + (rows // of.y.shape[H] + 2) * plan.reach[0]
    plan.frame_columns = (of.y.shape[W] - 1) * of.stride[1] + plan.reach[1]
    if plan.along_channels:
        plan.frame_channels = plan.tile_rows * (plan.tiles_a_task // plan.taps + 2)
    else:
        plan.frame_channels = plan.tiles_a_task // (plan.line_tiles * of.w_taps[0]) + 2
    plan.frame_channels = min(of.channels, plan.frame_channels)
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
