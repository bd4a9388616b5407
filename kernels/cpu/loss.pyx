"""Softmax cross-entropy, forward and backward: CONTRACT.md, section 9.

    loss[i] = log sum over j of exp(x[i, j] - m[i]) - (x[i, label[i]] - m[i]),    m[i] = max of x[i]
    dx[i, j] = (softmax(x[i])[j] - [j = label[i]]) / divisor

A task takes some rows, a row at a time; the rows' losses are then summed by the sum rule.
"""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport (
    HW_SUM_CHUNK,
    Hold,
    View,
    hw_loss_tiles,
    parallel_for,
    tiles,
    workspace_give,
    workspace_take,
    worthwhile_threads,
)

cdef struct Job:
    const hw_loss_tiles *tiles
    int wide
    int64_t itemsize, rows, classes, grain
    char *logits
    const int64_t *labels
    char *losses    # the forward pass, else NULL
    char *gradient
    double divisor
    char *scratch
    int64_t scratch_bytes   # a worker


cdef void take_rows(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t row, start
    cdef char *scratch = job.scratch + worker * job.scratch_bytes
    for row in range(task * job.grain, min((task + 1) * job.grain, job.rows)):
        start = row * job.classes * job.itemsize
        if job.losses != NULL:
            job.tiles.cross_entropy[job.wide](job.classes, job.logits + start, job.labels[row],
                                              scratch, job.losses + row * job.itemsize)
        else:
            job.tiles.gradient[job.wide](job.classes, job.logits + start, job.labels[row],
                                         job.divisor, scratch, job.gradient + start)


cdef int run(Job *job, View *logits, View *labels) except -1:
    cdef int64_t chunks
    job.tiles = tiles().loss
    job.wide = logits.itemsize == 8
    job.itemsize = logits.itemsize
    job.rows = logits.shape[0]
    job.classes = logits.shape[1]
    job.logits = logits.data
    job.labels = <const int64_t *>labels.data
    job.grain = max(1, 8192 // max(job.classes, 1))
    chunks = (job.classes + HW_SUM_CHUNK - 1) // HW_SUM_CHUNK
    job.scratch_bytes = (HW_SUM_CHUNK + chunks) * job.itemsize // 64 * 64 + 64
    cdef int threads = worthwhile_threads(<double>job.rows * job.classes)
    job.scratch = <char *>workspace_take(threads * job.scratch_bytes)
    try:
        with nogil:
            parallel_for(take_rows, job, (job.rows + job.grain - 1) // job.grain, threads)
    finally:
        workspace_give(job.scratch)
    return 0


def cross_entropy(logits, labels, losses):
    """losses[i] of every row. C order, labels int64 and in range."""
    cdef Hold hold = Hold()
    cdef View x, t, y
    cdef Job job
    hold.view(logits, &x, False)
    hold.view(labels, &t, False)
    hold.view(losses, &y, True)
    job.losses = y.data
    run(&job, &x, &t)


def cross_entropy_backward(logits, labels, double divisor, gradient):
    """gradient = (softmax(logits) - onehot(labels)) / divisor. C order, no overlap."""
    cdef Hold hold = Hold()
    cdef View x, t, dx
    cdef Job job
    hold.view(logits, &x, False)
    hold.view(labels, &t, False)
    hold.view(gradient, &dx, True)
    job.losses = NULL
    job.gradient = dx.data
    job.divisor = divisor
    run(&job, &x, &t)
