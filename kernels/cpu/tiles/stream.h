/* Results written past the caches.
 *
 * An ordinary store first reads the line it writes. Of an array far larger than the caches that is
 * a third of the traffic of y = f(x), and what it brings in is pushed out unused. So long results
 * are made in blocks of four lines, which stay in the first-level cache (or in registers) and leave
 * it by non-temporal stores. These are weakly ordered: the pool ends a job
 * with a fence. */
#ifndef HALFWAVE_TILES_STREAM_H
#define HALFWAVE_TILES_STREAM_H

#include "vector.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HW_BLOCK 256  /* bytes */
#define HW_AHEAD 1024 /* bytes from a block to what is asked for meanwhile */
#define HW_LONG 2048  /* elements: below, finding where a line begins costs more than it gains */

typedef int32_t any_vector __attribute__((vector_size(HW_BYTES), may_alias));

static inline void hw_stream_block(void *to, const void *from) {
    for (int i = 0; i < HW_BLOCK; i += HW_BYTES) {
        any_vector value = *(const any_vector *)((const char *)from + i);
        char *at = (char *)to + i;
#if defined(HW_AVX512)
        _mm512_stream_si512((__m512i *)at, (__m512i)value);
#elif defined(HW_AVX2)
        _mm256_stream_si256((__m256i *)at, (__m256i)value);
#elif defined(__x86_64__)
        _mm_stream_si128((__m128i *)at, (__m128i)value);
#elif defined(__clang__)
        __builtin_nontemporal_store(value, (any_vector *)at);
#else
        *(any_vector *)at = value;
#endif
    }
}

/* y[i] = the expression in i, for i < n: by streaming where `past` is set. x, and z if not NULL,
 * are what is read. Of long results vectors begin where a line of y does. */
#define HW_MAP_2(real, n, x, z, y, past, ...)                                             \
    do {                                                                                  \
        int64_t done = 0;                                                                 \
        if ((past) || (n) > HW_LONG) {                                                    \
            done = (int64_t)(-(uintptr_t)(y) % 64 / sizeof(real));                        \
            if (done > (n)) done = (n);                                                   \
            for (int64_t i = 0; i < done; i++) (y)[i] = (__VA_ARGS__);                    \
        }                                                                                 \
        if (past) {                                                                       \
            enum { LENGTH = HW_BLOCK / sizeof(real) };                                    \
            for (; done + LENGTH <= (n); done += LENGTH) {                                \
                _Alignas(64) real block[LENGTH];                                          \
                for (int64_t l = 0; l < HW_BLOCK; l += 64) {                              \
                    __builtin_prefetch((const char *)((x) + done) + HW_AHEAD + l);        \
                    if (z) __builtin_prefetch((const char *)((z) + done) + HW_AHEAD + l); \
                }                                                                         \
                HW_INDEPENDENT                                                            \
                for (int64_t l = 0; l < LENGTH; l++) {                                    \
                    int64_t i = done + l;                                                 \
                    block[l] = (__VA_ARGS__);                                             \
                }                                                                         \
                hw_stream_block((y) + done, block);                                       \
            }                                                                             \
        }                                                                                 \
        HW_INDEPENDENT                                                                    \
        for (int64_t i = done; i < (n); i++) (y)[i] = (__VA_ARGS__);                      \
    } while (0)

#define HW_MAP(real, n, x, y, past, ...) HW_MAP_2(real, n, x, (const real *)0, y, past, __VA_ARGS__)

/* The same for a statement that makes elements [at, at + length) of y in `piece`. */
#define HW_STREAM_PIECES(real, n, y, make)                                       \
    do {                                                                         \
        enum { LENGTH = 4 * HW_BLOCK / sizeof(real) };                           \
        int64_t at = 0, length = (int64_t)(-(uintptr_t)(y) % 64 / sizeof(real)); \
        _Alignas(64) real piece[LENGTH];                                         \
        for (; at < (n); at += length, length = LENGTH) {                        \
            if (length > (n) - at) length = (n) - at;                            \
            make;                                                                \
            if (length == LENGTH)                                                \
                for (int64_t i = 0; i < LENGTH; i += LENGTH / 4)                 \
                    hw_stream_block((y) + at + i, piece + i);                    \
            else                                                                 \
                memcpy((y) + at, piece, (size_t)length * sizeof(real));          \
        }                                                                        \
    } while (0)

#endif
