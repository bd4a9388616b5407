"""Activations, forward and backward: CONTRACT.md, section 7.

    relu   y = max(0, x)                      dx = dy where x > 0, else 0
    prelu  y = max(0, x) + alpha min(0, x)    dx = dy where x > 0, else alpha dy
                                              dalpha = sum of dy x where x <= 0
    sigmoid y = 1 / (1 + exp(-x))             dx = dy y (1 - y)
    tanh                                      dx = dy (1 - y) (1 + y)

Elementwise functions cut the array into runs of consecutive elements, a task each. PReLU's backward
pass follows the chunks of the sum that gives dalpha (reduction.pyx), and reads dy and x and writes dx
once on the way. Each `def` here returns what it wrote, `out` or fresh arrays; or None, having touched
nothing, where an array is not a plain one (native float, aligned, C order, no partial overlap) or
arguments do not fit: _elementwise.py then makes it so, or raises.
"""
from libc.stdint cimport int64_t

from halfwave._cpu.reduction cimport reduce_channels
from halfwave._cpu.runtime cimport (
    HW_RELU,
    HW_SIGMOID,
    HW_TANH,
    Plain,
    fresh_like,
    hw_activation_tiles,
    hw_chunk_source,
    hw_map1_tile,
    hw_map2_tile,
    hw_prelu_tile,
    parallel_for,
    past_caches,
    tiles,
    worthwhile_threads,
)

RELU, SIGMOID, TANH = HW_RELU, HW_SIGMOID, HW_TANH

cdef int64_t GRAIN = 1 << 16  # elements a task

cdef struct Job:
    hw_map1_tile map1
    hw_map2_tile map2
    hw_prelu_tile prelu
    int64_t size, itemsize
    bint past
    char *a
    char *b
    char *y
    int64_t channels, inner
    const void *alpha


cdef void map1_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t begin = task * GRAIN, start = begin * job.itemsize
    job.map1(min(GRAIN, job.size - begin), job.a + start, job.y + start, job.past)


cdef void map2_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t begin = task * GRAIN, start = begin * job.itemsize
    job.map2(min(GRAIN, job.size - begin), job.a + start, job.b + start, job.y + start, job.past)


cdef void prelu_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t begin = task * GRAIN
    job.prelu(begin, min(begin + GRAIN, job.size), job.channels, job.inner, job.alpha, job.a, job.y,
              job.past)


def map1(int function, x, out):
    """out = f(x), elementwise: RELU, SIGMOID or TANH."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef const hw_activation_tiles *table = tiles().activation
    cdef Job job
    job.a = plain.add(x, False, False)
    if job.a == NULL:
        return None
    out = fresh_like(x) if out is None else out
    job.y = plain.add(out, True, True)
    if job.y == NULL or plain.overlap(0, 1):
        return None
    job.map1 = table.forward[function][plain.wide]
    job.size = plain.size
    job.itemsize = 8 if plain.wide else 4
    job.past = past_caches(job.size * job.itemsize) and job.y != job.a
    with nogil:
        parallel_for(map1_task, &job, (job.size + GRAIN - 1) // GRAIN,
                     worthwhile_threads(job.size * (0.1 if function == HW_RELU else 1.0)))
    return out


def map2(int function, dy, x, out):
    """out = the gradient by x, elementwise; x stands for y with SIGMOID and TANH."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef const hw_activation_tiles *table = tiles().activation
    cdef Job job
    job.a = plain.add(dy, False, False)
    if job.a == NULL:
        return None
    job.b = plain.add(x, False, True)
    if job.b == NULL:
        return None
    out = fresh_like(x) if out is None else out
    job.y = plain.add(out, True, True)
    if job.y == NULL or plain.overlap(0, 2) or plain.overlap(1, 2):
        return None
    job.map2 = table.backward[function][plain.wide]
    job.size = plain.size
    job.itemsize = 8 if plain.wide else 4
    job.past = past_caches(job.size * job.itemsize) and job.y != job.a and job.y != job.b
    with nogil:
        parallel_for(map2_task, &job, (job.size + GRAIN - 1) // GRAIN,
                     worthwhile_threads(job.size * 0.15))
    return out


cdef bint see_channels(const Py_buffer *x, const Py_buffer *alpha, object axis,
                       int64_t *shape) except -1:
    """Sees x as (outer, channels, inner). False: axis and alpha do not fit x."""
    cdef int64_t slopes = alpha.len // alpha.itemsize
    cdef int64_t along
    cdef int i
    shape[0] = shape[1] = shape[2] = 1
    if type(axis) is not int:
        return False
    if slopes == 1:
        shape[2] = x.len // x.itemsize
        return True
    try:
        along = axis
    except OverflowError:
        return False
    if alpha.ndim != 1 or not -x.ndim <= along < x.ndim:
        return False
    if along < 0:
        along += x.ndim
    for i in range(x.ndim):
        shape[0 if i < along else 1 if i == along else 2] *= x.shape[i]
    return shape[1] == slopes


def prelu(x, alpha, axis, out):
    """out = prelu(x)."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef const hw_activation_tiles *table = tiles().activation
    cdef Job job
    cdef int64_t shape[3]
    job.a = plain.add(x, False, False)
    if job.a == NULL:
        return None
    job.alpha = plain.add(alpha, False, False)
    if job.alpha == NULL:
        return None
    out = fresh_like(x) if out is None else out
    job.y = plain.add(out, True, True)
    if job.y == NULL or plain.overlap(0, 2) or plain.overlap(1, 2):
        return None
    if plain.size > 0 and job.alpha == job.y:
        return None
    if not see_channels(&plain.buffers[0], &plain.buffers[1], axis, shape):
        return None
    job.prelu = table.prelu[plain.wide]
    job.size = plain.size
    job.channels = shape[1]
    job.inner = shape[2]
    job.past = past_caches(job.size * (8 if plain.wide else 4)) and job.y != job.a
    with nogil:
        parallel_for(prelu_task, &job, (job.size + GRAIN - 1) // GRAIN,
                     worthwhile_threads(job.size * 0.1))
    return out


def prelu_backward(dy, x, alpha, axis, dx):
    """dx and dalpha."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef hw_chunk_source source
    cdef int64_t shape[3]
    source.dy = plain.add(dy, False, False)
    if source.dy == NULL:
        return None
    source.x = plain.add(x, False, True)
    if source.x == NULL:
        return None
    dx = fresh_like(x) if dx is None else dx
    source.dx = plain.add(dx, True, True)
    if source.dx == NULL or plain.overlap(0, 2) or plain.overlap(1, 2):
        return None
    source.alpha = plain.add(alpha, False, False)
    if source.alpha == NULL or plain.overlap(2, 3):
        return None
    if plain.size > 0 and source.alpha == source.dx:
        return None
    if not see_channels(&plain.buffers[1], &plain.buffers[3], axis, shape):
        return None
    dalpha = fresh_like(alpha)
    cdef char *sums = plain.add(dalpha, True, False)
    if sums == NULL:
        return None
    cdef int64_t bytes = plain.size * (8 if plain.wide else 4)
    source.in_memory = past_caches(3 * bytes)
    source.past = past_caches(bytes) and source.dx != source.dy and source.dx != source.x
    reduce_channels(tiles().activation.prelu_backward[plain.wide], &source, plain.wide, shape[0],
                    shape[1], shape[2], sums)
    return dx, dalpha
