/* One line of running maxima. See pooling.pyx. */
#ifndef HALFWAVE_TILES_POOLING_H
#define HALFWAVE_TILES_POOLING_H

#include <stdint.h>

/* One element of each of n windows: window l sees x[l * stride], which lies at position + l * step
 * in its plane. It becomes best[l], and its position where[l], if the window has seen none
 * (where[l] < 0), or none that is NaN or as large. [0] is float32, [1] float64. */
typedef struct {
    void (*see[2])(int64_t n, const void *x, int64_t stride, int32_t position, int32_t step,
                   void *best, int32_t *where);
    /* dx[where[l] * stride + l * step] += dy[l], one after the other */
    void (*scatter[2])(int64_t n, const void *dy, const int32_t *where, int64_t stride,
                       int64_t step, void *dx);
} hw_pooling_tiles;

#endif
