/* The tiles of reduction.c for one type: included with REAL and TYPED(name) defined. */
#include "lanes.h"

static inline __attribute__((always_inline)) void TYPED(add_terms)(const hw_chunk_source *source,
                                                                   TYPED(piece) p, REAL *lanes) {
    const REAL *x = (const REAL *)source->x + p.offset;
    if (p.stride == p.width) { /* without gaps: one long row */
        p.width *= p.rows;
        p.rows = 1;
    }
    if (p.next)
        for (int64_t i = 0; i < p.rows * p.width; i += 64 / sizeof(REAL))
            __builtin_prefetch(x + p.next + i);
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
    if (inner - begin % inner >= HW_SUM_CHUNK && end - begin == HW_SUM_CHUNK) { /* one long run */
        const REAL *x = (const REAL *)source->x;
        x += (begin / inner * channels + channel) * inner + begin % inner;
        REAL *sums = lanes;
        enum { LINE = 64 / sizeof(REAL) };
        for (int i = 0; i < HW_SUM_LANES; i += LINE) {
            for (int k = 0; k < 4; k++) /* the next chunk, in order */
                __builtin_prefetch(x + HW_SUM_CHUNK + 4 * i + k * LINE);
            HW_INDEPENDENT
            for (int l = i; l < i + LINE; l++)
                sums[l] =
                    x[l] + x[l + HW_SUM_LANES] + x[l + 2 * HW_SUM_LANES] + x[l + 3 * HW_SUM_LANES];
        }
        *(REAL *)result = TYPED(fold_lanes)(sums);
        return;
    }
    TYPED(walk_chunk)
    (TYPED(add_terms), source, channels, inner, channel, width, begin, end, lanes, result);
}
