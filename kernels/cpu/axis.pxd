"""Where the elements of an operand lie along one axis, of one dimension or several in C order."""
from libc.stdint cimport int64_t

# Offsets in elements from the first.
cdef struct Axis:
    const int64_t *offsets      # NULL: i * stride; threads then read no table that another has written
    int64_t stride


cdef inline bint even(const Axis *axis) noexcept nogil:
    return axis.offsets == NULL


cdef inline int64_t at(const Axis *axis, int64_t i) noexcept nogil:
    return i * axis.stride if even(axis) else axis.offsets[i]


cdef inline int64_t gap(const Axis *axis, int64_t i) noexcept nogil:
    """From offset i to the next one."""
    return axis.stride if even(axis) else axis.offsets[i + 1] - axis.offsets[i]


cdef inline int64_t run_of(const Axis *axis, int64_t first, int64_t count, int64_t stride) noexcept nogil:
    """How many of the offsets are evenly spaced, from the first one."""
    cdef int64_t i = 1
    if even(axis):
        return count if axis.stride == stride else min(count, 1)
    while i < count and axis.offsets[first + i] - axis.offsets[first + i - 1] == stride:
        i += 1
    return i


cdef inline bint evenly_spaced(const Axis *axis, int64_t first, int64_t count,
                               int64_t stride) noexcept nogil:
    return run_of(axis, first, count, stride) == count
