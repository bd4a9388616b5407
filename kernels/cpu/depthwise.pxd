"""What the depthwise kernels share: how targets and sources meet along an axis, tables of pixels."""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport Hold, View, hw_frame

cdef enum:
    N, C, H, W
    O = 0       # of weights: O, 1, R, S
    R = 2
    S = 3

# Target position first + step·q takes, for each tap that meets it, source position
# q·source_step + shift. Forward: step 1, source_step the stride. Backward input: step the stride,
# source_step 1, a class of targets for each residue `first` modulo the stride.
cdef struct Axis:
    int64_t target, source, kernel, step, source_step, padding, dilation
    bint backward
    int64_t tap_step, apart     # of the taps that meet a target: from one to the next, of their shifts
    int64_t low, high           # the least and the largest shift


# Whether the tap meets the targets first + step·q, and its shift.
cdef inline bint shift_of(const Axis *axis, int64_t first, int64_t tap, int64_t *shift) noexcept nogil:
    cdef int64_t reach = first + axis.padding - tap * axis.dilation
    if not axis.backward:
        shift[0] = -reach
        return True
    shift[0] = reach // axis.step   # exact, so the sign does not matter
    return reach % axis.step == 0


cdef inline void set_apart(Axis *axis) noexcept:
    axis.tap_step = 1
    while axis.tap_step * axis.dilation % axis.step != 0:
        axis.tap_step += 1
    axis.apart = axis.tap_step * axis.dilation // axis.step


# geometry: stride and padding before (top, left), down and across each, dilation and groups, as the
# passes are given them.
cdef inline void set_axes(Axis *rows, Axis *columns, bint backward, geometry, View *weights,
                          View *target) except *:
    rows.backward = columns.backward = backward
    rows.step = rows.source_step = columns.step = columns.source_step = 1
    if backward:
        rows.step, columns.step = geometry[0], geometry[1]
    else:
        rows.source_step, columns.source_step = geometry[0], geometry[1]
    rows.padding, columns.padding = geometry[2], geometry[3]
    rows.dilation, columns.dilation = geometry[4], geometry[5]
    rows.kernel, columns.kernel = weights.shape[R], weights.shape[S]
    rows.target, columns.target = target.shape[H], target.shape[W]
    set_apart(rows)
    set_apart(columns)


# The arrays of forward or backward input, and the axes.
cdef inline void take_call(Hold hold, source, View *source_view, w, View *weights, target,
                           View *target_view, bint backward, geometry, Axis *rows,
                           Axis *columns) except *:
    hold.view(source, source_view, False)
    hold.view(w, weights, False)
    hold.view(target, target_view, True)
    set_axes(rows, columns, backward, geometry, weights, target_view)


# Sets the extreme shifts.
cdef inline void measure(Axis *axis) noexcept nogil:
    cdef int64_t first, tap, shift
    cdef bint found = False
    axis.low = axis.high = 0
    for first in range(min(axis.step, axis.target)):
        for tap in range(axis.kernel):
            if shift_of(axis, first, tap, &shift):
                axis.low = min(shift, axis.low) if found else shift
                axis.high = max(shift, axis.high) if found else shift
                found = True


# How many source positions so many q read.
cdef inline int64_t rows_read(const Axis *axis, int64_t positions) noexcept nogil:
    return (positions - 1) * axis.source_step + axis.high - axis.low + 1


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t clamp(int64_t value, int64_t low, int64_t high) noexcept nogil:
    return max(low, min(value, high))


# Where the pixels column, column + direction, … of an image's row lie; beyond its border, at zeros.
cdef inline void fill_table(const View *source, int64_t image, int64_t row, int64_t column,
                            int64_t direction, int64_t entries, const void *zeros,
                            const void **table) noexcept nogil:
    cdef int64_t step = source.strides[W] * source.itemsize, entry
    cdef const char *line
    if row < 0 or row >= source.shape[H]:
        for entry in range(entries):
            table[entry] = zeros
        return
    line = source.data + source.itemsize * (image * source.strides[N] + row * source.strides[H])
    for entry in range(entries):
        table[entry] = line + column * step if 0 <= column < source.shape[W] else zeros
        column += direction


# Blocks of channels, about so many, each of at least one vector and all but the last of whole ones.
cdef inline void cut_channels(int64_t channels, int64_t lanes, int64_t wanted, int64_t *block,
                              int64_t *blocks) noexcept nogil:
    block[0] = max(channels // lanes // wanted, 1) * lanes
    blocks[0] = max((channels + block[0] - lanes) // block[0], 1)
    while block[0] * blocks[0] < channels:
        block[0] += lanes
        blocks[0] = max((channels + block[0] - lanes) // block[0], 1)


# Rows top …, columns left … of an image's channels channel, channel + channel_step, …, as a frame with
# zeros beyond the border.
cdef inline void describe_frame(hw_frame *part, const View *source, int64_t image, int64_t channel,
                                int64_t channel_step, int64_t channels, int64_t top, int64_t height,
                                int64_t left, int64_t width) noexcept nogil:
    part.above = clamp(-top, 0, height)
    part.rows = clamp(source.shape[H] - top, part.above, height) - part.above
    part.below = height - part.above - part.rows
    part.before = clamp(-left, 0, width)
    part.columns = clamp(source.shape[W] - left, part.before, width) - part.before
    part.after = width - part.before - part.columns
    part.row, part.column = source.strides[H], source.strides[W]
    part.channel = channel_step * source.strides[C]
    part.channels, part.ahead = channels, 0
    part.array = source.data + source.itemsize * (
        image * source.strides[N] + channel * source.strides[C]
        + (top + part.above) * source.strides[H] + (left + part.before) * source.strides[W])
