/* Rectifiers, forward and backward: CONTRACT.md, section 7.
 *
 * Plain loops over contiguous memory with a select, which the compiler makes vectors of.
 * Comparisons with zero are false for NaN, and the branch they then take carries the NaN on. */
#include "activation.h"
#include "vector.h"

#define REAL float
#define TYPED(name) name##_f32
#include "activation_loops.h"
#undef REAL
#undef TYPED

#define REAL double
#define TYPED(name) name##_f64
#include "activation_loops.h"

const hw_activation_tiles HW_NAME(hw_activation_tiles) = {
    .relu = {relu_f32, relu_f64},
    .relu_backward = {relu_backward_f32, relu_backward_f64},
    .prelu = {prelu_f32, prelu_f64},
    .prelu_backward = {prelu_backward_f32, prelu_backward_f64},
};
