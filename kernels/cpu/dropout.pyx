"""Dropout, forward and backward alike: CONTRACT.md, section 10.

    y[i] = x[i] / (1 - rate) where word i of the stream is kept, else +0

The mask is computed again whenever it is needed and stored nowhere: a task draws the words of its run
of elements, a cache-sized piece at a time, and applies them.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from halfwave._cpu.runtime cimport (
    Plain,
    fresh_like,
    hw_tiles,
    parallel_for,
    past_caches,
    tiles,
    worthwhile_threads,
)

cdef extern from "dispatch.h":
    enum: HW_BLOCKS_SLACK

cdef int64_t GRAIN = 1 << 16  # elements a task
cdef enum:
    PIECE = 2048  # words drawn at a time: 8 KB

cdef struct Job:
    const hw_tiles *tiles
    uint64_t seed, stream
    uint32_t threshold
    double scale
    int wide
    bint past
    int64_t size, itemsize
    char *x
    char *y


cdef void apply(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef uint32_t words[PIECE + 4 * HW_BLOCKS_SLACK]
    cdef int64_t at = task * GRAIN, end = min(at + GRAIN, job.size), length
    while at < end:  # `at` is a multiple of 4, so of whole blocks
        length = min(<int64_t>PIECE, end - at)
        job.tiles.random.blocks(job.seed, job.stream, at // 4, (length + 3) // 4, words)
        job.tiles.dropout.apply[job.wide](length, words, job.threshold, job.scale,
                                          job.x + at * job.itemsize, job.y + at * job.itemsize,
                                          job.past)
        at += length


def dropout(uint64_t seed, uint64_t stream, uint32_t threshold, double scale, x, out):
    """out, or a fresh array, = x with its mask. None: not plain, nothing done."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef Job job
    job.x = plain.add(x, False, False)
    if job.x == NULL:
        return None
    out = fresh_like(x) if out is None else out
    job.y = plain.add(out, True, True)
    if job.y == NULL or plain.overlap(0, 1):
        return None
    job.tiles = tiles()
    job.seed = seed
    job.stream = stream
    job.threshold = threshold
    job.scale = scale
    job.wide = plain.wide
    job.size = plain.size
    job.itemsize = 8 if plain.wide else 4
    job.past = past_caches(job.size * job.itemsize) and job.y != job.x
    with nogil:
        parallel_for(apply, &job, (job.size + GRAIN - 1) // GRAIN,
                     worthwhile_threads(job.size * 0.5))
    return out
