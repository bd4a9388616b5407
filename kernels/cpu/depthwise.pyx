"""Depthwise convolution, forward and backward input, of arrays of any layout in memory.

Each group has one input channel and m outputs. With o = c·m + k an output of channel c, taps (r, s),
and (i, j) an output position:

    forward          y[n,o,i,j]   = Σ over (r,s)    w[o,r,s] · x[n,c, i·stride + r·dilation - top, …]
    backward input   dx[n,c,h,w]  = Σ over (k,r,s)  w[o,r,s] · dy[n,o, (h + top - r·dilation) / stride, …]

depthwise_last serves where channels are adjacent (NHWC) and m = 1, depthwise_first where columns are
(NCHW); this one the rest. Lanes are channels: a strip of rows of some channels is brought into a frame
in the cache, [row][column][channel], with the zeros of the padding around it; the tiles run over the
frame; what they wrote is taken to the array.

The two passes are one correlation: target position first + step·q takes, for each tap, source
position q·source_step + shift. Forward: step 1, source_step = stride. Backward input: one such part
for each residue of (h, w) modulo step = stride, source_step 1, the taps that meet it.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
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
    describe_frame,
    measure,
    rows_read,
    shift_of,
    take_call,
)
from halfwave._cpu.runtime cimport (
    Hold,
    View,
    hw_correlation,
    hw_depthwise_tiles,
    hw_frame,
    hw_tap,
    parallel_for,
    tiles,
    workspace_give,
    workspace_take,
    worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef enum:
    VECTORS = 4             # of channels side by side in a frame, where they are so in the array
    STRIP_BYTES = 192 << 10     # a strip's frames: a share of the L2 cache
    LARGEST = 1 << 20       # of a strip of the least rows; beyond it the general path serves

cdef struct Part:
    int64_t row, column     # the residues
    int64_t taps, first_tap

cdef struct Job:
    const hw_depthwise_tiles *tiles
    int wide
    View source, weights, target
    const char *bias
    int64_t bias_stride
    Axis rows, columns
    int64_t channels, planes, outs      # of a channel: source planes, target planes
    int64_t lanes, width, blocks
    int64_t strip, strips, images       # target rows a strip; images a task
    int64_t line, plane                 # elements of a frame's row, of a frame
    Part *parts
    int64_t part_count
    hw_tap *taps
    char *scratch
    int64_t scratch_bytes, weight_bytes, frame_bytes


cdef void load_weights(const Job *job, int64_t channel, int64_t channels, char *memory) noexcept nogil:
    """[plane][tap][channel] of all outputs of the block's channels."""
    cdef const View *w = &job.weights
    cdef int64_t many = job.planes * job.outs, taps = w.shape[R] * w.shape[S], k
    cdef hw_frame part
    part.rows, part.columns = w.shape[R], w.shape[S]
    part.row, part.column, part.channel = w.strides[R], w.strides[S], many * w.strides[O]
    if w.strides[R] == w.shape[S] * w.strides[S]:
        part.rows, part.columns = 1, taps
    part.channels, part.width = channels, job.width
    part.above = part.below = part.before = part.after = part.ahead = 0
    for k in range(many):
        part.array = w.data + (channel * many + k) * w.strides[O] * w.itemsize
        part.frame = memory + k * taps * job.width * w.itemsize
        job.tiles.fill[job.wide](&part)


cdef void load_frame(const Job *job, const View *source, const Axis *rows, const Axis *columns,
                     int64_t image, int64_t channel, int64_t channel_step, int64_t channels,
                     int64_t first, int64_t count, int64_t across, char *memory) noexcept nogil:
    """What `count` positions down from `first`, and `across` positions from 0, read."""
    cdef hw_frame part
    describe_frame(&part, source, image, channel, channel_step, channels,
                   first * rows.source_step + rows.low, rows_read(rows, count),
                   columns.low, rows_read(columns, across))
    part.width, part.frame = job.width, memory
    job.tiles.fill[job.wide](&part)


cdef void correlate_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t block = index % job.blocks, strip = index // job.blocks % job.strips
    cdef int64_t first = index // job.blocks // job.strips * job.images, image
    cdef int64_t channel = block * job.width
    cdef int64_t channels = min(job.width, job.channels - channel)
    cdef int64_t top = strip * job.strip, bottom = min(top + job.strip, job.target.shape[H]), k
    cdef char *weights = job.scratch + worker * job.scratch_bytes
    cdef char *frame = weights + job.weight_bytes
    cdef char *drained = frame + job.frame_bytes
    cdef char *bias = drained - job.width * job.target.itemsize
    load_weights(job, channel, channels, weights)
    for image in range(first, min(first + job.images, job.target.shape[N])):
        for k in range(job.planes):
            load_frame(job, &job.source, &job.rows, &job.columns, image, channel * job.planes + k,
                       job.planes, channels, top // job.rows.step,
                       ceil_div(bottom - top, job.rows.step),
                       ceil_div(job.target.shape[W], job.columns.step),
                       frame + k * job.plane * job.target.itemsize)
        for k in range(job.outs):
            if job.bias != NULL:
                load_bias(job, channel * job.outs + k, channels, bias)
            correlate_strip(job, image, channel * job.outs + k, channels, top, bottom, frame,
                            weights + k * job.weights.shape[R] * job.weights.shape[S] * job.width
                            * job.target.itemsize, bias, drained)


cdef void load_bias(const Job *job, int64_t channel, int64_t channels, char *memory) noexcept nogil:
    cdef hw_frame part
    memset(&part, 0, sizeof(part))
    part.rows = part.columns = 1
    part.channel, part.channels, part.width = job.bias_stride, channels, job.width
    part.array = <char *>job.bias + channel * job.target.itemsize
    part.frame = memory
    job.tiles.fill[job.wide](&part)


cdef void correlate_strip(const Job *job, int64_t image, int64_t channel, int64_t channels,
                          int64_t top, int64_t bottom, const char *frame, const char *weights,
                          const char *bias, char *drained) noexcept nogil:
    """Target rows top … bottom of the channels channel, channel + outs, …"""
    cdef const View *target = &job.target
    cdef int64_t size = target.itemsize, i
    cdef hw_correlation work
    cdef hw_frame part
    cdef const Part *residue
    cdef char *to = target.data + size * (image * target.strides[N] + channel * target.strides[C]
                                          + top * target.strides[H])
    cdef int64_t row = target.strides[H], column = target.strides[W]
    cdef bint direct = job.outs * target.strides[C] == 1 and channels % job.lanes == 0
    if not direct:
        row, column = target.shape[W] * job.width, job.width
    work.vectors = ceil_div(channels, job.lanes)
    work.x, work.w, work.bias = frame, weights, bias if job.bias != NULL else NULL
    work.x_row, work.x_column = job.rows.source_step * job.line, job.columns.source_step * job.width
    work.y_row, work.y_column = job.rows.step * row, job.columns.step * column
    for i in range(job.part_count):
        residue = job.parts + i
        if bottom - top <= residue.row:
            continue
        work.rows = ceil_div(bottom - top - residue.row, job.rows.step)
        work.columns = ceil_div(target.shape[W] - residue.column, job.columns.step)
        work.y = (to if direct else drained) + (residue.row * row + residue.column * column) * size
        work.taps, work.tap = residue.taps, job.taps + residue.first_tap
        job.tiles.correlate[job.wide](&work)
    if not direct:
        part.array, part.frame = to, drained
        part.row, part.column = target.strides[H], target.strides[W]
        part.channel = job.outs * target.strides[C]
        part.rows, part.columns, part.channels = bottom - top, target.shape[W], channels
        part.width = job.width
        job.tiles.drain[job.wide](&part)


cdef int64_t list_taps(Job *job) noexcept nogil:
    """The parts and their taps, in the order (plane, r, s)."""
    cdef int64_t row, column, k, r, s, down, across, count = 0, begin
    cdef Part *part = job.parts
    for row in range(min(job.rows.step, job.rows.target)):
        for column in range(min(job.columns.step, job.columns.target)):
            begin = count
            for k in range(job.planes):
                for r in range(job.rows.kernel):
                    if not shift_of(&job.rows, row, r, &down):
                        continue
                    for s in range(job.columns.kernel):
                        if not shift_of(&job.columns, column, s, &across):
                            continue
                        job.taps[count].x = (k * job.plane + (down - job.rows.low) * job.line
                                             + (across - job.columns.low) * job.width)
                        job.taps[count].w = ((k * job.rows.kernel + r) * job.columns.kernel
                                             + s) * job.width
                        count += 1
            part.row, part.column, part.first_tap, part.taps = row, column, begin, count - begin
            part += 1
    return part - job.parts


cdef void choose_width(Job *job, const View *source, int64_t tasks) noexcept nogil:
    """Channels side by side in a frame, and so their blocks."""
    cdef int64_t vectors = ceil_div(job.channels, job.lanes), most = 1
    if source.strides[C] == 1:
        most = VECTORS
        while most > 1 and tasks * ceil_div(vectors, most) < 16:
            most -= 1
    job.blocks = ceil_div(vectors, most)
    job.width = ceil_div(vectors, job.blocks) * job.lanes
    job.blocks = ceil_div(job.channels, job.width)


cdef bint correlate(bint backward, source, w, bias, target, geometry) except -1:
    """False where the general path has to serve."""
    cdef Hold hold = Hold()
    cdef View bias_view
    cdef Job memory
    cdef Job *job = &memory
    cdef int64_t multiplier, row_bytes, target_bytes, across, q, taps, size, tasks
    cdef int threads
    take_call(hold, source, &job.source, w, &job.weights, target, &job.target, backward, geometry,
              &job.rows, &job.columns)
    job.channels = geometry[6]
    multiplier = job.weights.shape[O] // job.channels
    job.planes, job.outs = multiplier if backward else 1, 1 if backward else multiplier
    size = job.target.itemsize
    job.tiles = tiles().depthwise
    job.wide = size == 8
    job.lanes = job.tiles.lanes[job.wide]
    taps = job.planes * job.rows.kernel * job.columns.kernel
    if taps > HW_SEGMENT:
        return False
    measure(&job.rows)
    measure(&job.columns)
    choose_width(job, &job.source, job.target.shape[N])
    across = rows_read(&job.columns, ceil_div(job.columns.target, job.columns.step))
    if (<double>across * rows_read(&job.rows, 1) * job.planes * job.width * size > LARGEST
            or <double>job.columns.target * job.rows.step * job.width * size > LARGEST):
        return False
    job.line = across * job.width
    row_bytes = job.planes * job.line * size
    target_bytes = job.rows.step * job.columns.target * job.width * size
    q = 1
    while (q * job.rows.step < job.rows.target
           and rows_read(&job.rows, q + 2) * row_bytes + (q + 1) * target_bytes <= STRIP_BYTES):
        q += 1
    job.strips = ceil_div(job.rows.target, q * job.rows.step)
    q = ceil_div(ceil_div(job.rows.target, job.strips), job.rows.step)
    job.strip = q * job.rows.step
    job.strips = ceil_div(job.rows.target, job.strip)
    job.plane = rows_read(&job.rows, q) * job.line
    job.bias = NULL
    if bias is not None:
        hold.view(bias, &bias_view, False)
        job.bias, job.bias_stride = bias_view.data, job.outs
    threads = worthwhile_threads(0.02 * (taps + 10.0) * job.target.size * (size // 4))
    tasks = job.target.shape[N] * job.strips * job.blocks
    job.images = clamp(tasks // (16 * threads), 1, job.target.shape[N]) if job.strips == 1 else 1
    job.weight_bytes = taps * job.outs * job.width * size
    job.frame_bytes = job.planes * job.plane * size + job.width * size  # and a bias
    job.scratch_bytes = job.weight_bytes + job.frame_bytes + q * target_bytes
    job.scratch_bytes = ceil_div(job.scratch_bytes, 64) * 64
    job.parts = <Part *>malloc(min(job.rows.step, job.rows.target)
                               * min(job.columns.step, job.columns.target) * sizeof(Part))
    job.taps = <hw_tap *>malloc(taps * sizeof(hw_tap))
    try:
        if job.parts == NULL or job.taps == NULL:
            raise MemoryError("no memory for the taps of a convolution")
        job.part_count = list_taps(job)
        job.scratch = <char *>workspace_take(threads * job.scratch_bytes)
        try:
            with nogil:
                parallel_for(correlate_task, job, ceil_div(job.target.shape[N], job.images)
                             * job.strips * job.blocks, threads)
        finally:
            workspace_give(job.scratch)
    finally:
        free(job.parts)
        free(job.taps)
    return True


def forward(x, w, bias, y, *geometry):
    """Fill y; False, and nothing done, where the general path has to serve."""
    return correlate(False, x, w, bias, y, geometry)


def backward_input(dy, w, dx, *geometry):
    """Fill dx; False, and nothing done, where the general path has to serve."""
    return correlate(True, dy, w, None, dx, geometry)
