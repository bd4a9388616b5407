/* Softmax and cross-entropy of one row of logits. See loss.pyx. */
#ifndef HALFWAVE_TILES_LOSS_H
#define HALFWAVE_TILES_LOSS_H

#include <stdint.h>

/* `scratch` has room for HW_SUM_CHUNK + ceil(classes / HW_SUM_CHUNK) elements.
 * [0] is float32, [1] float64. */
typedef struct {
    /* *loss = -log softmax(logits)[label] */
    void (*cross_entropy[2])(int64_t classes, const void *logits, int64_t label, void *scratch,
                             void *loss);
    /* gradient = (softmax(logits) - onehot(label)) / divisor */
    void (*gradient[2])(int64_t classes, const void *logits, int64_t label, double divisor,
                        void *scratch, void *gradient);
} hw_loss_tiles;

#endif
