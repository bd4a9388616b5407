"""Depthwise convolution, forward and backward input, where columns are adjacent (NCHW).

Lanes are columns. A strip of rows of a plane of the source is copied into a frame, with the zeros of
the padding around it; there a tap is a shift, and neighbouring rows of outputs share the shifted rows.
With a stride of columns, forward, the frame has the columns of each residue modulo it side by side.
Backward, the targets fall into parts, one for each residue of (row, column) modulo the stride, which
meet their own taps; the columns of a row are made part by part, then woven together.

Planes narrower than a vector, 3 × 3 taps and stride 1, padded to keep the size: a row is a vector, its
neighbours the vector moved by a lane. No frame; some planes a call, so that nothing is left to do between
them (2.3 times as fast at 14 × 14, 4.2 times at 7 × 7).

Squares of 3 or 5 taps whose rows meet source rows one by one have their own tiles. Backward, later taps
meet earlier rows: then outputs are made from the last row to the first.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from halfwave._cpu.depthwise cimport (
    Axis,
    C,
    H,
    N,
    O,
    R,
    S,
    W,
    ceil_div,
    clamp,
    measure,
    rows_read,
    shift_of,
    take_call,
)
from halfwave._cpu.runtime cimport (
    Hold,
    View,
    hw_depthwise_tiles,
    hw_planes,
    hw_row_frame,
    hw_rows,
    hw_rows_tile,
    parallel_for,
    past_caches,
    tiles,
    workspace_give,
    workspace_take,
    worthwhile_threads,
)

cdef enum:
    TAPS = 128              # of all parts, all planes
    PARTS = 16
    STRIP_BYTES = 16 << 10  # of a plane's frame: half the L1 cache
    LARGEST = 256 << 10     # of a strip of the least rows; beyond it the general path serves
    FAR = 8 << 20           # bytes of arrays, by measurement
    TASKS = 16              # about so many a thread
    SPARE = 64              # bytes that are read or written after a frame's end

cdef struct Part:            # of the targets: those with its residues
    int64_t first_tap, taps

cdef struct Job:
    const hw_depthwise_tiles *tiles
    hw_rows_tile tile
    int wide, side              # 0 where taps are no square that has a tile
    View source, weights, target
    const char *bias
    int64_t bias_stride
    Axis rows, columns
    int64_t planes, outs        # of a channel: of the source, of the target
    int64_t strip, strips, units, units_a_task  # a unit: a strip of a channel of an image
    int64_t line, plane         # elements of a frame's row, of a frame
    int64_t pitch               # of a part's row, before the parts are woven
    Part parts[PARTS]
    int64_t offsets[TAPS]       # of each part's taps, in the frame
    int64_t weight_at[TAPS]     # and in the weights of a plane
    int64_t skew                # bytes before the frames
    bint past                   # the target is written past the caches, a strip at a time
    bint far                    # arrays are beyond the caches: reading needs to be asked for
    bint dense                  # one part, whose weights lie in this order
    char *scratch               # a worker's: frames, parts, a strip of the target
    int64_t scratch_bytes, frame_bytes, parts_bytes


cdef void correlate_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t unit = index * job.units_a_task
    cdef int64_t end = min(unit + job.units_a_task, job.units)
    cdef char *frame = job.scratch + worker * job.scratch_bytes
    memset(frame, 0, job.frame_bytes)
    while unit < end:
        correlate_unit(job, unit, frame + job.skew)
        unit += 1


cdef void planes_task(void *context, int64_t index, int worker) noexcept nogil:
    """Some planes, image by image."""
    cdef Job *job = <Job *>context
    cdef const View *source = &job.source
    cdef const View *target = &job.target
    cdef int64_t unit = index * job.units_a_task, size = source.itemsize, image, channel
    cdef int64_t end = min(unit + job.units_a_task, job.units)
    cdef hw_planes work
    work.rows, work.columns, work.backward = source.shape[H], source.shape[W], job.rows.backward
    work.x_plane, work.x_row = source.strides[C], source.strides[H]
    work.y_plane, work.y_row = target.strides[C], target.strides[H]
    work.w_plane, work.bias_plane, work.bias = job.weights.strides[O], job.bias_stride, NULL
    while unit < end:
        image, channel = unit // source.shape[C], unit % source.shape[C]
        work.planes = min(end - unit, source.shape[C] - channel)
        work.x = source.data + size * (image * source.strides[N] + channel * work.x_plane)
        work.y = target.data + size * (image * target.strides[N] + channel * work.y_plane)
        work.w = job.weights.data + size * channel * work.w_plane
        if job.bias != NULL:
            work.bias = job.bias + size * channel * work.bias_plane
        job.tiles.correlate_planes[job.wide](&work)
        unit += work.planes


cdef void correlate_unit(const Job *job, int64_t unit, char *frame) noexcept nogil:
    cdef int64_t channels = job.source.shape[C] // job.planes
    cdef int64_t image = unit // job.strips // channels, channel = unit // job.strips % channels
    cdef int64_t top = unit % job.strips * job.strip, size = job.source.itemsize, k, row
    cdef int64_t bottom = min(top + job.strip, job.target.shape[H])
    cdef char *target
    cdef char *to
    for k in range(job.planes):
        load_frame(job, image, channel * job.planes + k, top, bottom,
                   frame + k * job.plane * size)
    for k in range(job.outs):
        target = job.target.data + size * (
            image * job.target.strides[N] + (channel * job.outs + k) * job.target.strides[C]
            + top * job.target.strides[H])
        to = frame - job.skew + job.frame_bytes + job.parts_bytes if job.past else target
        for row in range(min(job.rows.step, bottom - top)):
            correlate_rows(job, image, channel * max(job.planes, job.outs) + k, top, row,
                           ceil_div(bottom - top - row, job.rows.step), frame, to)
        if job.past:
            job.tiles.stream[job.wide]((bottom - top) * job.target.shape[W], to, target)


cdef void load_frame(const Job *job, int64_t image, int64_t plane, int64_t top, int64_t bottom,
                     char *memory) noexcept nogil:
    """What the targets top … bottom - 1 meet."""
    cdef const View *source = &job.source
    cdef hw_row_frame part
    cdef int64_t first = top // job.rows.step * job.rows.source_step + job.rows.low
    cdef int64_t height = rows_read(&job.rows, ceil_div(bottom - top, job.rows.step))
    cdef int64_t left = max(job.columns.low, 0)
    part.above = clamp(-first, 0, height)
    part.rows = clamp(source.shape[H] - first, part.above, height) - part.above
    part.below = height - part.above - part.rows
    part.before = max(-job.columns.low, 0)
    part.columns = max(min(source.shape[W] - left, columns_read(job) - part.before), 0)
    part.row, part.line, part.phases = source.strides[H], job.line, job.columns.source_step
    part.frame = memory
    part.array = source.data + source.itemsize * (
        image * source.strides[N] + plane * source.strides[C]
        + (first + part.above) * source.strides[H] + left)
    job.tiles.fill_rows[job.wide](&part)


cdef inline int64_t columns_read(const Job *job) noexcept nogil:
    return rows_read(&job.columns, ceil_div(job.target.shape[W], job.columns.step))


cdef void correlate_rows(const Job *job, int64_t image, int64_t group, int64_t top,
                         int64_t residue, int64_t count, char *frame, char *y) noexcept nogil:
    """Rows top + residue, + step, … of a plane of the target, from row `top` on at y."""
    cdef const View *target = &job.target
    cdef int64_t size = target.itemsize, classes = min(job.columns.step, target.shape[W]), i
    cdef double weights[TAPS]
    cdef hw_rows work
    cdef Part *part = <Part *>job.parts + residue * classes
    cdef char *row = frame - job.skew + job.frame_bytes
    y += residue * target.strides[H] * size
    work.rows, work.planes, work.x_plane = count, job.planes, job.plane
    work.bias = job.bias + group * job.bias_stride * size if job.bias != NULL else NULL
    work.ahead = NULL
    if job.far:     # what comes after this strip's source
        work.ahead = job.source.data + size * (
            image * job.source.strides[N] + group // job.outs * job.source.strides[C]
            + (top + job.strip) * job.rows.source_step // job.rows.step * job.source.strides[H])
    for i in range(classes):
        work.taps, work.tap = part.taps, <int64_t *>job.offsets + part.first_tap
        work.w = job.weights.data + group * job.weights.strides[O] * size
        if not job.dense:
            load_weights(job, part, group, weights)
            work.w = weights
        work.columns = ceil_div(target.shape[W] - i, job.columns.step)
        work.x, work.x_row, work.x_line = frame, job.rows.source_step * job.line, job.line
        work.y, work.y_row = y, job.rows.step * target.strides[H]
        if classes > 1:
            work.y, work.y_row = row + i * job.pitch * size, classes * job.pitch
        if job.side and job.rows.backward:      # from the last row, of tap row 0, to the first
            work.x = frame + (count - 1 + job.side - 1) * job.line * size
            work.x_row, work.x_line = -job.line, -job.line
            work.y = <char *>work.y + (count - 1) * work.y_row * size
            work.y_row = -work.y_row
        job.tile(&work)
        part += 1
    if classes > 1:
        for i in range(count):
            job.tiles.weave[job.wide](
                classes, target.shape[W], row + i * classes * job.pitch * size, job.pitch,
                y + i * job.rows.step * target.strides[H] * size)


cdef void load_weights(const Job *job, const Part *part, int64_t group,
                       double *weights) noexcept nogil:
    """Those of a part's taps, of all planes."""
    cdef int64_t count = 0, k, tap, at
    for k in range(group, group + job.planes):
        for tap in range(part.first_tap, part.first_tap + part.taps):
            at = k * job.weights.strides[O] + job.weight_at[tap]
            if job.wide:
                weights[count] = (<double *>job.weights.data)[at]
            else:
                (<float *>weights)[count] = (<float *>job.weights.data)[at]
            count += 1


cdef void list_taps(Job *job) noexcept nogil:
    cdef const View *w = &job.weights
    cdef int64_t phases = job.columns.source_step, count = 0, row, column, r, s, down, across
    cdef Part *part = job.parts
    for row in range(min(job.rows.step, job.rows.target)):
        for column in range(min(job.columns.step, job.columns.target)):
            part.first_tap = count
            for r in range(job.rows.kernel):
                if not shift_of(&job.rows, row, r, &down):
                    continue
                for s in range(job.columns.kernel):
                    if not shift_of(&job.columns, column, s, &across):
                        continue
                    across -= job.columns.low
                    job.offsets[count] = ((down - job.rows.low) * job.line
                                          + across % phases * (job.line // phases)
                                          + across // phases)
                    if job.side and job.rows.backward:  # the tile counts rows from the last one
                        job.offsets[count] -= (job.side - 1) * job.line
                    job.weight_at[count] = r * w.strides[R] + s * w.strides[S]
                    count += 1
            part.taps = count - part.first_tap
            part += 1
    job.dense = part == job.parts + 1
    for r in range(count):
        if job.weight_at[r] != r or (job.planes > 1 and w.strides[O] != count):
            job.dense = False


cdef bint correlate(bint backward, source, w, bias, target, geometry) except -1:
    """False, and nothing done, where this is not the layout."""
    cdef Hold hold = Hold()
    cdef View bias_view
    cdef Job memory
    cdef Job *job = &memory
    cdef Axis *rows = &job.rows
    cdef Axis *columns = &job.columns
    cdef int64_t multiplier, size, lanes, taps, row_bytes, least
    cdef int threads
    take_call(hold, source, &job.source, w, &job.weights, target, &job.target, backward, geometry,
              rows, columns)
    multiplier = job.weights.shape[O] // <int64_t>geometry[6]
    job.planes, job.outs = multiplier if backward else 1, 1 if backward else multiplier
    size = job.target.itemsize
    job.tiles = tiles().depthwise
    job.wide = size == 8
    taps = job.planes * rows.kernel * columns.kernel
    if (taps > TAPS or rows.step * columns.step > PARTS
            or job.source.strides[W] != 1 or job.target.strides[W] != 1):
        return False
    measure(rows)
    measure(columns)
    job.side = 0
    if (rows.kernel == columns.kernel and rows.kernel in (3, 5) and rows.step == 1
            and columns.step == 1 and rows.dilation == 1
            and (rows.source_step == 1 or rows.source_step == 2)):
        job.side = rows.kernel
    job.tile = job.tiles.choose_rows[job.wide](job.side, rows.source_step)
    if <double>columns_read(job) * rows_read(rows, 1) * job.planes * size > LARGEST:
        return False
    lanes = job.tiles.lanes[job.wide]
    job.line = ceil_div(ceil_div(columns_read(job), columns.source_step), lanes)
    if columns.source_step > 1:
        job.line += 1   # a vector between the phases
    job.line *= lanes * columns.source_step
    row_bytes = job.planes * job.line * size
    least = rows_read(rows, 1) * row_bytes
    job.strip = clamp((STRIP_BYTES - least) // (rows.source_step * row_bytes) + 1, 7,
                      ceil_div(rows.target, rows.step))
    job.strips = ceil_div(rows.target, job.strip * rows.step)
    job.strip = ceil_div(ceil_div(rows.target, job.strips), rows.step)
    job.plane = rows_read(rows, job.strip) * job.line
    job.pitch = 0
    if columns.step > 1:
        job.pitch = ceil_div(columns.target, columns.step)
    # The first column of the source is aligned: so are the stores that fill the frame.
    job.skew = -max(-columns.low, 0) % lanes * size if columns.source_step == 1 else 0
    job.skew = job.skew + lanes * size if job.skew < 0 else job.skew
    job.frame_bytes = ceil_div(job.planes * job.plane * size + 2 * SPARE, 64) * 64
    job.parts_bytes = ceil_div(
        job.strip * min(columns.step, columns.target) * job.pitch * size + SPARE, 64) * 64
    job.strip *= rows.step
    job.past = (past_caches(job.target.size * size)
                and job.target.strides[H] == job.target.shape[W])
    job.scratch_bytes = job.frame_bytes + job.parts_bytes
    if job.past:
        job.scratch_bytes += ceil_div(job.strip * columns.target * size, 64) * 64
    job.strips = ceil_div(rows.target, job.strip)
    job.far = (job.source.size + job.target.size) * size > FAR
    list_taps(job)
    job.bias, job.bias_stride = NULL, 0
    if bias is not None:
        hold.view(bias, &bias_view, False)
        job.bias, job.bias_stride = bias_view.data, bias_view.strides[0]
    threads = worthwhile_threads(0.02 * (taps + 10.0) * job.target.size * (size // 4))
    if (job.side == 3 and rows.source_step == 1 and job.dense and taps == 9 and job.outs == 1
            and columns.target < lanes and columns.target == job.source.shape[W]
            and rows.target == job.source.shape[H] and rows.low == columns.low == -1
            and rows.high == columns.high == 1):
        job.units = job.source.shape[N] * job.source.shape[C]
        job.units_a_task = max(job.units // (TASKS * threads), 1)
        with nogil:
            parallel_for(planes_task, job, ceil_div(job.units, job.units_a_task), threads)
        return True
    job.units = job.source.shape[N] * (job.source.shape[C] // job.planes) * job.strips
    job.units_a_task = max(job.units // (TASKS * threads), 1)
    job.scratch = <char *>workspace_take(threads * job.scratch_bytes)
    try:
        with nogil:
            parallel_for(correlate_task, job, ceil_div(job.units, job.units_a_task), threads)
    finally:
        workspace_give(job.scratch)
    return True


def forward(x, w, bias, y, *geometry):
    """Fill y; False, and nothing done, where columns are not adjacent."""
    return correlate(False, x, w, bias, y, geometry)


def backward_input(dy, w, dx, *geometry):
    """Fill dx; False, and nothing done, where columns are not adjacent."""
    return correlate(True, dy, w, None, dx, geometry)
