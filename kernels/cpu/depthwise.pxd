"""How targets and sources of a depthwise convolution meet, along one axis."""
from libc.stdint cimport int64_t

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


cdef inline void set_axes(Axis *rows, Axis *columns, bint backward, int64_t stride_h,
                          int64_t stride_w, int64_t top, int64_t left, int64_t dilation_h,
                          int64_t dilation_w) noexcept:
    rows.backward = columns.backward = backward
    rows.step = rows.source_step = columns.step = columns.source_step = 1
    if backward:
        rows.step, columns.step = stride_h, stride_w
    else:
        rows.source_step, columns.source_step = stride_h, stride_w
    rows.padding, columns.padding = top, left
    rows.dilation, columns.dilation = dilation_h, dilation_w
    set_apart(rows)
    set_apart(columns)


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b
