"""Sums for other families: CONTRACT.md, section 5."""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport hw_chunk_source, hw_chunk_tile

# For an array seen as (outer, channels, inner) in C order: result[c] = the sum of `tile`'s terms over
# channel c. wide: 0 for float32, 1 for float64. result may not overlap what the tile reads.
cdef int reduce_channels(hw_chunk_tile tile, const hw_chunk_source *source, int wide, int64_t outer,
                         int64_t channels, int64_t inner, void *result) except -1

# The same with the elements themselves as terms.
cdef int channel_sums_f32(const float *x, int64_t outer, int64_t channels, int64_t inner,
                          float *result) except -1
cdef int channel_sums_f64(const double *x, int64_t outer, int64_t channels, int64_t inner,
                          double *result) except -1
