"""Products of few rows, at the speed of reading the other operand."""
from libc.stdint cimport int64_t

from halfwave._cpu.packing cimport Product

cdef bint has_few_rows(const Product *product) noexcept nogil
cdef int64_t few_rows_elements(const Product *product) noexcept nogil
cdef int64_t few_rows_tasks(const Product *product, int threads) noexcept nogil
cdef void few_rows_task(Product *product, int64_t index, char *packing) noexcept nogil
