/* What the shared scalar headers need of a compiler: gcc or clang for the CPU, NVRTC for the GPU.
 *
 * They use +, -, *, / and sqrt, each with one rounding, and integer operations: no libm, no
 * contraction (-ffp-contract=off, --fmad=false), so that both sides compute the same bits. */
#ifndef HALFWAVE_COMMON_CONFIG_H
#define HALFWAVE_COMMON_CONFIG_H

#if defined(__CUDACC_RTC__) /* has no <stdint.h> */
typedef int int32_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#else
#include <stdint.h>
#endif

#if defined(__CUDACC__)
#define HW_FUNCTION static __device__ __forceinline__

HW_FUNCTION uint32_t hw_bits_f32(float x) { return __float_as_uint(x); }
HW_FUNCTION float hw_f32_from_bits(uint32_t x) { return __uint_as_float(x); }
HW_FUNCTION uint64_t hw_bits_f64(double x) { return (uint64_t)__double_as_longlong(x); }
HW_FUNCTION double hw_f64_from_bits(uint64_t x) { return __longlong_as_double((int64_t)x); }
HW_FUNCTION float hw_sqrt_f32(float x) { return __fsqrt_rn(x); }
HW_FUNCTION double hw_sqrt_f64(double x) { return __dsqrt_rn(x); }
/* Of C's (uint64_t)a * b NVRTC makes one instruction more, which adds 0 to the high half. */
HW_FUNCTION uint64_t hw_product(uint32_t a, uint32_t b) {
    uint64_t product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
}
#else
#define HW_FUNCTION static inline __attribute__((always_inline, unused))

HW_FUNCTION uint32_t hw_bits_f32(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}
HW_FUNCTION float hw_f32_from_bits(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}
HW_FUNCTION uint64_t hw_bits_f64(double x) {
    uint64_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}
HW_FUNCTION double hw_f64_from_bits(uint64_t bits) {
    double x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}
HW_FUNCTION float hw_sqrt_f32(float x) { return __builtin_sqrtf(x); }
HW_FUNCTION double hw_sqrt_f64(double x) { return __builtin_sqrt(x); }
HW_FUNCTION uint64_t hw_product(uint32_t a, uint32_t b) { return (uint64_t)a * b; }
#endif

#endif
