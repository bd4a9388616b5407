/* Tiles of direct convolution.
 *
 * A tile is ROWS × 1, 2 or 4 vectors of sums, each a chain of fused multiply-adds. Unlike the
 * contraction's, both of its operands are found by a table of offsets, a step of the chain each: so
 * an image is read where it lies, pixels in the lanes or broadcast, and no im2col is ever made. The
 * two loads of offsets hide behind the multiply-adds. Four vectors serve few rows, where two would
 * leave the multipliers idle; half a vector, with AVX-512, serves few lanes at half the cost. */
#include "direct.h"

#include "contraction.h"
#include "direct_moves.h"
#include "rows_of_a.h"
#include "vector.h"

#if defined(HW_AVX512)
#define ROWS_1 14
#define ROWS_2 14
#define ROWS_4 6
#elif defined(HW_AVX2)
#define ROWS_1 12
#define ROWS_2 6
#define ROWS_4 2
#elif defined(HW_NEON)
#define ROWS_1 14
#define ROWS_2 14
#define ROWS_4 6
#else
#define ROWS_1 4
#define ROWS_2 4
#define ROWS_4 1
#endif

/* VECTORS_n(X, i): X for each vector of row i. */
#define VECTORS_1(X, i) X(i, 0)
#define VECTORS_HALF(X, i) X(i, 0)
#define VECTORS_2(X, i) X(i, 0) X(i, 1)
#define VECTORS_4(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)

#define ZERO(i, v) VEC s##i##_##v = {0};
#define STEP(i, v) s##i##_##v = FMA(x, b##v, s##i##_##v);
#define ADD_TO_C(i, v) s##i##_##v = to[v] + s##i##_##v;
#define ADD_ROW_BIAS(i, v) s##i##_##v = s##i##_##v + bias[i];
#define ADD_COLUMN_BIAS(i, v) s##i##_##v = s##i##_##v + b##v;
#define STORE(i, v) to[v] = s##i##_##v;
#define LOAD_B(i, v) b##v = from[v];
#define DECLARE_B(i, v) VEC b##v;
#define FETCH(i, v) __builtin_prefetch(to + v);
#define NEXT_ROW                         \
    to = (VEC_U *)((float *)to + c_row); \
    OPAQUE(to)
#define BROADCAST(i) x = *(const float *)AT_##i - (VEC){0};

#define ZERO_HALF(i) ZERO_1(i)
#define ZERO_1(i) VECTORS_1(ZERO, i)
#define ZERO_2(i) VECTORS_2(ZERO, i)
#define ZERO_4(i) VECTORS_4(ZERO, i)
#define FETCH_HALF(i) FETCH_1(i)
#define FETCH_1(i) VECTORS_1(FETCH, i) NEXT_ROW
#define FETCH_2(i) VECTORS_2(FETCH, i) NEXT_ROW
#define FETCH_4(i) VECTORS_4(FETCH, i) NEXT_ROW
#define STEP_HALF(i) STEP_1(i)
#define STEP_1(i) BROADCAST(i) VECTORS_1(STEP, i)
#define STEP_2(i) BROADCAST(i) VECTORS_2(STEP, i)
#define STEP_4(i) BROADCAST(i) VECTORS_4(STEP, i)
#define ADD_TO_C_HALF(i) ADD_TO_C_1(i)
#define ADD_TO_C_1(i) VECTORS_1(ADD_TO_C, i) NEXT_ROW
#define ADD_TO_C_2(i) VECTORS_2(ADD_TO_C, i) NEXT_ROW
#define ADD_TO_C_4(i) VECTORS_4(ADD_TO_C, i) NEXT_ROW
#define ADD_ROW_BIAS_HALF(i) ADD_ROW_BIAS_1(i)
#define ADD_ROW_BIAS_1(i) VECTORS_1(ADD_ROW_BIAS, i)
#define ADD_ROW_BIAS_2(i) VECTORS_2(ADD_ROW_BIAS, i)
#define ADD_ROW_BIAS_4(i) VECTORS_4(ADD_ROW_BIAS, i)
#define ADD_COLUMN_BIAS_HALF(i) ADD_COLUMN_BIAS_1(i)
#define ADD_COLUMN_BIAS_1(i) VECTORS_1(ADD_COLUMN_BIAS, i)
#define ADD_COLUMN_BIAS_2(i) VECTORS_2(ADD_COLUMN_BIAS, i)
#define ADD_COLUMN_BIAS_4(i) VECTORS_4(ADD_COLUMN_BIAS, i)
#define STORE_HALF(i) STORE_1(i)
#define STORE_1(i) VECTORS_1(STORE, i) NEXT_ROW
#define STORE_2(i) VECTORS_2(STORE, i) NEXT_ROW
#define STORE_4(i) VECTORS_4(STORE, i) NEXT_ROW

#define TILE(vectors, rows)                                                                      \
    static void tile_##vectors##_##rows(int64_t k, const float *a, int64_t a_row,                \
                                        const int64_t *a_k, const float *b, const int64_t *b_k,  \
                                        float *c, int64_t c_row, int flags, const float *bias) { \
        VEC x;                                                                                   \
        VEC_U *to = (VEC_U *)c;                                                                  \
        const VEC_U *from;                                                                       \
        VECTORS_##vectors(DECLARE_B, 0) EACH_##rows(ZERO_##vectors);                             \
        EACH_##rows(FETCH_##vectors) int64_t step1 = a_row * 4, step3 = 3 * step1,               \
                                             step5 = 5 * step1, step7 = 7 * step1;               \
        for (int64_t p = 0; p < k; p++) {                                                        \
            const char *row0 = (const char *)(a + a_k[p]), *row7 = row0 + step7;                 \
            OPAQUE(step1)                                                                        \
            OPAQUE(step3)                                                                        \
            OPAQUE(step5)                                                                        \
            (void)row7;                                                                          \
            from = (const VEC_U *)(b + b_k[p]);                                                  \
            VECTORS_##vectors(LOAD_B, 0) EACH_##rows(STEP_##vectors)                             \
        }                                                                                        \
        if (flags & HW_ACCUMULATE) {                                                             \
            to = (VEC_U *)c;                                                                     \
            EACH_##rows(ADD_TO_C_##vectors)                                                      \
        }                                                                                        \
        if (flags & HW_ROW_BIAS) {                                                               \
            EACH_##rows(ADD_ROW_BIAS_##vectors)                                                  \
        }                                                                                        \
        if (flags & HW_COLUMN_BIAS) {                                                            \
            from = (const VEC_U *)bias;                                                          \
            VECTORS_##vectors(LOAD_B, 0) EACH_##rows(ADD_COLUMN_BIAS_##vectors)                  \
        }                                                                                        \
        to = (VEC_U *)c;                                                                         \
        EACH_##rows(STORE_##vectors)                                                             \
    }

/* UP_TO_n(X, v): X(v, 1) … X(v, n). */
#define UP_TO_1(X, v) X(v, 1)
#define UP_TO_2(X, v) UP_TO_1(X, v) X(v, 2)
#define UP_TO_4(X, v) UP_TO_2(X, v) X(v, 3) X(v, 4)
#define UP_TO_6(X, v) UP_TO_4(X, v) X(v, 5) X(v, 6)
#define UP_TO_12(X, v) UP_TO_6(X, v) X(v, 7) X(v, 8) X(v, 9) X(v, 10) X(v, 11) X(v, 12)
#define UP_TO_14(X, v) UP_TO_12(X, v) X(v, 13) X(v, 14)
#define UP_TO_(rows, X, v) UP_TO_##rows(X, v)
#define UP_TO(rows, X, v) UP_TO_(rows, X, v)

#define VEC f32v
#define VEC_U f32u
#define FMA f32_fma
UP_TO(ROWS_1, TILE, 1)
UP_TO(ROWS_2, TILE, 2)
UP_TO(ROWS_4, TILE, 4)

#if defined(HW_AVX512)
#define HALF_LANES (F32_LANES / 2)
typedef float f32h __attribute__((vector_size(HALF_LANES * 4)));
typedef float f32hu __attribute__((vector_size(HALF_LANES * 4), aligned(4), may_alias));
static inline f32h f32h_fma(f32h a, f32h b, f32h c) { return (f32h)_mm256_fmadd_ps(a, b, c); }
#undef VEC
#undef VEC_U
#undef FMA
#define VEC f32h
#define VEC_U f32hu
#define FMA f32h_fma
UP_TO(ROWS_1, TILE, HALF)
#else
#define HALF_LANES 0
#endif

#define ENTRY(vectors, rows) [rows] = tile_##vectors##_##rows,
const hw_direct_tiles HW_NAME(hw_direct_tiles) = {
    .lanes = F32_LANES,
    .half_lanes = HALF_LANES,
    .rows = {ROWS_1, ROWS_2, ROWS_4},
    .tile = {{UP_TO(ROWS_1, ENTRY, 1)}, {UP_TO(ROWS_2, ENTRY, 2)}, {UP_TO(ROWS_4, ENTRY, 4)}},
#if HALF_LANES
    .half = {UP_TO(ROWS_1, ENTRY, HALF)},
#endif
    .move = move,
    .fetch = fetch,
};
