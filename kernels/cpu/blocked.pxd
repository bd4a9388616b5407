"""One product of one slice over one super-segment: blocks of c, shared out to the threads."""
from halfwave._cpu.contraction cimport Contraction
from halfwave._cpu.packing cimport Product
from halfwave._cpu.runtime cimport hw_contraction_tiles

cdef int multiply(Product *product, int threads) except -1 nogil

# Fills in what holds for all slices.
cdef void survey(Product *product, const Contraction *problem,
                 const hw_contraction_tiles *tiles) noexcept nogil
