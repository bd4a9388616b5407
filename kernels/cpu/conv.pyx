"""2-D convolution, its three passes, as contractions over axes with offsets (an implicit im2col).

With x of N × C × H × W, w of O × C/groups × R × S, and (i, j) an output position, per group:

    forward          y[o, (n,i,j)]    = Σ over (c,r,s)    w[o, c,r,s] · x[c, n, i·stride + r·dilation, …]
    backward input   dx[c, (n,h,w)]   = Σ over (o,r,s)    w[o, c,r,s] · dy[o, n, (h + pad - r·dilation) / stride, …]
    backward weight  dw[o, (c,r,s)]   = Σ over (n,i,j)    dy[o, n,i,j] · x[c, n, i·stride + r·dilation, …]

each flattened in the order of its parentheses. Backward input visits the taps for which the division
has no remainder: one contraction for each residue of (h, w) modulo the stride.

Arrays arrive as N × C × H × W views whatever their layout: strides tell, and the contraction lays its
lanes along what is contiguous. Padding is memory: x (or dy) is copied into a frame of zeros, so no
loop tests a border. halfwave.conv checks every argument.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from halfwave._cpu.axis cimport Axis
from halfwave._cpu.contraction cimport Contraction, axis_of, contract, offsets_memory
from halfwave._cpu.direct cimport correlate, correlates
from halfwave._cpu.direct_plan cimport MOST_SPREAD, Correlation, Taps
from halfwave._cpu.direct_weight cimport correlate_weight
from halfwave._cpu.runtime cimport (
    Hold, View, parallel_for, workspace_give, workspace_take, worthwhile_threads,
)

cdef enum:
    N, C, H, W
    O = 0       # of weights: O, C, R, S
    R = 2
    S = 3

# ---- padding --------------------------------------------------------------------------------------

cdef struct Window:
    View *source
    View *target
    int64_t top, left


cdef void window_row(void *context, int64_t index, int worker) noexcept nogil:
    """One row of one image, all its channels: target[n, c, i, j] = source[n, c, i - top, j - left]."""
    cdef Window *window = <Window *>context
    cdef View *source = window.source
    cdef View *target = window.target
    cdef int64_t n = index // target.shape[H], i = index % target.shape[H]
    cdef int64_t h = i - window.top
    # What moves as one: an element, or a pixel of all channels where those are adjacent.
    cdef bint pixels = source.strides[C] == 1 and target.strides[C] == 1
    cdef int64_t size = source.itemsize * (target.shape[C] if pixels else 1)
    cdef int64_t from_step = source.strides[W] * source.itemsize
    cdef int64_t to_step = target.strides[W] * source.itemsize
    cdef int64_t begin = 0, end = 0, c, j
    cdef char *to
    cdef const char *line
    if 0 <= h < source.shape[H]:
        begin = min(max(window.left, 0), target.shape[W])
        end = max(min(window.left + source.shape[W], target.shape[W]), begin)
    for c in range(1 if pixels else target.shape[C]):
        to = target.data + source.itemsize * (
            n * target.strides[N] + c * target.strides[C] + i * target.strides[H])
        line = source.data - window.left * from_step + source.itemsize * (
            n * source.strides[N] + c * source.strides[C] + h * source.strides[H])
        memset(to, 0, begin * to_step)      # the target has no gaps
        if from_step == size:
            memcpy(to + begin * size, line + begin * size, (end - begin) * size)
        else:
            for j in range(begin, end):
                memcpy(to + j * to_step, line + j * from_step, size)
        memset(to + end * to_step, 0, (target.shape[W] - end) * to_step)


cdef class Frame:
    """The part of an array that a pass reads, with zeros beyond its border; the array if it has it all.

    rows × columns of it, top and left of them before its first element.
    """
    cdef View view
    cdef void *memory

    def __dealloc__(self):
        if self.memory != NULL:
            workspace_give(self.memory)

    cdef int fill(self, View *source, int64_t rows, int64_t columns, int64_t top,
                  int64_t left) except -1:
        cdef Window window
        cdef View *target = &self.view
        target[0] = source[0]
        if top == 0 and left == 0 and rows <= source.shape[H] and columns <= source.shape[W]:
            return 0
        if <double>rows * columns * source.shape[N] * source.shape[C] > 2.0**59:
            raise ValueError("padding and dilation ask for a frame of too many elements: "
                             f"{source.shape[N]} × {source.shape[C]} × {rows} × {columns}")
        target.shape[H], target.shape[W] = rows, columns
        target.size = source.shape[N] * source.shape[C] * rows * columns
        if source.strides[C] == 1:          # the order of the source: channels last, or not
            target.strides[W] = source.shape[C]
            target.strides[H] = target.strides[W] * columns
            target.strides[N] = target.strides[H] * rows
        else:
            target.strides[W] = 1
            target.strides[H] = columns
            target.strides[C] = rows * columns
            target.strides[N] = target.strides[C] * source.shape[C]
        self.memory = workspace_take(target.size * source.itemsize)
        target.data = <char *>self.memory
        window.source, window.target, window.top, window.left = source, target, top, left
        with nogil:
            parallel_for(window_row, &window, target.shape[N] * rows,
                         worthwhile_threads(target.size * 0.2))
        return 0

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

    cdef Axis grid(self, const int64_t *shape, const int64_t *strides) noexcept:
        return axis_of(&self.next, 3, shape, strides)

# ---- the passes -----------------------------------------------------------------------------------


cdef int64_t reach(int64_t outputs, int64_t stride, int64_t kernel, int64_t dilation) noexcept:
    """How many inputs so many outputs read, padding included."""
    return (outputs - 1) * stride + (kernel - 1) * dilation + 1


cdef void describe(Correlation *direct, View *x, View *w, const int64_t *w_strides, View *y,
                   int64_t outputs, int64_t groups) noexcept:
    """All but the taps and the stride, which stay for the caller."""
    cdef int i
    direct.x, direct.y = x[0], y[0]
    direct.w = <const float *>w.data
    direct.bias = NULL
    for i in range(4):
        direct.w_strides[i] = w_strides[i]
    direct.w_taps[0], direct.w_taps[1] = w.shape[R], w.shape[S]
    direct.w_group = w.shape[O] // groups * w.strides[O]
    direct.groups, direct.outputs = groups, outputs
    direct.channels = x.shape[C] // groups
    for i in range(2):
        direct.stride[i] = direct.spread[i] = 1


def forward(x, w, bias, y, int64_t stride_h, int64_t stride_w, int64_t top, int64_t left,
            int64_t dilation_h, int64_t dilation_w, int64_t groups):
    """Fill y."""
    cdef Hold hold = Hold()
    cdef View vx, vw, vy, vb
    cdef Frame frame = Frame()
    cdef Tables tables = Tables()
    cdef Contraction *problem = &tables.problem
    hold.view(x, &vx, False)
    hold.view(w, &vw, False)
    hold.view(y, &vy, True)
    if bias is not None:
        hold.view(bias, &vb, False)
    cdef Correlation direct
    cdef int64_t *w_strides = [vw.strides[O], vw.strides[C], vw.strides[R], vw.strides[S]]
    describe(&direct, &vx, &vw, w_strides, &vy, vw.shape[O] // groups, groups)
    direct.bias = <const float *>vb.data if bias is not None else NULL
    direct.stride[0], direct.stride[1] = stride_h, stride_w
    direct.taps[0][0] = Taps(vw.shape[R], -top, dilation_h, 0, 1)
    direct.taps[1][0] = Taps(vw.shape[S], -left, dilation_w, 0, 1)
    if vw.shape[R] * vw.shape[S] > 1 and correlates(&direct):
        with nogil:
            correlate(&direct)
        return
    frame.fill(&vx, reach(vy.shape[H], stride_h, vw.shape[R], dilation_h),
               reach(vy.shape[W], stride_w, vw.shape[S], dilation_w), top, left)
    vx = frame.view
    cdef int64_t outputs = vw.shape[O] // groups
    tables.reserve(groups, outputs, vy.shape[N] * vy.shape[H] * vy.shape[W],
                   vw.shape[C] * vw.shape[R] * vw.shape[S])
    cdef int64_t *positions = [vy.shape[N], vy.shape[H], vy.shape[W]]
    cdef int64_t *taps = [vw.shape[C], vw.shape[R], vw.shape[S]]
    problem.itemsize = vy.itemsize
    problem.a, problem.b, problem.c = vw.data, vx.data, vy.data
    problem.a_slice = Axis(NULL, outputs * vw.strides[O])
    problem.b_slice = Axis(NULL, vw.shape[C] * vx.strides[C])
    problem.c_slice = Axis(NULL, outputs * vy.strides[C])
    problem.bias_slice = Axis(NULL, outputs)
    problem.a_row = Axis(NULL, vw.strides[O])
    problem.a_k = tables.grid(taps, [vw.strides[C], vw.strides[R], vw.strides[S]])
    problem.b_k = tables.grid(taps, [vx.strides[C], dilation_h * vx.strides[H],
                                     dilation_w * vx.strides[W]])
    problem.b_column = tables.grid(positions, [vx.strides[N], stride_h * vx.strides[H],
                                               stride_w * vx.strides[W]])
    problem.c_row = Axis(NULL, vy.strides[C])
    problem.c_column = tables.grid(positions, [vy.strides[N], vy.strides[H], vy.strides[W]])
    if bias is not None:
        problem.row_bias = vb.data
    with nogil:
        contract(problem)


def backward_weight(dy, x, dw, int64_t stride_h, int64_t stride_w, int64_t top, int64_t left,
                    int64_t dilation_h, int64_t dilation_w, int64_t groups):
    """Fill dw."""
    cdef Hold hold = Hold()
    cdef View vdy, vx, vdw
    cdef Frame frame = Frame()
    cdef Tables tables = Tables()
    cdef Contraction *problem = &tables.problem
    hold.view(dy, &vdy, False)
    hold.view(x, &vx, False)
    hold.view(dw, &vdw, True)
    cdef Correlation direct
    cdef int64_t *w_strides = [vdw.strides[O], vdw.strides[C], vdw.strides[R], vdw.strides[S]]
    describe(&direct, &vx, &vdw, w_strides, &vdy, vdw.shape[O] // groups, groups)
    direct.stride[0], direct.stride[1] = stride_h, stride_w
    direct.taps[0][0] = Taps(vdw.shape[R], -top, dilation_h, 0, 1)
    direct.taps[1][0] = Taps(vdw.shape[S], -left, dilation_w, 0, 1)
    if vdw.shape[R] * vdw.shape[S] > 1 and vdy.size > 0 and correlates(&direct):
        with nogil:
            correlate_weight(&direct)
        return
    frame.fill(&vx, reach(vdy.shape[H], stride_h, vdw.shape[R], dilation_h),
               reach(vdy.shape[W], stride_w, vdw.shape[S], dilation_w), top, left)
    vx = frame.view
    cdef int64_t outputs = vdw.shape[O] // groups
    tables.reserve(groups, outputs, vdw.shape[C] * vdw.shape[R] * vdw.shape[S],
                   vdy.shape[N] * vdy.shape[H] * vdy.shape[W])
    cdef int64_t *positions = [vdy.shape[N], vdy.shape[H], vdy.shape[W]]
    cdef int64_t *taps = [vdw.shape[C], vdw.shape[R], vdw.shape[S]]
    problem.itemsize = vdw.itemsize
    problem.a, problem.b, problem.c = vdy.data, vx.data, vdw.data
    problem.a_slice = Axis(NULL, outputs * vdy.strides[C])
    problem.b_slice = Axis(NULL, vdw.shape[C] * vx.strides[C])
    problem.c_slice = Axis(NULL, outputs * vdw.strides[O])
    problem.bias_slice = Axis(NULL, 0)
    problem.a_row = Axis(NULL, vdy.strides[C])
    problem.a_k = tables.grid(positions, [vdy.strides[N], vdy.strides[H], vdy.strides[W]])
    problem.b_k = tables.grid(positions, [vx.strides[N], stride_h * vx.strides[H],
                                          stride_w * vx.strides[W]])
    problem.b_column = tables.grid(taps, [vx.strides[C], dilation_h * vx.strides[H],
                                          dilation_w * vx.strides[W]])
    problem.c_row = Axis(NULL, vdw.strides[O])
    problem.c_column = tables.grid(taps, [vdw.strides[C], vdw.strides[R], vdw.strides[S]])
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


cdef inline Taps taps_of(Residue part) noexcept nogil:
    return Taps(part.taps, part.first_output, -part.output_step, part.first_tap, part.tap_step)


def backward_input(dy, w, dx, int64_t stride_h, int64_t stride_w, int64_t top, int64_t left,
                   int64_t dilation_h, int64_t dilation_w, int64_t groups):
    """Fill dx."""
    cdef Hold hold = Hold()
    cdef View vdy, vw, vdx
    cdef Residue down, across
    cdef Frame frame = Frame()
    cdef int64_t i, j, above, before, rows, columns
    hold.view(dy, &vdy, False)
    hold.view(w, &vw, False)
    hold.view(dx, &vdx, True)
    if vw.shape[R] * vw.shape[S] * stride_h * stride_w > 1 and direct_input(
            &vdy, &vw, &vdx, stride_h, stride_w, top, left, dilation_h, dilation_w, groups):
        return
    # The outputs that the inputs meet begin `above` and `before` dy and may end beyond it.
    above = max(-floor_div(top - (vw.shape[R] - 1) * dilation_h, stride_h), 0)
    before = max(-floor_div(left - (vw.shape[S] - 1) * dilation_w, stride_w), 0)
    rows = above + max((vdx.shape[H] - 1 + top) // stride_h + 1, vdy.shape[H])
    columns = before + max((vdx.shape[W] - 1 + left) // stride_w + 1, vdy.shape[W])
    frame.fill(&vdy, rows, columns, above, before)
    for i in range(min(stride_h, vdx.shape[H])):
        down = residue(i, vdx.shape[H], vw.shape[R], stride_h, top, dilation_h)
        down.first_output += above
        for j in range(min(stride_w, vdx.shape[W])):
            across = residue(j, vdx.shape[W], vw.shape[S], stride_w, left, dilation_w)
            across.first_output += before
            backward_residue(&frame.view, &vw, &vdx, &down, &across, stride_h, stride_w, groups)


cdef bint direct_input(View *vdy, View *vw, View *vdx, int64_t stride_h, int64_t stride_w,
                       int64_t top, int64_t left, int64_t dilation_h, int64_t dilation_w,
                       int64_t groups) except -1:
    """Whether direct convolution serves; then it has."""
    cdef Correlation direct
    cdef int64_t d
    cdef int64_t *w_strides = [vw.strides[C], vw.strides[O], vw.strides[R], vw.strides[S]]
    if max(stride_h, stride_w) > MOST_SPREAD:
        return False
    describe(&direct, vdy, vw, w_strides, vdx, vw.shape[C], groups)
    direct.spread[0], direct.spread[1] = stride_h, stride_w
    for d in range(stride_h):
        direct.taps[0][d] = taps_of(
            residue(d, vdx.shape[H], vw.shape[R], stride_h, top, dilation_h))
    for d in range(stride_w):
        direct.taps[1][d] = taps_of(
            residue(d, vdx.shape[W], vw.shape[S], stride_w, left, dilation_w))
    if not correlates(&direct):
        return False
    with nogil:
        correlate(&direct)
    return True


cdef int64_t floor_div(int64_t a, int64_t b) noexcept:
    return a // b if a >= 0 else -((b - 1 - a) // b)


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
    problem.a_slice = Axis(NULL, outputs * vw.strides[O])
    problem.b_slice = Axis(NULL, outputs * vdy.strides[C])
    problem.c_slice = Axis(NULL, inputs * vdx.strides[C])
    problem.bias_slice = Axis(NULL, 0)
    problem.a_row = Axis(NULL, vw.strides[C])
    problem.a_k = tables.grid(taps, [vw.strides[O], down.tap_step * vw.strides[R],
                                     across.tap_step * vw.strides[S]])
    problem.b_k = tables.grid(taps, [vdy.strides[C], -down.output_step * vdy.strides[H],
                                     -across.output_step * vdy.strides[W]])
    problem.b_column = tables.grid(positions, [vdy.strides[N], vdy.strides[H], vdy.strides[W]])
    problem.c_row = Axis(NULL, vdx.strides[C])
    problem.c_column = tables.grid(positions, [vdx.strides[N], stride_h * vdx.strides[H],
                                               stride_w * vdx.strides[W]])
    with nogil:
        contract(problem)
    return 0
