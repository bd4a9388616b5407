"""Max pooling, forward and backward: CONTRACT.md, section 8.

    y[n, c, i, j] = max over (r, s) of x[n, c, r, s],    rows r of window i, columns s of window j
    dx[n, c, r, s] = sum over the windows (i, j), ascending, whose maximum is at (r, s), of dy

Windows are the product of row windows and column windows: each a first element, a number of elements
and the distance between them, so that padding has no part and the bins of a pyramid are windows too.

Elements are visited window row by window row, window column by window column, for many windows side
by side: with NCHW a row of windows (lanes are columns j), with NHWC one window of neighbouring
channels. The bins of a pyramid lie irregularly: with NCHW the maxima of the columns of a row of bins
are found first (lanes are columns of x), then of each bin's columns; of equal ones, and of NaN, the
first in row-major order, as it must be. The backward pass finds the maxima again and adds dy where
they are, windows ascending; a task owns a plane, or a block of channels of an image, so no two tasks
add to one element.
"""
from cython cimport floating
from libc.stdint cimport INT32_MAX, int32_t, int64_t

from halfwave._cpu.runtime cimport (
    Hold,
    View,
    hw_pooling_tiles,
    parallel_for,
    tiles,
    workspace_give,
    workspace_take,
    worthwhile_threads,
)

cdef enum:
    CHANNELS = 128  # side by side in a block

cdef struct Windows:    # along one axis
    const int64_t *first
    const int64_t *count
    int64_t number, step, size  # how many windows; between a window's elements; of the axis

cdef struct Job:
    const hw_pooling_tiles *tiles
    int wide, channels_last
    int64_t itemsize, images, channels, blocks
    Windows rows, columns
    # NCHW: of a window with its padding, 0 where windows are irregular; between windows; padding.
    int64_t width, stride, before
    char *x
    char *y     # the forward pass, else NULL
    char *dy
    char *dx
    char *scratch
    int64_t scratch_bytes   # a worker


cdef int64_t whole_vectors(int64_t n) noexcept nogil:
    return (n + 15) // 16 * 16


cdef int64_t lanes_of(const Job *job) noexcept nogil:
    if job.channels_last:
        return min(job.channels, <int64_t>CHANNELS)
    return job.columns.number + (whole_vectors(job.columns.size) if job.width == 0 else 0)


cdef void maxima_of_row(const Job *job, const char *plane, int64_t i, char *best,
                        int32_t *where) noexcept nogil:
    """NCHW: the windows of row i."""
    cdef int64_t r, s, row, offset, low, high, j
    # The elements of a window that any window has in x: few, where padding is vast.
    cdef int64_t skipped = job.before - (job.columns.number - 1) * job.stride
    cdef int64_t first = max(<int64_t>0, (skipped + job.columns.step - 1) // job.columns.step)
    cdef int64_t end = min(job.width, (job.columns.size + job.before + job.columns.step - 1)
                           // job.columns.step)
    for j in range(job.columns.number):
        where[j] = -1
    for r in range(job.rows.count[i]):
        row = (job.rows.first[i] + r * job.rows.step) * job.columns.size
        s = first
        while s < end:
            # Window j sees column j * stride + offset, where that exists.
            offset = s * job.columns.step - job.before
            low = 0 if offset >= 0 else (-offset + job.stride - 1) // job.stride
            high = min(job.columns.number, 0 if offset >= job.columns.size
                       else (job.columns.size - offset + job.stride - 1) // job.stride)
            if low < high:
                offset += low * job.stride
                job.tiles.see[job.wide](
                    high - low, plane + (row + offset) * job.itemsize, job.stride,
                    <int32_t>(row + offset), <int32_t>job.stride, best + low * job.itemsize,
                    where + low)
                s += 1
            else:   # on to what the window before may have in x, however far away
                s += max(<int64_t>1, ((1 - low) * job.stride - offset + job.columns.step - 1)
                         // job.columns.step)


cdef void best_of_bin(int64_t n, const floating *values, const int32_t *positions, floating *best,
                      int32_t *where) noexcept nogil:
    """The largest value and its position, of equal ones the first; of NaN the first, if there is one.

    Selects in place of branches, which nothing could predict."""
    cdef floating most = values[0]
    cdef int64_t c, chosen = -1
    cdef int32_t at = INT32_MAX
    cdef bint wanted, nan = False
    for c in range(n):
        nan |= values[c] != values[c]
        most = values[c] if values[c] > most else most
    for c in range(n):
        wanted = (values[c] != values[c] if nan else values[c] == most) & (positions[c] < at)
        at = positions[c] if wanted else at
        chosen = c if wanted else chosen
    best[0] = values[chosen]
    where[0] = at


cdef void maxima_of_bins(const Job *job, int64_t plane, int64_t i, char *best, int32_t *where,
                         char *column_best, int32_t *column_where) noexcept nogil:
    """NCHW: the irregular windows of row i. Lanes beyond the columns see the next row, unused."""
    cdef int64_t columns = job.columns.size, at = plane * job.rows.size * columns
    cdef int64_t end = job.images * job.channels * job.rows.size * columns
    cdef int64_t lanes = whole_vectors(columns), r, row, j, first, count
    for j in range(lanes):
        column_where[j] = -1
    for r in range(job.rows.count[i]):
        row = (job.rows.first[i] + r) * columns
        job.tiles.see[job.wide](min(lanes, end - at - row), job.x + (at + row) * job.itemsize, 1,
                                <int32_t>row, 1, column_best, column_where)
    for j in range(job.columns.number):
        first = job.columns.first[j]
        count = job.columns.count[j]
        if job.wide:
            best_of_bin(count, <const double *>column_best + first, column_where + first,
                        <double *>best + j, where + j)
        else:
            best_of_bin(count, <const float *>column_best + first, column_where + first,
                        <float *>best + j, where + j)


cdef void maxima_of_channels(const Job *job, const char *image, int64_t width, int64_t i, int64_t j,
                             char *best, int32_t *where) noexcept nogil:
    """NHWC: window (i, j) of `width` channels, the first of which `image` points to."""
    cdef int64_t r, s, c, position
    for c in range(width):
        where[c] = -1
    for r in range(job.rows.count[i]):
        for s in range(job.columns.count[j]):
            position = ((job.rows.first[i] + r * job.rows.step) * job.columns.size
                        + job.columns.first[j] + s * job.columns.step)
            job.tiles.see[job.wide](width, image + position * job.channels * job.itemsize, 1,
                                    <int32_t>position, 0, best, where)


cdef void pool_plane(void *context, int64_t task, int worker) noexcept nogil:
    cdef const Job *job = <const Job *>context
    cdef int64_t number = job.columns.number, lanes = lanes_of(job), i, start
    cdef int64_t plane_bytes = job.rows.size * job.columns.size * job.itemsize
    cdef const char *plane = job.x + task * plane_bytes
    cdef char *scratch = job.scratch + worker * job.scratch_bytes
    cdef char *best = scratch
    cdef int32_t *where = <int32_t *>(scratch + lanes * job.itemsize)
    for i in range(job.rows.number):
        start = (task * job.rows.number + i) * number * job.itemsize
        if job.y != NULL:
            best = job.y + start
        if job.width == 0:
            maxima_of_bins(job, task, i, best, where, scratch + number * job.itemsize,
                           where + number)
        else:
            maxima_of_row(job, plane, i, best, where)
        if job.y == NULL:
            job.tiles.scatter[job.wide](number, job.dy + start, where, 1, 0,
                                        job.dx + task * plane_bytes)


cdef void pool_channels(void *context, int64_t task, int worker) noexcept nogil:
    cdef const Job *job = <const Job *>context
    cdef int64_t image = task // job.blocks, channel = task % job.blocks * CHANNELS
    cdef int64_t width = min(<int64_t>CHANNELS, job.channels - channel), i, j, start
    cdef int64_t offset = image * job.rows.size * job.columns.size * job.channels + channel
    cdef char *scratch = job.scratch + worker * job.scratch_bytes
    cdef int32_t *where = <int32_t *>(scratch + lanes_of(job) * job.itemsize)
    for i in range(job.rows.number):
        for j in range(job.columns.number):
            start = (((image * job.rows.number + i) * job.columns.number + j) * job.channels
                     + channel) * job.itemsize
            if job.y != NULL:
                maxima_of_channels(job, job.x + offset * job.itemsize, width, i, j,
                                   job.y + start, where)
            else:
                maxima_of_channels(job, job.x + offset * job.itemsize, width, i, j, scratch, where)
                job.tiles.scatter[job.wide](width, job.dy + start, where, job.channels, 1,
                                            job.dx + offset * job.itemsize)


def windows(first, count, int64_t length, int64_t size, int64_t stride, int64_t step,
            int64_t before):
    """Fills the int64 arrays first and count: the part of each window of `size` elements, `step` apart,
    that lies in an axis of `length`. Returns the index of the first window without a part, or -1."""
    cdef Hold hold = Hold()
    cdef View vf, vc
    cdef int64_t i, start, skipped, bare = -1
    hold.view(first, &vf, True)
    hold.view(count, &vc, True)
    for i in range(vf.size):
        start = i * stride - before
        skipped = 0 if start >= 0 else (-start + step - 1) // step
        (<int64_t *>vf.data)[i] = start + skipped * step
        (<int64_t *>vc.data)[i] = min((length - start + step - 1) // step, size) - skipped
        if bare < 0 and (<int64_t *>vc.data)[i] < 1:
            bare = i
    return bare


cdef int run(Job *job, View *x, rows, columns, int64_t width, int64_t stride, int64_t before,
             bint channels_last) except -1:
    cdef Hold hold = Hold()
    cdef View first[2]
    cdef View count[2]
    cdef int axis
    for axis, windows in enumerate((rows, columns)):
        hold.view(windows[0], &first[axis], False)
        hold.view(windows[1], &count[axis], False)
    job.rows.first = <const int64_t *>first[0].data
    job.rows.count = <const int64_t *>count[0].data
    job.rows.number = first[0].size
    job.rows.step = rows[2]
    job.columns.first = <const int64_t *>first[1].data
    job.columns.count = <const int64_t *>count[1].data
    job.columns.number = first[1].size
    job.columns.step = columns[2]
    job.width = width
    job.stride = stride
    job.before = before
    job.channels_last = channels_last
    job.tiles = tiles().pooling
    job.itemsize = x.itemsize
    job.wide = x.itemsize == 8
    job.images = x.shape[0]
    job.channels = x.shape[3] if channels_last else x.shape[1]
    job.rows.size = x.shape[1] if channels_last else x.shape[2]
    job.columns.size = x.shape[2] if channels_last else x.shape[3]
    job.x = x.data
    job.blocks = (job.channels + CHANNELS - 1) // CHANNELS if channels_last else job.channels
    job.scratch_bytes = lanes_of(job) * (job.itemsize + 4) // 64 * 64 + 64
    cdef int threads = worthwhile_threads(<double>x.size)
    job.scratch = <char *>workspace_take(threads * job.scratch_bytes)
    try:
        with nogil:
            parallel_for(pool_channels if channels_last else pool_plane, job,
                         job.images * job.blocks, threads)
    finally:
        workspace_give(job.scratch)
    return 0


def forward(x, rows, columns, int64_t width, int64_t stride, int64_t before, bint channels_last, y):
    """rows, columns: (first, count, step) of the windows, the first two int64 arrays. All C order.

    Unless channels_last, or width is 0, column window j is the part of j * stride - before + step *
    (0 … width - 1) that lies in x. If width is 0, the steps are 1."""
    cdef Hold hold = Hold()
    cdef View vx, vy
    cdef Job job
    hold.view(x, &vx, False)
    hold.view(y, &vy, True)
    job.y = vy.data
    run(&job, &vx, rows, columns, width, stride, before, channels_last)


def backward(dy, x, rows, columns, int64_t width, int64_t stride, int64_t before,
             bint channels_last, dx):
    """Adds to dx."""
    cdef Hold hold = Hold()
    cdef View vdy, vx, vdx
    cdef Job job
    hold.view(dy, &vdy, False)
    hold.view(x, &vx, False)
    hold.view(dx, &vdx, True)
    job.y = NULL
    job.dy = vdy.data
    job.dx = vdx.data
    run(&job, &vx, rows, columns, width, stride, before, channels_last)
