"""Sums over the elements of each channel, by the rule of CONTRACT.md, section 5.

    result[c] = sum over (o, i) of term(o, c, i),    terms in C order, in chunks of 4096

The tasks are runs of (chunk, channel block) pairs. Where a run of `inner` elements holds a chunk
or more, the next chunk follows in memory, so the chunks of a channel come one after the other; else
the channels do, which may share cache lines. A block is one channel or, of small planes, several; or
up to 1024 where channels lie side by side (inner = 1) and are the lanes of vectors: fewer where threads
would have nothing to do. Every task writes its chunk's sum to its own place; the chunks' sums are then
folded channel by channel, so no result depends on who computed what.
"""
from libc.stdint cimport int64_t

from halfwave._cpu.runtime cimport (
    Hold,
    View,
    hw_chunk_source,
    hw_chunk_tile,
    hw_reduction_tiles,
    HW_SUM_CHUNK,
    HW_SUM_LANES,
    HW_SUM_ROWS,
    HW_SUM_SKEW,
    HW_SUM_WIDE,
    HW_SUM_WIDTH,
    parallel_for,
    tiles,
    workspace_give,
    workspace_take,
    worthwhile_threads,
)

cdef enum:
    PLANES = 32     # small ones, whose runs are taken together

cdef struct Job:
    hw_chunk_tile tile
    const hw_chunk_source *source
    const hw_reduction_tiles *reduction
    int wide
    int64_t itemsize, channels, inner
    int64_t length      # terms a channel
    int64_t chunks      # a channel
    int64_t width       # channels a block
    int64_t blocks
    int64_t grain       # (chunk, block) pairs a task
    int64_t lanes_bytes
    char *lanes         # lanes_bytes a worker
    char *partial       # [channel][chunk]
    char *result


cdef void sum_chunks(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t first = task * job.grain, last = min(first + job.grain, job.chunks * job.blocks)
    cdef int64_t pair, chunk, channel, width, begin, end, c
    cdef double sums[HW_SUM_WIDE]
    cdef char *sum
    for pair in range(first, last):
        if job.inner >= HW_SUM_CHUNK:
            chunk = pair % job.chunks
            channel = pair // job.chunks * job.width
        else:
            chunk = pair // job.blocks
            channel = pair % job.blocks * job.width
        width = min(job.width, job.channels - channel)
        begin = chunk * HW_SUM_CHUNK
        end = min(begin + HW_SUM_CHUNK, job.length)
        job.tile(job.source, job.channels, job.inner, channel, width, begin, end,
                 job.lanes + worker * job.lanes_bytes, sums)
        for c in range(width):
            sum = job.partial + ((channel + c) * job.chunks + chunk) * job.itemsize
            if job.wide:
                (<double *>sum)[0] = sums[c]
            else:
                (<float *>sum)[0] = (<float *>sums)[c]


cdef void fold_chunks(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t channel
    for channel in range(job.channels):
        job.reduction.sum_in_place[job.wide](
            job.partial + channel * job.chunks * job.itemsize, job.chunks,
            job.result + channel * job.itemsize)


cdef int reduce_channels(hw_chunk_tile tile, const hw_chunk_source *source, int wide, int64_t outer,
                         int64_t channels, int64_t inner, void *result) except -1:
    cdef Job job
    if channels == 1:  # one run, however it is cut
        inner, outer = outer * inner, 1
    job.tile = tile
    job.source = source
    job.reduction = tiles().reduction
    job.wide = wide
    job.itemsize = 8 if wide else 4
    job.channels = channels
    job.inner = inner
    job.length = outer * inner
    job.chunks = (job.length + HW_SUM_CHUNK - 1) // HW_SUM_CHUNK
    cdef int threads = worthwhile_threads(<double>job.length * channels * 0.25)
    cdef int64_t tasks_a_thread = 1 if source.in_memory else 2
    if inner == 1:  # 4 MB of lanes at most, which are few beside what is in memory, or 512 KB
        job.width = HW_SUM_WIDE if source.in_memory else HW_SUM_WIDTH
        job.width = min(channels, job.width * 4 // job.itemsize)
        while (job.width > 64 and threads > 1
               and job.chunks * channels < tasks_a_thread * threads * job.width):
            job.width = (job.width + 1) // 2
    else:
        job.width = min(channels, max(1, min(PLANES, HW_SUM_CHUNK // max(inner, 1))))
    if channels == 0:
        return 0
    job.blocks = (channels + job.width - 1) // job.width
    # A task takes at least 32768 terms, so that short channels cost no hand-over each.
    cdef int64_t terms = min(job.length, HW_SUM_CHUNK) * job.width
    job.grain = max(1, 32768 // max(terms, 1))
    cdef int64_t tasks = (job.chunks * job.blocks + job.grain - 1) // job.grain
    job.lanes_bytes = HW_SUM_ROWS if inner == 1 and not source.in_memory else HW_SUM_LANES
    job.lanes_bytes = job.lanes_bytes * job.width * job.itemsize + HW_SUM_SKEW
    # A chunk a channel is its sum; and of next to nothing, letting others run costs more than it takes.
    cdef int64_t partial_bytes = 0 if job.chunks == 1 else channels * job.chunks * job.itemsize
    job.lanes = <char *>workspace_take(threads * job.lanes_bytes + partial_bytes)
    job.result = <char *>result
    job.partial = job.result if job.chunks == 1 else job.lanes + threads * job.lanes_bytes
    try:
        if job.chunks == 1 and tasks == 1:
            parallel_for(sum_chunks, &job, 1, 1)
        else:
            with nogil:
                parallel_for(sum_chunks, &job, tasks, threads)
                if job.chunks != 1:
                    parallel_for(fold_chunks, &job, 1, 1)
    finally:
        workspace_give(job.lanes)
    return 0


cdef int channel_sums_f32(const float *x, int64_t outer, int64_t channels, int64_t inner,
                          float *result) except -1:
    cdef hw_chunk_source source
    source.x = x
    source.in_memory = False
    return reduce_channels(tiles().reduction.sum_chunk[0], &source, 0, outer, channels, inner, result)


cdef int channel_sums_f64(const double *x, int64_t outer, int64_t channels, int64_t inner,
                          double *result) except -1:
    cdef hw_chunk_source source
    source.x = x
    source.in_memory = False
    return reduce_channels(tiles().reduction.sum_chunk[1], &source, 1, outer, channels, inner, result)


def channel_sums(x, out):
    """out[c] = the sum of x[:, c, :]; both C-contiguous, of one dtype, not overlapping."""
    cdef Hold hold = Hold()
    cdef View v, r
    hold.view(x, &v, False)
    hold.view(out, &r, True)
    if v.itemsize == 8:
        channel_sums_f64(<double *>v.data, v.shape[0], v.shape[1], v.shape[2], <double *>r.data)
    else:
        channel_sums_f32(<float *>v.data, v.shape[0], v.shape[1], v.shape[2], <float *>r.data)
