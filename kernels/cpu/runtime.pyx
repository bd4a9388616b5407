"""The runtime behind every family: threads, instruction sets, views of arrays.

One copy of the pool and of the tiles lives in this module; the other extension modules cimport it.
"""
import os

import numpy

from cpython.buffer cimport (
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uintptr_t

cdef extern from "pool.h" nogil:
    int hw_parallel_for(hw_task task, void *context, int64_t count, int threads)
    void hw_set_poll(int (*poll)() noexcept nogil)
    int hw_get_num_threads()
    void hw_set_num_threads(int threads)
    void *hw_workspace_take(int64_t bytes)
    void hw_workspace_give(void *memory)

cdef extern from "dispatch.h" nogil:
    int hw_set_count()
    const hw_tiles *hw_set_tiles(int set)
    int hw_set_supported(int set)

# ---- threads --------------------------------------------------------------------------------------


cdef int poll_signals() noexcept nogil:
    with gil:
        try:
            PyErr_CheckSignals()
            return 0
        except BaseException as error:
            global pending
            pending = error
            return -1

cdef object pending = None
hw_set_poll(poll_signals)


cdef int raise_pending() except -1:
    global pending
    error, pending = pending, None
    if error is None:
        error = RuntimeError("the process was forked in the midst of an operation, by a signal handler")
    raise error


cdef int parallel_for(hw_task task, void *context, int64_t count, int threads) except -1 nogil:
    if hw_parallel_for(task, context, count, threads) != 0:
        with gil:
            raise_pending()
    return 0


cdef int worthwhile_threads(double nanoseconds) noexcept nogil:
    # Handing work to another thread costs some microseconds: give each at least ten.
    cdef double wanted = nanoseconds / 10_000
    return 1 if wanted < 2 else <int>min(wanted, <double>hw_get_num_threads())


# By measurement (32 MB of third-level cache, 1 and 2 threads): ReLU is half as fast past the caches
# with a result of 8 MB, as fast with 16, twice with 32.
cdef int64_t stream_from = 24 << 20


cdef bint past_caches(int64_t bytes) noexcept nogil:
    return bytes >= stream_from


def write_past_caches_from(int64_t bytes):
    """Sets, for tests, how large a result is written past the caches. Returns what it was."""
    global stream_from
    before, stream_from = stream_from, bytes
    return before


cdef void *workspace_take(int64_t bytes) except NULL nogil:
    cdef void *memory = hw_workspace_take(bytes)
    if memory == NULL:
        with gil:
            raise MemoryError(f"no memory for a workspace of {bytes} bytes")
    return memory


cdef void workspace_give(void *memory) noexcept nogil:
    hw_workspace_give(memory)


def get_num_threads():
    return hw_get_num_threads()


def set_num_threads(int threads):
    hw_set_num_threads(threads)


def _threads_from_environment():
    text = os.environ.get("HALFWAVE_NUM_THREADS")
    if text is None:
        return
    if not (text.isascii() and text.isdigit() and len(text) < 99 and 1 <= int(text) <= 256):
        raise ValueError(f"HALFWAVE_NUM_THREADS must be a whole number from 1 to 256, not {text!r}")
    hw_set_num_threads(int(text))

_threads_from_environment()

# ---- instruction sets -----------------------------------------------------------------------------

cdef const hw_tiles *chosen = NULL


def isa_names():
    """Compiled-in instruction sets, slowest first."""
    return [hw_set_tiles(i).name.decode() for i in range(hw_set_count())]


def supported_isas():
    """Those of them that this CPU and operating system can run."""
    return [name for i, name in enumerate(isa_names()) if hw_set_supported(i)]


def use_isa(str name, str parameter="name"):
    """Compute with the instruction set `name` from here on, in every thread."""
    global chosen
    if name not in isa_names():
        raise ValueError(f"{parameter} must be one of {', '.join(isa_names())}, not {name!r}")
    if name not in supported_isas():
        raise ValueError(
            f"{parameter} asks for {name!r}, which this CPU cannot run; "
            f"it runs {', '.join(supported_isas())}"
        )
    chosen = hw_set_tiles(isa_names().index(name))


def isa():
    """The instruction set in use: HALFWAVE_ISA, or the best that this CPU runs."""
    if chosen == NULL:
        forced = os.environ.get("HALFWAVE_ISA")
        if forced is None:
            use_isa(supported_isas().pop())
        else:
            use_isa(forced, "HALFWAVE_ISA")
    return chosen.name.decode()


cdef const hw_tiles *tiles() except NULL nogil:
    if chosen == NULL:
        with gil:
            isa()
    return chosen

# ---- views ----------------------------------------------------------------------------------------


cdef class Hold:
    def __dealloc__(self):
        for i in range(self.count):
            PyBuffer_Release(&self.buffers[i])

    cdef int view(self, object array, View *view, bint writable) except -1:
        cdef Py_buffer *buffer = &self.buffers[self.count]
        cdef int i
        if self.count == HOLDS:
            raise AssertionError("a call holds more arrays than were foreseen")
        PyObject_GetBuffer(array, buffer, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        self.count += 1
        if buffer.ndim > 16:
            raise ValueError("arrays of more than 16 dimensions are not supported")
        view.data = <char *>buffer.buf
        view.ndim = buffer.ndim
        view.itemsize = buffer.itemsize
        view.size = 1
        for i in range(view.ndim):
            view.shape[i] = buffer.shape[i]
            view.strides[i] = buffer.strides[i] // view.itemsize
            view.size *= view.shape[i]
        return 0


cdef object ndarray = numpy.ndarray
cdef object float32 = numpy.dtype(numpy.float32)
cdef object float64 = numpy.dtype(numpy.float64)
# Without the detour that asks whether the array's class has its own: of a plain one, half the time.
cdef object empty_like = getattr(numpy.empty_like, "_implementation", numpy.empty_like)


cdef int span(object array, uintptr_t *begin, uintptr_t *end) except -1:
    """The bytes from its first element in memory to behind its last one."""
    cdef Py_buffer buffer
    cdef int i
    PyObject_GetBuffer(array, &buffer, PyBUF_STRIDES)
    begin[0] = end[0] = <uintptr_t>buffer.buf
    if buffer.len > 0:
        end[0] += buffer.itemsize
        for i in range(buffer.ndim):
            if buffer.strides[i] < 0:
                begin[0] += (buffer.shape[i] - 1) * buffer.strides[i]
            else:
                end[0] += (buffer.shape[i] - 1) * buffer.strides[i]
    PyBuffer_Release(&buffer)
    return 0


def all_apart(out, inputs):
    """Whether `out` lies in memory beside all of the inputs, judged by where each begins and ends."""
    cdef uintptr_t begin, end, first, last
    span(out, &begin, &end)
    for x in inputs:
        span(x, &first, &last)
        if begin < last and first < end:
            return False
    return True


cdef object empty = numpy.empty
cdef object uint8 = numpy.dtype(numpy.uint8)

cdef enum:
    LINE = 64           # bytes of the caches, and of the widest vectors
    LARGE = 1 << 18     # bytes: below, the 0.6 µs that it takes would be noticed


def fresh_array(tuple shape, dtype):
    """A C-contiguous one. If it is large it begins with a line of the caches, which NumPy's do not.

    A vector then lies in one line, not in parts of two: where rows are whole lines, too, passes over
    two such arrays are up to a quarter faster.
    """
    cdef Py_buffer buffer
    size = dtype.itemsize
    for length in shape:
        size *= int(length)     # of Python, which grows
    if size < LARGE:
        return empty(shape, dtype)
    memory = empty(size + LINE, uint8)
    PyObject_GetBuffer(memory, &buffer, PyBUF_STRIDES)
    cdef int64_t begin = -<int64_t><uintptr_t>buffer.buf & (LINE - 1)
    PyBuffer_Release(&buffer)
    return ndarray(shape, dtype, memory, begin)


cdef object fresh(object array, tuple shape):
    return fresh_array(shape, array.dtype) if type(array) is ndarray else None


cdef object fresh_like(object array):
    if type(array) is not ndarray:
        return None
    return empty_like(array) if array.nbytes < LARGE else fresh_array(array.shape, array.dtype)


cdef class Plain:
    def __dealloc__(self):
        for i in range(self.count):
            PyBuffer_Release(&self.buffers[i])

    cdef char *add(self, object array, bint writable, bint same_shape) except? NULL:
        """Its memory, or NULL where it is not plain or not like the first."""
        cdef Py_buffer *buffer = &self.buffers[self.count]
        cdef Py_buffer *first = &self.buffers[0]
        cdef int i
        if not isinstance(array, ndarray):
            return NULL
        dtype = array.dtype  # cheaper than the buffer's format, which NumPy would have to write
        if dtype is not float32 and dtype is not float64 and dtype != float32 and dtype != float64:
            return NULL
        PyObject_GetBuffer(array, buffer, PyBUF_STRIDES)
        self.count += 1
        if writable and buffer.readonly:
            return NULL
        if <uintptr_t>buffer.buf % buffer.itemsize or not PyBuffer_IsContiguous(buffer, c'C'):
            return NULL
        if self.count == 1:
            self.wide = buffer.itemsize == 8
            self.size = buffer.len // buffer.itemsize
        elif buffer.itemsize != first.itemsize:
            return NULL
        elif same_shape:
            if buffer.ndim != first.ndim:
                return NULL
            for i in range(buffer.ndim):
                if buffer.shape[i] != first.shape[i]:
                    return NULL
        return <char *>buffer.buf if buffer.len > 0 else <char *>&self.size  # never NULL

    cdef bint overlap(self, int i, int j) noexcept:
        """Whether two of them share memory other than by being the same."""
        cdef Py_buffer *a = &self.buffers[i]
        cdef Py_buffer *b = &self.buffers[j]
        cdef char *start = <char *>a.buf
        cdef char *other = <char *>b.buf
        return start != other and start < other + b.len and other < start + a.len
