/* Updates of weights in contiguous memory. See optimizer.pyx. */
#ifndef HALFWAVE_TILES_OPTIMIZER_H
#define HALFWAVE_TILES_OPTIMIZER_H

#include <stdint.h>

/* [0] is float32, [1] float64. */
typedef struct {
    void (*sgd_momentum[2])(int64_t n, void *w, const void *dw, void *velocity,
                            double learning_rate, double momentum, double weight_decay);
} hw_optimizer_tiles;

#endif
