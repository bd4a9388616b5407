"""Packing: parts of a and b, whatever their offsets, as the tiles of the contraction take them.

Offsets are mostly runs: rows of a matrix, images, rows of an image. A run moves as one.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT


cdef bint mostly_adjacent(const int64_t *offsets, int64_t count) noexcept nogil:
    """Whether at least three in four are neighbours in memory."""
    cdef int64_t i, gaps = 0
    for i in range(1, count):
        gaps += offsets[i] - offsets[i - 1] != 1
    return gaps * 4 <= count


cdef void pack_b(Product *product, int64_t column, int64_t columns, int64_t k_begin, int64_t k,
                 real *panels, int64_t panel, int64_t pitch) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a block's columns, panels that far apart, steps at the pitch."""
    cdef const Contraction *problem = product.problem
    cdef const real *b = <const real *>product.b
    cdef const int64_t *across = problem.b_column + column
    cdef const int64_t *along = problem.b_k + k_begin
    cdef int64_t width = product.tile_columns, j = 0, p = 0, count, steps, stride
    cdef real *to
    if mostly_adjacent(across, columns) and columns > 1:
        while j < columns:
            count = run_of(across + j, columns - j, 1)
            p = 0
            while p < k:
                stride = along[p + 1] - along[p] if p + 1 < k else 0
                steps = run_of(along + p, k - p, stride)
                to = panels + p * pitch
                if real is float:
                    product.tiles.copy_f32(steps, b + along[p] + across[j], stride, j, count, to, panel,
                                            pitch)
                else:
                    product.tiles.copy_f64(steps, b + along[p] + across[j], stride, j, count, to, panel,
                                            pitch)
                p += steps
            j += count
    elif mostly_adjacent(along, k):
        while p < k:
            steps = run_of(along + p, k - p, 1)
            to = panels + p * pitch
            if real is float:
                product.tiles.transpose_f32(steps, b + along[p], across, columns, to, panel, pitch)
            else:
                product.tiles.transpose_f64(steps, b + along[p], across, columns, to, panel, pitch)
            p += steps
    else:
        while j < columns:
            to = panels + j // width * panel
            count = min(width, columns - j)
            for p in range(k):
                for stride in range(count):
                    to[p * pitch + stride] = b[along[p] + across[j + stride]]
            j += count


cdef const real *strip_of_a(Product *product, int64_t row, int64_t rows, int64_t k_begin, int64_t k,
                            bint even_k, real *strip, int64_t *a_row, int64_t *a_k) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a strip: in place or packed."""
    cdef const Contraction *problem = product.problem
    cdef const real *a = <const real *>product.a
    cdef const int64_t *across = problem.a_row + row
    cdef const int64_t *along = problem.a_k + k_begin
    cdef int64_t i, p, steps
    cdef bint even_rows, adjacent = product.a_k.even and product.a_k.stride == 1
    a_row[0] = across[1] - across[0] if rows > 1 else 1
    a_k[0] = along[1] - along[0] if k > 1 else 1
    even_rows = evenly_spaced(across, rows, a_row[0])
    if even_rows and even_k:
        return a + across[0] + along[0]
    a_row[0], a_k[0] = HW_SEGMENT + PAD, 1
    for i in range(rows):
        p = 0
        while p < k:
            steps = k if adjacent else run_of(along + p, k - p, 1)
            if steps > 1:
                memcpy(strip + i * a_row[0] + p, a + across[i] + along[p], steps * sizeof(real))
            else:
                strip[i * a_row[0] + p] = a[across[i] + along[p]]
            p += steps
    return strip
