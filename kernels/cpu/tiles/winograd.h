/* The transforms of Winograd's convolution, a table an instruction set. See winograd.pyx. */
#ifndef HALFWAVE_TILES_WINOGRAD_H
#define HALFWAVE_TILES_WINOGRAD_H

#include <stdint.h>

/* Transforms `tiles` square tiles, each element a vector of channels. Element (i, j) of tile t is
 * at from[t * from_tile + i * from_row + j * from_column]; the results likewise. */
typedef void (*hw_transform)(int64_t tiles, const void *from, int64_t from_tile, int64_t from_row,
                             int64_t from_column, void *to, int64_t to_tile, int64_t to_row,
                             int64_t to_column);

/* [0] is float32, [1] float64. */
typedef struct {
    int lanes[2];                    /* channels in a vector */
    hw_transform input[2];           /* 6 × 6 pixels to 6 × 6 frequencies: Bᵀ·x·B */
    hw_transform weight[2];          /* 3 × 3 taps to frequencies: G·w·Gᵀ */
    hw_transform output[2];          /* frequencies to 4 × 4 pixels: Aᵀ·m·A */
    hw_transform gradient[2];        /* 4 × 4 pixels to frequencies: A·dy·Aᵀ */
    hw_transform weight_gradient[2]; /* frequencies to 3 × 3 taps: Gᵀ·m·G */
    /* to[p * lanes + c] = pixels[p * pixel + c * channel], 0 for c ≥ channels. */
    void (*gather[2])(int64_t count, int64_t readable, int64_t channels, const void *pixels,
                      int64_t pixel, int64_t channel, void *to);
    /* pixels[p * pixel + c * channel] = from[p * lanes + c] (+ bias[c]), c < channels. */
    void (*scatter[2])(int64_t count, int64_t channels, void *from, const void *bias, void *pixels,
                       int64_t pixel, int64_t channel);
} hw_winograd_tiles;

#endif
