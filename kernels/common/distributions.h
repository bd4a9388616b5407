/* One variate of a distribution from one random word (float32: 32 bits, float64: 64 bits).
 *
 * uniform: low + span u with u the word's top 24 (53) bits as a fraction; `last`, the largest
 * number below the upper bound, catches what rounding would put on the bound.
 *
 * truncated normal, without rejection: u = (w + ½) / 2^32 is mapped onto the probabilities between
 * the bounds. As for the normal, distance from the centre and tail are each computed from their own
 * end, so that neither cancels: word `centre` is where the variate changes sign; on either side the
 * distance is q0 + (words from there) × scale, the tail is the mass beyond the bound + (words from
 * the bound) × scale. Bounds that lie both below zero are mirrored (`flip`). */
#ifndef HALFWAVE_COMMON_DISTRIBUTIONS_H
#define HALFWAVE_COMMON_DISTRIBUTIONS_H

#include "common/normal.h"

typedef struct {
    float low, span, last;
} hw_uniform_f32;
typedef struct {
    double low, span, last;
} hw_uniform_f64;

typedef struct {
    float mean, std;
} hw_normal_params_f32;
typedef struct {
    double mean, std;
} hw_normal_params_f64;

typedef struct {
    float mean, std;
    float lower, upper; /* the bounds, in standard deviations; lower < upper, upper > 0 */
    float below, above, q0,
        scale; /* the mass beyond each; P(0 < Z < lower) if positive; mass / 2^32 */
    uint32_t centre, flip;
} hw_truncated_f32;
typedef struct {
    double mean, std;
    double lower, upper;
    double below, above, q0, scale;
    uint64_t centre, flip;
} hw_truncated_f64;

HW_FUNCTION float hw_draw_uniform_f32(uint32_t word, hw_uniform_f32 d) {
    float x = d.low + d.span * ((float)(int32_t)(word >> 8) * 0x1p-24f);
    return x < d.last ? x : d.last;
}

HW_FUNCTION double hw_draw_uniform_f64(uint64_t word, hw_uniform_f64 d) {
    double x = d.low + d.span * (hw_f64_from_u64(word >> 11) * 0x1p-53);
    return x < d.last ? x : d.last;
}

HW_FUNCTION float hw_draw_normal_f32(uint32_t word, hw_normal_params_f32 d) {
    return d.mean + d.std * hw_normal_f32(word);
}

HW_FUNCTION double hw_draw_normal_f64(uint64_t word, hw_normal_params_f64 d, int far) {
    return d.mean + d.std * hw_normal_f64(word, far);
}

HW_FUNCTION hw_half_f32 hw_truncated_half_f32(uint32_t word, hw_truncated_f32 d) {
    uint32_t w = word ^ d.flip;
    uint32_t lower = w < d.centre ? 0xffffffffu : 0;
    float from_centre = (float)((w - d.centre) ^ lower) + 0.5f;
    float from_bound = (float)(~w ^ lower) + 0.5f;
    hw_half_f32 half = {d.q0 + from_centre * d.scale,
                        (lower ? d.below : d.above) + from_bound * d.scale};
    return half;
}

/* The variate, of z > 0 with the half's q and p. */
HW_FUNCTION float hw_truncated_side_f32(uint32_t word, float z, hw_truncated_f32 d) {
    uint32_t lower = (word ^ d.flip) < d.centre ? 0xffffffffu : 0;
    z = hw_f32_from_bits(hw_bits_f32(z) | (lower & 0x80000000));
    z = z < d.lower ? d.lower : z;
    z = z > d.upper ? d.upper : z;
    return d.mean + d.std * hw_f32_from_bits(hw_bits_f32(z) ^ (d.flip & 0x80000000));
}

HW_FUNCTION float hw_draw_truncated_f32(uint32_t word, hw_truncated_f32 d, int far) {
    hw_half_f32 half = hw_truncated_half_f32(word, d);
    return hw_truncated_side_f32(word, hw_half_quantile_f32(half.q, half.p, far), d);
}

HW_FUNCTION hw_half_f64 hw_truncated_half_f64(uint64_t word, hw_truncated_f64 d) {
    uint64_t w = word ^ d.flip;
    uint64_t lower = w < d.centre ? 0xffffffffffffffff : 0;
    double from_centre = hw_f64_from_u64((w - d.centre) ^ lower) + 0.5;
    double from_bound = hw_f64_from_u64(~w ^ lower) + 0.5;
    hw_half_f64 half = {d.q0 + from_centre * d.scale,
                        (lower ? d.below : d.above) + from_bound * d.scale};
    return half;
}

/* The variate, of z > 0 with the half's q and p. */
HW_FUNCTION double hw_truncated_side_f64(uint64_t word, double z, hw_truncated_f64 d) {
    uint64_t lower = (word ^ d.flip) < d.centre ? 0xffffffffffffffff : 0;
    z = hw_f64_from_bits(hw_bits_f64(z) | (lower & 0x8000000000000000));
    z = z < d.lower ? d.lower : z;
    z = z > d.upper ? d.upper : z;
    return d.mean + d.std * hw_f64_from_bits(hw_bits_f64(z) ^ (d.flip & 0x8000000000000000));
}

HW_FUNCTION double hw_draw_truncated_f64(uint64_t word, hw_truncated_f64 d, int far) {
    hw_half_f64 half = hw_truncated_half_f64(word, d);
    return hw_truncated_side_f64(word, hw_half_quantile_f64(half.q, half.p, far), d);
}

/* float32 to float16 as bits, to nearest even; what overflows becomes infinite. */
HW_FUNCTION uint16_t hw_f16_bits(float x) {
    uint32_t bits = hw_bits_f32(x), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
    /* Normal: rebias by 112, drop 13 bits; half of the last one kept less 1, plus its parity,
     * rounds. */
    uint32_t normal = (size - (112u << 23) + 0xfff + ((size >> 13) & 1)) >> 13;
    /* Subnormal: adding ½ leaves the value in units of 2^-24 as the last bits, rounded by the sum.
     */
    uint32_t small = hw_bits_f32(hw_f32_from_bits(size) + 0.5f) - 0x3f000000;
    uint32_t half = size < (113u << 23) ? small : normal;
    half = size >= 0x477ff000 ? 0x7c00 : half; /* 65520 and above */
    half = size > 0x7f800000 ? 0x7e00 : half;
    return (uint16_t)(sign | half);
}

#endif
