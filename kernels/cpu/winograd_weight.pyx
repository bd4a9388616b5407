"""Backward weight of Winograd's convolution: see winograd.pyx and CONTRACT.md section 4.

Where the sums, [ξ][output channel][input channel], are small and the segments of the tiles many, a task
is a segment: nothing that it transforms leaves its thread, and its sums wait to be added in order.

Else the segments follow each other, worked on by all threads. Where the sums are of some megabytes and
output channels outnumber input channels, a task is some output channels, from which likewise nothing
leaves its thread but the sums. Those lie by themselves: the hardware fetches ahead, and waits long for
lines that another thread has written.

Or inputs and gradients are transformed, then every frequency adds its product to the sums. A task of
the second step is a frequency, or where threads outnumber those a frequency and a pair of vectors of
input channels.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from halfwave._cpu.packing cimport ceil_div
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, HW_RESUME, Hold, View, parallel_for, workspace_give, workspace_take,
)
from halfwave._cpu.winograd_domain cimport (
    STRIP, Domain, Grid, Kernels, Operand, end_of, fetch, grid_of, kernels_of, product, stagger,
    strip_bytes, threads_of, to_domain,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT, HW_SUPER_SEGMENT

cdef enum:
    N, C, H, W
    O = 0       # of weights: O, C, R, S
    R = 2
    S = 3

# By measurement with 1 MiB of L2.
cdef int64_t SUMS_OF_SEGMENT_TASKS = 1 << 20    # bytes of the sums up to which a task is a segment
cdef int64_t SUMS_THAT_WAIT = 8 << 20           # bytes of those of several segments
cdef int64_t SUMS_OF_OUTPUT_TASKS = 4 << 20     # likewise, where a task is some output channels
cdef int64_t TILES_OF_A_PIECE = 64              # that such tasks transform at a time

ctypedef fused real:
    float
    double

cdef struct Work:
    Kernels kernels
    Operand x, dy
    Grid grid
    View result                     # O × C × 3 × 3, of a group
    Domain inputs, gradients        # of a piece of the tiles; inputs are [ξ][pair][t][2 vectors]
    int64_t piece, inputs_bytes, gradients_bytes
    int64_t begin, end              # tiles of the segment, or of the segments whose sums wait
    int64_t pairs, pairs_a_task     # of vectors of input channels
    int64_t block, blocks           # of output channels: their sums lie together
    char *waiting                   # sums of segments
    char *sums                      # of the super-segment
    char *total                     # of those before
    int64_t sums_frequency, sums_row, sums_bytes
    bint several                    # super-segments
    int flags
    char *memory                    # of the workers: strip, and a piece's domain where it is theirs
    int64_t worker_bytes


cdef void to_domain_task(void *context, int64_t index, int worker) noexcept nogil:
    """Some tiles of the segment, of the inputs (even) or of the gradients (odd)."""
    cdef Work *work = <Work *>context
    cdef int64_t begin = work.begin + index // 2 * STRIP
    cdef bint gradients = index % 2
    to_domain(&work.kernels, &work.dy if gradients else &work.x, &work.grid, begin,
              min(begin + STRIP, work.end), &work.gradients if gradients else &work.inputs,
              work.begin, work.memory + worker * work.worker_bytes)


cdef void multiply(const Work *work, int64_t frequency, int64_t begin, int64_t end, int64_t tiles,
                   const Domain *inputs, const Domain *gradients, char *sums,
                   int flags) noexcept nogil:
    """The products of the pairs begin … end - 1 of a frequency."""
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t size = kernels.size, pair
    for pair in range(begin, end):
        product(kernels, work.result.shape[O], tiles,
                gradients.data + frequency * gradients.frequency * size, 1, gradients.tile, 0,
                inputs.data + (frequency * inputs.frequency + pair * inputs.pair) * size,
                sums + (frequency * work.sums_frequency + pair * kernels.pair) * size,
                work.sums_row, flags)


cdef void product_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Work *work = <Work *>context
    cdef int64_t tasks = ceil_div(work.pairs, work.pairs_a_task)
    cdef int64_t begin = index % tasks * work.pairs_a_task
    multiply(work, index // tasks, begin, min(begin + work.pairs_a_task, work.pairs),
             work.end - work.begin, &work.inputs, &work.gradients, work.sums, work.flags)


cdef void add(int64_t count, const real *sums, real *total, bint first) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        total[i] = sums[i] if first else total[i] + sums[i]


cdef void add_sums(const Work *work, int64_t frequency, const char *sums, char *total,
                   bint first) noexcept nogil:
    cdef int64_t begin = frequency * work.sums_frequency * work.kernels.size
    cdef int64_t count = work.result.shape[O] * work.sums_row
    if work.kernels.wide:
        add[double](count, <const double *>(sums + begin), <double *>(total + begin), first)
    else:
        add[float](count, <const float *>(sums + begin), <float *>(total + begin), first)


cdef void add_to_total(const Work *work, int64_t frequency, int64_t end) noexcept nogil:
    """total = total + sums, if the segment that ends there is the last of its super-segment."""
    if work.several and (end % HW_SUPER_SEGMENT == 0 or end == work.grid.tiles):
        add_sums(work, frequency, work.sums, work.total, end <= HW_SUPER_SEGMENT)


cdef void add_task(void *context, int64_t frequency, int worker) noexcept nogil:
    cdef Work *work = <Work *>context
    add_to_total(work, frequency, work.end)


cdef void multiply_piece(const Work *work, int64_t begin, int64_t end, int64_t next_end, char *sums,
                         int flags, char *strip) noexcept nogil:
    """All products of some tiles, to the domain first; asks for the next tiles' pixels meanwhile."""
    cdef int frequency
    to_domain(&work.kernels, &work.x, &work.grid, begin, end, &work.inputs, begin, strip)
    to_domain(&work.kernels, &work.dy, &work.grid, begin, end, &work.gradients, begin, strip)
    for frequency in range(36):
        fetch(&work.x.pixels, work.x.channels, work.x.top, work.x.left, 6, &work.grid, end,
              next_end, frequency, 36)
        fetch(&work.dy.pixels, work.dy.channels, 0, 0, 4, &work.grid, end, next_end, frequency, 36)
        multiply(work, frequency, 0, work.pairs, end - begin, &work.inputs, &work.gradients, sums,
                 flags)


cdef void outputs_task(void *context, int64_t index, int worker) noexcept nogil:
    """The segment's sums of some output channels, added to those before."""
    cdef Work work = (<Work *>context)[0]
    cdef int64_t first = index * work.block, begin = work.begin, end, all_tiles = work.grid.tiles
    cdef char *strip = work.memory + worker * work.worker_bytes
    cdef char *sums
    cdef int frequency, flags = 0
    work.inputs.data = strip + strip_bytes(&work.kernels)
    work.gradients.data = work.inputs.data + work.inputs_bytes
    work.result.shape[O] = min(work.block, work.result.shape[O] - first)
    work.dy.channels = work.result.shape[O]
    work.dy.pixels.data += first * work.dy.pixels.strides[C] * work.kernels.size
    work.sums += index * work.sums_bytes
    work.total += index * work.sums_bytes
    work.waiting += index * work.sums_bytes
    sums = work.waiting if begin % HW_SUPER_SEGMENT else work.sums
    while begin < work.end:
        end = min(begin + work.piece, work.end)
        multiply_piece(&work, begin, end, min(end + work.piece, all_tiles), sums, flags, strip)
        flags = HW_RESUME
        begin = end
    for frequency in range(36):
        if sums == work.waiting:
            add_sums(&work, frequency, work.waiting, work.sums, False)
        add_to_total(&work, frequency, work.end)


cdef void segment_task(void *context, int64_t index, int worker) noexcept nogil:
    """The sums of a segment, which go on from a piece of its tiles to the next."""
    cdef Work *work = <Work *>context
    cdef int64_t begin = work.begin + index * HW_SEGMENT, last = min(begin + HW_SEGMENT, work.end)
    cdef int64_t end
    cdef char *strip = work.memory + worker * work.worker_bytes
    cdef Work own = work[0]
    cdef int flags = 0
    own.inputs.data = strip + strip_bytes(&work.kernels)
    own.gradients.data = own.inputs.data + work.inputs_bytes
    while begin < last:
        end = min(begin + work.piece, last)
        multiply_piece(&own, begin, end, min(end + work.piece, last),
                       work.waiting + index * work.sums_bytes, flags, strip)
        flags = HW_RESUME
        begin = end


cdef void add_segments_task(void *context, int64_t frequency, int worker) noexcept nogil:
    """The sums that wait, in the order of their segments."""
    cdef Work *work = <Work *>context
    cdef int64_t begin = work.begin
    cdef const char *sums = work.waiting
    while begin < work.end:
        add_sums(work, frequency, sums, work.sums, begin % HW_SUPER_SEGMENT == 0)
        begin = min(begin + HW_SEGMENT, work.end)
        add_to_total(work, frequency, begin)
        sums += work.sums_bytes


cdef void result_task(void *context, int64_t o, int worker) noexcept nogil:
    """dw of one output channel."""
    cdef Work *work = <Work *>context
    cdef const Kernels *kernels = &work.kernels
    cdef const View *dw = &work.result
    cdef char *strip = work.memory + worker * work.worker_bytes
    cdef const char *total = work.total + o // work.block * work.sums_bytes
    cdef int64_t lanes = kernels.lanes, size = kernels.size, c = 0, r
    cdef bint adjacent = dw.strides[R] == 3 * dw.strides[S]     # 9 taps in a row, or 3 × 3
    while c < dw.shape[C]:
        kernels.winograd.weight_gradient[kernels.wide](
            1, total + size * (o % work.block * work.sums_row + c), 0, 6 * work.sums_frequency,
            work.sums_frequency, strip, 0, 3 * lanes, lanes)
        for r in range(1 if adjacent else 3):
            kernels.winograd.scatter[kernels.wide](
                9 if adjacent else 3, min(lanes, dw.shape[C] - c), strip + r * 3 * lanes * size,
                NULL, dw.data + size * (o * dw.strides[O] + c * dw.strides[C] + r * dw.strides[R]),
                dw.strides[S], dw.strides[C])
        c += lanes


cdef void set_piece(Work *work, int64_t tiles, int64_t outputs) noexcept nogil:
    """How the domain of so many tiles, and of the gradients of so many outputs, lies."""
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t size = kernels.size
    work.piece = tiles
    work.inputs.tile = work.gradients.pair = kernels.pair
    work.inputs.pair = tiles * kernels.pair
    work.inputs.frequency = stagger(work.pairs * work.inputs.pair, size)
    work.inputs_bytes = 36 * work.inputs.frequency * size
    work.gradients.tile = stagger(ceil_div(outputs, kernels.lanes) * kernels.lanes, size)
    # Whole register tiles are read and written: hence room behind the last output channel.
    work.gradients.frequency = stagger(tiles * work.gradients.tile + 16, size)
    work.gradients_bytes = 36 * work.gradients.frequency * size


cdef void set_sums(Work *work, int64_t outputs) noexcept nogil:
    """How the sums of so many outputs lie."""
    work.block = outputs
    work.blocks = ceil_div(work.result.shape[O], outputs)
    work.sums_frequency = stagger((outputs + 16) * work.sums_row, work.kernels.size)
    work.sums_bytes = 36 * work.sums_frequency * work.kernels.size


cdef char *take(Work *work, int64_t bytes) except NULL nogil:
    """Memory for the sums and, at what is returned, so many bytes more. workspace_give(work.sums)."""
    cdef int64_t sums_bytes = work.blocks * work.sums_bytes
    work.sums = <char *>workspace_take(sums_bytes * (2 if work.several else 1) + bytes)
    work.total = work.sums + (sums_bytes if work.several else 0)
    return work.total + sums_bytes


cdef int by_segments(Work *work, int threads) except -1 nogil:
    """All segments' sums to work.total, by tasks of a segment."""
    cdef int64_t segments = ceil_div(work.grid.tiles, HW_SEGMENT), rounds, waiting
    rounds = ceil_div(segments * work.sums_bytes, SUMS_THAT_WAIT)
    waiting = ceil_div(ceil_div(segments, rounds), threads) * threads
    set_piece(work, TILES_OF_A_PIECE, work.result.shape[O])
    work.worker_bytes += work.inputs_bytes + work.gradients_bytes
    work.memory = take(work, threads * work.worker_bytes + waiting * work.sums_bytes)
    work.waiting = work.memory + threads * work.worker_bytes
    work.begin = 0
    try:
        while work.begin < work.grid.tiles:
            work.end = min(work.begin + waiting * HW_SEGMENT, work.grid.tiles)
            parallel_for(segment_task, work, ceil_div(work.end - work.begin, HW_SEGMENT), threads)
            parallel_for(add_segments_task, work, 36, threads)
            work.begin = work.end
        return parallel_for(result_task, work, work.result.shape[O], threads)
    finally:
        workspace_give(work.sums)


cdef int by_outputs(Work *work, int threads) except -1 nogil:
    """The same, a segment after the other, by tasks of some output channels."""
    set_piece(work, TILES_OF_A_PIECE, work.block)
    work.worker_bytes += work.inputs_bytes + work.gradients_bytes
    work.waiting = take(work, work.blocks * work.sums_bytes + threads * work.worker_bytes)
    work.memory = work.waiting + work.blocks * work.sums_bytes
    work.begin = 0
    try:
        while work.begin < work.grid.tiles:
            work.end = min(work.begin + HW_SEGMENT, work.grid.tiles)
            parallel_for(outputs_task, work, work.blocks, threads)
            work.begin = work.end
        return parallel_for(result_task, work, work.result.shape[O], threads)
    finally:
        workspace_give(work.sums)


cdef int by_frequencies(Work *work, int threads) except -1 nogil:
    """The same, a segment after the other, by tasks of a frequency."""
    cdef int64_t all_tiles = work.grid.tiles
    set_piece(work, min(all_tiles, HW_SEGMENT), work.result.shape[O])
    work.pairs_a_task = work.pairs if threads < 9 else 1
    work.inputs.data = take(work, work.inputs_bytes + work.gradients_bytes
                            + threads * work.worker_bytes)
    work.gradients.data = work.inputs.data + work.inputs_bytes
    work.memory = work.gradients.data + work.gradients_bytes
    work.begin = 0
    try:
        while work.begin < all_tiles:
            work.end = min(work.begin + HW_SEGMENT, all_tiles)
            work.flags = HW_ACCUMULATE if work.begin % HW_SUPER_SEGMENT else 0
            parallel_for(to_domain_task, work, 2 * ceil_div(work.end - work.begin, STRIP), threads)
            parallel_for(product_task, work, 36 * ceil_div(work.pairs, work.pairs_a_task), threads)
            if work.several:
                parallel_for(add_task, work, 36, threads)
            work.begin = work.end
        return parallel_for(result_task, work, work.result.shape[O], threads)
    finally:
        workspace_give(work.sums)


cdef int backward_group(Work *work) except -1 nogil:
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t outputs = work.result.shape[O], all_tiles = work.grid.tiles
    cdef int64_t vectors, block
    cdef int threads = threads_of(all_tiles, outputs, work.result.shape[C])
    work.pairs = ceil_div(work.result.shape[C], kernels.pair)
    work.sums_row = work.pairs * kernels.pair
    work.several = all_tiles > HW_SUPER_SEGMENT
    work.worker_bytes = strip_bytes(kernels)
    set_sums(work, outputs)
    if work.sums_bytes <= SUMS_OF_SEGMENT_TASKS and 2 * all_tiles > 3 * threads * HW_SEGMENT:
        return by_segments(work, threads)
    vectors = ceil_div(outputs, kernels.lanes)
    block = ceil_div(vectors, threads)
    # Inputs are transformed by all threads: the fewer channels; and all have about as much to do.
    if (work.sums_bytes <= SUMS_OF_OUTPUT_TASKS and work.result.shape[C] <= block * kernels.lanes
            and 8 * vectors > 7 * threads * block):
        set_sums(work, block * kernels.lanes)
        return by_outputs(work, threads)
    return by_frequencies(work, threads)


def backward_weight(dy, x, dw, int64_t top, int64_t left, int64_t groups):
    """Fill dw, O × C × 3 × 3; dy and x are N × C × H × W views."""
    cdef Hold hold = Hold()
    cdef View vdy, vx, vdw
    cdef Work work
    cdef int64_t group
    memset(&work, 0, sizeof(work))
    hold.view(dy, &vdy, False)
    hold.view(x, &vx, False)
    hold.view(dw, &vdw, True)
    work.kernels = kernels_of(vdw.itemsize)
    work.grid = grid_of(&vdy)
    work.x.pixels, work.dy.pixels = vx, vdy
    work.x.end, work.dy.end = end_of(&vx), end_of(&vdy)
    work.x.side, work.dy.side = 6, 4
    work.x.top, work.x.left = top, left
    work.x.transform = work.kernels.winograd.input[work.kernels.wide]
    work.dy.transform = work.kernels.winograd.gradient[work.kernels.wide]
    work.x.channels, work.dy.channels = vdw.shape[C], vdw.shape[O] // groups
    work.result = vdw
    work.result.shape[O] = work.dy.channels
    for group in range(groups):
        work.x.pixels.data = vx.data + group * work.x.channels * vx.strides[C] * vx.itemsize
        work.dy.pixels.data = vdy.data + group * work.dy.channels * vdy.strides[C] * vdy.itemsize
        work.result.data = vdw.data + group * work.dy.channels * vdw.strides[O] * vdw.itemsize
        with nogil:
            backward_group(&work)
