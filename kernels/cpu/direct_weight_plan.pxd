"""How the backward weight of direct convolution is cut into tasks and tiles."""
from libc.stdint cimport int64_t

from halfwave._cpu.direct_plan cimport Correlation
from halfwave._cpu.runtime cimport hw_direct_tiles

cdef struct WeightPlan:
    Correlation of
    const hw_direct_tiles *tiles
    int64_t k, taps
    bint copied, packed, shared, along_channels     # shared: dy is packed ahead
    int64_t step[2]             # of x, a tap
    int64_t first[2]
    int64_t reach[2]
    int64_t tile_rows, line_tiles       # of a tile; tiles a line of rows
    int64_t tiles_all, tiles_a_task, row_tasks
    int64_t outputs_a_task, output_tasks
    int64_t piece, pieces       # positions a task, tasks for them all
    int vectors                 # of a tile, as its index
    bint halves                 # tiles of half a vector
    int64_t lanes
    # x, or its copy: strides
    int64_t channel, row, column, frame_rows, frame_columns, frame_channels
    int64_t frame_floats, packed_floats, shared_floats, worker_floats
    # sums: [piece][group][c, r, s][output]
    int64_t sums_row, sums_group, sums_floats
    float *workers
    float *packs                # [group][segment][panel][position][output]
    float *totals
    float *sums                 # of one super-segment, where a task has more

cdef void make_weight_plan(WeightPlan *plan, const Correlation *given, int threads) noexcept nogil


# Rows c to c + rows of tap (r, s), or columns s to s + rows of channel c and row r.
cdef struct Tile:
    int64_t c, r, s, rows


cdef inline Tile tile_of(const WeightPlan *plan, int64_t index) noexcept nogil:
    """Tiles in the order (c, r, part of s), or (part of c, r, s)."""
    cdef const Correlation *of = &plan.of
    cdef Tile tile
    if plan.along_channels:
        tile.s = index % of.w_taps[1]
        tile.r = index // of.w_taps[1] % of.w_taps[0]
        tile.c = index // plan.taps * plan.tile_rows
        tile.rows = min(plan.tile_rows, of.channels - tile.c)
    else:
        tile.s = index % plan.line_tiles * plan.tile_rows
        tile.r = index // plan.line_tiles % of.w_taps[0]
        tile.c = index // (plan.line_tiles * of.w_taps[0])
        tile.rows = min(plan.tile_rows, of.w_taps[1] - tile.s)
    return tile
