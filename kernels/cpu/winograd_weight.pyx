"""Backward weight of Winograd's convolution: see winograd.pyx and CONTRACT.md section 4.

A segment of the tiles after the other: inputs and gradients are transformed, then every frequency
adds its product to the sums, [ξ][output channel][input channel]. A task of the second step is a
frequency, or where threads outnumber those a frequency and a pair of vectors of input channels.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from halfwave._cpu.packing cimport ceil_div
from halfwave._cpu.runtime cimport (
    HW_ACCUMULATE, Hold, View, parallel_for, workspace_give, workspace_take,
)
from halfwave._cpu.winograd_domain cimport (
    STRIP, Domain, Grid, Kernels, Operand, end_of, grid_of, kernels_of, product, stagger, strip_bytes,
    threads_of, to_domain,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT, HW_SUPER_SEGMENT

cdef enum:
    N, C, H, W
    O = 0       # of weights: O, C, R, S
    R = 2
    S = 3

ctypedef fused real:
    float
    double

cdef struct Work:
    Kernels kernels
    Operand x, dy
    Grid grid
    View result                     # O × C × 3 × 3, of a group
    Domain inputs, gradients        # of the segment; inputs are [ξ][pair][t][2 vectors]
    int64_t begin, end              # tiles of the segment
    int64_t pairs, pairs_a_task     # of vectors of input channels
    char *sums                      # of the super-segment
    char *total                     # of those before
    int64_t sums_frequency, sums_row
    int flags
    char *strips                    # a worker's each


cdef void to_domain_task(void *context, int64_t index, int worker) noexcept nogil:
    """Some tiles of the segment, of the inputs (even) or of the gradients (odd)."""
    cdef Work *work = <Work *>context
    cdef int64_t begin = work.begin + index // 2 * STRIP
    cdef bint gradients = index % 2
    to_domain(&work.kernels, &work.dy if gradients else &work.x, &work.grid, begin,
              min(begin + STRIP, work.end), &work.gradients if gradients else &work.inputs,
              work.begin, work.strips + worker * strip_bytes(&work.kernels))


cdef void product_task(void *context, int64_t index, int worker) noexcept nogil:
    cdef Work *work = <Work *>context
    cdef int64_t size = work.kernels.size, tasks = ceil_div(work.pairs, work.pairs_a_task), pair
    cdef int64_t frequency = index // tasks, begin = index % tasks * work.pairs_a_task
    for pair in range(begin, min(begin + work.pairs_a_task, work.pairs)):
        product(&work.kernels, work.result.shape[O], work.end - work.begin,
                work.gradients.data + frequency * work.gradients.frequency * size,
                1, work.gradients.tile, 0,
                work.inputs.data + (frequency * work.inputs.frequency
                                    + pair * work.inputs.pair) * size,
                work.sums + (frequency * work.sums_frequency + pair * work.kernels.pair) * size,
                work.sums_row, work.flags)


cdef void add(int64_t count, const real *sums, real *total, bint first) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        total[i] = sums[i] if first else total[i] + sums[i]


cdef void add_task(void *context, int64_t frequency, int worker) noexcept nogil:
    """total = total + sums, after a super-segment."""
    cdef Work *work = <Work *>context
    cdef int64_t first = frequency * work.sums_frequency
    cdef int64_t count = work.result.shape[O] * work.sums_row
    cdef bint begins = work.end <= HW_SUPER_SEGMENT
    if work.kernels.wide:
        add[double](count, <double *>work.sums + first, <double *>work.total + first, begins)
    else:
        add[float](count, <float *>work.sums + first, <float *>work.total + first, begins)


cdef void result_task(void *context, int64_t o, int worker) noexcept nogil:
    """dw of one output channel."""
    cdef Work *work = <Work *>context
    cdef const Kernels *kernels = &work.kernels
    cdef const View *dw = &work.result
    cdef char *strip = work.strips + worker * strip_bytes(kernels)
    cdef int64_t lanes = kernels.lanes, size = kernels.size, c = 0, r
    cdef bint adjacent = dw.strides[R] == 3 * dw.strides[S]     # 9 taps in a row, or 3 × 3
    while c < dw.shape[C]:
        kernels.winograd.weight_gradient[kernels.wide](
            1, work.total + size * (o * work.sums_row + c), 0, 6 * work.sums_frequency,
            work.sums_frequency, strip, 0, 3 * lanes, lanes)
        for r in range(1 if adjacent else 3):
            kernels.winograd.scatter[kernels.wide](
                9 if adjacent else 3, min(lanes, dw.shape[C] - c), strip + r * 3 * lanes * size,
                NULL, dw.data + size * (o * dw.strides[O] + c * dw.strides[C] + r * dw.strides[R]),
                dw.strides[S], dw.strides[C])
        c += lanes


cdef int backward_group(Work *work) except -1 nogil:
    cdef const Kernels *kernels = &work.kernels
    cdef int64_t size = kernels.size, outputs = work.result.shape[O], all_tiles = work.grid.tiles
    cdef int64_t segment = min(all_tiles, HW_SEGMENT), inputs_bytes, gradients_bytes, sums_bytes
    cdef int threads = threads_of(all_tiles, outputs, work.result.shape[C])
    cdef bint several = all_tiles > HW_SUPER_SEGMENT
    cdef char *memory
    work.pairs = ceil_div(work.result.shape[C], kernels.pair)
    work.pairs_a_task = work.pairs if threads < 9 else 1
    work.inputs.tile = kernels.pair
    work.inputs.pair = segment * kernels.pair
    work.inputs.frequency = stagger(work.pairs * work.inputs.pair, size)
    work.gradients.pair = kernels.pair
    work.gradients.tile = stagger(ceil_div(outputs, kernels.lanes) * kernels.lanes, size)
    # Whole register tiles are read and written: hence room behind the last output channel.
    work.gradients.frequency = stagger(segment * work.gradients.tile + 16, size)
    work.sums_row = work.pairs * kernels.pair
    work.sums_frequency = stagger((outputs + 16) * work.sums_row, size)
    inputs_bytes = 36 * work.inputs.frequency * size
    gradients_bytes = 36 * work.gradients.frequency * size
    sums_bytes = 36 * work.sums_frequency * size
    memory = <char *>workspace_take(inputs_bytes + gradients_bytes
                                    + sums_bytes * (2 if several else 1)
                                    + threads * strip_bytes(kernels))
    try:
        work.inputs.data = memory
        work.gradients.data = work.inputs.data + inputs_bytes
        work.sums = work.gradients.data + gradients_bytes
        work.total = work.sums + (sums_bytes if several else 0)
        work.strips = work.total + sums_bytes
        work.begin = 0
        while work.begin < all_tiles:
            work.end = min(work.begin + HW_SEGMENT, all_tiles)
            work.flags = HW_ACCUMULATE if work.begin % HW_SUPER_SEGMENT else 0
            parallel_for(to_domain_task, work, 2 * ceil_div(work.end - work.begin, STRIP), threads)
            parallel_for(product_task, work, 36 * ceil_div(work.pairs, work.pairs_a_task), threads)
            if several and (work.end % HW_SUPER_SEGMENT == 0 or work.end == all_tiles):
                parallel_for(add_task, work, 36, threads)
            work.begin = work.end
        return parallel_for(result_task, work, outputs, threads)
    finally:
        workspace_give(memory)


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
