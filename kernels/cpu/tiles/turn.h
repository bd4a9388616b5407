/* Blocks of as many rows as a vector has lanes, 16 bytes wide, transposed.
 *
 * The rows k, k + side, k + 2 · side, … of a block go side by side into one vector, 16 bytes each;
 * then elements change places within 16 bytes, which processors do at once for all of a vector: 8
 * such steps for 16 × 4 floats, where squares of 4 × 4 take 32 and four times the stores. */
#ifndef HALFWAVE_TILES_TURN_H
#define HALFWAVE_TILES_TURN_H

#include "transpose.h"
#include "vector.h"

#if HW_BYTES > 16
/* 16 bytes from each of the rows, side by side. */
#if HW_BYTES == 64
static inline f64v gather_parts(const char *const row[4]) {
    __m256d low = _mm256_castpd128_pd256(_mm_loadu_pd((const double *)row[0]));
    __m256d high = _mm256_castpd128_pd256(_mm_loadu_pd((const double *)row[2]));
    low = _mm256_insertf128_pd(low, _mm_loadu_pd((const double *)row[1]), 1);
    high = _mm256_insertf128_pd(high, _mm_loadu_pd((const double *)row[3]), 1);
    return (f64v)_mm512_insertf64x4(_mm512_castpd256_pd512(low), high, 1);
}
#else
static inline f64v gather_parts(const char *const row[2]) {
    __m256d low = _mm256_castpd128_pd256(_mm_loadu_pd((const double *)row[0]));
    return (f64v)_mm256_insertf128_pd(low, _mm_loadu_pd((const double *)row[1]), 1);
}
#endif

/* Elements of a and b in turns, of the lower or upper half of each 16 bytes. */
#if HW_BYTES == 64
#define LOW_F64(a, b) __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define HIGH_F64(a, b) __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
#define LOW_F32(a, b)                                                                              \
    (f64v) __builtin_shufflevector((f32v)(a), (f32v)(b), 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, \
                                   12, 28, 13, 29)
#define HIGH_F32(a, b)                                                                           \
    (f64v) __builtin_shufflevector((f32v)(a), (f32v)(b), 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, \
                                   27, 14, 30, 15, 31)
#else
#define LOW_F64(a, b) __builtin_shufflevector(a, b, 0, 4, 2, 6)
#define HIGH_F64(a, b) __builtin_shufflevector(a, b, 1, 5, 3, 7)
#define LOW_F32(a, b) (f64v) __builtin_shufflevector((f32v)(a), (f32v)(b), 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH_F32(a, b) \
    (f64v) __builtin_shufflevector((f32v)(a), (f32v)(b), 2, 10, 3, 11, 6, 14, 7, 15)
#endif

/* The rows that one vector takes, and on to the next one's. */
#define PARTS (HW_BYTES / 16)
#define NEXT                                              \
    for (int i = 0; i < PARTS; i++) {                     \
        row[i] += next;                                   \
        __asm__("" : "+r"(row[i])); /* no 16 addresses */ \
    }

/* to[q * stride + p] = from[p * step + q] for p < lanes, q < 16 bytes. */
static inline void turn_block_f32(const float *from, int64_t step, float *to, int64_t stride) {
    const int64_t next = step * (int64_t)sizeof(float);
    const char *row[PARTS];
    for (int i = 0; i < PARTS; i++) row[i] = (const char *)from + 4 * i * next;
    f64v a = gather_parts(row);
    NEXT f64v b = gather_parts(row);
    NEXT f64v c = gather_parts(row);
    NEXT f64v d = gather_parts(row);
    f64v ab = LOW_F32(a, b), cd = LOW_F32(c, d);
    *(f32u *)to = (f32v)LOW_F64(ab, cd);
    *(f32u *)(to + stride) = (f32v)HIGH_F64(ab, cd);
    to += 2 * stride;
    ab = HIGH_F32(a, b), cd = HIGH_F32(c, d);
    *(f32u *)to = (f32v)LOW_F64(ab, cd);
    *(f32u *)(to + stride) = (f32v)HIGH_F64(ab, cd);
}

static inline void turn_block_f64(const double *from, int64_t step, double *to, int64_t stride) {
    const int64_t next = step * (int64_t)sizeof(double);
    const char *row[PARTS];
    for (int i = 0; i < PARTS; i++) row[i] = (const char *)from + 2 * i * next;
    f64v a = gather_parts(row);
    NEXT f64v b = gather_parts(row);
    *(f64u *)to = LOW_F64(a, b);
    *(f64u *)(to + stride) = HIGH_F64(a, b);
}
#undef PARTS
#undef NEXT
#undef LOW_F32
#undef HIGH_F32
#undef LOW_F64
#undef HIGH_F64
#else
static inline void turn_block_f32(const float *from, int64_t step, float *to, int64_t stride) {
    hw_transpose_f32(from, from + step, from + 2 * step, from + 3 * step, to, stride);
}

static inline void turn_block_f64(const double *from, int64_t step, double *to, int64_t stride) {
    hw_transpose_f64(from, from + step, to, stride);
}
#endif

#endif
