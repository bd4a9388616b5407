"""The contraction: c[s, i, j] = Σ_p a[s, i, p] · b[s, p, j], in the order of CONTRACT.md section 3.

Slices (a batch, the groups of a convolution) are independent products; super-segments, 32 segments of
512 terms, fold on their own and then into c in order. With enough of either for all threads, whole
products are the tasks and nothing inside them waits; otherwise one blocked product after the other
is shared out. Lanes go along what is contiguous in c: the problem is transposed if that is the rows.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from halfwave._cpu.axis cimport Axis, at, gap
from halfwave._cpu.blocked cimport multiply, survey
from halfwave._cpu.packing cimport Product, ceil_div, real
from halfwave._cpu.runtime cimport (
    parallel_for, tiles, workspace_give, workspace_take, worthwhile_threads,
)

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SUPER_SEGMENT

cdef enum:
    LONG = 4 * 512      # a contracted axis: worth a copy of c

cdef struct Work:
    Product product                 # what all products share
    int64_t supers
    bint apart                      # sums go to partials first: of several supers, or if c is scattered
    char *partials                  # [slice][super][row][column]


cdef void set_product(Work *work, Product *product, int64_t slice, int64_t super,
                      char *partial) noexcept nogil:
    cdef const Contraction *problem = work.product.problem
    cdef int64_t size = problem.itemsize
    product[0] = work.product
    product.a = <const char *>problem.a + at(&problem.a_slice, slice) * size
    product.b = <const char *>problem.b + at(&problem.b_slice, slice) * size
    product.k_begin = super * HW_SUPER_SEGMENT
    product.k_end = min(product.k_begin + HW_SUPER_SEGMENT, problem.k)
    if work.apart:
        product.c = partial
        product.c_row, product.c_column = Axis(NULL, problem.columns), Axis(NULL, 1)
    else:
        product.c = <char *>problem.c + at(&problem.c_slice, slice) * size
        if problem.row_bias != NULL:
            product.row_bias = <const char *>problem.row_bias + at(&problem.bias_slice, slice) * size
        if problem.column_bias != NULL:
            product.column_bias = (<const char *>problem.column_bias
                                   + at(&problem.bias_slice, slice) * size)


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


cdef struct Fold:
    const Contraction *problem
    const char *partials
    int64_t slice, supers, first    # first: the super that partials begins with


cdef void fold_row(Fold *fold, int64_t row, real typed) noexcept nogil:
    """c = (c + partial) for each super in order, + bias after the last."""
    cdef const Contraction *problem = fold.problem
    cdef int64_t slice = fold.slice, size = problem.rows * problem.columns, j, super
    cdef real *c = (<real *>problem.c + at(&problem.c_slice, slice)) + at(&problem.c_row, row)
    cdef const real *partial = <const real *>fold.partials + row * problem.columns
    cdef int64_t total = ceil_div(problem.k, HW_SUPER_SEGMENT)
    cdef real value
    for j in range(problem.columns):
        value = partial[j] if fold.first == 0 else c[at(&problem.c_column, j)] + partial[j]
        for super in range(1, fold.supers):
            value = value + partial[super * size + j]
        if fold.first + fold.supers == total:
            if problem.row_bias != NULL:
                value = value + (<const real *>problem.row_bias)[at(&problem.bias_slice, slice) + row]
            if problem.column_bias != NULL:
                value = value + (<const real *>problem.column_bias)[at(&problem.bias_slice, slice) + j]
        c[at(&problem.c_column, j)] = value


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
    cdef real *c = <real *>problem.c + at(&problem.c_slice, slice)
    cdef int64_t i, j
    cdef real value
    for i in range(problem.rows):
        for j in range(problem.columns):
            value = 0
            if problem.row_bias != NULL:
                value += (<const real *>problem.row_bias)[at(&problem.bias_slice, slice) + i]
            if problem.column_bias != NULL:
                value += (<const real *>problem.column_bias)[at(&problem.bias_slice, slice) + j]
            c[at(&problem.c_row, i) + at(&problem.c_column, j)] = value


cdef Contraction lanes_across_columns(const Contraction *given) noexcept nogil:
    """The same problem, transposed if lanes fit the rows better: where c is contiguous, else longer.

    A long axis along which both operands are contiguous across: then the longer side becomes the rows,
    since that operand is read in place, in order.
    """
    cdef Contraction problem = given[0]
    cdef bint rows_adjacent = given.rows > 1 and gap(&given.c_row, 0) == 1
    cdef bint columns_adjacent = given.columns > 1 and gap(&given.c_column, 0) == 1
    cdef bint transpose = rows_adjacent and not columns_adjacent
    if given.columns < 8 and given.rows > given.columns:
        transpose = True
    elif given.rows < 8 and given.columns > given.rows:
        transpose = False
    elif (given.k >= LONG and given.columns >= 2 * given.rows and columns_adjacent
            and gap(&given.a_row, 0) == 1 and gap(&given.b_column, 0) == 1):
        transpose = True
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
    cdef int64_t slice, super, memory, products, partial_bytes
    cdef int threads
    cdef char *workspace
    cdef bint whole_products
    if problem.slices == 0 or problem.rows == 0 or problem.columns == 0:
        return 0
    if problem.k == 0:
        return parallel_for(empty_sum_task, &problem, problem.slices, 1)
    memset(&work, 0, sizeof(Work))
    survey(&work.product, &problem, tiles().contraction)
    work.supers = ceil_div(problem.k, HW_SUPER_SEGMENT)
    work.apart = work.supers > 1 or (problem.k >= LONG and problem.columns > 1
                                     and gap(&problem.c_column, 0) != 1)
    products = problem.slices * work.supers
    threads = worthwhile_threads(
        <double>problem.slices * problem.rows * problem.columns * problem.k / 32)
    partial_bytes = problem.rows * problem.columns * problem.itemsize
    # Whole products as tasks: if they suffice for all threads and their partial sums are small.
    whole_products = products >= 2 * threads and (
        not work.apart or <double>products * partial_bytes < 2**25)
    if whole_products and threads > products:
        threads = <int>products
    memory = work.product.packing_bytes * threads
    if work.apart:
        memory += (products if whole_products else 1) * partial_bytes
    workspace = <char *>workspace_take(memory)
    try:
        work.product.packing = workspace
        if work.apart:
            work.partials = workspace + work.product.packing_bytes * threads
        fold.problem = &problem
        if whole_products:
            parallel_for(product_task, &work, products, threads)
            if work.apart:
                fold.first = 0
                fold.supers = work.supers
                for slice in range(problem.slices):
                    fold.slice = slice
                    fold.partials = work.partials + slice * work.supers * partial_bytes
                    parallel_for(fold_task, &fold, problem.rows, threads)
            return 0
        for slice in range(problem.slices):
            for super in range(work.supers):
                set_product(&work, &product, slice, super, work.partials)
                multiply(&product, threads)
                if work.apart:
                    fold.slice = slice
                    fold.first = super
                    fold.supers = 1
                    fold.partials = work.partials
                    parallel_for(fold_task, &fold, problem.rows, threads)
        return 0
    finally:
        workspace_give(workspace)


cdef Axis axis_of(int64_t **table, int dims, const int64_t *shape, const int64_t *strides) noexcept nogil:
    cdef int64_t *offsets = table[0]
    cdef int64_t count = 1, stride = 1
    cdef bint even = True
    cdef int i
    for i in range(dims - 1, -1, -1):
        if shape[i] != 1:
            even = even and (count == 1 or strides[i] == count * stride)
            stride = strides[i] if count == 1 else stride
            count *= shape[i]
    if even:
        return Axis(NULL, stride)
    fill_offsets(offsets, 0, dims, shape, strides)
    table[0] += count
    return Axis(offsets, 0)


cdef void fill_offsets(int64_t *offsets, int64_t base, int dims, const int64_t *shape,
                       const int64_t *strides) noexcept nogil:
    cdef int64_t index, inner = 1
    cdef int i
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
