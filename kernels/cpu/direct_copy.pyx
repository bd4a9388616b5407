"""Copies of a part of an array into a strip: to[c, i, j] = x[n, c, row(i), column(j)], +0 beyond x.

The strip is planar (columns adjacent) or has its channels adjacent. Rows are copied together, a channel
at a time, where x has its columns adjacent: they follow one another in memory, so the processor fetches
ahead. Else pixels follow one another, and a row of all channels is copied, or transposed, at a time.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef enum:
    N, C, H, W
    NARROW = 128        # elements of a row


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline void inside(Span span, int64_t size, int64_t *begin, int64_t *end) noexcept nogil:
    """Which of the span lie in an axis of that size."""
    begin[0] = min(ceil_div(-span.first, span.step) if span.first < 0 else 0, span.count)
    end[0] = ceil_div(size - span.first, span.step) if span.first < size else 0
    end[0] = max(min(end[0], span.count), begin[0])


cdef inline void zero(float *to, int64_t rows, int64_t row, int64_t n) noexcept nogil:
    cdef int64_t i
    if n >= row and rows > 0:       # nothing between them; they may share their ends
        n, rows = (rows - 1) * row + n, 1
    for i in range(rows if n > 0 else 0):
        memset(to + i * row, 0, n * sizeof(float))


cdef void copy_window(const hw_direct_tiles *tiles, const View *x, int64_t n, int64_t first,
                      int64_t channels, Span rows, Span columns, float *to, int64_t channel,
                      int64_t row, int64_t column) noexcept nogil:
    cdef const int64_t *strides = &x.strides[0]
    cdef int64_t down = rows.step * strides[H], across = columns.step * strides[W]
    cdef int64_t top, bottom, left, right, i, c
    cdef int64_t width = column * columns.count     # of a row, where pixels are whole
    cdef const float *line
    inside(rows, x.shape[H], &top, &bottom)
    inside(columns, x.shape[W], &left, &right)
    line = (<const float *>x.data + n * strides[N] + first * strides[C]
            + (rows.first + top * rows.step) * strides[H]
            + (columns.first + left * columns.step) * strides[W])
    if column != 1 or channels == 1 == channel:
        zero(to, top, row, width)
        zero(to + bottom * row, rows.count - bottom, row, width)
        to += top * row
        zero(to, bottom - top, row, left * column)
        zero(to + right * column, bottom - top, row, width - right * column)
        for i in range(bottom - top):
            if column == channels and across == channels:
                tiles.move(1, (right - left) * channels, line + i * down, 0, 1,
                           to + i * row + left * column, 0, 1)
            else:
                tiles.move(right - left, channels, line + i * down, across, strides[C],
                           to + i * row + left * column, column, 1)
        return
    for c in range(channels):
        if right - left < width <= NARROW:      # one long write costs less than many short ones
            zero(to + c * channel, rows.count, row, width)
            continue
        zero(to + c * channel, top, row, width)
        zero(to + c * channel + bottom * row, rows.count - bottom, row, width)
        zero(to + c * channel + top * row, bottom - top, row, left)
        zero(to + c * channel + top * row + right, bottom - top, row, width - right)
    to += top * row + left
    if strides[C] == 1 and channels > 1 or bottom - top < 3:
        for i in range(bottom - top):
            tiles.move(channels, right - left, line + i * down, strides[C], across, to + i * row,
                       channel, 1)
    else:
        for c in range(channels):
            if across == 1 and c + 1 < channels:    # while this one is copied
                tiles.fetch(bottom - top, right - left, line + (c + 1) * strides[C], down)
            tiles.move(bottom - top, right - left, line + c * strides[C], down, across,
                       to + c * channel, row, 1)
