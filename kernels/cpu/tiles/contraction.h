/* The register tiles of the contraction, a table an instruction set. See contraction.pyx. */
#ifndef HALFWAVE_TILES_CONTRACTION_H
#define HALFWAVE_TILES_CONTRACTION_H

#include <stdint.h>

enum { HW_ACCUMULATE = 1, HW_ROW_BIAS = 2, HW_COLUMN_BIAS = 4 };
#define HW_MAX_TILE_ROWS 16
#define HW_MAX_TILE_COLUMNS 64

/* c[i][j] = (c[i][j] +) chain over p < k of a[p][i] * b[p][j] (+ bias), i < rows, j < columns.
 * The panels are packed: a[p * tile_rows + i], b[p * tile_columns + j], b aligned to a vector.
 * row_stride of c is in elements. */
typedef void (*hw_tile_f32)(int64_t k, const float *a, const float *b, float *c, int64_t row_stride,
                            int flags, const float *row_bias, const float *column_bias);
typedef void (*hw_tile_f64)(int64_t k, const double *a, const double *b, double *c,
                            int64_t row_stride, int flags, const double *row_bias,
                            const double *column_bias);

typedef struct {
    int rows;                              /* of the full tile, the same for both types */
    int columns_f32, columns_f64;          /* of every tile */
    hw_tile_f32 f32[HW_MAX_TILE_ROWS + 1]; /* [r]: the smallest tile with at least r rows */
    hw_tile_f64 f64[HW_MAX_TILE_ROWS + 1];
    int tile_rows[HW_MAX_TILE_ROWS + 1]; /* how many rows that tile writes */
} hw_contraction_tiles;

#endif
