/* Activations, forward and backward: CONTRACT.md, section 7.
 *
 * Plain loops over contiguous memory with selects, which the compiler makes vectors of. Comparisons
 * with zero are false for NaN, and the branch they then take carries the NaN on. */
#include "activation.h"
#include "common/exp.h"
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
    .forward = {[HW_RELU] = {relu_f32, relu_f64},
                [HW_SIGMOID] = {sigmoid_f32, sigmoid_f64},
                [HW_TANH] = {tanh_f32, tanh_f64}},
    .backward = {[HW_RELU] = {relu_backward_f32, relu_backward_f64},
                 [HW_SIGMOID] = {sigmoid_backward_f32, sigmoid_backward_f64},
                 [HW_TANH] = {tanh_backward_f32, tanh_backward_f64}},
    .prelu = {prelu_f32, prelu_f64},
    .prelu_backward = {prelu_backward_f32, prelu_backward_f64},
};
