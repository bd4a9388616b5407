"""Winograd's convolution F(4×4, 3×3), for 3 × 3 taps and stride 1: CONTRACT.md section 4.

A tile of 4 × 4 outputs meets 6 × 6 inputs. In the domain of 36 frequencies ξ, per group:

    forward          y  = Aᵀ m A     m[ξ, t, o]  = Σ over c   (Bᵀ x B)[ξ, t, c] · (G w Gᵀ)[ξ, c, o]
    backward input   the same of dy, with w turned by 180° and its channels swapped
    backward weight  dw = Gᵀ m G     m[ξ, o, c]  = Σ over t   (A dy Aᵀ)[ξ, t, o] · (Bᵀ x B)[ξ, t, c]

Tiles t are counted over (image, row, column). Nothing that is transformed leaves the caches if it can
be helped. Where the transformed weights are small, a task takes a few tiles through all three steps;
else a block of tiles is transformed together, and a task takes it through the products of one pair of
vectors of output channels, whose weights then stay in its L2. In backward weight a task is a frequency
and a pair of vectors, so that no sum is ever divided.

Lanes are channels in either layout: pixels are gathered into vectors of channels (a transpose in NCHW)
a strip of tiles at a time, with zeros beyond the border, and results are scattered likewise.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset
from libc.stdlib cimport getenv, atoi

from halfwave._cpu.blocked cimport ceil_div
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, HW_MAX_TILE_ROWS, Hold, View, parallel_for, tiles, workspace_give, workspace_take,
    worthwhile_threads,
)

cdef extern from *:
    void __builtin_prefetch(const void *, int, int) nogil

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef enum:
    N, C, H, W
    TAPS_A_CHUNK = 16   # input channels whose weights are gathered at a time

# Bytes, by measurement with 1 MiB of L2 and 32 MiB of L3.
cdef int64_t WEIGHTS_OF_WHOLE_TASKS = 12 << 20  # transformed weights up to here: a task does all steps
cdef int64_t TILES_OF_A_TASK = 1 << 17  # its transformed inputs
cdef int64_t TILES_TO_SHARE = 12 << 20          # else: the block of them that tasks share
cdef int64_t PRODUCTS_OF_A_TASK = 1 << 19


# ---- the transformed domain -----------------------------------------------------------------------

cdef Kernels kernels_of(int64_t itemsize) except *:
    cdef Kernels kernels
    kernels.contraction = tiles().contraction
    kernels.winograd = tiles().winograd
    kernels.size = itemsize
    kernels.wide = itemsize == 8
    kernels.lanes = kernels.winograd.lanes[kernels.wide]
    kernels.pair = 2 * kernels.lanes
    return kernels


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
    cdef int64_t tile = begin, n, i, j, run, width, column, left, right, v, row, h, top, channels
    cdef char *line
    cdef char *target
    cdef const char *pixels
    cdef bint inside
    while tile < end:
        n = tile // (grid.down * grid.across)
        i = tile // grid.across % grid.down
        j = tile % grid.across
        run = min(min(grid.across - j, end - tile), STRIP)
        top, column = 4 * i - operand.top, 4 * j - operand.left
        # Channels side by side are vectors as they stand, but for tiles that cross the border.
        inside = x.strides[C] == 1 and top >= 0 and top + operand.side <= x.shape[H]
        if inside and (column < 0 or column + operand.side > x.shape[W]):
            inside, run = False, 1
        elif inside:
            run = min(run, (x.shape[W] - operand.side - column) // 4 + 1)
        width = 4 * run + operand.side - 4
        left = min(max(-column, 0), width)              # where x begins and ends in the strip
        right = max(min(x.shape[W] - column, width), left)
        for v in range(ceil_div(operand.channels, lanes)):
            channels = min(lanes, operand.channels - v * lanes)
            pixels = x.data + size * (n * x.strides[N] + v * lanes * x.strides[C]
                                      + top * x.strides[H] + (column + left) * x.strides[W])
            target = to.data + size * ((tile - first) * to.tile + v // 2 * to.pair + v % 2 * lanes)
            if inside and channels == lanes:
                operand.transform(run, pixels, 4 * x.strides[W], x.strides[H], x.strides[W], target,
                                  to.tile, 6 * to.frequency, to.frequency)
                continue
            for row in range(operand.side):
                h = top + row
                line = strip + row * width * pixel
                if h < 0 or h >= x.shape[H] or left == right:
                    memset(line, 0, width * pixel)
                else:
                    memset(line, 0, left * pixel)
                    kernels.winograd.gather[kernels.wide](
                        right - left,
                        (operand.end - pixels) // size - (channels - 1) * x.strides[C], channels,
                        pixels, x.strides[W], x.strides[C], line + left * pixel)
                    memset(line + right * pixel, 0, (width - right) * pixel)
                pixels += x.strides[H] * size
            operand.transform(run, strip, 4 * lanes, width * lanes, lanes, target, to.tile,
                              6 * to.frequency, to.frequency)
        tile += run


cdef void from_domain(const Kernels *kernels, const Domain *products, const Grid *grid, int64_t begin,
                      int64_t end, View *y, int64_t channel, const char *bias,
                      char *strip) noexcept nogil:
    """y of a pair of vectors of channels, the first being `channel`; tile `begin` is the domain's 0."""
    cdef int64_t lanes = kernels.lanes, size = kernels.size
    cdef int64_t tile = begin, n, i, j, run, v, row, rows, width, channels, last
    cdef const char *source
    cdef const char *biases
    cdef char *pixels
    cdef bint inside, whole
    while tile < end:
        n = tile // (grid.down * grid.across)
        i = tile // grid.across % grid.down
        j = tile % grid.across
        run = min(min(grid.across - j, end - tile), STRIP)
        rows = min(4, y.shape[H] - 4 * i)
        # Channels side by side are written as they come, but for tiles that cross the border;
        # rows that follow each other in memory at once.
        inside = y.strides[C] == 1 and rows == 4 and bias == NULL
        if inside:
            inside = 4 * j + 4 <= y.shape[W]
            run = min(run, (y.shape[W] - 4 * j) // 4) if inside else 1
        width = min(4 * run, y.shape[W] - 4 * j)
        whole = width == y.shape[W] and y.strides[H] == width * y.strides[W]
        for v in range(2):
            channels = min(lanes, y.shape[C] - channel - v * lanes)
            if channels <= 0:
                break
            source = products.data + size * ((tile - begin) * products.tile + v * lanes)
            biases = bias + (channel + v * lanes) * size if bias != NULL else NULL
            pixels = y.data + size * (n * y.strides[N] + (channel + v * lanes) * y.strides[C]
                                      + 4 * i * y.strides[H] + 4 * j * y.strides[W])
            if inside and channels == lanes:
                kernels.winograd.output[kernels.wide](
                    run, source, products.tile, 6 * products.frequency, products.frequency, pixels,
                    4 * y.strides[W], y.strides[H], y.strides[W])
                continue
            # From the last tile to the first: what is beyond the border is written over.
            last = run - 1
            kernels.winograd.output[kernels.wide](
                run, source + last * products.tile * size, -products.tile, 6 * products.frequency,
                products.frequency, strip + last * 4 * lanes * size, -4 * lanes, width * lanes,
                lanes)
            for row in range(1 if whole else rows):
                kernels.winograd.scatter[kernels.wide](
                    width * rows if whole else width, channels, strip + row * width * lanes * size,
                    biases, pixels + row * y.strides[H] * size, y.strides[W], y.strides[C])
        tile += run


cdef void product(const Kernels *kernels, int64_t rows, int64_t k, const char *a, int64_t a_row,
                  int64_t a_k, const char *b, char *c, int64_t c_row, int flags) noexcept nogil:
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
                    steps, <const float *>a + row * a_row + begin * a_k, a_row, a_k,
                    <const float *>b + begin * kernels.pair, kernels.pair,
                    <float *>c + row * c_row, c_row, flags, NULL, NULL)
            else:
                kernels.contraction.f64[count](
                    steps, <const double *>a + row * a_row + begin * a_k, a_row, a_k,
                    <const double *>b + begin * kernels.pair, kernels.pair,
                    <double *>c + row * c_row, c_row, flags, NULL, NULL)
            row += count
        begin += steps
        flags = HW_ACCUMULATE

# ---- forward and backward input -------------------------------------------------------------------

cdef struct Work:
    Kernels kernels
    Operand source
    Grid grid
    View result
    int64_t pairs                   # of vectors of the result's channels
    # Weights: of result channel l and source channel c, 9 taps at l * w_lane + c * w_step.
    const char *w
    const char *w_end
    int64_t w_lane, w_step
    bint turned
    const char *bias
    int knob
    bint whole
    char *weights                   # transformed, a pair after the other, for whole tasks
    int64_t weights_frequency, weights_bytes    # of a pair
    Domain inputs                   # of the block
    int64_t block_begin, block_end  # tiles
    int64_t piece                   # tiles that a task takes at a time
    char *memory                    # of the workers: strip, products, and inputs or weights
    int64_t worker_bytes, products_frequency, products_bytes


cdef void fetch(const View *x, int64_t channels, int64_t side, int64_t top, int64_t left,
                const Grid *grid, int64_t begin, int64_t end, int64_t share) noexcept nogil:
    """Asks for one of 36 shares of the lines that tiles stand on."""
    cdef int64_t tile = begin, n, i, j, run, row, h, c, from_, to, line, size = x.itemsize, count = 0
    cdef int64_t pieces = 1 if x.strides[C] == 1 else channels
    cdef const char *at
    while tile < end:
        n = tile // (grid.down * grid.across)
        i = tile // grid.across % grid.down
        j = tile % grid.across
        run = min(grid.across - j, end - tile)
        from_ = max(4 * j - left, 0)
        to = min(4 * j - left + 4 * run + side - 4, x.shape[W])
        count = share if pieces > 1 else 0
        while count < side * pieces:
            row = count // pieces
            h = 4 * i + row - top
            if h < 0 or h >= x.shape[H]:
                count += 36 if pieces > 1 else 1
                continue
            at = x.data + size * (n * x.strides[N] + h * x.strides[H] + from_ * x.strides[W] + count % pieces * x.strides[C])
            if pieces > 1:
                for line in range(0, (to - from_) * size + 63, 64):
                    __builtin_prefetch(at + line, 0, 2)
            else:
                for line in range(64 * share, (to - from_) * x.strides[W] * size, 64 * 36):
                    __builtin_prefetch(at + line, 0, 2)
            count += 36 if pieces > 1 else 1
        tile += run


cdef void weights_to_domain(const Work *work, int64_t pair, char *to, char *strip) noexcept nogil:
    """G w Gᵀ of one pair of vectors of the result's channels: [ξ][source channel][2 vectors]."""
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t lanes = kernels.lanes, size = kernels.size
    cdef int64_t sources = work.source.channels, c = 0, count, v, lane, lanes_used
    cdef const char *taps
    # 9 taps of some channels lie side by side, or of one.
    cdef int64_t chunk = TAPS_A_CHUNK if work.w_step == 9 else 1
    cdef int64_t turn = -1 if work.turned else 1
    while c < sources:
        count = min(chunk, sources - c)
        for v in range(2):
            lane = pair * kernels.pair + v * lanes
            lanes_used = max(min(lanes, work.result.shape[C] - lane), 0)
            taps = work.w + size * (lane * work.w_lane + c * work.w_step)
            kernels.winograd.gather[kernels.wide](
                9 * count, (work.w_end - taps) // size - (lanes_used - 1) * work.w_lane, lanes_used, taps, 1,
                work.w_lane, strip)
            kernels.winograd.weight[kernels.wide](
                count, strip + (8 * lanes * size if work.turned else 0), 9 * lanes,
                turn * 3 * lanes, turn * lanes, to + size * (c * kernels.pair + v * lanes),
                kernels.pair, 6 * work.weights_frequency, work.weights_frequency)
        c += count


cdef void weights_task(void *context, int64_t pair, int worker) noexcept nogil:
    cdef Work *work = <Work *>context
    weights_to_domain(work, pair, work.weights + pair * work.weights_bytes,
                      work.memory + worker * work.worker_bytes)


cdef void multiply(const Work *work, int64_t pair, const char *weights, const Domain *inputs,
                   int64_t begin, int64_t end, char *memory) noexcept nogil:
    """y of some tiles and one pair of vectors; the first tile is the domain's 0."""
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t size = kernels.size
    cdef Domain products
    cdef int frequency
    products.data = memory + strip_bytes(kernels)
    products.frequency = work.products_frequency
    products.tile = products.pair = kernels.pair
    cdef View result
    cdef int64_t next_
    for frequency in range(36):
        if work.whole:
            result = work.result
            result.data += pair * kernels.pair * result.strides[C] * size
            if work.knob & 1:
                fetch(&result, min(kernels.pair, result.shape[C] - pair * kernels.pair), 4, 0, 0, &work.grid, begin, end, frequency)
            if pair == 0 and work.knob & 2:
                next_ = min(begin + 2 * work.piece, work.grid.tiles)
                fetch(&work.source.pixels, work.source.channels, 6, work.source.top, work.source.left, &work.grid, next_, min(next_ + work.piece, work.grid.tiles), frequency)
        product(kernels, end - begin, work.source.channels,
                inputs.data + frequency * inputs.frequency * size, inputs.tile, 1,
                weights + frequency * work.weights_frequency * size,
                products.data + frequency * products.frequency * size, products.tile, 0)
    from_domain(kernels, &products, &work.grid, begin, end, <View *>&work.result,
                pair * kernels.pair, work.bias, memory)


cdef void whole_task(void *context, int64_t index, int worker) noexcept nogil:
    """A few tiles, from x to y."""
    cdef Work *work = <Work *>context
    cdef char *memory = work.memory + worker * work.worker_bytes
    cdef int64_t begin = index * work.piece, pair
    cdef int64_t end = min(begin + work.piece, work.grid.tiles)
    cdef Domain inputs = work.inputs
    inputs.data = memory + strip_bytes(&work.kernels) + work.products_bytes
    to_domain(&work.kernels, &work.source, &work.grid, begin, end, &inputs, begin, memory)
    for pair in range(work.pairs):
        multiply(work, pair, work.weights + pair * work.weights_bytes, &inputs, begin, end, memory)


cdef void inputs_task(void *context, int64_t index, int worker) noexcept nogil:
    """Some of the block's tiles to the domain."""
    cdef Work *work = <Work *>context
    cdef int64_t begin = work.block_begin + index * STRIP
    to_domain(&work.kernels, &work.source, &work.grid, begin, min(begin + STRIP, work.block_end),
              &work.inputs, work.block_begin, work.memory + worker * work.worker_bytes)


cdef void pair_task(void *context, int64_t pair, int worker) noexcept nogil:
    """The block's tiles, a piece after the other, times the weights of one pair of vectors."""
    cdef Work *work = <Work *>context
    cdef char *memory = work.memory + worker * work.worker_bytes
    cdef char *weights = memory + strip_bytes(&work.kernels) + work.products_bytes
    cdef Domain inputs = work.inputs
    cdef int64_t begin = work.block_begin, end
    weights_to_domain(work, pair, weights, memory)
    while begin < work.block_end:
        end = min(begin + work.piece, work.block_end)
        multiply(work, pair, weights, &inputs, begin, end, memory)
        inputs.data += (end - begin) * inputs.tile * work.kernels.size
        begin = end


cdef int correlate_group(Work *work) except -1 nogil:
    cdef Kernels *kernels = &work.kernels
    cdef int64_t size = kernels.size, most = kernels.contraction.rows, all_tiles = work.grid.tiles
    cdef int64_t channels = ceil_div(work.source.channels, kernels.lanes) * kernels.lanes
    cdef int64_t tile_bytes, inputs_bytes, weights_bytes, block
    cdef int threads = worthwhile_threads(
        36.0 * all_tiles * work.source.channels * work.result.shape[C] / 32)
    cdef bint whole
    cdef char *memory
    cdef char *shared
    if channels * size % 1024 == 0:
        channels += kernels.lanes       # or rows of tiles share a cache set
    tile_bytes = 36 * channels * size
    work.inputs.tile = channels
    work.inputs.pair = kernels.pair
    work.pairs = ceil_div(work.result.shape[C], kernels.pair)
    work.weights_frequency = stagger(work.source.channels * kernels.pair, size)
    work.weights_bytes = 36 * work.weights_frequency * size
    weights_bytes = work.pairs * work.weights_bytes
    whole = weights_bytes <= WEIGHTS_OF_WHOLE_TASKS
    work.piece = ((atoi(getenv("PIECE")) << 10) // tile_bytes if whole
                  else PRODUCTS_OF_A_TASK // (36 * kernels.pair * size))
    work.piece = max(work.piece // most, 1) * most
    work.whole = whole
    work.knob = atoi(getenv("KNOB"))
    if whole and ceil_div(all_tiles, work.piece) < 4 * threads:
        work.piece = max(ceil_div(all_tiles, 4 * threads), 8)
    work.piece = min(work.piece, all_tiles)
    block = work.piece if whole else min(max(TILES_TO_SHARE // tile_bytes, work.piece), all_tiles)
    # Tiles are read and written in whole register tiles, hence the room behind the last one.
    work.inputs.frequency = stagger((block + HW_MAX_TILE_ROWS) * channels, size)
    work.products_frequency = stagger((work.piece + HW_MAX_TILE_ROWS) * kernels.pair, size)
    work.products_bytes = 36 * work.products_frequency * size
    inputs_bytes = 36 * work.inputs.frequency * size
    work.worker_bytes = (strip_bytes(kernels) + work.products_bytes
                         + (inputs_bytes if whole else work.weights_bytes))
    memory = <char *>workspace_take(threads * work.worker_bytes
                                    + (weights_bytes if whole else inputs_bytes))
    work.memory = memory
    shared = memory + threads * work.worker_bytes
    try:
        if whole:
            work.weights = shared
            parallel_for(weights_task, work, work.pairs, threads)
            return parallel_for(whole_task, work, ceil_div(all_tiles, work.piece), threads)
        work.inputs.data = shared
        work.block_begin = 0
        while work.block_begin < all_tiles:
            work.block_end = min(work.block_begin + block, all_tiles)
            parallel_for(inputs_task, work, ceil_div(work.block_end - work.block_begin, STRIP),
                         threads)
            parallel_for(pair_task, work, work.pairs, threads)
            work.block_begin = work.block_end
        return 0
    finally:
        workspace_give(memory)


cdef Grid grid_of(const View *y) noexcept:
    cdef Grid grid
    grid.down = ceil_div(y.shape[H], 4)
    grid.across = ceil_div(y.shape[W], 4)
    grid.tiles = y.shape[N] * grid.down * grid.across
    return grid


def forward(x, w, bias, y, int64_t top, int64_t left, int64_t groups):
    """Fill y; x and y are N × C × H × W views, w is C-contiguous."""
    correlate(x, w, bias, y, top, left, groups, False)


def backward_input(dy, w, dx, int64_t top, int64_t left, int64_t groups):
    """Fill dx."""
    correlate(dy, w, None, dx, 2 - top, 2 - left, groups, True)


cdef int correlate(x, w, bias, y, int64_t top, int64_t left, int64_t groups,
                   bint backward) except -1:
    cdef Hold hold = Hold()
    cdef View vx, vw, vy, vb
    cdef Work work
    cdef int64_t group
    memset(&work, 0, sizeof(work))
    hold.view(x, &vx, False)
    hold.view(w, &vw, False)
    hold.view(y, &vy, True)
    work.kernels = kernels_of(vy.itemsize)
    work.grid = grid_of(&vy)
    work.source.pixels = vx
    work.source.end = end_of(&vx)
    work.w_end = vw.data + vw.size * vw.itemsize
    work.source.side = 6
    work.source.top, work.source.left = top, left
    work.source.transform = work.kernels.winograd.input[work.kernels.wide]
    work.source.channels = vx.shape[C] // groups
    work.result = vy
    work.result.shape[C] = vy.shape[C] // groups
    work.turned = backward
    work.w_lane = 9 if backward else 9 * vw.shape[1]
    work.w_step = 9 * vw.shape[1] if backward else 9
    if bias is not None:
        hold.view(bias, &vb, False)
    for group in range(groups):
        work.source.pixels.data = vx.data + (group * work.source.channels * vx.strides[C]
                                             * vx.itemsize)
        work.result.data = vy.data + group * work.result.shape[C] * vy.strides[C] * vy.itemsize
        work.w = vw.data + group * (vw.size // groups) * vw.itemsize
        if bias is not None:
            work.bias = vb.data + group * work.result.shape[C] * vb.itemsize
        with nogil:
            correlate_group(&work)
    return 0
