/* The natural logarithm, for the normal's tails and the loss.
 *
 * x = 2^k (1 + f) with 1 + f in [√½, √2); s = f / (2 + f) and z = s², so that
 *     log(1 + f) = 2 artanh(s) = f - (f²/2 - s (f²/2 + R)),   R = z P(z),
 * where P is a minimax polynomial for artanh's series, fitted for the absolute error of the
 * logarithm (2^-30 and 2^-60). ln 2 is cut in two, the high part short enough that k times it is
 * exact. Straight-line code, selects in place of branches, so that a loop over it becomes vectors.
 */
#ifndef HALFWAVE_COMMON_LOG_H
#define HALFWAVE_COMMON_LOG_H

#include "common/config.h"

/* Of x = 2^k m with m a normal number, x > 0; k0 is added to k. */
HW_FUNCTION float hw_log_normal_f32(float x, float k0) {
    const float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    const float p0 = 0x1.55556cp-1f, p1 = 0x1.996b76p-2f, p2 = 0x1.30ad28p-2f;
    const uint32_t sqrt_half = 0x3f3504f3;
    uint32_t shifted = hw_bits_f32(x) + (0x3f800000 - sqrt_half);
    float k = (float)((int32_t)(shifted >> 23) - 127) + k0;
    float f = hw_f32_from_bits((shifted & 0x007fffff) + sqrt_half) - 1.0f;
    float s = f / (2.0f + f);
    float z = s * s;
    float r = z * (p0 + z * (p1 + z * p2));
    float half_square = 0.5f * f * f;
    return ((s * (half_square + r) + k * ln2_low) - half_square) + f + k * ln2_high;
}

HW_FUNCTION double hw_log_normal_f64(double x, double k0) {
    const double ln2_high = 0x1.62e42fefa38p-1, ln2_low = 0x1.ef35793c7673p-45;
    const double p0 = 0x1.555555555556ap-1, p1 = 0x1.999999998ccb5p-2, p2 = 0x1.24924936da933p-2;
    const double p3 = 0x1.c71c5ac827ec7p-3, p4 = 0x1.7464805ad52f4p-3;
    const double p5 = 0x1.39cd8e806c25ap-3, p6 = 0x1.2d56be5ea70d8p-3;
    const uint64_t sqrt_half = 0x3fe6a09e667f3bcd;
    uint64_t shifted = hw_bits_f64(x) + (0x3ff0000000000000 - sqrt_half);
    /* The exponent as a number: in the last bits of 2^52, less 2^52 and the bias. */
    double k = hw_f64_from_bits((shifted >> 52) | 0x4330000000000000) - 0x1.00000000003ffp52 + k0;
    double f = hw_f64_from_bits((shifted & 0x000fffffffffffff) + sqrt_half) - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double r = z * (p0 + z * (p1 + z * (p2 + z * (p3 + z * (p4 + z * (p5 + z * p6))))));
    double half_square = 0.5 * f * f;
    return ((s * (half_square + r) + k * ln2_low) - half_square) + f + k * ln2_high;
}

/* Of any x: -inf of ±0, NaN of what is negative, inf of inf. */
HW_FUNCTION float hw_log_f32(float x) {
    const float smallest = 0x1p-126f, infinity = hw_f32_from_bits(0x7f800000);
    float k0 = x < smallest ? -24.0f : 0.0f;
    float result = hw_log_normal_f32(x < smallest ? x * 0x1p24f : x, k0);
    result = x < infinity ? result : x; /* inf and NaN */
    result = x == 0.0f ? -infinity : result;
    return x < 0.0f ? hw_f32_from_bits(0x7fc00000) : result;
}

HW_FUNCTION double hw_log_f64(double x) {
    const double smallest = 0x1p-1022, infinity = hw_f64_from_bits(0x7ff0000000000000);
    double k0 = x < smallest ? -54.0 : 0.0;
    double result = hw_log_normal_f64(x < smallest ? x * 0x1p54 : x, k0);
    result = x < infinity ? result : x;
    result = x == 0.0 ? -infinity : result;
    return x < 0.0 ? hw_f64_from_bits(0x7ff8000000000000) : result;
}

#endif
