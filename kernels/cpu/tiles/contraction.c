/* Register tiles: ROWS × 2 vectors of sums, each a chain of fused multiply-adds over one segment.
 *
 * Lanes span output columns. One step of the chain loads two vectors of b and multiplies them by
 * ROWS broadcast elements of a; the sums stay in registers (14×2 of 32 with AVX-512, 6×2 of 16 with
 * AVX2, 12×2 of 32 with NEON). They are named variables, made by the macros below: gcc spills an
 * array. c is fetched while the chain runs. Smaller tiles serve the last rows of a block.
 *
 * Operands may lie anywhere: strides that only the call knows cost nothing, packed or not (117 of
 * 117 GFLOP/s either way, measured on a Zen 4 core). */
#include "contraction.h"
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

#define EACH_1(X) X(0)
#define EACH_2(X) EACH_1(X) X(1)
#define EACH_3(X) EACH_2(X) X(2)
#define EACH_4(X) EACH_3(X) X(3)
#define EACH_6(X) EACH_4(X) X(4) X(5)
#define EACH_8(X) EACH_6(X) X(6) X(7)
#define EACH_12(X) EACH_8(X) X(8) X(9) X(10) X(11)
#define EACH_14(X) EACH_12(X) X(12) X(13)

/* Where row i of a stands, from few registers: rows 0 and 7 have pointers, and the others lie one,
 * two or four times a row, three rows or five rows further, which x86 adds while it loads. */
#define AT_0 row0
#define AT_1 (row0 + step1)
#define AT_2 (row0 + step1 * 2)
#define AT_3 (row0 + step3)
#define AT_4 (row0 + step1 * 4)
#define AT_5 (row0 + step5)
#define AT_6 (row0 + step3 * 2)
#define AT_7 row7
#define AT_8 (row7 + step1)
#define AT_9 (row7 + step1 * 2)
#define AT_10 (row7 + step3)
#define AT_11 (row7 + step1 * 4)
#define AT_12 (row7 + step5)
#define AT_13 (row7 + step3 * 2)

/* Emits nothing: the compiler must not look through the value, or it would compute the addresses of
 * all rows ahead, and run out of registers. */
#define OPAQUE(x) __asm__("" : "+r"(x));

/* c is walked row by row: EACH_n(X) with `to` at row 0, where X ends in NEXT_ROW. */
#define NEXT_ROW                        \
    to = (VEC_U *)((REAL *)to + c_row); \
    OPAQUE(to)
#define ZERO(i)                               \
    VEC l##i = {0}, r##i = {0};               \
    __builtin_prefetch(to);                   \
    __builtin_prefetch((char *)(to + 2) - 1); \
    NEXT_ROW
#define RESUME(i)               \
    l##i = to[0], r##i = to[1]; \
    NEXT_ROW
#define STEP(i)                           \
    x = *(const REAL *)AT_##i - (VEC){0}; \
    l##i = FMA(x, left, l##i);            \
    r##i = FMA(x, right, r##i);
#define ADD_TO_C(i)                           \
    l##i = to[0] + l##i, r##i = to[1] + r##i; \
    NEXT_ROW
#define ADD_ROW_BIAS(i) l##i = l##i + row_bias[i], r##i = r##i + row_bias[i];
#define ADD_COLUMN_BIAS(i) l##i = l##i + left, r##i = r##i + right;
#define STORE(i)                \
    to[0] = l##i, to[1] = r##i; \
    NEXT_ROW

#define TILE(type, rows)                                                                         \
    static void tile_##type##_##rows(int64_t k, const REAL *a, int64_t a_row, int64_t a_k,       \
                                     const REAL *b, int64_t b_k, REAL *c, int64_t c_row,         \
                                     int flags, const REAL *row_bias, const REAL *column_bias) { \
        VEC x, left, right;                                                                      \
        VEC_U *to = (VEC_U *)c;                                                                  \
        EACH_##rows(ZERO) if (flags & HW_RESUME) {                                               \
            to = (VEC_U *)c;                                                                     \
            EACH_##rows(RESUME)                                                                  \
        }                                                                                        \
        a_row *= (int64_t)sizeof(REAL), a_k *= (int64_t)sizeof(REAL);                            \
        int64_t step1 = a_row, step3 = 3 * a_row, step5 = 5 * a_row;                             \
        const char *row0 = (const char *)a, *row7 = row0 + 7 * a_row;                            \
        for (; k > 0; k--, row0 += a_k, row7 += a_k, b += b_k) {                                 \
            OPAQUE(step1)                                                                        \
            OPAQUE(step3)                                                                        \
            OPAQUE(step5)                                                                        \
            left = ((const VEC_U *)b)[0];                                                        \
            right = ((const VEC_U *)b)[1];                                                       \
            EACH_##rows(STEP)                                                                    \
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
            right = ((const VEC_U *)column_bias)[1];                                             \
            EACH_##rows(ADD_COLUMN_BIAS)                                                         \
        }                                                                                        \
        to = (VEC_U *)c;                                                                         \
        EACH_##rows(STORE)                                                                       \
    }

/* Which tile serves 0, 1, 2, … remaining rows: P(r) names the tile of r rows. */
#if TILE_ROWS == 14
#define TILES(type) TILE(type, 1) TILE(type, 2) TILE(type, 4) TILE(type, 8) TILE(type, 14)
#define BY_ROWS(P) \
    {P(1), P(1), P(2), P(4), P(4), P(8), P(8), P(8), P(8), P(14), P(14), P(14), P(14), P(14), P(14)}
#elif TILE_ROWS == 12
#define TILES(type) TILE(type, 1) TILE(type, 2) TILE(type, 4) TILE(type, 8) TILE(type, 12)
#define BY_ROWS(P) \
    {P(1), P(1), P(2), P(4), P(4), P(8), P(8), P(8), P(8), P(12), P(12), P(12), P(12)}
#elif TILE_ROWS == 6
#define TILES(type) TILE(type, 1) TILE(type, 2) TILE(type, 4) TILE(type, 6)
#define BY_ROWS(P) {P(1), P(1), P(2), P(4), P(4), P(6), P(6)}
#else
#define TILES(type) TILE(type, 1) TILE(type, 4)
#define BY_ROWS(P) {P(1), P(1), P(4), P(4), P(4)}
#endif

#define REAL float
#define VEC f32v
#define VEC_U f32u
#define FMA f32_fma
#define LANES F32_LANES
TILES(f32)
#undef REAL
#undef VEC
#undef VEC_U
#undef FMA
#undef LANES

#define REAL double
#define VEC f64v
#define VEC_U f64u
#define FMA f64_fma
#define LANES F64_LANES
TILES(f64)

#define F32_TILE(rows) tile_f32_##rows
#define F64_TILE(rows) tile_f64_##rows
#define ITSELF(rows) rows
const hw_contraction_tiles HW_NAME(hw_contraction_tiles) = {
    .rows = TILE_ROWS,
    .columns_f32 = 2 * F32_LANES,
    .columns_f64 = 2 * F64_LANES,
    .f32 = BY_ROWS(F32_TILE),
    .f64 = BY_ROWS(F64_TILE),
    .tile_rows = BY_ROWS(ITSELF),
};
