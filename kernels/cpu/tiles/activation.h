/* Elementwise functions over contiguous arrays, a table an instruction set. See activation.pyx. */
#ifndef HALFWAVE_TILES_ACTIVATION_H
#define HALFWAVE_TILES_ACTIVATION_H

#include "reduction.h"

enum { HW_RELU, HW_SIGMOID, HW_TANH, HW_ACTIVATIONS };

/* y[i] = f(x[i]) and y[i] = f(a[i], b[i]); y may be x, a or b itself, unless `past` asks to write
 * past the caches (stream.h). */
typedef void (*hw_map1_tile)(int64_t n, const void *x, void *y, int past);
typedef void (*hw_map2_tile)(int64_t n, const void *a, const void *b, void *y, int past);

/* Elements [begin, end) of an array seen as (outer, channels, inner), each with its channel's
 * slope. */
typedef void (*hw_prelu_tile)(int64_t begin, int64_t end, int64_t channels, int64_t inner,
                              const void *alpha, const void *x, void *y, int past);

/* [0] is float32, [1] float64. */
typedef struct {
    hw_map1_tile forward[HW_ACTIVATIONS][2];
    hw_map2_tile backward[HW_ACTIVATIONS][2]; /* (dy, x) -> dx of relu, else (dy, y) -> dx */
    hw_prelu_tile prelu[2];
    hw_chunk_tile prelu_backward[2]; /* writes dx and sums the slopes' gradients */
} hw_activation_tiles;

#endif
