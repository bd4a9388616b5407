/* Running maxima of many windows side by side: CONTRACT.md, section 8.
 *
 * Windows are the lanes; the common strides are constants, so that the compiler makes vectors. */
#include "pooling.h"
#include "vector.h"

#define POOLING(type, real)                                                                   \
    static inline __attribute__((always_inline)) void see_by_##type(                          \
        int64_t n, const real *x, int64_t stride, int32_t position, int32_t step, real *best, \
        int32_t *where) {                                                                     \
        HW_INDEPENDENT                                                                        \
        for (int64_t l = 0; l < n; l++) {                                                     \
            real value = x[l * stride];                                                       \
            int take = (where[l] < 0) | (!(value <= best[l]) & (best[l] == best[l]));         \
            best[l] = take ? value : best[l];                                                 \
            where[l] = take ? position + (int32_t)l * step : where[l];                        \
        }                                                                                     \
    }                                                                                         \
    static void see_##type(int64_t n, const void *x, int64_t stride, int32_t position,        \
                           int32_t step, void *best, int32_t *where) {                        \
        if (stride == 1)                                                                      \
            see_by_##type(n, x, 1, position, step, best, where);                              \
        else if (stride == 2)                                                                 \
            see_by_##type(n, x, 2, position, step, best, where);                              \
        else                                                                                  \
            see_by_##type(n, x, stride, position, step, best, where);                         \
    }                                                                                         \
    static void scatter_##type(int64_t n, const void *gradient, const int32_t *where,         \
                               int64_t stride, int64_t step, void *to) {                      \
        const real *dy = gradient;                                                            \
        real *dx = to;                                                                        \
        for (int64_t l = 0; l < n; l++) dx[where[l] * stride + l * step] += dy[l];            \
    }
POOLING(f32, float)
POOLING(f64, double)

const hw_pooling_tiles HW_NAME(hw_pooling_tiles) = {
    .see = {see_f32, see_f64},
    .scatter = {scatter_f32, scatter_f64},
};
