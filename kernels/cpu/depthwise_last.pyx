"""Depthwise convolution, forward and backward input, where channels are adjacent (NHWC).

Nothing is copied. For each row of the source a table says where its pixels lie, one after the other
as outputs and taps meet them; beyond the border that is a pixel of zeros. The tiles walk the channels
of some outputs along such tables. Squares of 3 or 5 taps with stride 1 take a strip of rows at once,
where every pixel is loaded once for all that it serves; else a row of outputs is taken at a time.

With a stride, backward input has a class of columns for each residue modulo the stride, which meets
its own taps; within it neighbours meet neighbours. Backward, later taps meet earlier pixels: then the
tables run backwards, and the outputs with them.

Arrays beyond the caches: the pixels of a tile are too scattered for processors to foresee, so tiles
ask for those of the next rows (1.4 to 2.4 times as fast by measurement). Backward input with a stride
writes much more than it reads, so a large result is written past the caches: turn by turn, each a tile
of every class, columns side by side, which a buffer collects and streams by whole lines of the target
(1.7 to 2.5 times as fast; without a stride it gains with AVX-512 and loses with AVX2, forward it is even).
"""
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memmove, memset

from halfwave._cpu.depthwise cimport (
    Axis, C, H, N, O, R, S, W, ceil_div, cut_channels, fill_table, shift_of, take_call,
)
from halfwave._cpu.runtime cimport (
    Hold,
    View,
    hw_depthwise_tiles,
    hw_frame,
    hw_pixels,
    hw_pixels_tile,
    parallel_for,
    past_caches,
    tiles,
    workspace_give,
    workspace_take,
    worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef enum:
    CLASSES = 8     # of columns, at most
    TAPS = 32       # down, at most
    HEIGHT = 14     # rows of a strip, at most
    LOW = 4         # and at least, where there are tasks enough for the threads else
    FAR = 8 << 20   # bytes of arrays, by measurement
    SAME_BITS = 4096    # bytes apart, a load is taken for one of what was just stored
    BLOCK = 256     # bytes that are streamed at once, and of the buffer before what a turn makes
    LEAST = 8       # vectors of channels in a task that has not all of them

cdef struct Class:              # of columns: residue, residue + step, …
    int64_t outputs             # how many in a row
    int64_t across, first_tap   # its taps
    int64_t begin, direction, entries   # of a table: its first column, the next ones' direction
    hw_pixels_tile tile
    int64_t pixels              # outputs of a tile

cdef struct Job:
    const hw_depthwise_tiles *tiles
    int wide
    hw_pixels_tile squares[4]       # of so many rows, where taps are a square
    View source, target
    const char *bias
    Axis rows, columns
    int64_t channels, block, blocks, height, strips_an_image
    Class classes[CLASSES]
    int64_t class_count, entries    # of the largest table
    char *weights                   # [tap][channel]
    int64_t weight_step             # elements
    bint far                        # the arrays are beyond the caches: what comes is asked for
    int64_t turns                   # along a row: a tile of each class a turn
    bint past                       # the target is written past the caches
    int64_t turn_bytes              # then, of a turn's outputs
    char *zeros                     # a pixel
    char *scratch
    int64_t scratch_bytes, tables_bytes


cdef inline void walk(const Job *job, hw_pixels *work) noexcept nogil:
    """How the tiles go through the channels: where vectors begin, and which comes first.

    Vectors of the source are aligned, more of which are loaded than of the target are stored. Where
    the target lies a little further than the source, as processors compare addresses, the pixels to
    load next would wait for what was just stored, so channels are walked downwards (512 of them: 1.2
    to 1.7 times as fast, with AVX-512).
    """
    cdef int64_t size = job.source.itemsize, bytes = job.tiles.lanes[job.wide] * size
    cdef int64_t pixel = job.source.strides[W] * size, apart = min(pixel & -pixel, SAME_BITS)
    work.second = job.tiles.lanes[job.wide]
    if work.channels >= 5 * work.second and not job.past:
        work.second -= <int64_t>(<uintptr_t>job.source.data % bytes) // size
    work.down = 0 < (job.target.data - job.source.data) & (apart - 1) < apart // 2


cdef void correlate_task(void *context, int64_t index, int worker) noexcept nogil:
    """A strip of rows of a block of channels."""
    cdef Job *job = <Job *>context
    cdef int64_t image = index // job.blocks // job.strips_an_image, row
    cdef int64_t first = index // job.blocks % job.strips_an_image * job.height
    cdef int64_t last = min(first + job.height, job.target.shape[H])
    cdef const void **tables = <const void **>(job.scratch + worker * job.scratch_bytes)
    cdef char *buffer = <char *>tables + job.tables_bytes
    cdef hw_pixels work
    work.first = index % job.blocks * job.block
    work.channels = min(job.block, job.channels - work.first)
    walk(job, &work)
    if job.squares[2] != NULL and last - first > 1:
        correlate_strip(job, image, first, last, tables, &work)
        return
    for row in range(first, last):
        correlate_row(job, image, row, tables, buffer, &work)


cdef void correlate_strip(const Job *job, int64_t image, int64_t first, int64_t last,
                          const void **tables, hw_pixels *work) noexcept nogil:
    """Rows first … last - 1."""
    cdef int64_t weight_rows[TAPS]
    cdef int64_t r, row = first, count = job.rows.kernel - 1
    work.rows = job.rows.kernel
    for r in range(job.rows.kernel):
        weight_rows[r] = r * job.columns.kernel * job.weight_step
    work.w_row = weight_rows
    fill_tables(job, &job.classes[0], image,
                last - 1 + job.rows.padding if job.rows.backward else first - job.rows.padding,
                -1 if job.rows.backward else 1, last - first + count, tables)
    while row < last:
        # 3 rows a tile where there are such, 2 where 1 would be left else.
        r = 3 if job.squares[3] != NULL and last - row != 2 and last - row != 4 else 2
        row = min(row, last - r)    # it may overlap those before
        run_tiles(job, image, row, r, r + count,
                  tables + (last - row - r if job.rows.backward else row - first) * job.entries,
                  NULL, work)
        row += r


cdef void correlate_row(const Job *job, int64_t image, int64_t row, const void **tables,
                        char *buffer, hw_pixels *work) noexcept nogil:
    cdef int64_t weight_rows[TAPS]
    cdef int64_t r, shift, residue, start = 0
    work.w_row, work.rows = weight_rows, 0
    for r in range(job.rows.kernel):
        if shift_of(&job.rows, row % job.rows.step, r, &shift):
            if work.rows == 0:
                start = shift + row // job.rows.step * job.rows.source_step
            weight_rows[work.rows] = r * job.columns.kernel * job.weight_step
            work.rows += 1
    for residue in range(job.class_count):
        fill_tables(job, &job.classes[residue], image, start,
                    -job.rows.apart if job.rows.backward else job.rows.apart, work.rows,
                    tables + residue * work.rows * job.entries)
    run_tiles(job, image, row, 1, work.rows, tables, buffer, work)


cdef void fill_tables(const Job *job, const Class *columns, int64_t image, int64_t row,
                      int64_t apart, int64_t count, const void **tables) noexcept nogil:
    """Of rows row, row + apart, … of the source."""
    cdef int64_t k
    for k in range(count):
        fill_table(&job.source, image, row + k * apart, columns.begin, columns.direction,
                   columns.entries, job.zeros, tables + k * job.entries)


cdef inline int64_t first_of(const Class *columns, int64_t turn) noexcept nogil:
    """The first output of a turn's tile; the last tile overlaps the one before."""
    return min(turn * columns.pixels, columns.outputs - columns.pixels)


cdef inline int64_t first_column(const Job *job, int64_t turn) noexcept nogil:
    cdef int64_t column = job.target.shape[W], residue
    for residue in range(job.class_count):
        column = min(column, first_of(&job.classes[residue], turn) * job.columns.step + residue)
    return column


cdef inline int64_t whole_blocks(const char *row, int64_t end) noexcept nogil:
    """Bytes of a row up to the last block that ends at `end` or before."""
    return max(end - <int64_t>(<uintptr_t>(row + end) % BLOCK), 0)


cdef inline void keep_rest(const Job *job, char *buffer, const char *row, int64_t end,
                           int64_t begin) noexcept nogil:
    """From behind whole blocks of a turn that ended there, to ahead of the one that begins there."""
    cdef int64_t done = whole_blocks(row, end)
    if done < begin:
        memmove(buffer + BLOCK + done - begin, buffer + BLOCK + job.turn_bytes + done - end,
                begin - done)


cdef void run_tiles(const Job *job, int64_t image, int64_t row, int64_t rows, int64_t count,
                    const void **tables, char *buffer, hw_pixels *work) noexcept nogil:
    """Along so many rows from `row` on; with `count` tables of each class."""
    cdef const View *target = &job.target
    cdef const Class *columns
    cdef hw_pixels_tile tile
    cdef const void **lines[TAPS]
    cdef int64_t size = target.itemsize, pixel = size * target.strides[W], step = job.columns.step
    cdef int64_t turn, residue, first, k, begin = 0, done = 0, end = 0     # bytes of the row
    cdef char *to = target.data + size * (image * target.strides[N] + row * target.strides[H])
    cdef char *y = to
    work.y_row = target.strides[H]
    if job.rows.backward:
        y += (rows - 1) * work.y_row * size
        work.y_row = -work.y_row
    work.apart, work.step = job.columns.apart, job.columns.source_step
    work.x, work.bias = lines, job.bias
    work.w_tap = job.columns.tap_step * job.weight_step
    ask_ahead(job, image, row, rows, work)
    for turn in range(job.turns):
        if job.past:
            begin = first_column(job, turn) * pixel
            keep_rest(job, buffer, to, end, begin)
            y = buffer + BLOCK - begin
        for residue in range(job.class_count):
            columns = &job.classes[residue]
            if turn * columns.pixels >= columns.outputs and not job.past:
                continue
            first = first_of(columns, turn)
            for k in range(count):
                lines[k] = tables + (residue * count + k) * job.entries + work.step * (
                    first if columns.direction > 0 else columns.outputs - columns.pixels - first)
            if columns.direction < 0:
                first += columns.pixels - 1
            work.y = y + (first * step + residue) * pixel
            work.y_step = columns.direction * step * target.strides[W]
            work.across = columns.across
            work.w = job.weights + columns.first_tap * job.weight_step * size
            tile = job.squares[rows] if rows > 1 else columns.tile
            tile(work)
        if job.past:
            done, end = whole_blocks(to, end), begin + job.turn_bytes
            k = end if turn == job.turns - 1 else whole_blocks(to, end)
            job.tiles.stream[job.wide]((k - done) // size, y + done, to + done)
        if work.ahead != NULL:
            work.ahead = <char *>work.ahead + job.classes[0].pixels * work.step * (
                job.source.strides[W] * size)
            work.y_ahead = <char *>work.y_ahead + job.classes[0].pixels * step * pixel


cdef void ask_ahead(const Job *job, int64_t image, int64_t row, int64_t rows,
                    hw_pixels *work) noexcept nogil:
    """Points to what the next rows will be the first to read, and to where they will be."""
    cdef const View *source = &job.source
    cdef const View *target = &job.target
    cdef int64_t down = target.strides[H] * target.itemsize, fresh
    work.ahead = NULL
    if not job.far or job.rows.step > 1:
        return
    row += rows
    fresh = row + job.rows.padding
    if not job.rows.backward:
        fresh = (row - 1) * job.rows.source_step + job.rows.kernel - job.rows.padding
    work.ahead = source.data + source.itemsize * (image * source.strides[N]
                                                  + fresh * source.strides[H])
    work.ahead_row = source.strides[H] * source.itemsize
    work.y_ahead = target.data + target.itemsize * image * target.strides[N] + row * down
    work.y_ahead_row = down


cdef void load_weights(const Job *job, View *w) noexcept nogil:
    cdef hw_frame part
    memset(&part, 0, sizeof(part))
    part.array, part.frame = w.data, job.weights
    part.row, part.column, part.channel = w.strides[R], w.strides[S], w.strides[O]
    part.rows, part.columns, part.channels = w.shape[R], w.shape[S], job.channels
    if w.strides[R] == w.shape[S] * w.strides[S]:
        part.rows, part.columns = 1, w.shape[R] * w.shape[S]
    part.width = job.weight_step
    job.tiles.fill[job.wide](&part)


cdef void list_classes(Job *job) noexcept nogil:
    cdef int64_t residue, s, shift, first, last
    cdef Class *columns
    job.class_count = min(job.columns.step, job.target.shape[W])
    job.entries, job.turns = 1, 0
    for residue in range(job.class_count):
        columns = &job.classes[residue]
        columns.outputs = ceil_div(job.target.shape[W] - residue, job.columns.step)
        columns.across = columns.first_tap = first = last = 0
        for s in range(job.columns.kernel):
            if not shift_of(&job.columns, residue, s, &shift):
                continue
            if columns.across == 0:
                columns.first_tap, first = s, shift
            columns.across += 1
            last = shift
        columns.direction, columns.begin = 1, first
        if last < first:    # later taps meet earlier pixels
            columns.direction, columns.begin = -1, first + columns.outputs - 1
        columns.entries = ((columns.outputs - 1) * job.columns.source_step
                           + max(columns.across - 1, 0) * job.columns.apart + 1)
        job.entries = max(job.entries, columns.entries)
        columns.pixels = 7 if columns.outputs >= 7 else 4 if columns.outputs >= 4 else 1
        columns.tile = job.tiles.choose_pixels[job.wide](
            columns.pixels, columns.across, job.columns.source_step, job.columns.apart)
        job.turns = max(job.turns, ceil_div(columns.outputs, columns.pixels))


cdef void choose_squares(Job *job) noexcept nogil:
    cdef const Axis *rows = &job.rows
    cdef const Axis *columns = &job.columns
    cdef bint square = (
        rows.kernel == columns.kernel and rows.step == rows.source_step == rows.dilation == 1
        and columns.step == columns.source_step == columns.dilation == 1
        and job.classes[0].outputs >= 7)
    for i in range(2, 4):
        job.squares[i] = NULL
        if square:
            job.squares[i] = job.tiles.choose_square[job.wide](i, rows.kernel)


cdef bint correlate(bint backward, source, w, bias, target, geometry) except -1:
    """False, and nothing done, where this is not the layout."""
    cdef Hold hold = Hold()
    cdef Job memory
    cdef Job *job = &memory
    cdef View weights, bias_view
    cdef int64_t size, lanes, taps, strips, tables, pixel_bytes, weight_bytes
    cdef int threads
    take_call(hold, source, &job.source, w, &weights, target, &job.target, backward, geometry,
              &job.rows, &job.columns)
    size = job.target.itemsize
    job.tiles = tiles().depthwise
    job.wide = size == 8
    lanes = job.tiles.lanes[job.wide]
    job.channels = job.source.shape[C]
    taps = weights.shape[R] * weights.shape[S]
    if (weights.shape[O] != job.channels or job.target.shape[C] != job.channels
            or job.channels < lanes or taps > HW_SEGMENT
            or job.source.strides[C] != 1 or job.target.strides[C] != 1
            or weights.shape[R] > TAPS or job.columns.step > CLASSES):
        return False
    job.bias = NULL
    if bias is not None:
        hold.view(bias, &bias_view, False)
        if bias_view.strides[0] != 1:
            return False
        job.bias = bias_view.data
    list_classes(job)
    if job.entries > 4 * (job.source.shape[W] + job.target.shape[W]) + 64:
        return False    # taps far beyond the border
    choose_squares(job)
    job.far = (job.source.size + job.target.size) * size > FAR
    threads = worthwhile_threads(0.02 * (taps + 10.0) * job.target.size * (size // 4))
    job.height = HEIGHT
    while threads > 1 and job.height > LOW and (
            job.target.shape[N] * ceil_div(job.target.shape[H], job.height) < 2 * threads):
        job.height = ceil_div(job.height, 2)
    job.strips_an_image = ceil_div(job.target.shape[H], job.height)
    job.height = ceil_div(job.target.shape[H], job.strips_an_image)
    job.strips_an_image = ceil_div(job.target.shape[H], job.height)
    strips = job.target.shape[N] * job.strips_an_image
    # Rows first: of 512 channels, 256 at a time are a fifth slower.
    cut_channels(job.channels, lanes,
                 min(ceil_div(threads, strips), max(job.channels // lanes // LEAST, 1)),
                 &job.block, &job.blocks)
    # Lines of the cache: an odd number, so that the taps spread over its sets.
    job.weight_step = (ceil_div(job.channels * size, 64) | 1) * 64 // size
    pixel_bytes = job.weight_step * size
    weight_bytes = taps * pixel_bytes
    tables = max(job.height + job.rows.kernel, job.class_count * job.rows.kernel)
    job.tables_bytes = ceil_div(tables * job.entries * 8, 64) * 64
    job.turn_bytes = 7 * job.class_count * job.channels * size
    job.past = (job.rows.step * job.columns.step > 1 and past_caches(job.target.size * size)
                and job.blocks == 1 and job.target.strides[W] == job.channels
                and job.classes[job.class_count - 1].pixels == 7)
    job.scratch_bytes = job.tables_bytes
    if job.past:
        job.scratch_bytes += BLOCK + ceil_div(job.turn_bytes, 64) * 64
    job.weights = <char *>workspace_take(weight_bytes + pixel_bytes + threads * job.scratch_bytes)
    try:
        job.zeros = job.weights + weight_bytes
        job.scratch = job.zeros + pixel_bytes
        with nogil:
            memset(job.zeros, 0, pixel_bytes)
            load_weights(job, &weights)
            parallel_for(correlate_task, job, strips * job.blocks, threads)
    finally:
        workspace_give(job.weights)
    return True


def forward(x, w, bias, y, *geometry):
    """Fill y; False, and nothing done, where channels are not adjacent."""
    return correlate(False, x, w, bias, y, geometry)


def backward_input(dy, w, dx, *geometry):
    """Fill dx; False, and nothing done, where channels are not adjacent."""
    return correlate(True, dy, w, None, dx, geometry)
