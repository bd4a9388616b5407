"""Tiles of pixels to Winograd's domain of 36 frequencies and back, for all passes: see winograd.pyx.

Lanes are channels in either layout: pixels are gathered into vectors of channels (in NCHW by
transposes in registers) a strip of tiles at a time, with zeros beyond the border, and results are
scattered likewise.
"""
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from halfwave._cpu.packing cimport ceil_div
from halfwave._cpu.runtime cimport HW_ACCUMULATE, View, tiles, worthwhile_threads

cdef extern from *:
    void __builtin_prefetch(const void *, int, int) nogil

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef enum:
    N, C, H, W


cdef Grid grid_of(const View *y) noexcept:
    cdef Grid grid
    grid.down = ceil_div(y.shape[H], 4)
    grid.across = ceil_div(y.shape[W], 4)
    grid.tiles = y.shape[N] * grid.down * grid.across
    return grid


cdef Kernels kernels_of(int64_t itemsize) except *:
    cdef Kernels kernels
    kernels.contraction = tiles().contraction
    kernels.winograd = tiles().winograd
    kernels.size = itemsize
    kernels.wide = itemsize == 8
    kernels.lanes = kernels.winograd.lanes[kernels.wide]
    kernels.pair = 2 * kernels.lanes
    return kernels


cdef int threads_of(int64_t all_tiles, int64_t inputs, int64_t outputs) noexcept nogil:
    cdef double products = inputs * outputs, channels = inputs + outputs
    # nanoseconds of the products and of the pixels' transforms
    return worthwhile_threads(all_tiles * (0.9 * products + 5 * channels))


cdef int64_t stagger(int64_t elements, int64_t size) noexcept nogil:
    """At least so many, an odd number of cache lines: 36 of them side by side share no cache set."""
    return (ceil_div(elements * size, 64) | 1) * 64 // size


cdef int64_t strip_bytes(const Kernels *kernels) noexcept nogil:
    # and room for a square of pixels more, since whole ones are gathered
    return (6 * (4 * STRIP + 2) + kernels.lanes) * kernels.lanes * kernels.size


cdef const char *end_of(const View *x) noexcept nogil:
    """Behind the last element."""
    cdef const char *end = x.data + x.itemsize
    cdef int axis
    for axis in range(4):
        end += max((x.shape[axis] - 1) * x.strides[axis], 0) * x.itemsize
    return end


cdef void to_domain(const Kernels *kernels, const Operand *operand, const Grid *grid, int64_t begin,
                    int64_t end, const Domain *to, int64_t first, char *strip) noexcept nogil:
    """Transforms the tiles begin … end - 1; tile `first` is the domain's 0."""
    cdef const View *x = &operand.pixels
    cdef int64_t lanes = kernels.lanes, size = kernels.size, pixel = kernels.lanes * kernels.size
    cdef int64_t tile = begin, n, i, j, run, width, column, left, right, v, row, h, channels
    cdef char *line
    cdef const char *pixels
    while tile < end:
        n = tile // (grid.down * grid.across)
        i = tile // grid.across % grid.down
        j = tile % grid.across
        run = min(min(grid.across - j, end - tile), STRIP)
        width = 4 * run + operand.side - 4
        column = 4 * j - operand.left
        left = min(max(-column, 0), width)              # where x begins and ends in the strip
        right = max(min(x.shape[W] - column, width), left)
        for v in range(ceil_div(operand.channels, lanes)):
            channels = min(lanes, operand.channels - v * lanes)
            for row in range(operand.side):
                h = 4 * i + row - operand.top
                line = strip + row * width * pixel
                if h < 0 or h >= x.shape[H] or left == right:
                    memset(line, 0, width * pixel)
                    continue
                memset(line, 0, left * pixel)
                pixels = x.data + size * (n * x.strides[N] + v * lanes * x.strides[C]
                                          + h * x.strides[H] + (column + left) * x.strides[W])
                kernels.winograd.gather[kernels.wide](
                    right - left,
                    (operand.end - pixels) // size - (channels - 1) * max(x.strides[C], 0), channels,
                    pixels, x.strides[W], x.strides[C], line + left * pixel)
                memset(line + right * pixel, 0, (width - right) * pixel)
            operand.transform(
                run, strip, 4 * lanes, width * lanes, lanes,
                to.data + size * ((tile - first) * to.tile + v // 2 * to.pair + v % 2 * lanes),
                to.tile, 6 * to.frequency, to.frequency)
        tile += run


cdef void from_domain(const Kernels *kernels, const Domain *products, const Grid *grid, int64_t begin,
                      int64_t end, const View *y, int64_t channel, const char *bias,
                      char *strip) noexcept nogil:
    """y of a pair of vectors of channels, the first being `channel`; tile `begin` is the domain's 0."""
    cdef int64_t lanes = kernels.lanes, size = kernels.size
    cdef int64_t tile = begin, n, i, j, run, last, v, row, rows, width, channels
    cdef bint adjacent
    while tile < end:
        n = tile // (grid.down * grid.across)
        i = tile // grid.across % grid.down
        j = tile % grid.across
        run = min(min(grid.across - j, end - tile), STRIP)
        last = run - 1
        rows = min(4, y.shape[H] - 4 * i)
        width = min(4 * run, y.shape[W] - 4 * j)
        adjacent = width == y.shape[W] and y.strides[H] == width * y.strides[W]   # rows of y
        for v in range(2):
            channels = min(lanes, y.shape[C] - channel - v * lanes)
            if channels <= 0:
                break
            # From the last tile to the first: what is beyond the border is written over.
            kernels.winograd.output[kernels.wide](
                run, products.data + size * ((tile - begin + last) * products.tile + v * lanes),
                -products.tile, 6 * products.frequency, products.frequency,
                strip + last * 4 * lanes * size, -4 * lanes, width * lanes, lanes)
            for row in range(1 if adjacent else rows):
                kernels.winograd.scatter[kernels.wide](
                    rows * width if adjacent else width, channels,
                    strip + row * width * lanes * size,
                    bias + (channel + v * lanes) * size if bias != NULL else NULL,
                    y.data + size * (n * y.strides[N] + (channel + v * lanes) * y.strides[C]
                                     + (4 * i + row) * y.strides[H] + 4 * j * y.strides[W]),
                    y.strides[W], y.strides[C])
        tile += run


cdef void product(const Kernels *kernels, int64_t rows, int64_t k, const char *a, int64_t a_row,
                  int64_t a_k, int64_t a_ahead, const char *b, char *c, int64_t c_row,
                  int flags) noexcept nogil:
    """c[i, j] = Σ_p a[i, p] · b[p, j], j over a pair of vectors, by section 3 of CONTRACT.md.

    Writes whole tiles: c has room for HW_MAX_TILE_ROWS rows more, and a can be read as far.
    """
    cdef int64_t size = kernels.size, most = kernels.contraction.rows, begin = 0, row, count, steps
    while begin < k:
        steps = min(HW_SEGMENT, k - begin)
        row = 0
        while row < rows:
            count = min(rows - row, most)
            if 8 < most < rows - row <= 16:
                count = 8           # 8 + 8 rows cost less than 14 + 2
            if size == 4:
                kernels.contraction.f32[count](
                    steps, <const float *>a + row * a_row + begin * a_k, a_row, a_k, a_ahead,
                    <const float *>b + begin * kernels.pair, kernels.pair, NULL, 0,
                    <float *>c + row * c_row, c_row, flags, NULL, NULL)
            else:
                kernels.contraction.f64[count](
                    steps, <const double *>a + row * a_row + begin * a_k, a_row, a_k, a_ahead,
                    <const double *>b + begin * kernels.pair, kernels.pair, NULL, 0,
                    <double *>c + row * c_row, c_row, flags, NULL, NULL)
            row += count
        begin += steps
        flags = HW_ACCUMULATE


cdef void fetch_run(const char *begin, int64_t bytes) noexcept nogil:
    """Asks for the cache lines."""
    cdef uintptr_t line = <uintptr_t>begin & ~<uintptr_t>63
    while line < <uintptr_t>begin + bytes:
        __builtin_prefetch(<const void *>line, 0, 2)
        line += 64


cdef void fetch(const View *x, int64_t channels, int64_t top, int64_t left, int64_t side,
                const Grid *grid, int64_t begin, int64_t end, int64_t share,
                int64_t shares) noexcept nogil:
    """Asks for one of some shares of the cache lines of tiles, but for rows that others ask for."""
    cdef int64_t tile = begin, n, i, j, run, h, first, part, many, step, length
    while tile < end:
        n = tile // (grid.down * grid.across)
        i = tile // grid.across % grid.down
        j = tile % grid.across
        run = min(grid.across - j, end - tile)
        first = max(4 * j - left, 0)
        # 4 rows of planes, a part each, or of pixels
        many, step = channels, x.strides[C]
        length = min(4 * run + side - 4, x.shape[W] - first)
        if step == 1:
            many, step, length = length, x.strides[W], channels
        part = share
        while part < 4 * many:
            h = 4 * i + side - 4 - top + part // many
            if 0 <= h < x.shape[H]:
                fetch_run(x.data + x.itemsize * (n * x.strides[N] + h * x.strides[H]
                                                 + first * x.strides[W] + part % many * step),
                          length * x.itemsize)
            part += shares
        tile += run
