"""Backward weight of direct convolution in float32."""
from halfwave._cpu.direct_plan cimport Correlation

# dw[g, o, c, r, s] = Σ over (n, i, j) of dy[n, g·O + o, i, j] · x[n, g·C + c, h, …], where given.y is dy,
# given.w is dw and is written. Forward's description otherwise.
cdef int correlate_weight(const Correlation *given) except -1 nogil
