/* The exponential, for the loss, and the sigmoid and hyperbolic tangent built on it.
 *
 * x = k ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, k times the high one exact), and
 *     expm1(r) = r + r² Q(r),     exp(x) = 2^k (1 + expm1(r)),
 * where Q is a minimax polynomial fitted for the absolute error of exp(r) (2^-27.7 and 2^-56.5).
 * 2^k is multiplied in two halves, so that a subnormal result is rounded once. Straight-line code,
 * selects in place of branches, so that a loop over it becomes vectors. NaN passes every step. */
#ifndef HALFWAVE_COMMON_EXP_H
#define HALFWAVE_COMMON_EXP_H

#include "common/config.h"

typedef struct {
    float k, expm1; /* of r */
} hw_reduced_f32;

typedef struct {
    double k, expm1;
} hw_reduced_f64;

#define HW_ROUND_F32 0x1.8p23f /* adding it rounds to an integer, held in the last bits */
#define HW_ROUND_F64 0x1.8p52

HW_FUNCTION hw_reduced_f32 hw_exp_reduce_f32(float x) {
    const float log2_e = 0x1.715476p+0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    const float q0 = 0x1p-1f, q1 = 0x1.55548ep-3f, q2 = 0x1.55545ep-5f, q3 = 0x1.123b54p-7f;
    const float q4 = 0x1.6db42p-10f;
    float k = (x * log2_e + HW_ROUND_F32) - HW_ROUND_F32;
    float r = (x - k * ln2_high) - k * ln2_low;
    float q = q0 + r * (q1 + r * (q2 + r * (q3 + r * q4)));
    hw_reduced_f32 result = {k, r + r * r * q};
    return result;
}

HW_FUNCTION hw_reduced_f64 hw_exp_reduce_f64(double x) {
    const double log2_e = 0x1.71547652b82fep+0;
    const double ln2_high = 0x1.62e42fefa38p-1, ln2_low = 0x1.ef35793c7673p-45;
    const double q0 = 0x1.000000000000bp-1, q1 = 0x1.5555555555561p-3, q2 = 0x1.555555555002fp-5;
    const double q3 = 0x1.111111110d642p-7, q4 = 0x1.6c16c185a7728p-10;
    const double q5 = 0x1.a01a01badf7d5p-13, q6 = 0x1.a0199693790d2p-16;
    const double q7 = 0x1.71dddfd15a92ap-19, q8 = 0x1.28b0494d25b8ep-22;
    const double q9 = 0x1.af85802d17f80p-26;
    double k = (x * log2_e + HW_ROUND_F64) - HW_ROUND_F64;
    double r = (x - k * ln2_high) - k * ln2_low;
    double q = q5 + r * (q6 + r * (q7 + r * (q8 + r * q9)));
    q = q0 + r * (q1 + r * (q2 + r * (q3 + r * (q4 + r * q))));
    hw_reduced_f64 result = {k, r + r * r * q};
    return result;
}

/* 2^k of an integer k in the range of normal numbers. */
HW_FUNCTION float hw_power_of_2_f32(float k) {
    return hw_f32_from_bits((hw_bits_f32(k + HW_ROUND_F32) << 23) + 0x3f800000);
}
HW_FUNCTION double hw_power_of_2_f64(double k) {
    return hw_f64_from_bits((hw_bits_f64(k + HW_ROUND_F64) << 52) + 0x3ff0000000000000);
}

HW_FUNCTION float hw_exp_f32(float x) {
    x = x < -104.0f ? -104.0f : x; /* rounds to +0 */
    x = x > 89.0f ? 89.0f : x;     /* overflows */
    hw_reduced_f32 of = hw_exp_reduce_f32(x);
    float half = (of.k * 0.5f + HW_ROUND_F32) - HW_ROUND_F32;
    return (1.0f + of.expm1) * hw_power_of_2_f32(half) * hw_power_of_2_f32(of.k - half);
}

HW_FUNCTION double hw_exp_f64(double x) {
    x = x < -746.0 ? -746.0 : x;
    x = x > 710.0 ? 710.0 : x;
    hw_reduced_f64 of = hw_exp_reduce_f64(x);
    double half = (of.k * 0.5 + HW_ROUND_F64) - HW_ROUND_F64;
    return (1.0 + of.expm1) * hw_power_of_2_f64(half) * hw_power_of_2_f64(of.k - half);
}

/* 1 / (1 + exp(-x)), from exp(-|x|) on both sides: no overflow, no cancellation. */
HW_FUNCTION float hw_sigmoid_f32(float x) {
    float z = hw_exp_f32(x < 0.0f ? x : -x);
    return (x < 0.0f ? z : 1.0f) / (1.0f + z);
}
HW_FUNCTION double hw_sigmoid_f64(double x) {
    double z = hw_exp_f64(x < 0.0 ? x : -x);
    return (x < 0.0 ? z : 1.0) / (1.0 + z);
}

/* With t = expm1(-2|x|): tanh |x| = -t / (t + 2), and x's sign. 1 from |x| = 32 on. */
HW_FUNCTION float hw_tanh_f32(float x) {
    float u = x < 0.0f ? x + x : -(x + x);
    hw_reduced_f32 of = hw_exp_reduce_f32(u < -64.0f ? -64.0f : u);
    float scale = hw_power_of_2_f32(of.k);
    float t = scale * of.expm1 + (scale - 1.0f);
    uint32_t sign = 0x80000000;
    return hw_f32_from_bits((hw_bits_f32(t / (t + 2.0f)) & ~sign) | (hw_bits_f32(x) & sign));
}
HW_FUNCTION double hw_tanh_f64(double x) {
    double u = x < 0.0 ? x + x : -(x + x);
    hw_reduced_f64 of = hw_exp_reduce_f64(u < -64.0 ? -64.0 : u);
    double scale = hw_power_of_2_f64(of.k);
    double t = scale * of.expm1 + (scale - 1.0);
    uint64_t sign = 0x8000000000000000;
    return hw_f64_from_bits((hw_bits_f64(t / (t + 2.0)) & ~sign) | (hw_bits_f64(x) & sign));
}

#endif
