/* Depthwise convolution: lanes are channels. See depthwise_loops.h. */
#include <string.h>

#include "depthwise.h"
#include "transpose.h"
#include "vector.h"

#define EACH_1(X) X(0)
#define EACH_2(X) EACH_1(X) X(1)
#define EACH_3(X) EACH_2(X) X(2)
#define EACH_4(X) EACH_3(X) X(3)
#define EACH_5(X) EACH_4(X) X(4)
#define EACH_6(X) EACH_5(X) X(5)
#define EACH_7(X) EACH_6(X) X(6)

#define REAL float
#define VEC f32v
#define VEC_U f32u
#define FMA f32_fma
#define LOAD F32_LOAD
#define LANES F32_LANES
#define SIDE 4
#define SQUARE(from, step, to, stride) \
    hw_transpose_f32(from, (from) + (step), (from) + 2 * (step), (from) + 3 * (step), to, stride)
#define TYPED(name) name##_f32
#include "depthwise_loops.h"
#include "depthwise_pixels.h"
#undef REAL
#undef VEC
#undef VEC_U
#undef FMA
#undef LOAD
#undef LANES
#undef SIDE
#undef SQUARE
#undef TYPED

#define REAL double
#define VEC f64v
#define VEC_U f64u
#define FMA f64_fma
#define LOAD F64_LOAD
#define LANES F64_LANES
#define SIDE 2
#define SQUARE(from, step, to, stride) hw_transpose_f64(from, (from) + (step), to, stride)
#define TYPED(name) name##_f64
#include "depthwise_loops.h"
#include "depthwise_pixels.h"

const hw_depthwise_tiles HW_NAME(hw_depthwise_tiles) = {
    .lanes = {F32_LANES, F64_LANES},
    .fill = {fill_f32, fill_f64},
    .drain = {drain_f32, drain_f64},
    .correlate = {correlate_f32, correlate_f64},
    .choose_pixels = {choose_pixels_f32, choose_pixels_f64},
    .choose_square = {choose_square_f32, choose_square_f64},
    .add_pixels = {add_pixels_f32, add_pixels_f64},
};
