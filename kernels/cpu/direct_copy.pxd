"""Copies of a part of an array, with zeros beyond its border."""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport View, hw_direct_tiles

# Along one axis: `count` elements of x, from `first` on (which may lie before it), `step` apart.
cdef struct Span:
    int64_t first, step, count

# to[c · channel + i · row + j · column] = x[n, first + c, …], for c < channels; channel or column is 1.
cdef void copy_window(const hw_direct_tiles *tiles, const View *x, int64_t n, int64_t first,
                      int64_t channels, Span rows, Span columns, float *to, int64_t channel,
                      int64_t row, int64_t column) noexcept nogil
