/* Softmax cross-entropy, forward and backward: CONTRACT.md, section 9.
 *
 * A row at a time, a chunk of the sum at a time: exp of 4096 logits goes to the first-level cache,
 * where it is folded. */
#include "loss.h"
#include "common/exp.h"
#include "common/log.h"
#include "vector.h"

#define REAL float
#define TYPED(name) name##_f32
#include "loss_loops.h"
#undef REAL
#undef TYPED

#define REAL double
#define TYPED(name) name##_f64
#include "loss_loops.h"

const hw_loss_tiles HW_NAME(hw_loss_tiles) = {
    .cross_entropy = {cross_entropy_f32, cross_entropy_f64},
    .gradient = {gradient_f32, gradient_f64},
};
