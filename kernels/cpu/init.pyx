"""The orthogonal initializer: Q of a Householder QR decomposition, all in float64.

A, m × n with m ≥ n, lies in panels of 32 columns, each m rows × 32. What is computed is the plain
unblocked method: reflection k makes zeros below element (k, k) and is applied to the columns right of
it. A column's bits depend on the reflections' order alone, so the work may be cut so that a panel and
the reflections it meets stay in the L2 cache: a panel's 32 reflections are applied to the later panels,
a panel a task, of which the first makes the next panel's reflections as well, while others are busy.
Q grows from the identity by the reflections in reverse, 32 at a time, again a panel a task. Reflections
are applied to whole panels: what becomes of column k of A after reflection k does not matter, and
columns of the identity left of k stay as they are.
"""
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport (
    Hold, View, hw_householder_tiles, hw_reflections, parallel_for, tiles, workspace_give,
    workspace_take, worthwhile_threads,
)

cdef enum:
    PANEL = 32

cdef extern from *:
    """
    _Static_assert(HW_PANEL == 32, "the panel's width");
    """

cdef struct Job:
    const hw_householder_tiles *tiles
    View source, target
    int64_t rows, columns, panels, current
    hw_reflections all
    double scale
    double *a        # panels of A, then of Q
    double *beta


cdef void load_panel(void *context, int64_t p, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef double *a = job.a + p * job.rows * PANEL
    cdef int64_t i, j, at
    for i in range(job.rows):
        for j in range(PANEL):
            at = i * job.source.strides[0] + (p * PANEL + j) * job.source.strides[1]
            if p * PANEL + j >= job.columns:
                a[i * PANEL + j] = 0
            elif job.source.itemsize == 4:
                a[i * PANEL + j] = (<const float *>job.source.data)[at]
            else:
                a[i * PANEL + j] = (<const double *>job.source.data)[at]


cdef void factor_panel(Job *job, int64_t p) noexcept nogil:
    cdef double *panel = job.a + p * job.rows * PANEL
    cdef int64_t k
    for k in range(p * PANEL, min((p + 1) * PANEL, job.columns)):
        job.beta[k] = job.tiles.make(&job.all, k, panel + k % PANEL)
        job.tiles.apply(&job.all, k, k, panel)


cdef void first_panel(void *context, int64_t index, int worker) noexcept nogil:
    factor_panel(<Job *>context, 0)


cdef void update_panel(void *context, int64_t index, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t p = job.current + 1 + index
    job.tiles.apply(&job.all, job.current * PANEL, (job.current + 1) * PANEL - 1,
                    job.a + p * job.rows * PANEL)
    if index == 0:
        factor_panel(job, p)


cdef void identity_panel(void *context, int64_t p, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef double *q = job.a + p * job.rows * PANEL
    cdef int64_t i, j
    for i in range(job.rows):
        for j in range(PANEL):
            q[i * PANEL + j] = 1 if i == p * PANEL + j else 0


cdef void grow_panel(void *context, int64_t index, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t first = job.current * PANEL
    job.tiles.apply(&job.all, min(first + PANEL, job.columns) - 1, first,
                    job.a + (job.current + index) * job.rows * PANEL)


cdef void store_panel(void *context, int64_t p, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef const double *q = job.a + p * job.rows * PANEL
    cdef int64_t first = p * PANEL, count = min(<int64_t>PANEL, job.columns - first), i, j, at
    cdef double value
    for i in range(job.rows):
        for j in range(count):
            value = (-job.scale if job.beta[first + j] < 0 else job.scale) * q[i * PANEL + j]
            at = i * job.target.strides[0] + (first + j) * job.target.strides[1]
            if job.target.itemsize == 4:
                (<float *>job.target.data)[at] = <float>value
            else:
                (<double *>job.target.data)[at] = value


def orthogonal(source, target, double scale):
    """target = scale · Q D with source = Q R and D the signs of R's diagonal, so that Q is unique.

    Both are m × n, m ≥ n ≥ 1, float32 or float64, of any strides.
    """
    cdef Hold hold = Hold()
    cdef Job job
    cdef int threads
    hold.view(source, &job.source, False)
    hold.view(target, &job.target, True)
    job.tiles = tiles().householder
    job.rows, job.columns = job.source.shape[0], job.source.shape[1]
    job.panels = (job.columns + PANEL - 1) // PANEL
    job.scale = scale
    cdef int64_t elements = job.rows * (job.panels * PANEL + job.columns) + 2 * job.columns
    threads = worthwhile_threads(0.3 * job.rows * job.columns * job.columns)
    job.a = <double *>workspace_take(8 * elements)
    job.all.rows = job.rows
    job.all.v = job.a + job.rows * job.panels * PANEL
    job.all.tau = job.all.v + job.rows * job.columns
    job.beta = job.all.tau + job.columns
    try:
        with nogil:
            parallel_for(load_panel, &job, job.panels, threads)
            parallel_for(first_panel, &job, 1, 1)
        for job.current in range(job.panels - 1):
            PyErr_CheckSignals()
            with nogil:
                parallel_for(update_panel, &job, job.panels - 1 - job.current, threads)
        with nogil:
            parallel_for(identity_panel, &job, job.panels, threads)
        for job.current in range(job.panels - 1, -1, -1):
            PyErr_CheckSignals()
            with nogil:
                parallel_for(grow_panel, &job, job.panels - job.current, threads)
        with nogil:
            parallel_for(store_panel, &job, job.panels, threads)
    finally:
        workspace_give(job.a)
