"""The contraction: c[s, i, j] = Σ_p a[s, i, p] · b[s, p, j], in the order of CONTRACT.md section 3.

Slices (a batch, the groups of a convolution) are independent products; super-segments, 32 segments of
512 terms, fold on their own and then into c in order. With enough of either for all threads, whole
products are the tasks and nothing inside them waits; otherwise one blocked product after the other
is shared out. Where c is small and the axis is long, the segments are: their sums stay apart until all
are there. Lanes go along what is contiguous in c: the problem is transposed if that is the rows.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from halfwave._cpu.blocked cimport Product, ceil_div, multiply, survey
from halfwave._cpu.runtime cimport (
    parallel_for, tiles, workspace_give, workspace_take, worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT
    int64_t HW_SUPER_SEGMENT

cdef enum:
    SMALL = 1 << 17             # outputs
    PARTIALS_AT_MOST = 1 << 24  # bytes

ctypedef fused real:
    float
    double

cdef struct Work:
    Product product                 # what all products share
    int64_t supers
    int64_t segments, segment_tasks # where segments are shared out
    char *partials                  # [slice][super][row][column], where there is more than one super
    const int64_t *dense_row
    const int64_t *dense_column


cdef void set_partial_product(Work *work, Product *product, int64_t slice,
                              char *partial) noexcept nogil:
    """The product of a slice, to dense memory and without bias."""
    cdef const Contraction *problem = work.product.problem
    product[0] = work.product
    product.a = <const char *>problem.a + problem.a_slice[slice] * problem.itemsize
    product.b = <const char *>problem.b + problem.b_slice[slice] * problem.itemsize
    product.c = partial
    product.c_row = work.dense_row
    product.c_column = work.dense_column


cdef void set_product(Work *work, Product *product, int64_t slice, int64_t super,
                      char *partial) noexcept nogil:
    """That of one super-segment: partial, unless there is no other."""
    cdef const Contraction *problem = work.product.problem
    cdef int64_t size = problem.itemsize
    set_partial_product(work, product, slice, partial)
    product.k_begin = super * HW_SUPER_SEGMENT
    product.k_end = min(product.k_begin + HW_SUPER_SEGMENT, problem.k)
    if work.supers > 1:
        return
    product.c = <char *>problem.c + problem.c_slice[slice] * size
    product.c_row = problem.c_row
    product.c_column = problem.c_column
    if problem.row_bias != NULL:
        product.row_bias = <const char *>problem.row_bias + problem.bias_slice[slice] * size
    if problem.column_bias != NULL:
        product.column_bias = <const char *>problem.column_bias + problem.bias_slice[slice] * size


cdef void product_task(void *context, int64_t index, int worker) noexcept nogil:
    """One whole product, inside which nothing waits: index is slice * supers + super."""
    cdef Work *work = <Work *>context
    cdef const Contraction *problem = work.product.problem
    cdef Product product
    cdef int64_t partial_bytes = problem.rows * problem.columns * problem.itemsize
    set_product(work, &product, index // work.supers, index % work.supers,
                work.partials + index * partial_bytes)
    product.packing += worker * product.packing_bytes
    multiply(&product, 1)       # a task inside a task is never asked to stop, so this cannot fail


cdef void segments_task(void *context, int64_t index, int worker) noexcept nogil:
    """Some consecutive segments of a product, each to a part of its own."""
    cdef Work *work = <Work *>context
    cdef Product product = work.product
    cdef int64_t begin = work.segments * index // work.segment_tasks
    cdef int64_t end = work.segments * (index + 1) // work.segment_tasks
    product.k_begin = begin * HW_SEGMENT
    product.k_end = min(end * HW_SEGMENT, product.problem.k)
    product.c += begin * product.c_segment * product.problem.itemsize
    product.packing += worker * product.packing_bytes
    multiply(&product, 1)


cdef struct Fold:
    const Contraction *problem
    const char *partials
    int64_t slice, first            # first: the super that partials begins with
    int64_t count, group            # of partial sums, and so many of them make a super


cdef void fold_row(Fold *fold, int64_t row, real typed) noexcept nogil:
    """c = (c + partial) for each super in order, + bias after the last."""
    cdef const Contraction *problem = fold.problem
    cdef int64_t slice = fold.slice, size = problem.rows * problem.columns, j, begin, i
    cdef real *c = (<real *>problem.c + problem.c_slice[slice]) + problem.c_row[row]
    cdef const real *partial = <const real *>fold.partials + row * problem.columns
    cdef bint last = fold.first + ceil_div(fold.count, fold.group) == ceil_div(problem.k,
                                                                               HW_SUPER_SEGMENT)
    cdef real value, sum
    for j in range(problem.columns):
        value = 0
        begin = 0
        while begin < fold.count:
            sum = partial[begin * size + j]
            for i in range(begin + 1, min(begin + fold.group, fold.count)):
                sum = sum + partial[i * size + j]
            if begin > 0:
                value = value + sum
            elif fold.first > 0:
                value = c[problem.c_column[j]] + sum
            else:
                value = sum
            begin += fold.group
        if last:
            if problem.row_bias != NULL:
                value = value + (<const real *>problem.row_bias)[problem.bias_slice[slice] + row]
            if problem.column_bias != NULL:
                value = value + (<const real *>problem.column_bias)[problem.bias_slice[slice] + j]
        c[problem.c_column[j]] = value


cdef void fold_task(void *context, int64_t row, int worker) noexcept nogil:
    cdef Fold *fold = <Fold *>context
    if fold.problem.itemsize == 4:
        fold_row[float](fold, row, 0)
    else:
        fold_row[double](fold, row, 0)


cdef void empty_sum_task(void *context, int64_t index, int worker) noexcept nogil:
    """k = 0: every output is +0 (+ bias)."""
    cdef Contraction *problem = <Contraction *>context
    if problem.itemsize == 4:
        empty_sum[float](problem, index, 0)
    else:
        empty_sum[double](problem, index, 0)


cdef void empty_sum(const Contraction *problem, int64_t slice, real typed) noexcept nogil:
    cdef real *c = <real *>problem.c + problem.c_slice[slice]
    cdef int64_t i, j
    cdef real value
    for i in range(problem.rows):
        for j in range(problem.columns):
            value = 0
            if problem.row_bias != NULL:
                value += (<const real *>problem.row_bias)[problem.bias_slice[slice] + i]
            if problem.column_bias != NULL:
                value += (<const real *>problem.column_bias)[problem.bias_slice[slice] + j]
            c[problem.c_row[i] + problem.c_column[j]] = value


cdef Contraction lanes_across_columns(const Contraction *given) noexcept nogil:
    """The same problem, transposed if lanes fit the rows better: where c is contiguous, else longer."""
    cdef Contraction problem = given[0]
    cdef bint rows_adjacent = given.rows > 1 and given.c_row[1] - given.c_row[0] == 1
    cdef bint columns_adjacent = given.columns > 1 and given.c_column[1] - given.c_column[0] == 1
    cdef bint transpose = rows_adjacent and not columns_adjacent
    if given.columns < 8 and given.rows > given.columns:
        transpose = True
    elif given.rows < 8 and given.columns > given.rows:
        transpose = False
    if transpose:
        problem.rows, problem.columns = given.columns, given.rows
        problem.a, problem.b = given.b, given.a
        problem.a_slice, problem.b_slice = given.b_slice, given.a_slice
        problem.a_row, problem.b_column = given.b_column, given.a_row
        problem.a_k, problem.b_k = given.b_k, given.a_k
        problem.c_row, problem.c_column = given.c_column, given.c_row
        problem.row_bias, problem.column_bias = given.column_bias, given.row_bias
    return problem


cdef int contract(const Contraction *given) except -1 nogil:
    cdef Contraction problem = lanes_across_columns(given)
    cdef Work work
    cdef Product product
    cdef Fold fold
    cdef int64_t slice, super, i, memory, products, partials, partial_bytes
    cdef int threads
    cdef int64_t *dense
    cdef char *workspace
    cdef bint whole_products, apart
    if problem.slices == 0 or problem.rows == 0 or problem.columns == 0:
        return 0
    if problem.k == 0:
        return parallel_for(empty_sum_task, &problem, problem.slices, 1)
    memset(&work, 0, sizeof(Work))
    survey(&work.product, &problem, tiles().contraction)
    work.supers = ceil_div(problem.k, HW_SUPER_SEGMENT)
    products = problem.slices * work.supers
    threads = worthwhile_threads(
        <double>problem.slices * problem.rows * problem.columns * problem.k / 32)
    partial_bytes = problem.rows * problem.columns * problem.itemsize
    # Segments as tasks: if c is too small to be cut, and their sums stay in the caches.
    work.segments = ceil_div(problem.k, HW_SEGMENT)
    apart = (problem.slices < threads and work.segments >= 2 * threads and not work.product.few_rows
             and problem.rows * problem.columns <= SMALL
             and work.segments * partial_bytes <= PARTIALS_AT_MOST)
    # Whole products as tasks: if they suffice for all threads and their partial sums are small.
    whole_products = not apart and products >= 2 * threads and (
        work.supers == 1 or <double>products * partial_bytes <= PARTIALS_AT_MOST)
    if whole_products and threads > products:
        threads = <int>products
    partials = work.segments if apart else 0 if work.supers == 1 else products if whole_products else 1
    memory = work.product.packing_bytes * threads + ceil_div(partials * partial_bytes, 64) * 64
    if partials:
        memory += 8 * (problem.rows + problem.columns)
    workspace = <char *>workspace_take(memory)
    try:
        work.product.packing = workspace
        if partials:
            work.partials = workspace + work.product.packing_bytes * threads
            dense = <int64_t *>(work.partials + ceil_div(partials * partial_bytes, 64) * 64)
            for i in range(problem.rows):
                dense[i] = i * problem.columns
            for i in range(problem.columns):
                dense[problem.rows + i] = i
            work.dense_row = dense
            work.dense_column = dense + problem.rows
        fold.problem = &problem
        fold.first = 0
        fold.group = 1
        if apart:
            work.segment_tasks = min(work.segments, 4 * threads)
            fold.group = HW_SUPER_SEGMENT // HW_SEGMENT
            fold.count = work.segments
            fold.partials = work.partials
            for slice in range(problem.slices):
                fold.slice = slice
                set_partial_product(&work, &work.product, slice, work.partials)
                work.product.c_segment = problem.rows * problem.columns
                parallel_for(segments_task, &work, work.segment_tasks, threads)
                parallel_for(fold_task, &fold, problem.rows, threads)
            return 0
        if whole_products:
            parallel_for(product_task, &work, products, threads)
            if work.supers > 1:
                fold.count = work.supers
                for slice in range(problem.slices):
                    fold.slice = slice
                    fold.partials = work.partials + slice * work.supers * partial_bytes
                    parallel_for(fold_task, &fold, problem.rows, threads)
            return 0
        for slice in range(problem.slices):
            for super in range(work.supers):
                set_product(&work, &product, slice, super, work.partials)
                multiply(&product, threads)
                if work.supers > 1:
                    fold.slice = slice
                    fold.first = super
                    fold.count = 1
                    fold.partials = work.partials
                    parallel_for(fold_task, &fold, problem.rows, threads)
        return 0
    finally:
        workspace_give(workspace)


cdef void fill_offsets(int64_t *offsets, int64_t base, int dims, const int64_t *shape,
                       const int64_t *strides) noexcept nogil:
    cdef int64_t index, inner = 1
    cdef int i
    if dims == 0:
        offsets[0] = base
        return
    if dims == 1:
        for index in range(shape[0]):
            offsets[index] = base + index * strides[0]
        return
    for i in range(1, dims):
        inner *= shape[i]
    if inner == 0:      # then the first dimension may be of any length
        return
    for index in range(shape[0]):
        fill_offsets(offsets + index * inner, base + index * strides[0], dims - 1, shape + 1,
                     strides + 1)


cdef int64_t *offsets_memory(int64_t slices, int64_t rows, int64_t columns, int64_t k) noexcept nogil:
    cdef double bytes = 8 * (4.0 * slices + 2.0 * (<double>rows + <double>columns + <double>k) + 1)
    if bytes > 2.0**62:
        return NULL
    return <int64_t *>malloc(8 * (4 * slices + 2 * (rows + columns + k) + 1))
