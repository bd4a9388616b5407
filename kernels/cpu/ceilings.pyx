"""What the machine gives at most, for bench/: multiply-adds on registers, reading, writing, copying.

No part of the public interface. The loops are those of tiles/ceilings.c, shared out over the pool in
pieces as the kernels are, so that the figures hold for the same threads and instruction set.
"""
from libc.stdint cimport int64_t, uintptr_t

from halfwave._cpu.runtime cimport Plain, hw_ceilings_tiles, parallel_for, tiles

cdef int64_t PIECE = 1 << 18  # floats: 1 MiB
cdef int SHARES = 16          # of the multiply-adds, for each thread

cdef struct Job:
    const hw_ceilings_tiles *table
    const float *source
    float *target
    int64_t n
    int streaming


cdef void multiply_add_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    job.table.multiply_add(job.n)


cdef void memory_task(void *context, int64_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *>context
    cdef int64_t begin = task * PIECE, n = min(PIECE, job.n - begin)
    if job.target == NULL:
        job.table.read(n, job.source + begin)
    elif job.source == NULL:
        job.table.write[job.streaming](n, job.target + begin)
    else:
        job.table.copy[job.streaming](n, job.source + begin, job.target + begin)


def multiply_add(int64_t steps, int threads):
    """Runs so many steps on each thread; the floating-point operations of all."""
    cdef Job job
    job.table = tiles().ceilings
    job.n = steps // SHARES
    with nogil:
        parallel_for(multiply_add_task, &job, SHARES * threads, threads)
    return job.n * SHARES * threads * job.table.step_flops


cdef const float *memory(Plain plain, object array, bint writable) except NULL:
    """A plain float32 array's, from the first whole cache line on."""
    cdef char *data = plain.add(array, writable, True)
    if data == NULL or plain.wide:
        raise ValueError("ceilings are measured on plain float32 arrays of one shape")
    return <const float *>(<uintptr_t>(data + 63) // 64 * 64)


cdef int move(Job *job, Plain plain, bint streaming, int threads) except -1:
    job.table = tiles().ceilings
    job.streaming = streaming
    job.n = (plain.size - 16) // 64 * 64 if plain.size > 64 else 0  # whole lines, whole loops
    with nogil:
        parallel_for(memory_task, job, (job.n + PIECE - 1) // PIECE, threads)
    return 0


def read(source, int threads):
    """Reads the array once."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef Job job
    job.source = memory(plain, source, False)
    job.target = NULL
    move(&job, plain, False, threads)


def write(target, bint streaming, int threads):
    """Fills the array once, with stores that pass the cache by or plain ones."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef Job job
    job.source = NULL
    job.target = <float *>memory(plain, target, True)
    move(&job, plain, streaming, threads)


def copy(source, target, bint streaming, int threads):
    """Copies one array to the other."""
    cdef Plain plain = Plain.__new__(Plain)
    cdef Job job
    job.source = memory(plain, source, False)
    job.target = <float *>memory(plain, target, True)
    move(&job, plain, streaming, threads)


def streams():
    """Whether the instruction set in use has stores that pass the cache by."""
    return bool(tiles().ceilings.streams)
