/* Winograd's F(4×4, 3×3): 4 × 4 outputs of a 3 × 3 convolution by 36 products instead of 144.
 *
 * Every 2-D transform is a 1-D one down the columns, then along the rows. The points are 0, ±a, ±b
 * and ∞ with a = 5/8 and b = 3/2 (dyadic: all constants but those of G are exact; the textbook's
 * 0, ±1, ±2 lose twice the accuracy). Lanes are channels, so no result depends on their number. The
 * order of operations is CONTRACT.md's, section 4. */
#include "winograd.h"
#include "transpose.h"
#include "vector.h"

/* The 1-D transforms, from d[] to v[]; constants as the type's vectors. */
#define V(constant) ((VEC){0} + (constant))

#define REAL float
#define VEC f32v
#define VEC_U f32u
#define FMA f32_fma
#define LANES F32_LANES
#define BLOCK 4
#define TYPED(name) name##_f32
#include "winograd_strips.h"
#include "winograd_transforms.h"
#undef REAL
#undef VEC
#undef VEC_U
#undef FMA
#undef LANES
#undef BLOCK
#undef TYPED

#define REAL double
#define VEC f64v
#define VEC_U f64u
#define FMA f64_fma
#define LANES F64_LANES
#define BLOCK 2
#define TYPED(name) name##_f64
#include "winograd_strips.h"
#include "winograd_transforms.h"

const hw_winograd_tiles HW_NAME(hw_winograd_tiles) = {
    .lanes = {F32_LANES, F64_LANES},
    .input = {input_f32, input_f64},
    .weight = {weight_f32, weight_f64},
    .output = {output_f32, output_f64},
    .gradient = {gradient_f32, gradient_f64},
    .weight_gradient = {weight_gradient_f32, weight_gradient_f64},
    .gather = {gather_f32, gather_f64},
    .scatter = {scatter_f32, scatter_f64},
};
