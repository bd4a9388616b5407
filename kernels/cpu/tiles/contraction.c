/* Register tiles: ROWS × 2 vectors of sums, each a chain of fused multiply-adds over one segment.
 *
 * Lanes span output columns. One step of the chain loads two vectors of b and multiplies them by
 * ROWS broadcast elements of a; the sums stay in registers (14×2 of 32 with AVX-512, 6×2 of 16 with
 * AVX2, 12×2 of 32 with NEON). They are named variables, made by the macros below: gcc spills an
 * array. c is fetched while the chain runs. Tiles of any smaller height serve what is left
 * of the rows, and narrow ones, of one vector, the last columns.
 *
 * Operands may lie anywhere: strides that only the call knows cost nothing, packed or not (117 of
 * 117 GFLOP/s either way, measured on a Zen 4 core). */
#include "contraction.h"
#include "rows_of_a.h"
#include "vector.h"

#if defined(HW_AVX512)
#define TILE_ROWS 14
#elif defined(HW_AVX2)
#define TILE_ROWS 6
#elif defined(HW_NEON)
#define TILE_ROWS 12
#else
#define TILE_ROWS 4
#endif

/* c is walked row by row: EACH_n(X) with `to` at row 0, where X ends in NEXT_ROW. RIGHT(…) is there
 * in tiles of two vectors and not in those of one. */
#define NEXT_ROW                        \
    to = (VEC_U *)((REAL *)to + c_row); \
    OPAQUE(to)
#define ZERO(i)                                      \
    VEC l##i = {0};                                  \
    __builtin_prefetch(to);                          \
    RIGHT(VEC r##i = {0};)                           \
    RIGHT(__builtin_prefetch((char *)(to + 2) - 1);) \
    NEXT_ROW
#define RESUME(i)        \
    l##i = to[0];        \
    RIGHT(r##i = to[1];) \
    NEXT_ROW
#define STEP(i)                           \
    x = *(const REAL *)AT_##i - (VEC){0}; \
    l##i = FMA(x, left, l##i);            \
    RIGHT(r##i = FMA(x, right, r##i);)
#define FETCH_A(i) __builtin_prefetch(AT_##i + a_ahead, 0, 2);
#define ADD_TO_C(i)             \
    l##i = to[0] + l##i;        \
    RIGHT(r##i = to[1] + r##i;) \
    NEXT_ROW
#define ADD_ROW_BIAS(i)        \
    l##i = l##i + row_bias[i]; \
    RIGHT(r##i = r##i + row_bias[i];)
#define ADD_COLUMN_BIAS(i) \
    l##i = l##i + left;    \
    RIGHT(r##i = r##i + right;)
#define STORE(i)         \
    to[0] = l##i;        \
    RIGHT(to[1] = r##i;) \
    NEXT_ROW

/* Steps of the chain until `rest` are left, and something else with each. What is asked for may
 * begin within a line: the lines of the last elements are those that no neighbour has asked for. */
#define FETCH_NEXT                                         \
    __builtin_prefetch(next + LANES - 1, 0, 2);            \
    RIGHT(__builtin_prefetch(next + 2 * LANES - 1, 0, 2);) \
    next += next_k;
#define CHAIN(rows, ALSO)                                       \
    for (; k > rest; k--, row0 += a_k, row7 += a_k, b += b_k) { \
        OPAQUE(step1)                                           \
        OPAQUE(step3)                                           \
        OPAQUE(step5)                                           \
        left = ((const VEC_U *)b)[0];                           \
        RIGHT(right = ((const VEC_U *)b)[1];)                   \
        ALSO EACH_##rows(STEP)                                  \
    }

#define TILE(type, rows)                                                                         \
    static void tile_##type##_##rows(int64_t k, const REAL *a, int64_t a_row, int64_t a_k,       \
                                     int64_t a_ahead, const REAL *b, int64_t b_k,                \
                                     const REAL *next, int64_t next_k, REAL *c, int64_t c_row,   \
                                     int flags, const REAL *row_bias, const REAL *column_bias) { \
        VEC x, left;                                                                             \
        RIGHT(VEC right;)                                                                        \
        VEC_U *to = (VEC_U *)c;                                                                  \
        EACH_##rows(ZERO) if (flags & HW_RESUME) {                                               \
            to = (VEC_U *)c;                                                                     \
            EACH_##rows(RESUME)                                                                  \
        }                                                                                        \
        a_row *= (int64_t)sizeof(REAL), a_k *= (int64_t)sizeof(REAL);                            \
        a_ahead *= (int64_t)sizeof(REAL);                                                        \
        int64_t step1 = a_row, step3 = 3 * a_row, step5 = 5 * a_row;                             \
        const char *row0 = (const char *)a, *row7 = row0 + 7 * a_row;                            \
        int64_t steps = a_ahead ? 64 / (int64_t)sizeof(REAL) : k, rest;                          \
        for (; k > 0; k = rest) {                                                                \
            if (a_ahead) {                                                                       \
                EACH_##rows(FETCH_A)                                                             \
            }                                                                                    \
            rest = k > steps ? k - steps : 0;                                                    \
            if (next) {                                                                          \
                CHAIN(rows, FETCH_NEXT)                                                          \
            } else {                                                                             \
                CHAIN(rows, )                                                                    \
            }                                                                                    \
        }                                                                                        \
        if (flags & HW_ACCUMULATE) {                                                             \
            to = (VEC_U *)c;                                                                     \
            EACH_##rows(ADD_TO_C)                                                                \
        }                                                                                        \
        if (flags & HW_ROW_BIAS) {                                                               \
            EACH_##rows(ADD_ROW_BIAS)                                                            \
        }                                                                                        \
        if (flags & HW_COLUMN_BIAS) {                                                            \
            left = ((const VEC_U *)column_bias)[0];                                              \
            RIGHT(right = ((const VEC_U *)column_bias)[1];)                                      \
            EACH_##rows(ADD_COLUMN_BIAS)                                                         \
        }                                                                                        \
        to = (VEC_U *)c;                                                                         \
        EACH_##rows(STORE)                                                                       \
    }

#if TILE_ROWS == 14
#define EACH_HEIGHT(X, t) \
    X(t, 1)               \
    X(t, 2)               \
    X(t, 3)               \
    X(t, 4) X(t, 5) X(t, 6) X(t, 7) X(t, 8) X(t, 9) X(t, 10) X(t, 11) X(t, 12) X(t, 13) X(t, 14)
#elif TILE_ROWS == 12
#define EACH_HEIGHT(X, t) \
    X(t, 1)               \
    X(t, 2) X(t, 3) X(t, 4) X(t, 5) X(t, 6) X(t, 7) X(t, 8) X(t, 9) X(t, 10) X(t, 11) X(t, 12)
#elif TILE_ROWS == 6
#define EACH_HEIGHT(X, t) X(t, 1) X(t, 2) X(t, 3) X(t, 4) X(t, 5) X(t, 6)
#else
#define EACH_HEIGHT(X, t) X(t, 1) X(t, 2) X(t, 3) X(t, 4)
#endif

#define UNROLL _Pragma("GCC unroll 16")
#if defined(__x86_64__)
#define KEEP_SCALAR(x) __asm__("" : "+x"(x));
#elif defined(__aarch64__)
#define KEEP_SCALAR(x) __asm__("" : "+w"(x));
#else
#define KEEP_SCALAR(x)
#endif
#define FETCH (1024 / (int)sizeof(REAL)) /* ahead of transposing, in each column */
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define LOW_2(a, b) SHUFFLE(a, b, 0, 2)
#define HIGH_2(a, b) SHUFFLE(a, b, 1, 3)
#define LOW_4(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define HIGH_4(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#define LOW_8(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_8(a, b) SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LOW_16(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH_16(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

#define REAL float
#define VEC f32v
#define VEC_U f32u
#define FMA f32_fma
#define SCALAR_FMA fmaf
#define LANES F32_LANES
#if F32_LANES == 16
#define INTERLEAVE_LOW LOW_16
#define INTERLEAVE_HIGH HIGH_16
#elif F32_LANES == 8
#define INTERLEAVE_LOW LOW_8
#define INTERLEAVE_HIGH HIGH_8
#else
#define INTERLEAVE_LOW LOW_4
#define INTERLEAVE_HIGH HIGH_4
#endif
#define TYPED(name) name##_f32
#include "packing_loops.h"
#undef TYPED
#define RIGHT(...) __VA_ARGS__
EACH_HEIGHT(TILE, f32)
#undef RIGHT
#define RIGHT(...)
EACH_HEIGHT(TILE, narrow_f32)
#undef RIGHT
#undef INTERLEAVE_LOW
#undef INTERLEAVE_HIGH
#undef REAL
#undef VEC
#undef VEC_U
#undef FMA
#undef SCALAR_FMA
#undef LANES

#define REAL double
#define VEC f64v
#define VEC_U f64u
#define FMA f64_fma
#define SCALAR_FMA fma
#define LANES F64_LANES
#if F64_LANES == 8
#define INTERLEAVE_LOW LOW_8
#define INTERLEAVE_HIGH HIGH_8
#elif F64_LANES == 4
#define INTERLEAVE_LOW LOW_4
#define INTERLEAVE_HIGH HIGH_4
#else
#define INTERLEAVE_LOW LOW_2
#define INTERLEAVE_HIGH HIGH_2
#endif
#define TYPED(name) name##_f64
#include "packing_loops.h"
#undef TYPED
#define RIGHT(...) __VA_ARGS__
EACH_HEIGHT(TILE, f64)
#undef RIGHT
#define RIGHT(...)
EACH_HEIGHT(TILE, narrow_f64)

#define ENTRY(type, rows) [rows] = tile_##type##_##rows,
const hw_contraction_tiles HW_NAME(hw_contraction_tiles) = {
    .rows = TILE_ROWS,
    .columns_f32 = 2 * F32_LANES,
    .columns_f64 = 2 * F64_LANES,
    .f32 = {EACH_HEIGHT(ENTRY, f32)},
    .f64 = {EACH_HEIGHT(ENTRY, f64)},
    .narrow_f32 = {EACH_HEIGHT(ENTRY, narrow_f32)},
    .narrow_f64 = {EACH_HEIGHT(ENTRY, narrow_f64)},
    .copy_f32 = copy_f32,
    .copy_f64 = copy_f64,
    .transpose_f32 = transpose_f32,
    .transpose_f64 = transpose_f64,
    .chains_f32 = chains_f32,
    .chains_f64 = chains_f64,
};
