"""Winograd's convolution F(4×4, 3×3), for 3 × 3 taps and stride 1: CONTRACT.md section 4.

A tile of 4 × 4 outputs meets 6 × 6 inputs. In the domain of 36 frequencies ξ, per group:

    forward          y  = Aᵀ m A     m[ξ, t, o]  = Σ over c   (Bᵀ x B)[ξ, t, c] · (G w Gᵀ)[ξ, c, o]
    backward input   the same of dy, with w turned by 180° and its channels swapped
    backward weight  dw = Gᵀ m G     m[ξ, o, c]  = Σ over t   (A dy Aᵀ)[ξ, t, o] · (Bᵀ x B)[ξ, t, c]

Tiles t are counted over (image, row, column). Nothing that is transformed leaves the caches if it can
be helped, nor the caches of the thread that made it: cores may have no cache in common, so threads
share what is written once and read often. Where the transformed weights are small, they are shared,
and a task takes a few tiles through all three steps. Else, or where tiles are few, the inputs of a
block of tiles are transformed, and a task takes the block through the products of one pair of vectors
of output channels, whose weights it transforms. Of two blocks at once, each thread of two has the one
that it made. Backward weight: winograd_weight.pyx.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from halfwave._cpu.packing cimport ceil_div
from halfwave._cpu.runtime cimport (
    HW_MAX_TILE_ROWS, Hold, View, parallel_for, past_caches, workspace_give, workspace_take,
)
from halfwave._cpu.winograd_domain cimport (
    STRIP, Domain, Grid, Kernels, Operand, end_of, fetch, fetch_run, from_domain, grid_of, kernels_of,
    product, stagger, strip_bytes, threads_of, to_domain,
)

cdef enum:
    N, C, H, W
    CHUNK = 16          # source channels whose weights are gathered at a time

# By measurement with 1 MiB of L2 and 32 MiB of L3.
cdef int64_t WEIGHTS_OF_WHOLE_TASKS = 12 << 20  # bytes of weights up to which a task does all steps,
cdef int64_t FEW_TILES = 128                    # but if these few tiles have
cdef int64_t WEIGHTS_OF_FEW_TILES = 1 << 20     # more weights than this
cdef int64_t TILES_OF_A_TASK = 1 << 18          # bytes of its transformed inputs
cdef int64_t TILES_OF_A_BLOCK = 8 << 20         # else: those of a block
cdef int64_t BLOCKS_AT_ONCE = 2                 # for as many threads


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
    char *weights                   # transformed, a pair after the other
    int64_t weights_frequency, weights_bytes    # of a pair
    Domain inputs, products         # of a piece of the tiles, products of a pair
    int64_t piece, tile_bytes, inputs_bytes, products_bytes
    int64_t first_tile              # of the first of the blocks at work
    int64_t pixels_ahead            # tiles from those of a task to those whose pixels it asks for, or 0
    int64_t inputs_ahead            # rows of inputs likewise
    char *memory                    # of the workers: strip, products, and inputs or weights
    int64_t worker_bytes


cdef void weights_to_domain(const Work *work, int64_t pair, char *to, char *strip) noexcept nogil:
    """G w Gᵀ of one pair of vectors of the result's channels: [ξ][source channel][2 vectors]."""
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t lanes = kernels.lanes, size = kernels.size
    cdef int64_t sources = work.source.channels, c = 0, count, v, lane, used, row
    cdef const char *taps
    cdef const char *ahead          # of the hardware, which these short rows escape
    # 9 taps of some channels lie side by side, or of one.
    cdef int64_t chunk = CHUNK if work.w_step == 9 else 1
    cdef int64_t turn = -1 if work.turned else 1
    while c < sources:
        count = min(chunk, sources - c)
        for v in range(2):
            lane = pair * kernels.pair + v * lanes
            used = max(min(lanes, work.result.shape[C] - lane), 0)
            taps = work.w + size * (lane * work.w_lane + c * work.w_step)
            ahead = taps + CHUNK * work.w_step * size
            if work.w_lane == 9 * count:    # nothing lies between the lanes
                fetch_run(ahead, 9 * count * used * size)
            else:
                for row in range(used):
                    fetch_run(ahead + row * work.w_lane * size, 9 * count * size)
            kernels.winograd.gather[kernels.wide](
                9 * count, (work.w_end - taps) // size - (used - 1) * work.w_lane, used, taps, 1,
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
    cdef const Operand *x = &work.source
    cdef int64_t size = kernels.size, channel = pair * kernels.pair
    cdef int64_t ahead = begin + work.pixels_ahead
    cdef Domain products = work.products
    cdef View y = work.result
    cdef int frequency
    y.data += channel * y.strides[C] * size
    products.data = memory + strip_bytes(kernels)
    for frequency in range(36):
        if work.pixels_ahead > 0:
            fetch(&y, min(kernels.pair, y.shape[C] - channel), 0, 0, 4, &work.grid, begin, end,
                  frequency, 36)
            fetch(&x.pixels, x.channels, x.top, x.left, 6, &work.grid, ahead,
                  min(ahead + work.piece, work.grid.tiles), pair * 36 + frequency, work.pairs * 36)
        product(kernels, end - begin, x.channels,
                inputs.data + frequency * inputs.frequency * size, inputs.tile, 1,
                work.inputs_ahead * inputs.tile,
                weights + frequency * work.weights_frequency * size,
                products.data + frequency * products.frequency * size, products.tile, 0)
    from_domain(kernels, &products, &work.grid, begin, end, &work.result, channel, work.bias, memory)


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
    """Some of a block's tiles to the domain."""
    cdef Work *work = <Work *>context
    cdef int64_t strips = ceil_div(work.piece, STRIP), block = index // strips
    cdef int64_t first = work.first_tile + block * work.piece
    cdef int64_t begin = first + index % strips * STRIP
    cdef int64_t end = min(min(begin + STRIP, first + work.piece), work.grid.tiles)
    cdef Domain inputs = work.inputs
    inputs.data += block * work.inputs_bytes
    to_domain(&work.kernels, &work.source, &work.grid, begin, end, &inputs, first,
              work.memory + worker * work.worker_bytes)


cdef void pair_task(void *context, int64_t index, int worker) noexcept nogil:
    """A block's tiles times the weights of one pair of vectors."""
    cdef Work *work = <Work *>context
    cdef char *memory = work.memory + worker * work.worker_bytes
    cdef char *weights = memory + strip_bytes(&work.kernels) + work.products_bytes
    cdef int64_t block = index // work.pairs, pair = index % work.pairs
    cdef int64_t begin = work.first_tile + block * work.piece
    cdef Domain inputs = work.inputs
    inputs.data += block * work.inputs_bytes
    weights_to_domain(work, pair, weights, memory)
    multiply(work, pair, weights, &inputs, begin, min(begin + work.piece, work.grid.tiles), memory)


cdef int in_whole_tasks(Work *work, int threads) except -1 nogil:
    cdef int64_t most = work.kernels.contraction.rows, all_tiles = work.grid.tiles
    cdef int64_t weights_bytes = work.pairs * work.weights_bytes
    cdef char *memory
    work.piece = max(TILES_OF_A_TASK // work.tile_bytes // most, 1) * most
    if ceil_div(all_tiles, work.piece) < 4 * threads:
        work.piece = max(ceil_div(all_tiles, 4 * threads), 8)
    work.piece = min(work.piece, all_tiles)
    # What comes from beyond the caches is asked for a task ahead.
    work.pixels_ahead = work.piece if past_caches(
        (work.source.pixels.size + work.result.size) * work.kernels.size) else 0
    set_pieces(work)
    work.worker_bytes = strip_bytes(&work.kernels) + work.products_bytes + work.inputs_bytes
    memory = <char *>workspace_take(threads * work.worker_bytes + weights_bytes)
    work.memory = memory
    work.weights = memory + threads * work.worker_bytes
    try:
        parallel_for(weights_task, work, work.pairs, threads)
        return parallel_for(whole_task, work, ceil_div(all_tiles, work.piece), threads)
    finally:
        workspace_give(memory)


cdef int in_blocks(Work *work, int threads) except -1 nogil:
    cdef int64_t all_tiles = work.grid.tiles, blocks, at_once, done = 0
    cdef char *memory
    blocks = ceil_div(all_tiles * work.tile_bytes, TILES_OF_A_BLOCK)
    work.piece = ceil_div(all_tiles, blocks)
    blocks = ceil_div(all_tiles, work.piece)
    at_once = min(min(blocks, threads), BLOCKS_AT_ONCE)
    work.inputs_ahead = work.kernels.contraction.rows
    set_pieces(work)
    work.worker_bytes = strip_bytes(&work.kernels) + work.products_bytes + work.weights_bytes
    memory = <char *>workspace_take(threads * work.worker_bytes + at_once * work.inputs_bytes)
    work.memory = memory
    work.inputs.data = memory + threads * work.worker_bytes
    try:
        while done < blocks:
            at_once = min(at_once, blocks - done)
            work.first_tile = done * work.piece
            parallel_for(inputs_task, work, at_once * ceil_div(work.piece, STRIP), threads)
            parallel_for(pair_task, work, at_once * work.pairs, threads)
            done += at_once
        return 0
    finally:
        workspace_give(memory)


cdef void set_pieces(Work *work) noexcept nogil:
    """How the domain of a piece lies. Tiles are read and written in whole register tiles, hence the
    room behind the last one."""
    cdef int64_t size = work.kernels.size
    work.inputs.frequency = stagger((work.piece + HW_MAX_TILE_ROWS) * work.inputs.tile, size)
    work.inputs_bytes = 36 * work.inputs.frequency * size
    work.products.tile = work.products.pair = work.kernels.pair
    work.products.frequency = stagger((work.piece + HW_MAX_TILE_ROWS) * work.kernels.pair, size)
    work.products_bytes = 36 * work.products.frequency * size


cdef int correlate_group(Work *work) except -1 nogil:
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t size = kernels.size, all_tiles = work.grid.tiles, weights_bytes
    cdef int64_t channels = ceil_div(work.source.channels, kernels.lanes) * kernels.lanes
    cdef int threads = threads_of(all_tiles, work.source.channels, work.result.shape[C])
    if channels * size % 1024 == 0:
        channels += kernels.lanes       # or rows of tiles share a cache set
    work.tile_bytes = 36 * channels * size
    work.inputs.tile = channels
    work.inputs.pair = kernels.pair
    work.pairs = ceil_div(work.result.shape[C], kernels.pair)
    work.weights_frequency = stagger(work.source.channels * kernels.pair, size)
    work.weights_bytes = 36 * work.weights_frequency * size
    weights_bytes = work.pairs * work.weights_bytes
    if weights_bytes <= WEIGHTS_OF_WHOLE_TASKS and (
            all_tiles > FEW_TILES or work.pairs < threads or weights_bytes <= WEIGHTS_OF_FEW_TILES):
        return in_whole_tasks(work, threads)
    return in_blocks(work, threads)


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
