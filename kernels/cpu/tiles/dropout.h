/* Dropout's mask applied to contiguous memory. See dropout.pyx. */
#ifndef HALFWAVE_TILES_DROPOUT_H
#define HALFWAVE_TILES_DROPOUT_H

#include <stdint.h>

/* y[i] = x[i] * scale where the upper 24 bits of words[i] are at least `threshold`, else +0; y may
 * be x itself, unless it goes past the caches. [0] is float32, [1] float64. */
typedef struct {
    void (*apply[2])(int64_t n, const uint32_t *words, uint32_t threshold, double scale,
                     const void *x, void *y, int past);
} hw_dropout_tiles;

#endif
