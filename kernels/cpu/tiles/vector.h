/* One vector of the instruction set being compiled: f32v and f64v, load, store, broadcast, fma.
 *
 * Everything but the fused multiply-add is the C vector extension that gcc and clang share. Where
 * the set has no FMA (baseline x86-64) the product is added with one correct rounding in software:
 * the float32 product is exact in float64, the sum is rounded to odd there, and rounding that to
 * float32 is the rounding of the exact value (Boldo and Melquiond 2008); float64 takes the C
 * library's fma. */
#ifndef HALFWAVE_TILES_VECTOR_H
#define HALFWAVE_TILES_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define HW_JOIN_(a, b) a##_##b
#define HW_JOIN(a, b) HW_JOIN_(a, b)
#define HW_NAME(name) HW_JOIN(name, HW_SET) /* name_avx2 */

#if defined(HW_AVX512)
#define HW_BYTES 64
#elif defined(HW_AVX2)
#define HW_BYTES 32
#else
#define HW_BYTES 16
#endif
#define F32_LANES (HW_BYTES / 4)
#define F64_LANES (HW_BYTES / 8)

typedef float f32v __attribute__((vector_size(HW_BYTES)));
typedef double f64v __attribute__((vector_size(HW_BYTES)));
typedef int32_t i32v __attribute__((vector_size(HW_BYTES)));
typedef int64_t i64v __attribute__((vector_size(HW_BYTES)));

#if defined(HW_AVX512)
#include <immintrin.h>
static inline f32v f32_fma(f32v a, f32v b, f32v c) { return (f32v)_mm512_fmadd_ps(a, b, c); }
static inline f64v f64_fma(f64v a, f64v b, f64v c) { return (f64v)_mm512_fmadd_pd(a, b, c); }
#elif defined(HW_AVX2)
#include <immintrin.h>
static inline f32v f32_fma(f32v a, f32v b, f32v c) { return (f32v)_mm256_fmadd_ps(a, b, c); }
static inline f64v f64_fma(f64v a, f64v b, f64v c) { return (f64v)_mm256_fmadd_pd(a, b, c); }
#elif defined(__aarch64__)
#include <arm_neon.h>
static inline f32v f32_fma(f32v a, f32v b, f32v c) {
    return (f32v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
static inline f64v f64_fma(f64v a, f64v b, f64v c) {
    return (f64v)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
typedef float f32half __attribute__((vector_size(HW_BYTES / 2)));
static inline f64v fma_to_odd(f32half a, f32half b, f32half c) {
    f64v product = __builtin_convertvector(a, f64v) * __builtin_convertvector(b, f64v);
    f64v addend = __builtin_convertvector(c, f64v);
    f64v sum = product + addend;
    f64v part = sum - product; /* Knuth's exact error of the sum */
    f64v error = (product - (sum - part)) + (addend - part);
    i64v bits = (i64v)sum;
    i64v inexact = (i64v)(error != 0) & (i64v)(error == error); /* not of infinities and NaN */
    i64v even = (bits & 1) - 1;
    /* away from zero where the error has the sum's sign, else one step towards zero */
    i64v same_sign = (i64v)((error > 0) == (sum > 0));
    i64v step = (same_sign & 1) | ~same_sign;
    return (f64v)(bits + (step & inexact & even));
}
static inline f32v f32_fma(f32v a, f32v b, f32v c) {
    f32half low[3], high[3];
    const f32v *operands[3] = {&a, &b, &c};
    for (int i = 0; i < 3; i++) {
        memcpy(&low[i], operands[i], sizeof low[i]);
        memcpy(&high[i], (const char *)operands[i] + sizeof low[i], sizeof low[i]);
    }
    f32half parts[2] = {__builtin_convertvector(fma_to_odd(low[0], low[1], low[2]), f32half),
                        __builtin_convertvector(fma_to_odd(high[0], high[1], high[2]), f32half)};
    f32v result;
    memcpy(&result, parts, sizeof result);
    return result;
}
static inline f64v f64_fma(f64v a, f64v b, f64v c) {
    for (int i = 0; i < F64_LANES; i++) c[i] = fma(a[i], b[i], c[i]);
    return c;
}
#endif

/* Before a loop whose iterations do not depend on one another. */
#if defined(__clang__)
#define HW_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define HW_INDEPENDENT _Pragma("GCC ivdep")
#endif

/* The vector is in a register from here on: compilers like to load a value again for each use,
 * which costs twice as much where it lies across two lines of the cache. */
#if defined(__aarch64__)
#define HW_KEEP(v) __asm__("" : "+w"(v))
#else
#define HW_KEEP(v) __asm__("" : "+v"(v))
#endif

#define F32_LOAD(p) (*(const f32v *)__builtin_assume_aligned((p), HW_BYTES))
#define F64_LOAD(p) (*(const f64v *)__builtin_assume_aligned((p), HW_BYTES))

/* Unaligned and free to alias: how user memory is read and written. */
typedef float f32u __attribute__((vector_size(HW_BYTES), aligned(4), may_alias));
typedef double f64u __attribute__((vector_size(HW_BYTES), aligned(8), may_alias));

/* EACH_n(X) is X(0) … X(n - 1): for the rows of a tile, which are named variables. */
#define EACH_1(X) X(0)
#define EACH_2(X) EACH_1(X) X(1)
#define EACH_3(X) EACH_2(X) X(2)
#define EACH_4(X) EACH_3(X) X(3)
#define EACH_5(X) EACH_4(X) X(4)
#define EACH_6(X) EACH_5(X) X(5)
#define EACH_7(X) EACH_6(X) X(6)
#define EACH_8(X) EACH_7(X) X(7)
#define EACH_9(X) EACH_8(X) X(8)
#define EACH_10(X) EACH_9(X) X(9)
#define EACH_11(X) EACH_10(X) X(10)
#define EACH_12(X) EACH_11(X) X(11)
#define EACH_13(X) EACH_12(X) X(12)
#define EACH_14(X) EACH_13(X) X(13)

#endif
