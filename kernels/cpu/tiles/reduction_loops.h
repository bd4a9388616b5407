/* The tiles of reduction.c for one type: included with REAL and TYPED(name) defined. */
#include "lanes.h"

static inline __attribute__((always_inline)) void TYPED(add_terms)(const hw_chunk_source *source,
                                                                   TYPED(piece) p, REAL *lanes) {
    const REAL *x = (const REAL *)source->x + p.offset;
    if (p.stride == p.width) { /* without gaps: one long row */
        p.width *= p.rows;
        p.rows = 1;
    }
    for (int64_t row = 0; row < p.rows; row++, x += p.stride, lanes += p.width) {
        if (p.first) {
            for (int64_t i = 0; i < p.width; i++) lanes[i] = x[i];
        } else {
            HW_INDEPENDENT
            for (int64_t i = 0; i < p.width; i++) lanes[i] += x[i];
        }
    }
}

static void TYPED(sum_chunk)(const hw_chunk_source *source, int64_t channels, int64_t inner,
                             int64_t channel, int64_t width, int64_t begin, int64_t end,
                             void *lanes, void *result) {
    TYPED(walk_chunk)
    (TYPED(add_terms), source, channels, inner, channel, width, begin, end, lanes, result);
}
