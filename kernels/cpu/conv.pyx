"""2-D convolution, its three passes, as contractions over offset tables (an implicit im2col).

With x of N × C × H × W, w of O × C/groups × R × S, and (i, j) an output position, per group:

    forward          y[o, (n,i,j)]    = Σ over (c,r,s)    w[o, c,r,s] · x[c, n, i·stride + r·dilation, …]
    backward input   dx[c, (n,h,w)]   = Σ over (o,r,s)    w[o, c,r,s] · dy[o, n, (h + pad - r·dilation) / stride, …]
    backward weight  dw[o, (c,r,s)]   = Σ over (n,i,j)    dy[o, n,i,j] · x[c, n, i·stride + r·dilation, …]

each flattened in the order of its parentheses. Backward input visits the taps for which the division
has no remainder: one contraction for each residue of (h, w) modulo the stride.

Arrays arrive as N × C × H × W views whatever their layout: strides tell, and the contraction lays its
lanes along what is contiguous. Padding is memory: `window` copies x (or dy) into a frame of zeros, so
no loop tests a border. halfwave.conv checks every argument.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from halfwave._cpu.contraction cimport (
    Contraction, contract, fill_offsets, offsets_memory,
)
from halfwave._cpu.runtime cimport Hold, View, parallel_for, worthwhile_threads

cdef enum:
    N, C, H, W
    O = 0       # of weights: O, C, R, S
    R = 2
    S = 3

# ---- padding --------------------------------------------------------------------------------------

cdef struct Window:
    View source, target
    int64_t top, left


cdef void window_row(void *context, int64_t index, int worker) noexcept nogil:
    """One row of one image, all its channels."""
    cdef Window *window = <Window *>context
    cdef View *source = &window.source
    cdef View *target = &window.target
    cdef int64_t size = source.itemsize
    cdef int64_t n = index // target.shape[H], i = index % target.shape[H]
    cdef int64_t h = i - window.top
    cdef int64_t c, j, begin = 0, end = 0
    cdef char *to
    cdef const char *line
    cdef bint channels_last = source.strides[C] == 1 and target.strides[C] == 1
    if 0 <= h < source.shape[H]:
        begin = min(max(window.left, 0), target.shape[W])
        end = max(min(window.left + source.shape[W], target.shape[W]), begin)
    for c in range(1 if channels_last else target.shape[C]):
        to = target.data + size * (
            n * target.strides[N] + c * target.strides[C] + i * target.strides[H])
        line = source.data + size * (n * source.strides[N] + c * source.strides[C]
                                     + h * source.strides[H] - window.left * source.strides[W])
        if channels_last:
            size = source.itemsize * target.shape[C]    # a pixel moves as one
        for j in range(begin):
            zero(to + j * target.strides[W] * source.itemsize, size)
        if source.strides[W] * source.itemsize == size == target.strides[W] * source.itemsize:
            memcpy(to + begin * size, line + begin * size, (end - begin) * size)
        else:
            for j in range(begin, end):
                memcpy(to + j * target.strides[W] * source.itemsize,
                       line + j * source.strides[W] * source.itemsize, size)
        for j in range(end, target.shape[W]):
            zero(to + j * target.strides[W] * source.itemsize, size)


cdef inline void zero(char *memory, int64_t bytes) noexcept nogil:
    cdef int64_t i
    for i in range(bytes):
        memory[i] = 0


def window(source, target, int64_t top, int64_t left):
    """target[n, c, i, j] = source[n, c, i - top, j - left], or 0 where that lies outside."""
    cdef Hold hold = Hold()
    cdef Window context
    hold.view(source, &context.source, False)
    hold.view(target, &context.target, True)
    context.top, context.left = top, left
    with nogil:
        parallel_for(window_row, &context, context.target.shape[N] * context.target.shape[H],
                     worthwhile_threads(context.target.size * 0.2))

# ---- offset tables --------------------------------------------------------------------------------

cdef class Tables:
    """The offset tables of one contraction, freed with it."""
    cdef int64_t *memory
    cdef int64_t *next
    cdef Contraction problem

    def __dealloc__(self):
        free(self.memory)

    cdef int reserve(self, int64_t slices, int64_t rows, int64_t columns, int64_t k) except -1:
        self.memory = offsets_memory(slices, rows, columns, k)
        if self.memory == NULL:
            raise MemoryError("no memory for the offsets of a convolution")
        self.next = self.memory
        self.problem.slices, self.problem.rows = slices, rows
        self.problem.columns, self.problem.k = columns, k
        self.problem.row_bias = self.problem.column_bias = NULL
        return 0

    cdef int64_t *every(self, int64_t count, int64_t stride) noexcept:
        """0, stride, 2 · stride, …"""
        return self.grid(1, &count, &stride)

    cdef int64_t *grid(self, int dims, const int64_t *shape, const int64_t *strides) noexcept:
        cdef int64_t *offsets = self.next
        cdef int64_t size = 1
        cdef int i
        for i in range(dims):
            size *= shape[i]
        if size:
            fill_offsets(offsets, 0, dims, shape, strides)
        self.next += size
        return offsets

    cdef int64_t *slices_of(self, int64_t stride) noexcept:
        return self.every(self.problem.slices, stride)

# ---- the passes -----------------------------------------------------------------------------------


def forward(x, w, bias, y, int64_t stride_h, int64_t stride_w, int64_t dilation_h,
            int64_t dilation_w, int64_t groups):
    """Fill y; x is padded already."""
    cdef Hold hold = Hold()
    cdef View vx, vw, vy, vb
    cdef Tables tables = Tables()
    cdef Contraction *problem = &tables.problem
    hold.view(x, &vx, False)
    hold.view(w, &vw, False)
    hold.view(y, &vy, True)
    cdef int64_t outputs = vw.shape[O] // groups
    tables.reserve(groups, outputs, vy.shape[N] * vy.shape[H] * vy.shape[W],
                   vw.shape[C] * vw.shape[R] * vw.shape[S])
    cdef int64_t *positions = [vy.shape[N], vy.shape[H], vy.shape[W]]
    cdef int64_t *taps = [vw.shape[C], vw.shape[R], vw.shape[S]]
    problem.itemsize = vy.itemsize
    problem.a, problem.b, problem.c = vw.data, vx.data, vy.data
    problem.a_slice = tables.slices_of(outputs * vw.strides[O])
    problem.b_slice = tables.slices_of(vw.shape[C] * vx.strides[C])
    problem.c_slice = tables.slices_of(outputs * vy.strides[C])
    problem.bias_slice = tables.slices_of(outputs)
    problem.a_row = tables.every(outputs, vw.strides[O])
    problem.a_k = tables.grid(3, taps, [vw.strides[C], vw.strides[R], vw.strides[S]])
    problem.b_k = tables.grid(3, taps, [vx.strides[C], dilation_h * vx.strides[H],
                                        dilation_w * vx.strides[W]])
    problem.b_column = tables.grid(3, positions, [vx.strides[N], stride_h * vx.strides[H],
                                                  stride_w * vx.strides[W]])
    problem.c_row = tables.every(outputs, vy.strides[C])
    problem.c_column = tables.grid(3, positions, [vy.strides[N], vy.strides[H], vy.strides[W]])
    if bias is not None:
        hold.view(bias, &vb, False)
        problem.row_bias = vb.data
    with nogil:
        contract(problem)


def backward_weight(dy, x, dw, int64_t stride_h, int64_t stride_w, int64_t dilation_h,
                    int64_t dilation_w, int64_t groups):
    """Fill dw; x is padded already."""
    cdef Hold hold = Hold()
    cdef View vdy, vx, vdw
    cdef Tables tables = Tables()
    cdef Contraction *problem = &tables.problem
    hold.view(dy, &vdy, False)
    hold.view(x, &vx, False)
    hold.view(dw, &vdw, True)
    cdef int64_t outputs = vdw.shape[O] // groups
    tables.reserve(groups, outputs, vdw.shape[C] * vdw.shape[R] * vdw.shape[S],
                   vdy.shape[N] * vdy.shape[H] * vdy.shape[W])
    cdef int64_t *positions = [vdy.shape[N], vdy.shape[H], vdy.shape[W]]
    cdef int64_t *taps = [vdw.shape[C], vdw.shape[R], vdw.shape[S]]
    problem.itemsize = vdw.itemsize
    problem.a, problem.b, problem.c = vdy.data, vx.data, vdw.data
    problem.a_slice = tables.slices_of(outputs * vdy.strides[C])
    problem.b_slice = tables.slices_of(vdw.shape[C] * vx.strides[C])
    problem.c_slice = tables.slices_of(outputs * vdw.strides[O])
    problem.bias_slice = tables.slices_of(0)
    problem.a_row = tables.every(outputs, vdy.strides[C])
    problem.a_k = tables.grid(3, positions, [vdy.strides[N], vdy.strides[H], vdy.strides[W]])
    problem.b_k = tables.grid(3, positions, [vx.strides[N], stride_h * vx.strides[H],
                                             stride_w * vx.strides[W]])
    problem.b_column = tables.grid(3, taps, [vx.strides[C], dilation_h * vx.strides[H],
                                             dilation_w * vx.strides[W]])
    problem.c_row = tables.every(outputs, vdw.strides[O])
    problem.c_column = tables.grid(3, taps, [vdw.strides[C], vdw.strides[R], vdw.strides[S]])
    with nogil:
        contract(problem)


cdef struct Residue:
    # Along one axis: the inputs first, first + stride, … and the taps that meet them, in rising order.
    int64_t first, count        # of inputs
    int64_t first_tap, tap_step, taps
    int64_t first_output        # that the first tap meets at the first input; it grows with the input
    int64_t output_step         # and falls by this with each further tap


cdef Residue residue(int64_t first, int64_t size, int64_t kernel, int64_t stride, int64_t padding,
                     int64_t dilation) noexcept nogil:
    cdef Residue part
    cdef int64_t r = 0, reach, common = stride, divisor = dilation
    part.first = first
    part.count = (size - first + stride - 1) // stride if size > first else 0
    part.taps = part.first_tap = part.first_output = part.output_step = 0
    while divisor:              # Euclid: the greatest common divisor of stride and dilation
        common, divisor = divisor, common % divisor
    part.tap_step = stride // common
    while r < kernel and r < part.tap_step and (first + padding - r * dilation) % stride:
        r += 1
    if r < kernel and r < part.tap_step:
        reach = first + padding - r * dilation
        part.first_tap = r
        part.taps = (kernel - r + part.tap_step - 1) // part.tap_step
        part.first_output = reach // stride     # exact, so the sign does not matter
        part.output_step = part.tap_step * dilation // stride
    return part


def backward_input(dy, w, dx, int64_t stride_h, int64_t stride_w, int64_t padding_h,
                   int64_t padding_w, int64_t dilation_h, int64_t dilation_w, int64_t groups,
                   int64_t frame_top, int64_t frame_left):
    """Fill dx; dy stands in a frame of zeros, its first element at (frame_top, frame_left)."""
    cdef Hold hold = Hold()
    cdef View vdy, vw, vdx
    cdef Residue down, across
    cdef int64_t i, j
    hold.view(dy, &vdy, False)
    hold.view(w, &vw, False)
    hold.view(dx, &vdx, True)
    for i in range(min(stride_h, vdx.shape[H])):
        down = residue(i, vdx.shape[H], vw.shape[R], stride_h, padding_h, dilation_h)
        for j in range(min(stride_w, vdx.shape[W])):
            across = residue(j, vdx.shape[W], vw.shape[S], stride_w, padding_w, dilation_w)
            down.first_output += frame_top
            across.first_output += frame_left
            backward_residue(&vdy, &vw, &vdx, &down, &across, stride_h, stride_w, groups)
            down.first_output -= frame_top


cdef int backward_residue(View *vdy, View *vw, View *vdx, Residue *down, Residue *across,
                          int64_t stride_h, int64_t stride_w, int64_t groups) except -1:
    cdef Tables tables = Tables()
    cdef Contraction *problem = &tables.problem
    cdef int64_t inputs = vw.shape[C], outputs = vw.shape[O] // groups
    cdef int64_t *positions = [vdx.shape[N], down.count, across.count]
    cdef int64_t *taps = [outputs, down.taps, across.taps]
    cdef int64_t itemsize = vdx.itemsize
    tables.reserve(groups, inputs, positions[0] * positions[1] * positions[2],
                   taps[0] * taps[1] * taps[2])
    problem.itemsize = itemsize
    problem.a = vw.data + itemsize * (down.first_tap * vw.strides[R]
                                      + across.first_tap * vw.strides[S])
    problem.b = vdy.data + itemsize * (down.first_output * vdy.strides[H]
                                       + across.first_output * vdy.strides[W])
    problem.c = vdx.data + itemsize * (down.first * vdx.strides[H]
                                       + across.first * vdx.strides[W])
    problem.a_slice = tables.slices_of(outputs * vw.strides[O])
    problem.b_slice = tables.slices_of(outputs * vdy.strides[C])
    problem.c_slice = tables.slices_of(inputs * vdx.strides[C])
    problem.bias_slice = tables.slices_of(0)
    problem.a_row = tables.every(inputs, vw.strides[C])
    problem.a_k = tables.grid(3, taps, [vw.strides[O], down.tap_step * vw.strides[R],
                                        across.tap_step * vw.strides[S]])
    problem.b_k = tables.grid(3, taps, [vdy.strides[C], -down.output_step * vdy.strides[H],
                                        -across.output_step * vdy.strides[W]])
    problem.b_column = tables.grid(3, positions, [vdy.strides[N], vdy.strides[H], vdy.strides[W]])
    problem.c_row = tables.every(inputs, vdx.strides[C])
    problem.c_column = tables.grid(3, positions, [vdx.strides[N], stride_h * vdx.strides[H],
                                                  stride_w * vdx.strides[W]])
    with nogil:
        contract(problem)
    return 0
