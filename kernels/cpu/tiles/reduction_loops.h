/* The tiles of reduction.c for one type: included with REAL and TYPED(name) defined. */
#include "lanes.h"

static void TYPED(add_terms)(const hw_chunk_source *source, const TYPED(run) * run, REAL *lanes) {
    const REAL *x = (const REAL *)source->x + run->offset;
    if (run->first) {
        memcpy(lanes, x, (size_t)run->length * sizeof(REAL));
    } else {
        HW_INDEPENDENT
        for (int64_t i = 0; i < run->length; i++) lanes[i] += x[i];
    }
}

static void TYPED(fold_terms)(const hw_chunk_source *source, const TYPED(run) * run, int64_t apart,
                              REAL *lanes) {
    const REAL *x0 = (const REAL *)source->x + run->offset, *x4 = x0 + 4 * apart;
    const REAL *x8 = x4 + 4 * apart, *x12 = x8 + 4 * apart;
#define LANE(at) (x0[at] + x4[at] + x8[at] + x12[at])
    HW_INDEPENDENT
    for (int64_t i = 0; i < run->length; i++)
        lanes[i] = (LANE(i) + LANE(i + 2 * apart)) + (LANE(i + apart) + LANE(i + 3 * apart));
#undef LANE
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
    if (inner == 1) TYPED(walk_rows)
    (TYPED(add_terms), TYPED(fold_terms), source, channels, channel, width, begin, end, lanes,
     result);
    else TYPED(walk_planes)(TYPED(add_terms), source, channels, inner, channel, width, begin, end,
                            lanes, result);
}
