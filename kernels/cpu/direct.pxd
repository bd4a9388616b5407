"""Direct convolution in float32: forward, and backward input."""
from halfwave._cpu.direct_plan cimport Correlation

# Whether correlate computes it: float32, one super-segment, and taps not too far apart for a copy.
cdef bint correlates(const Correlation *given) noexcept nogil
cdef int correlate(const Correlation *given) except -1 nogil
