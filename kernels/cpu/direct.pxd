"""Direct convolution in float32: the image is read where it lies, or from strips of it in the cache."""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport View

# y[n, g·O + o, i, j] = Σ over (c, r, s) of w[g, o, c, r, s] · x[n, g·C + c, h, …], + bias, where
# h = i · stride + first + r · step, and x is +0 beyond its border. Two-element members are for rows and
# columns. Forward is one such correlation, backward input one for each residue modulo the stride.
cdef struct Correlation:
    View x
    View y
    const float *w
    const float *bias           # or NULL
    int64_t w_strides[4]        # of o, c, r, s
    int64_t w_group
    int64_t groups, outputs, channels       # o, c of a group
    int64_t taps[2]
    int64_t stride[2]
    int64_t first[2]
    int64_t step[2]             # may be negative

# Whether correlate computes it: float32, one super-segment, and taps not too far apart for a copy.
cdef bint correlates(const Correlation *given) noexcept nogil
cdef int correlate(const Correlation *given) except -1 nogil

# y = +0, in float32.
cdef int fill_with_zeros(View *y) except -1 nogil
