"""Packing: parts of a and b, whatever their offsets, as the tiles of the contraction take them.

Offsets are mostly runs: rows of a matrix, images, rows of an image. A run moves as one.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from halfwave._cpu.axis cimport Axis, at, even, evenly_spaced, gap, run_of
from halfwave._cpu.contraction cimport Contraction

cdef extern from "common/contraction.h" nogil:
    int64_t HW_SEGMENT

cdef enum:
    MOST_COLUMNS = 64           # of a tile


cdef bint mostly_adjacent(const Axis *axis, int64_t first, int64_t count) noexcept nogil:
    """Whether at least three in four are neighbours in memory."""
    cdef int64_t i, gaps = 0
    if even(axis):
        return axis.stride == 1 or count <= 1
    for i in range(first, first + count - 1):
        gaps += gap(axis, i) != 1
    return gaps * 4 <= count


cdef void pack_b(Product *product, int64_t column, int64_t columns, int64_t k_begin, int64_t k,
                 real *panels, int64_t panel, int64_t pitch) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a block's columns, panels that far apart, steps at the pitch."""
    cdef const Contraction *problem = product.problem
    cdef const real *b = <const real *>product.b
    cdef const real *source
    cdef const Axis *across = &problem.b_column
    cdef const Axis *along = &problem.b_k
    cdef int64_t width = product.tile_columns, j = 0, p = 0, i, count, steps, stride
    cdef int64_t offsets[MOST_COLUMNS]
    cdef real *to
    if mostly_adjacent(across, column, columns) and columns > 1:
        while j < columns:
            count = run_of(across, column + j, columns - j, 1)
            p = 0
            while p < k:
                stride = gap(along, k_begin + p) if p + 1 < k else 0
                steps = run_of(along, k_begin + p, k - p, stride)
                source = b + at(along, k_begin + p) + at(across, column + j)
                to = panels + p * pitch
                if real is float:
                    product.tiles.copy_f32(steps, source, stride, j, count, to, panel, pitch)
                else:
                    product.tiles.copy_f64(steps, source, stride, j, count, to, panel, pitch)
                p += steps
            j += count
    elif mostly_adjacent(along, k_begin, k):
        while p < k:
            steps = run_of(along, k_begin + p, k - p, 1)
            source = b + at(along, k_begin + p)
            j = 0
            while j < columns:
                to = panels + j // width * panel + p * pitch
                count = min(width, columns - j)
                for i in range(count):
                    offsets[i] = at(across, column + j + i)
                if real is float:
                    product.tiles.transpose_f32(steps, source, offsets, count, to, panel, pitch)
                else:
                    product.tiles.transpose_f64(steps, source, offsets, count, to, panel, pitch)
                j += count
            p += steps
    else:
        while j < columns:
            to = panels + j // width * panel
            count = min(width, columns - j)
            for p in range(k):
                source = b + at(along, k_begin + p)
                for i in range(count):
                    to[p * pitch + i] = source[at(across, column + j + i)]
            j += count


cdef const real *strip_of_a(Product *product, int64_t row, int64_t rows, int64_t k_begin, int64_t k,
                            bint even_k, real *strip, int64_t *a_row, int64_t *a_k) noexcept nogil:
    """Steps [k_begin, k_begin + k) of a strip: in place or packed."""
    cdef const Contraction *problem = product.problem
    cdef const real *a = <const real *>product.a
    cdef const real *source
    cdef const Axis *across = &problem.a_row
    cdef const Axis *along = &problem.a_k
    cdef int64_t i, p = 0, steps
    a_row[0] = gap(across, row) if rows > 1 else 1
    a_k[0] = gap(along, k_begin) if k > 1 else 1
    if even_k and evenly_spaced(across, row, rows, a_row[0]):
        return a + at(across, row) + at(along, k_begin)
    a_row[0], a_k[0] = HW_SEGMENT + PAD, 1
    while p < k:
        steps = run_of(along, k_begin + p, k - p, 1)
        for i in range(rows):
            source = a + at(across, row + i) + at(along, k_begin + p)
            if steps > 1:
                memcpy(strip + i * a_row[0] + p, source, steps * sizeof(real))
            else:
                strip[i * a_row[0] + p] = source[0]
        p += steps
    return strip
