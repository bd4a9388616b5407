/* Register tiles: ROWS × 2 vectors of sums, each a chain of fused multiply-adds over one segment.
 *
 * Lanes span output columns. One step of the chain loads two vectors of b and multiplies them by
 * ROWS broadcast elements of a; the sums stay in registers (14×2 of 32 with AVX-512, 6×2 of 16 with
 * AVX2, 12×2 of 32 with NEON). They are named variables, made by the macros below: gcc spills an
 * array. c is fetched while the chain runs. Smaller tiles serve the last rows of a block; panels
 * keep the full tile's stride. */
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

#define ZERO(i) VEC l##i = {0}, r##i = {0};
#define FETCH(i)                            \
    __builtin_prefetch(c + i * row_stride); \
    __builtin_prefetch(c + i * row_stride + 2 * LANES - 1);
#define STEP(i)                \
    x = a[i] - (VEC){0};       \
    l##i = FMA(x, left, l##i); \
    r##i = FMA(x, right, r##i);
#define STORE(i)                                       \
    row = (VEC_U *)(c + i * row_stride);               \
    if (flags & HW_ACCUMULATE) {                       \
        l##i = row[0] + l##i;                          \
        r##i = row[1] + r##i;                          \
    }                                                  \
    if (flags & HW_ROW_BIAS) {                         \
        l##i = l##i + row_bias[i];                     \
        r##i = r##i + row_bias[i];                     \
    }                                                  \
    if (flags & HW_COLUMN_BIAS) {                      \
        l##i = l##i + ((const VEC_U *)column_bias)[0]; \
        r##i = r##i + ((const VEC_U *)column_bias)[1]; \
    }                                                  \
    row[0] = l##i;                                     \
    row[1] = r##i;

#define TILE(type, rows)                                                                     \
    static void tile_##type##_##rows(int64_t k, const REAL *a, const REAL *b, REAL *c,       \
                                     int64_t row_stride, int flags, const REAL *row_bias,    \
                                     const REAL *column_bias) {                              \
        EACH_##rows(ZERO) VEC x, left, right;                                                \
        EACH_##rows(FETCH) for (int64_t p = 0; p < k; p++, a += TILE_ROWS, b += 2 * LANES) { \
            left = LOAD(b);                                                                  \
            right = LOAD(b + LANES);                                                         \
            EACH_##rows(STEP)                                                                \
        }                                                                                    \
        VEC_U *row;                                                                          \
        EACH_##rows(STORE)                                                                   \
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
#define LOAD F32_LOAD
#define LANES F32_LANES
TILES(f32)
#undef REAL
#undef VEC
#undef VEC_U
#undef FMA
#undef LOAD
#undef LANES

#define REAL double
#define VEC f64v
#define VEC_U f64u
#define FMA f64_fma
#define LOAD F64_LOAD
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
