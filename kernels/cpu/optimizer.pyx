"""Gradient descent with momentum, in place: CONTRACT.md, section 11.

    v = momentum v + learning_rate (dw + weight_decay w),    w = w - v

Element by element; the arrays are cut into runs of consecutive elements, a task each.
"""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport (
    Plain,
    hw_optimizer_tiles,
    parallel_for,
    tiles,
    worthwhile_threads,
)

cdef int64_t GRAIN = 1 << 16  # elements a task

cdef struct Job:
    const hw_optimizer_tiles *tiles
    int wide
    int64_t size, itemsize
    char *w
    char *dw
    char *velocity
    double learning_rate, momentum, weight_decay


cdef void update(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t begin = task * GRAIN, start = begin * job.itemsize
    job.tiles.sgd_momentum[job.wide](
        min(GRAIN, job.size - begin), job.w + start, job.dw + start, job.velocity + start,
        job.learning_rate, job.momentum, job.weight_decay)


def sgd_momentum(w, dw, velocity, double learning_rate, double momentum, double weight_decay):
    """Updates w and velocity. False: not plain, nothing done."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef Job job
    job.w = plain.add(w, True, False)
    if job.w == NULL:
        return False
    job.dw = plain.add(dw, False, True)
    if job.dw == NULL:
        return False
    job.velocity = plain.add(velocity, True, True)
    if job.velocity == NULL:
        return False
    if plain.overlap(0, 1) or plain.overlap(1, 2) or plain.overlap(0, 2):
        return False
    if plain.size > 0 and (job.w == job.velocity or job.dw == job.w or job.dw == job.velocity):
        return False
    job.tiles = tiles().optimizer
    job.wide = plain.wide
    job.size = plain.size
    job.itemsize = 8 if plain.wide else 4
    job.learning_rate = learning_rate
    job.momentum = momentum
    job.weight_decay = weight_decay
    with nogil:
        parallel_for(update, &job, (job.size + GRAIN - 1) // GRAIN,
                     worthwhile_threads(job.size * 0.2))
    return True
