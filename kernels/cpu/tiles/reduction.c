/* Sums by the rule of CONTRACT.md, section 5: 1024 lanes a chunk of 4096 terms, then a tree.
 *
 * Plain loops over lanes: the compiler makes vectors of them. The lanes of a chunk (4 or 8 KB; of
 * several channels up to 512) stay in the cache while the terms stream past once. */
#include "reduction.h"
#include "vector.h"

#define REAL float
#define TYPED(name) name##_f32
#include "reduction_loops.h"
#undef REAL
#undef TYPED

#define REAL double
#define TYPED(name) name##_f64
#include "reduction_loops.h"

const hw_reduction_tiles HW_NAME(hw_reduction_tiles) = {
    .sum_chunk = {sum_chunk_f32, sum_chunk_f64},
    .sum_in_place = {sum_in_place_f32, sum_in_place_f64},
};
