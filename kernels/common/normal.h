/* The standard normal's quantile, and normal variates as that quantile of a word.
 *
 * Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics
 * 37 (1988) 477-484: PPND7 for float32, PPND16 for float64. The half distribution is enough: of the
 * distance q = P(0 < Z < z) from the centre and the tail p = ½ - q = P(Z > z), both given, so that
 * neither cancels. Three ratios of polynomials: in 0.180625 - q² near the centre (z = q × ratio,
 * with full relative accuracy at 0), in sqrt(-log p) beyond, and again far out.
 *
 * A word w stands for the probability u = (w + ½) / 2^32, or 2^64: never 0 or 1, symmetric about ½,
 * so that the variate of ~w is minus that of w. Selects in place of branches: loops become vectors.
 */
#ifndef HALFWAVE_COMMON_NORMAL_H
#define HALFWAVE_COMMON_NORMAL_H

#include "common/config.h"
#include "common/log.h"

/* Where the far region begins: e^-25, sqrt(-log p) = 5. No 32-bit word reaches it. */
#define HW_FAR_TAIL 1.3887943864964021e-11

/* A quantile is one division: of the centre's ratio or a tail's. */
typedef struct {
    float top, bottom;
} hw_ratio_f32;
typedef struct {
    double top, bottom;
} hw_ratio_f64;

HW_FUNCTION hw_ratio_f32 hw_centre_f32(float q) {
    float r = 0.180625f - q * q;
    float top = q * (((5.9109374720e+01f * r + 1.5929113202e+02f) * r + 5.0434271938e+01f) * r +
                     3.3871327179e+00f);
    float bottom = ((6.7187563600e+01f * r + 7.8757757664e+01f) * r + 1.7895169469e+01f) * r + 1.0f;
    hw_ratio_f32 ratio = {top, bottom};
    return ratio;
}

/* `far` (a constant) says that p may be < HW_FAR_TAIL. */
HW_FUNCTION hw_ratio_f32 hw_tail_f32(float p, int far) {
    float root = hw_sqrt_f32(-hw_log_normal_f32(p, 0.0f));
    float t = root - 1.6f;
    float top = ((1.7023821103e-01f * t + 1.3067284816e+00f) * t + 2.7568153900e+00f) * t +
                1.4234372777e+00f;
    float bottom = (1.2021132975e-01f * t + 7.3700164250e-01f) * t + 1.0f;
    if (far) {
        float s = root - 5.0f;
        float far_top = ((1.7337203997e-02f * s + 4.2868294337e-01f) * s + 3.0812263860e+00f) * s +
                        6.6579051150e+00f;
        float far_bottom = (1.2258202635e-02f * s + 2.4197894225e-01f) * s + 1.0f;
        top = root > 5.0f ? far_top : top;
        bottom = root > 5.0f ? far_bottom : bottom;
    }
    hw_ratio_f32 ratio = {top, bottom};
    return ratio;
}

/* z > 0 with P(0 < Z < z) = q and P(Z > z) = p. */
HW_FUNCTION float hw_half_quantile_f32(float q, float p, int far) {
    hw_ratio_f32 centre = hw_centre_f32(q), tail = hw_tail_f32(p, far);
    float top = q <= 0.425f ? centre.top : tail.top;
    float bottom = q <= 0.425f ? centre.bottom : tail.bottom;
    return top / bottom;
}

HW_FUNCTION hw_ratio_f64 hw_centre_f64(double q) {
    double r = 0.180625 - q * q;
    double top = 2.5090809287301226727e+03 * r + 3.3430575583588128105e+04;
    top = top * r + 6.7265770927008700853e+04;
    top = top * r + 4.5921953931549871457e+04;
    top = top * r + 1.3731693765509461125e+04;
    top = top * r + 1.9715909503065514427e+03;
    top = top * r + 1.3314166789178437745e+02;
    top = q * (top * r + 3.3871328727963666080e+00);
    double bottom = 5.2264952788528545610e+03 * r + 2.8729085735721942674e+04;
    bottom = bottom * r + 3.9307895800092710610e+04;
    bottom = bottom * r + 2.1213794301586595867e+04;
    bottom = bottom * r + 5.3941960214247511077e+03;
    bottom = bottom * r + 6.8718700749205790830e+02;
    bottom = bottom * r + 4.2313330701600911252e+01;
    bottom = bottom * r + 1.0;
    hw_ratio_f64 ratio = {top, bottom};
    return ratio;
}

HW_FUNCTION hw_ratio_f64 hw_tail_f64(double p, int far) {
    double root = hw_sqrt_f64(-hw_log_normal_f64(p, 0.0));
    double t = root - 1.6;
    double top = 7.74545014278341407640e-04 * t + 2.27238449892691845833e-02;
    top = top * t + 2.41780725177450611770e-01;
    top = top * t + 1.27045825245236838258e+00;
    top = top * t + 3.64784832476320460504e+00;
    top = top * t + 5.76949722146069140550e+00;
    top = top * t + 4.63033784615654529590e+00;
    top = top * t + 1.42343711074968357734e+00;
    double bottom = 1.05075007164441684324e-09 * t + 5.47593808499534494600e-04;
    bottom = bottom * t + 1.51986665636164571966e-02;
    bottom = bottom * t + 1.48103976427480074590e-01;
    bottom = bottom * t + 6.89767334985100004550e-01;
    bottom = bottom * t + 1.67638483018380384940e+00;
    bottom = bottom * t + 2.05319162663775882187e+00;
    bottom = bottom * t + 1.0;
    if (far) {
        double s = root - 5.0;
        double far_top = 2.01033439929228813265e-07 * s + 2.71155556874348757815e-05;
        far_top = far_top * s + 1.24266094738807843860e-03;
        far_top = far_top * s + 2.65321895265761230930e-02;
        far_top = far_top * s + 2.96560571828504891230e-01;
        far_top = far_top * s + 1.78482653991729133580e+00;
        far_top = far_top * s + 5.46378491116411436990e+00;
        far_top = far_top * s + 6.65790464350110377720e+00;
        double far_bottom = 2.04426310338993978564e-15 * s + 1.42151175831644588870e-07;
        far_bottom = far_bottom * s + 1.84631831751005468180e-05;
        far_bottom = far_bottom * s + 7.86869131145613259100e-04;
        far_bottom = far_bottom * s + 1.48753612908506148525e-02;
        far_bottom = far_bottom * s + 1.36929880922735805310e-01;
        far_bottom = far_bottom * s + 5.99832206555887937690e-01;
        far_bottom = far_bottom * s + 1.0;
        top = root > 5.0 ? far_top : top;
        bottom = root > 5.0 ? far_bottom : bottom;
    }
    hw_ratio_f64 ratio = {top, bottom};
    return ratio;
}

HW_FUNCTION double hw_half_quantile_f64(double q, double p, int far) {
    hw_ratio_f64 centre = hw_centre_f64(q), tail = hw_tail_f64(p, far);
    double top = q <= 0.425 ? centre.top : tail.top;
    double bottom = q <= 0.425 ? centre.bottom : tail.bottom;
    return top / bottom;
}

/* An integer as the nearest double: high and low 32 bits each exactly, as the last bits of
 * a power of two, and one rounding in their sum. (Few vector units convert 64-bit integers.) */
HW_FUNCTION double hw_f64_from_u64(uint64_t x) {
    double high = hw_f64_from_bits((x >> 32) | 0x4330000000000000) - 0x1p52;
    double low = hw_f64_from_bits((x & 0xffffffff) | 0x4330000000000000) - 0x1p52;
    return high * 0x1p32 + low;
}

/* Where in its half of the distribution a word lies: between centre and it, and beyond. */
typedef struct {
    float q, p;
} hw_half_f32;
typedef struct {
    double q, p;
} hw_half_f64;

/* With the top bit set w is m = w - 2^31 (or 2^63) above the centre, else as ~w is, on the other
 * side. */
HW_FUNCTION hw_half_f32 hw_normal_half_f32(uint32_t word) {
    uint32_t lower = (word >> 31) - 1; /* all ones below the centre, else 0 */
    int32_t m = (int32_t)((word ^ lower) & 0x7fffffff);
    hw_half_f32 half = {((float)m + 0.5f) * 0x1p-32f, ((float)(0x7fffffff - m) + 0.5f) * 0x1p-32f};
    return half;
}

HW_FUNCTION hw_half_f64 hw_normal_half_f64(uint64_t word) {
    uint64_t lower = (word >> 63) - 1;
    uint64_t m = (word ^ lower) & 0x7fffffffffffffff;
    hw_half_f64 half = {(hw_f64_from_u64(m) + 0.5) * 0x1p-64,
                        (hw_f64_from_u64(0x7fffffffffffffff - m) + 0.5) * 0x1p-64};
    return half;
}

/* z > 0 on the word's side. */
HW_FUNCTION float hw_normal_side_f32(uint32_t word, float z) {
    return hw_f32_from_bits(hw_bits_f32(z) | (~word & 0x80000000));
}

HW_FUNCTION double hw_normal_side_f64(uint64_t word, double z) {
    return hw_f64_from_bits(hw_bits_f64(z) | (~word & 0x8000000000000000));
}

HW_FUNCTION float hw_normal_f32(uint32_t word) {
    hw_half_f32 half = hw_normal_half_f32(word);
    return hw_normal_side_f32(word, hw_half_quantile_f32(half.q, half.p, 0));
}

HW_FUNCTION double hw_normal_f64(uint64_t word, int far) {
    hw_half_f64 half = hw_normal_half_f64(word);
    return hw_normal_side_f64(word, hw_half_quantile_f64(half.q, half.p, far));
}

/* Whether hw_normal_f64 needs far = 1; says so from p < 2^-36, a little early. */
HW_FUNCTION int hw_normal_f64_is_far(uint64_t word) {
    uint64_t lower = (word >> 63) - 1;
    return ((word ^ lower) & 0x7fffffffffffffff) > 0x7fffffffffffffff - ((uint64_t)1 << 28);
}

#endif
