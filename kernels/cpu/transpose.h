/* Small transposes for packing: hw_transpose_f32 turns 4 × 4, hw_transpose_f64 2 × 2 elements, in
 * vectors of 16 bytes, which every instruction set has. */
#ifndef HALFWAVE_TRANSPOSE_H
#define HALFWAVE_TRANSPOSE_H

#include <stdint.h>

typedef float hw_f32x4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double hw_f64x2 __attribute__((vector_size(16), aligned(8), may_alias));

/* to[p * stride + j] = from_j[p] for p, j < 4. */
static inline void hw_transpose_f32(const float *from_0, const float *from_1, const float *from_2,
                                    const float *from_3, float *to, int64_t stride) {
    hw_f32x4 a = *(const hw_f32x4 *)from_0, b = *(const hw_f32x4 *)from_1;
    hw_f32x4 c = *(const hw_f32x4 *)from_2, d = *(const hw_f32x4 *)from_3;
    hw_f32x4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    hw_f32x4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    hw_f32x4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    hw_f32x4 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(hw_f32x4 *)to = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    *(hw_f32x4 *)(to + stride) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    *(hw_f32x4 *)(to + 2 * stride) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    *(hw_f32x4 *)(to + 3 * stride) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

/* to[p * stride + j] = from_j[p] for p, j < 2. */
static inline void hw_transpose_f64(const double *from_0, const double *from_1, double *to,
                                    int64_t stride) {
    hw_f64x2 a = *(const hw_f64x2 *)from_0, b = *(const hw_f64x2 *)from_1;
    *(hw_f64x2 *)to = __builtin_shufflevector(a, b, 0, 2);
    *(hw_f64x2 *)(to + stride) = __builtin_shufflevector(a, b, 1, 3);
}

#endif
