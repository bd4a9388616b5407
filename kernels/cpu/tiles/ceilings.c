/* Loops that do one thing only, as fast as the instruction set can: what bench/ holds kernels
 * against.
 *
 * multiply_add: twelve independent chains on registers, with no load and no store, enough to fill
 * two units of four cycles' latency. Where the set has no fused multiply-add, a product and a sum.
 */
#include "ceilings.h"
#include "vector.h"

#if defined(HW_AVX512)
#define STREAM(p, v) _mm512_stream_ps((p), (__m512)(v))
#elif defined(HW_AVX2)
#define STREAM(p, v) _mm256_stream_ps((p), (__m256)(v))
#elif defined(__SSE2__)
#include <immintrin.h>
#define STREAM(p, v) _mm_stream_ps((p), (__m128)(v))
#endif

#if defined(HW_AVX512) || defined(HW_AVX2) || defined(__aarch64__)
#define CHAIN(x) x = f32_fma(x, scale, shift);
#else
#define CHAIN(x) x = x * scale + shift;
#endif

#define TWELVE(DO) DO(a) DO(b) DO(c) DO(d) DO(e) DO(f) DO(g) DO(h) DO(i) DO(j) DO(k) DO(l)
#define START(x) f32v x = (start += scale); /* no two the same, or compilers keep one */
#define TOTAL(x) sum += x;

static float multiply_add(int64_t steps) {
    f32v scale = (f32v){0} + 0.5f, shift = (f32v){0} + 1.0f, start = {0}, sum = {0};
    TWELVE(START)
    for (int64_t step = 0; step < steps; step++) {
        TWELVE(CHAIN)
    }
    TWELVE(TOTAL)
    return sum[0];
}

#define VECTORS (64 / F32_LANES) /* in 64 floats, one pass of the loops below */

static float read_all(int64_t n, const float *source) {
    f32v sum[VECTORS] = {{0}};
    for (int64_t at = 0; at < n; at += 64)
        for (int v = 0; v < VECTORS; v++) sum[v] += F32_LOAD(source + at + v * F32_LANES);
    for (int v = 1; v < VECTORS; v++) sum[0] += sum[v];
    return sum[0][0];
}

/* An empty asm that might look at memory keeps compilers from calling memset or memcpy instead,
 * which choose for themselves how to store. */
#define AS_WRITTEN() __asm__ volatile("" ::: "memory")

static void write_all(int64_t n, float *target) {
    f32v one = (f32v){0} + 1.0f;
    for (int64_t at = 0; at < n; at += 64) {
        for (int v = 0; v < VECTORS; v++) *(f32u *)(target + at + v * F32_LANES) = one;
        AS_WRITTEN();
    }
}

static void copy_all(int64_t n, const float *source, float *target) {
    for (int64_t at = 0; at < n; at += 64) {
        for (int v = 0; v < VECTORS; v++)
            *(f32u *)(target + at + v * F32_LANES) = F32_LOAD(source + at + v * F32_LANES);
        AS_WRITTEN();
    }
}

#ifdef STREAM
static void write_streaming(int64_t n, float *target) {
    f32v one = (f32v){0} + 1.0f;
    for (int64_t at = 0; at < n; at += 64)
        for (int v = 0; v < VECTORS; v++) STREAM(target + at + v * F32_LANES, one);
    _mm_sfence();
}

static void copy_streaming(int64_t n, const float *source, float *target) {
    for (int64_t at = 0; at < n; at += 64)
        for (int v = 0; v < VECTORS; v++)
            STREAM(target + at + v * F32_LANES, F32_LOAD(source + at + v * F32_LANES));
    _mm_sfence();
}
#define STREAMS 1
#else
#define STREAMS 0
#define write_streaming write_all
#define copy_streaming copy_all
#endif

const hw_ceilings_tiles HW_NAME(hw_ceilings_tiles) = {
    .step_flops = 12 * 2 * F32_LANES,
    .streams = STREAMS,
    .multiply_add = multiply_add,
    .read = read_all,
    .write = {write_all, write_streaming},
    .copy = {copy_all, copy_streaming},
};
