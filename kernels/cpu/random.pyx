"""Random words and the variates made of them: which words, in what pieces, on which threads.

An array's element i (its index in C order in the *whole* array) takes word i, or words 2i and 2i + 1
where it is 64 bits wide. What is written is described as a base and a step a dimension: element
(j0, j1, …) of `out` is element base + Σ jd·stepd of the whole. So a shard is written as the whole is.

`out`, flat, is cut into chunks, one a task. A task goes along its rows in pieces that fit the L1
cache: words into a buffer, variates from the buffer into `out`. Where the last step is 1 the words
are whole vectors of Philox blocks; else each is computed on its own.
"""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from halfwave._cpu.runtime cimport (
    Hold, View, hw_draw, hw_random_tiles, parallel_for, tiles, worthwhile_threads,
)

cdef extern from "common/distributions.h" nogil:
    ctypedef struct hw_uniform_f32:
        float low, span, last
    ctypedef struct hw_uniform_f64:
        double low, span, last
    ctypedef struct hw_normal_params_f32:
        float mean, std
    ctypedef struct hw_normal_params_f64:
        double mean, std
    ctypedef struct hw_truncated_f32:
        float mean, std, lower, upper, below, above, q0, scale
        uint32_t centre, flip
    ctypedef struct hw_truncated_f64:
        double mean, std, lower, upper, below, above, q0, scale
        uint64_t centre, flip

cdef extern from *:
    """
    _Static_assert(4 * HW_BLOCKS_SLACK + 4 + 64 / 4 <= 128, "the buffer's room");
    """

cdef extern from "common/philox.h" nogil:
    uint32_t hw_random_word(uint64_t seed, uint64_t stream, uint64_t index)
    ctypedef struct hw_philox_block:
        uint32_t word[4]
    hw_philox_block hw_philox4x32(hw_philox_block counter, uint32_t key0, uint32_t key1)

cdef enum:
    PIECE = 1024  # elements; 8 KB of words at most
    CHUNK = 16 * PIECE
    ALIGNMENT = 64
    BUFFER = 2 * PIECE + 128   # words: room for the blocks' slack, a partial block and the alignment

cdef union Distribution:
    hw_uniform_f32 uniform_f32
    hw_uniform_f64 uniform_f64
    hw_normal_params_f32 normal_f32
    hw_normal_params_f64 normal_f64
    hw_truncated_f32 truncated_f32
    hw_truncated_f64 truncated_f64

cdef struct Job:
    const hw_random_tiles *tiles
    hw_draw draw               # NULL: the words themselves
    Distribution distribution
    uint64_t seed, stream
    const uint32_t *given      # words to use in place of the stream's, or NULL
    int words                  # of an element: 1 or 2
    bint half                  # float32 variates, rounded to float16
    char *out
    int64_t itemsize, size
    int ndim
    int64_t base
    int64_t shape[16]
    int64_t steps[16]


cdef void fill_piece(const Job *job, int64_t element, int64_t step, int64_t count,
                     char *out) noexcept nogil:
    cdef uint32_t memory[BUFFER]
    cdef float variates[PIECE]
    cdef uint32_t *words = <uint32_t *>((<size_t>memory + ALIGNMENT - 1) & ~<size_t>(ALIGNMENT - 1))
    cdef int64_t first = element * job.words, wanted = count * job.words, i
    cdef int j
    if job.given != NULL:
        words = <uint32_t *>job.given + first
    elif step == 1:
        job.tiles.blocks(job.seed, job.stream, first >> 2, ((first & 3) + wanted + 3) >> 2, words)
        words += first & 3
    else:
        for i in range(count):
            for j in range(job.words):
                words[i * job.words + j] = hw_random_word(
                    job.seed, job.stream, <uint64_t>((element + i * step) * job.words + j))
    if job.draw == NULL:
        memcpy(out, words, 4 * wanted)
    elif job.half:
        job.draw(words, count, &job.distribution, variates)
        job.tiles.round_f16(variates, count, <uint16_t *>out)
    else:
        job.draw(words, count, &job.distribution, out)


cdef void fill_chunk(void *context, int64_t index, int worker) noexcept nogil:
    cdef const Job *job = <const Job *>context
    cdef int last = job.ndim - 1, axis
    cdef int64_t at = index * CHUNK, end = min(at + CHUNK, job.size)
    cdef int64_t row, column, element, count
    while at < end:
        row = at // job.shape[last]
        column = at % job.shape[last]
        element = job.base + column * job.steps[last]
        for axis in range(last - 1, -1, -1):
            element += row % job.shape[axis] * job.steps[axis]
            row //= job.shape[axis]
        count = min(min(job.shape[last] - column, end - at), <int64_t>PIECE)
        fill_piece(job, element, job.steps[last], count, job.out + at * job.itemsize)
        at += count


cdef int choose(Job *job, const hw_random_tiles *t, str distribution, bint double,
                tuple p) except -1:
    """Sets the loop and its parameters, given in the order of the structs."""
    if distribution == "bits":
        job.draw = NULL
    elif distribution == "uniform" and double:
        job.draw = t.uniform_f64
        job.distribution.uniform_f64 = hw_uniform_f64(p[0], p[1], p[2])
    elif distribution == "uniform":
        job.draw = t.uniform_f32
        job.distribution.uniform_f32 = hw_uniform_f32(p[0], p[1], p[2])
    elif distribution == "normal" and double:
        job.draw = t.normal_f64
        job.distribution.normal_f64 = hw_normal_params_f64(p[0], p[1])
    elif distribution == "normal":
        job.draw = t.normal_f32
        job.distribution.normal_f32 = hw_normal_params_f32(p[0], p[1])
    elif double:
        job.draw = t.truncated_f64
        job.distribution.truncated_f64 = hw_truncated_f64(
            p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9])
    else:
        job.draw = t.truncated_f32
        job.distribution.truncated_f32 = hw_truncated_f32(
            p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9])
    return 0


cdef int run(Job *job, str distribution, tuple parameters, const View *out, int64_t base,
             tuple shape, tuple steps) except -1:
    cdef int i
    job.tiles = tiles().random
    choose(job, job.tiles, distribution, out.itemsize == 8, parameters)
    job.words = 2 if out.itemsize == 8 else 1
    job.half = out.itemsize == 2
    job.out = out.data
    job.itemsize = out.itemsize
    job.size = out.size
    job.base = base
    job.ndim = len(shape)
    for i in range(job.ndim):
        job.shape[i] = shape[i]
        job.steps[i] = steps[i]
    cdef int64_t chunks = (job.size + CHUNK - 1) // CHUNK
    with nogil:
        parallel_for(fill_chunk, job, chunks, worthwhile_threads(2.0 * job.size * job.words))
    return 0


def fill(out, str distribution, tuple parameters, uint64_t seed, uint64_t stream,
         int64_t base, tuple shape, tuple steps):
    """Fills the C-contiguous `out` from the elements base + Σ jd·steps[d], jd < shape[d], in C order.

    `out` is uint32 for the distribution "bits", else float16, float32 or float64; `shape` and `steps`
    describe at least one dimension and together as many elements as `out` has.
    """
    cdef Hold hold = Hold()
    cdef View view
    cdef Job job
    hold.view(out, &view, True)
    job.given = NULL
    job.seed = seed
    job.stream = stream
    run(&job, distribution, parameters, &view, base, shape, steps)


def draw(words, out, str distribution, tuple parameters):
    """The variates of the given words, uint32 or, for float64, uint64: both contiguous, flat."""
    cdef Hold hold = Hold()
    cdef View given, view
    cdef Job job
    hold.view(words, &given, False)
    hold.view(out, &view, True)
    job.given = <const uint32_t *>given.data
    job.seed = job.stream = 0
    run(&job, distribution, parameters, &view, 0, (view.size,), (1,))


def philox4x32(tuple counter, tuple key):
    """The four words of a counter of four words and a key of two."""
    cdef hw_philox_block block
    cdef int i
    for i in range(4):
        block.word[i] = counter[i]
    block = hw_philox4x32(block, key[0], key[1])
    return tuple([block.word[i] for i in range(4)])
