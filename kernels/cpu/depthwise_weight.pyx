"""Depthwise convolution, backward weight: each group has one input channel and m outputs.

    dw[o,r,s] = Σ over (n,i,j)  dy[n,o,i,j] · x[n,c, i·stride + r·dilation - top, …],  o = c·m + k

Lanes are channels; the tile holds the chains of 9 or 10 taps of a vector of them, along some rows of
dy. Which pixels of x these meet is read from tables, beyond the border a pixel of zeros. Where channels
are adjacent in memory (NHWC) the tables point into the array; else strips of x and dy are first turned
into frames in the cache, [row][column][channel], and the tables point there. Frames have no border, so
that rows which follow one another are turned as one, and most strips have the same tables.

Of arrays beyond the caches the tile asks for the next rows' pixels meanwhile, the fill of a frame always
for the next strip's (1.25 to 1.6 times as fast by measurement, of smaller arrays 1.05 times).

A task is some segments of the positions (n, i, j), of a block of channels. Each segment's sums are
kept; the last step folds them in the contract's order.
"""
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from halfwave._cpu.depthwise cimport (
    Axis, C, H, N, O, R, S, W, ceil_div, clamp, cut_channels, describe_frame, fill_table, set_axes,
)
from halfwave._cpu.runtime cimport (
    Hold,
    View,
    hw_depthwise_tiles,
    hw_frame,
    hw_pixel_sums,
    parallel_for,
    tiles,
    workspace_give,
    workspace_take,
    worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT
    int64_t HW_SUPER_SEGMENT

cdef enum:
    STRIP_BYTES = 96 << 10      # of frames
    STRIP_ROWS = 16             # of dy, where there are no frames
    LARGEST = 1 << 20           # of a frame or the tables of a row; beyond, the general path serves
    FAR = 8 << 20   # bytes of arrays, by measurement
    # Positions that a tile should have at least, for loading and storing its sums; no more of many
    # vectors, for the caches.
    RUN = 28
    TASKS = 16      # about so many a thread
    VECTORS = 32    # of a block, at most: their sums stay in the L1 cache

cdef struct Job:
    const hw_depthwise_tiles *tiles
    int wide
    bint in_place           # no frames
    bint far                # the arrays are beyond the caches: what comes is asked for
    View x, dy, dw
    Axis rows, columns
    int64_t outs, taps, lanes, channels, block, blocks
    int64_t second, vectors         # of a block: where the second vector begins; how many
    int64_t positions, segments, segments_a_task
    int64_t strip, height, across   # rows of dy; rows and columns of x that they meet
    char *sums              # [segment][block][output][vector][tap][lane]
    int64_t sums_bytes      # of an output
    char *zeros             # a pixel
    char *scratch           # a worker's: tables, x's frame, dy's frames
    int64_t scratch_bytes, tables_bytes, x_bytes, dy_bytes


cdef inline char *sums_of(const Job *job, int64_t segment, int64_t block) noexcept nogil:
    return job.sums + (segment * job.blocks + block) * job.outs * job.sums_bytes


cdef inline int64_t channels_of(const Job *job, int64_t block) noexcept nogil:
    return min(job.block, job.channels - block * job.block)


cdef void add_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t block = index % job.blocks
    cdef int64_t segment = index // job.blocks * job.segments_a_task
    cdef int64_t position = segment * HW_SEGMENT
    cdef int64_t end = min(position + job.segments_a_task * HW_SEGMENT, job.positions)
    cdef int64_t width = job.dy.shape[W], plane = job.dy.shape[H] * width
    cdef int64_t first, rows, strip_end, piece, left, above = -1, inside = -1
    cdef char *scratch = job.scratch + worker * job.scratch_bytes
    cdef hw_frame part
    while position < end:
        first = position % plane // width
        rows = min(job.strip, job.dy.shape[H] - first)
        describe_x(job, position // plane, first, rows, block, &part)
        if job.in_place or part.above != above or part.rows != inside:
            above, inside = part.above, part.rows
            fill_tables(job, position // plane, first, rows, &part, <const void **>scratch)
        strip_end = min(position - position % plane + (first + rows) * width, end)
        rows = ceil_div(strip_end - position + position % width, width)
        if not job.in_place:
            load_strip(job, position // plane, first, rows, block, scratch + job.tables_bytes)
        while position < strip_end:
            segment = position // HW_SEGMENT
            if position % HW_SEGMENT == 0:
                memset(sums_of(job, segment, block), 0, job.outs * job.sums_bytes)
            # Some whole rows, or a part of one where a segment begins or ends in it.
            piece = min(strip_end, (segment + 1) * HW_SEGMENT) - position
            left = width - position % width
            if left < width or piece < width:
                piece = min(piece, left)
            elif job.block > job.lanes:
                piece = min(piece // width, ceil_div(RUN, width)) * width
            else:
                piece -= piece % width
            add_piece(job, position, piece, first, block, scratch)
            position += piece


cdef void fill_tables(const Job *job, int64_t image, int64_t first, int64_t rows,
                      const hw_frame *part, const void **table) noexcept nogil:
    """Where the pixels lie that rows first … of dy meet: in x or its frame, or at the zeros."""
    cdef View pixels = job.x
    cdef int64_t top = first * job.rows.source_step - job.rows.padding, k
    if not job.in_place:
        pixels.data = <char *>table + job.tables_bytes
        pixels.shape[H], pixels.shape[W] = part.rows, part.columns
        pixels.strides[N], pixels.strides[H] = 0, part.columns * job.block
        pixels.strides[W] = job.block
        top = -part.above
    for k in range(height_of(job, rows)):
        fill_table(&pixels, image, top + k, -job.columns.padding, 1, job.across, job.zeros,
                   table + k * job.across)


cdef inline int64_t height_of(const Job *job, int64_t rows) noexcept nogil:
    """How many rows of x so many of dy meet."""
    return job.height - (job.strip - rows) * job.rows.source_step


cdef inline void describe_x(const Job *job, int64_t image, int64_t first, int64_t rows,
                            int64_t block, hw_frame *part) noexcept nogil:
    describe_frame(part, &job.x, image, block * job.block, 1, channels_of(job, block),
                   first * job.rows.source_step - job.rows.padding, height_of(job, rows),
                   -job.columns.padding, job.across)


cdef inline int64_t ahead(const Job *job, const View *array, int64_t first, int64_t rows,
                          int64_t step) noexcept nogil:
    """From the rows of a strip to those of the next one, of this image or the next."""
    if not job.far:
        return 0
    if first + rows < job.dy.shape[H]:
        return rows * step * array.strides[H]
    return array.strides[N] - first * step * array.strides[H]


cdef inline void fill(const Job *job, hw_frame *part, char *frame) noexcept nogil:
    """What of the part lies in the array, rows that follow one another as one."""
    part.above = part.below = part.before = part.after = 0
    part.width, part.frame = job.block, frame
    if part.row == part.columns * part.column:
        part.columns, part.rows = part.columns * part.rows, min(part.rows, 1)
    job.tiles.fill[job.wide](part)


cdef void load_strip(const Job *job, int64_t image, int64_t first, int64_t rows, int64_t block,
                     char *frame) noexcept nogil:
    """What rows first … of dy meet, and these rows."""
    cdef hw_frame part
    cdef int64_t k
    describe_x(job, image, first, rows, block, &part)
    part.ahead = ahead(job, &job.x, first, rows, job.rows.source_step)
    fill(job, &part, frame)
    for k in range(job.outs):
        describe_frame(&part, &job.dy, image, block * job.block * job.outs + k, job.outs,
                       channels_of(job, block), first, rows, 0, job.dy.shape[W])
        part.ahead = ahead(job, &job.dy, first, rows, 1)
        fill(job, &part, frame + job.x_bytes + k * job.dy_bytes)


cdef void ask_ahead(const Job *job, int64_t position, hw_pixel_sums *work) noexcept nogil:
    """Points to the pixels that the piece from `position` on will be the first to read."""
    cdef const View *x = &job.x
    cdef const View *dy = &job.dy
    cdef int64_t column = position % dy.shape[W], row = position // dy.shape[W] % dy.shape[H]
    cdef int64_t image = position // dy.shape[W] // dy.shape[H], step = job.rows.source_step
    cdef int64_t fresh = (row - 1) * step - job.rows.padding + 1
    fresh += (job.rows.kernel - 1) * job.rows.dilation
    work.dy_ahead = dy.data + dy.itemsize * (image * dy.strides[N] + row * dy.strides[H]
                                             + column * dy.strides[W])
    work.x_ahead = x.data + x.itemsize * (image * x.strides[N] + fresh * x.strides[H]
                                          + column * step * x.strides[W])
    work.x_row, work.x_column = x.strides[H] * x.itemsize, x.strides[W] * x.itemsize


cdef void add_piece(const Job *job, int64_t position, int64_t count, int64_t first, int64_t block,
                    char *scratch) noexcept nogil:
    """Positions of whole rows or of a part of one, in the strip that begins with row `first`."""
    cdef const View *dy = &job.dy
    cdef int64_t width = dy.shape[W], image = position // (dy.shape[H] * width), _
    cdef int64_t row = position // width % dy.shape[H] - first, column = position % width
    cdef hw_pixel_sums work
    work.lines, work.count = max(count // width, 1), min(count, width)
    work.rows, work.across = job.rows.kernel, job.columns.kernel
    work.step, work.apart = job.columns.source_step, job.columns.dilation
    work.table = <const void **>scratch + (row * job.rows.source_step * job.across
                                           + column * work.step)
    work.row_step = job.rows.source_step * job.across
    work.row_apart = job.rows.dilation * job.across
    work.x_ahead = NULL
    if job.in_place:
        work.first, work.channels = block * job.block, channels_of(job, block)
        work.dy_row, work.dy_step = dy.strides[H], dy.strides[W]
        work.dy = dy.data + dy.itemsize * (image * dy.strides[N] + (row + first) * dy.strides[H]
                                           + column * dy.strides[W])
        if job.far:
            ask_ahead(job, position + count, &work)
    else:
        work.first, work.channels = 0, job.block
        work.dy_row, work.dy_step = width * job.block, job.block
        work.dy = scratch + job.tables_bytes + job.x_bytes + dy.itemsize * (
            row * work.dy_row + column * work.dy_step)
    work.second = job.second
    work.sums = sums_of(job, position // HW_SEGMENT, block)
    for _ in range(job.outs):
        job.tiles.add_pixels[job.wide](&work)
        work.sums = <char *>work.sums + job.sums_bytes
        work.dy = <char *>work.dy + job.dy_bytes

# ---- the fold -------------------------------------------------------------------------------------

ctypedef fused real:
    float
    double


cdef inline void add(const real *terms, real *total, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        total[i] = total[i] + terms[i]


cdef void fold_task(void *context, int64_t block, int worker) noexcept nogil:
    """Segments into the first of their super-segment, these into the first one, that into dw."""
    cdef Job *job = <Job *>context
    cdef int64_t segments = HW_SUPER_SEGMENT // HW_SEGMENT, segment, first
    cdef int64_t bytes = job.outs * job.sums_bytes
    for segment in range(job.segments):
        first = segment // segments * segments
        if segment > first:
            fold(job, sums_of(job, segment, block), sums_of(job, first, block), bytes)
    first = segments
    while first < job.segments:
        fold(job, sums_of(job, first, block), sums_of(job, 0, block), bytes)
        first += segments
    drain_sums(job, block)


cdef void fold(const Job *job, char *terms, char *total, int64_t bytes) noexcept nogil:
    if job.wide:
        add(<double *>terms, <double *>total, bytes // 8)
    else:
        add(<float *>terms, <float *>total, bytes // 4)


cdef void drain_sums(const Job *job, int64_t block) noexcept nogil:
    cdef const View *dw = &job.dw
    cdef int64_t channels = channels_of(job, block), vector = 0, channel = 0, k
    cdef hw_frame part
    part.rows, part.columns = dw.shape[R], dw.shape[S]
    part.row, part.column, part.channel = dw.strides[R], dw.strides[S], job.outs * dw.strides[O]
    if dw.strides[R] == dw.shape[S] * dw.strides[S]:
        part.rows, part.columns = 1, job.taps
    part.width = job.lanes
    while True:
        part.channels = min(job.lanes, channels - channel)
        for k in range(job.outs):
            part.frame = (sums_of(job, 0, block) + k * job.sums_bytes
                          + vector * job.taps * job.lanes * dw.itemsize)
            part.array = dw.data + dw.itemsize * dw.strides[O] * (
                (block * job.block + channel) * job.outs + k)
            job.tiles.drain[job.wide](&part)
        if channel + job.lanes >= channels:
            return
        channel += job.second if vector == 0 else job.lanes
        if job.in_place:
            channel = min(channel, channels - job.lanes)
        vector += 1

# ---- the pass -------------------------------------------------------------------------------------


cdef void choose_blocks(Job *job, int threads) noexcept nogil:
    cdef int64_t size = job.x.itemsize, bytes = job.lanes * size, vectors, wanted
    vectors = ceil_div(job.channels, job.lanes)
    job.second = job.lanes
    if not job.in_place:
        # Of channels far apart one vector, else some of them.
        job.block = min(vectors, 4 if job.x.strides[C] == 1 else 1) * job.lanes
        job.blocks = ceil_div(job.channels, job.block)
        job.vectors = job.block // job.lanes
        return
    # Segments divide unevenly: some blocks more even it out.
    wanted = ceil_div(4 * threads, job.segments) if threads > 1 else 1
    cut_channels(job.channels, job.lanes,
                 max(min(wanted, vectors // 4), ceil_div(vectors, VECTORS)), &job.block,
                 &job.blocks)
    if job.block >= 4 * job.lanes and job.x.strides[W] * size % bytes == 0:
        job.second -= <int64_t>(<uintptr_t>job.x.data % bytes) // size  # aligned from there on
    job.vectors = 2 + ceil_div(job.block - job.second, job.lanes)   # at most


cdef bint choose_strip(Job *job) noexcept nogil:
    """False where what a row of dy meets is too large."""
    cdef const Axis *rows = &job.rows
    cdef const Axis *columns = &job.columns
    cdef int64_t pixel = job.block * job.x.itemsize, x_row, dy_row, least
    job.across = ((columns.target - 1) * columns.source_step
                  + (columns.kernel - 1) * columns.dilation + 1)
    least = (rows.kernel - 1) * rows.dilation + 1
    x_row = job.across * (8 if job.in_place else 8 + pixel)
    dy_row = 0 if job.in_place else job.outs * columns.target * pixel
    if <double>x_row * least + dy_row > LARGEST:
        return False
    # A row's tables are small; those of rows that a stride sets far apart may not be.
    job.strip = min(STRIP_ROWS, (LARGEST // x_row - least) // rows.source_step + 1)
    if not job.in_place:
        job.strip = STRIP_BYTES - (least - rows.source_step) * x_row
        job.strip //= x_row * rows.source_step + dy_row
    job.strip = clamp(job.strip, 1, rows.target)
    job.height = least + (job.strip - 1) * rows.source_step
    job.tables_bytes = ceil_div(job.height * job.across * 8, 64) * 64
    job.x_bytes = job.dy_bytes = 0
    if not job.in_place:
        job.x_bytes = job.height * job.across * pixel
        job.dy_bytes = job.strip * columns.target * pixel
    job.scratch_bytes = ceil_div(job.tables_bytes + job.x_bytes + job.outs * job.dy_bytes, 64) * 64
    return True


def backward_weight(dy, x, dw, *geometry):
    """Fill dw; False, and nothing done, where the general path has to serve."""
    cdef Hold hold = Hold()
    cdef Job job
    cdef int64_t size, sums_bytes, zeros_bytes
    cdef int threads
    hold.view(x, &job.x, False)
    hold.view(dy, &job.dy, False)
    hold.view(dw, &job.dw, True)
    set_axes(&job.rows, &job.columns, False, geometry, &job.dw, &job.dy)
    job.channels = geometry[6]
    job.outs = job.dw.shape[O] // job.channels
    job.taps = job.rows.kernel * job.columns.kernel
    job.positions = job.dy.shape[N] * job.rows.target * job.columns.target
    job.segments = ceil_div(job.positions, HW_SEGMENT)
    if job.outs * job.taps > HW_SEGMENT or job.segments == 0:
        return False
    job.tiles = tiles().depthwise
    size = job.dw.itemsize
    job.wide = size == 8
    job.lanes = job.tiles.lanes[job.wide]
    job.in_place = (job.outs == 1 and job.channels >= job.lanes and job.x.strides[C] == 1
                    and job.dy.strides[C] == 1)
    threads = worthwhile_threads(0.02 * (job.taps + 10.0) * job.dy.size * (size // 4))
    job.far = not job.in_place or (job.x.size + job.dy.size) * size > FAR
    choose_blocks(&job, threads)
    if not choose_strip(&job):
        return False
    job.segments_a_task = max(job.segments * job.blocks // (TASKS * threads), 1)
    job.sums_bytes = job.vectors * job.taps * job.lanes * size
    sums_bytes = ceil_div(job.segments * job.blocks * job.outs * job.sums_bytes, 64) * 64
    zeros_bytes = ceil_div(max(job.channels, job.block) * size, 64) * 64
    job.sums = <char *>workspace_take(sums_bytes + zeros_bytes + threads * job.scratch_bytes)
    job.zeros = job.sums + sums_bytes
    job.scratch = job.zeros + zeros_bytes
    try:
        with nogil:
            memset(job.zeros, 0, zeros_bytes)
            parallel_for(add_task, &job, ceil_div(job.segments, job.segments_a_task) * job.blocks,
                         threads)
            parallel_for(fold_task, &job, job.blocks, threads)
    finally:
        workspace_give(job.sums)
    return True
