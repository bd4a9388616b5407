"""The transformed domain that Winograd's passes share."""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport (
    View, hw_contraction_tiles, hw_transform, hw_winograd_tiles,
)

cdef enum:
    STRIP = 16      # tiles gathered at a time

cdef struct Domain:
    # Element (ξ, t, channel): at ξ * frequency + t * tile + channel, in which `pair` may replace the
    # step of 2 vectors of channels.
    char *data
    int64_t frequency, tile, pair

cdef struct Operand:
    # A group's pixels, as N × C × H × W, and how its tiles are cut: `side` pixels wide, the first one
    # `top` and `left` of the first pixel.
    View pixels
    const char *end         # behind the last element of the whole array
    int64_t channels, side, top, left
    hw_transform transform

cdef struct Grid:
    # Tile (n * down + i) * across + j covers the outputs 4i … and 4j … of image n.
    int64_t down, across, tiles

cdef struct Kernels:
    const hw_contraction_tiles *contraction
    const hw_winograd_tiles *winograd
    int64_t size, lanes, pair       # bytes of an element; elements of a vector and of two
    int wide                        # 1 for float64

cdef Kernels kernels_of(int64_t itemsize) except *

cdef const char *end_of(const View *x) noexcept nogil

cdef Grid grid_of(const View *y) noexcept

cdef int64_t stagger(int64_t elements, int64_t size) noexcept nogil

# Worth having for so many tiles, input and output channels.
cdef int threads_of(int64_t all_tiles, int64_t inputs, int64_t outputs) noexcept nogil

# Bytes of the memory that to_domain works in.
cdef int64_t strip_bytes(const Kernels *kernels) noexcept nogil

cdef void to_domain(const Kernels *kernels, const Operand *operand, const Grid *grid, int64_t begin,
                    int64_t end, const Domain *to, int64_t first, char *strip) noexcept nogil

cdef void from_domain(const Kernels *kernels, const Domain *products, const Grid *grid, int64_t begin,
                      int64_t end, const View *y, int64_t channel, const char *bias,
                      char *strip) noexcept nogil

cdef void product(const Kernels *kernels, int64_t rows, int64_t k, const char *a, int64_t a_row,
                  int64_t a_k, int64_t a_ahead, const char *b, char *c, int64_t c_row,
                  int flags) noexcept nogil

cdef void fetch_run(const char *begin, int64_t bytes) noexcept nogil

cdef void fetch(const View *x, int64_t channels, int64_t top, int64_t left, int64_t side,
                const Grid *grid, int64_t begin, int64_t end, int64_t share,
                int64_t shares) noexcept nogil
