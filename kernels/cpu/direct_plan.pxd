"""A correlation, and how direct convolution goes about it."""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport View, hw_direct_tiles

cdef enum:
    MOST_SPREAD = 4

# y[n, g·O + o, spread·i + d, …] = Σ over (c, r, s) of w[g, o, c, r, s] · x[n, g·C + c, h, …], + bias, for
# each residue d < spread, where (r, s) are that residue's taps and h = i · stride + first + r · step. x is
# +0 beyond its border. Two-element members are for rows and columns. Forward has a spread of 1, backward
# input a stride of 1 and forward's stride as its spread.
cdef struct Taps:
    int64_t count
    int64_t first, step         # of x; step may be negative
    int64_t w_first, w_step     # their numbers in w

cdef struct Correlation:
    View x
    View y
    const float *w
    const float *bias           # or NULL
    int64_t w_strides[4]        # of o, c, r, s
    int64_t w_taps[2]           # that w has
    int64_t w_group
    int64_t groups, outputs, channels       # o, c of a group
    int64_t stride[2]
    int64_t spread[2]           # at most MOST_SPREAD
    Taps taps[2][MOST_SPREAD]

# One residue's share.
cdef struct Part:
    int64_t k
    const int64_t *x_k          # where each term's element of x stands, from the strip's pixel
    float *weights              # [group][panel][term][output]

cdef struct Plan:
    Correlation of
    const hw_direct_tiles *tiles
    int64_t most_k              # of the parts
    int64_t lowest[2]           # the first row, column of x that an output reads, from i · stride
    int64_t reach[2]            # how many it reads, gaps included
    int64_t size[2]             # of y, divided by the spread
    bint lanes_are_pixels, copied, planar
    bint straight               # lanes end with a row of y, which tiles write themselves
    bint segmented              # a segment for all pixels of the strip after the other
    int vectors                 # index of the tile's: 0, 1, 2 for 1, 2, 4
    int64_t width, panels       # outputs a panel
    Part parts[MOST_SPREAD][MOST_SPREAD]
    # a task
    int64_t images, rows, columns
    int64_t image_parts, row_parts, column_parts
    int64_t chunk, chunks       # panels a task, tasks a strip
    # the strip's copy of x, or x: strides of its elements
    int64_t phases[2]
    int64_t image, channel, row, column, row_phase, column_phase
    int64_t strip_rows, strip_columns       # of one image in a copy
    int64_t frame_floats, scratch_floats, pitch
    const int64_t *w_k
    float *biases
    float *workers


cdef void make_plan(Plan *plan, const Correlation *given, int threads) noexcept nogil

# The offsets of the terms, in memory for (spread · spread + 1) · most_k of them.
cdef void fill_tables(Plan *plan, int64_t *memory) noexcept nogil


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t share(int64_t size, int64_t most) noexcept nogil:
    """The size of parts, as equal as can be and none above `most`."""
    return ceil_div(size, ceil_div(size, most))
