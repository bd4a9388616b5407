/* The register tiles of the contraction, a table an instruction set. See contraction.pyx. */
#ifndef HALFWAVE_TILES_CONTRACTION_H
#define HALFWAVE_TILES_CONTRACTION_H

#include <stdint.h>

enum { HW_ACCUMULATE = 1, HW_ROW_BIAS = 2, HW_COLUMN_BIAS = 4, HW_RESUME = 8 };
#define HW_MAX_TILE_ROWS 16

/* c[i][j] = (c[i][j] +) chain over p < k of a[i][p] * b[p][j] (+ bias), i < rows, j < columns,
 * where a[i][p] is a[i * a_row + p * a_k] and b[p] begins at b + p * b_k: operands are read where
 * they lie, or packed (a_row 1, a_k the tile's rows, b_k its columns). Strides are in elements.
 * Asked for on the way, unless 0 or NULL: what lies a_ahead elements further in each row of a,
 * whose steps are then adjacent; and from next on, next_k apart, as much as a step of b with each
 * step. With HW_RESUME the chain goes on from what c holds, instead of +0: it may be cut anywhere.
 */
typedef void (*hw_tile_f32)(int64_t k, const float *a, int64_t a_row, int64_t a_k, int64_t a_ahead,
                            const float *b, int64_t b_k, const float *next, int64_t next_k,
                            float *c, int64_t c_row, int flags, const float *row_bias,
                            const float *column_bias);
typedef void (*hw_tile_f64)(int64_t k, const double *a, int64_t a_row, int64_t a_k, int64_t a_ahead,
                            const double *b, int64_t b_k, const double *next, int64_t next_k,
                            double *c, int64_t c_row, int flags, const double *row_bias,
                            const double *column_bias);

/* Packing. A block of columns of b has panels of as many as a tile has, each k × that, `panel`
 * elements apart; steps are `pitch` apart: that width, or half of it for one panel of a narrow
 * tile. Columns [column, column + columns) of it from rows, b_k apart; or a panel of it from
 * columns that run along k, each at its offset (a whole number of vectors is written). */
typedef void (*hw_copy_f32)(int64_t k, const float *b, int64_t b_k, int64_t column, int64_t columns,
                            float *panels, int64_t panel, int64_t pitch);
typedef void (*hw_copy_f64)(int64_t k, const double *b, int64_t b_k, int64_t column,
                            int64_t columns, double *panels, int64_t panel, int64_t pitch);
typedef void (*hw_transpose_f32_panels)(int64_t k, const float *b, const int64_t *b_column,
                                        int64_t columns, float *panels, int64_t panel,
                                        int64_t pitch);
typedef void (*hw_transpose_f64_panels)(int64_t k, const double *b, const int64_t *b_column,
                                        int64_t columns, double *panels, int64_t panel,
                                        int64_t pitch);
/* Eight chains, each on from sums[j]: over p < k of a[p * a_k] * b[b_column[j] + p]. */
typedef void (*hw_chains_f32)(int64_t k, const float *a, int64_t a_k, const float *b,
                              const int64_t *b_column, float *sums);
typedef void (*hw_chains_f64)(int64_t k, const double *a, int64_t a_k, const double *b,
                              const int64_t *b_column, double *sums);

typedef struct {
    int rows;                              /* of the tallest tile, the same for both types */
    int columns_f32, columns_f64;          /* of a tile; narrow ones have half of them */
    hw_tile_f32 f32[HW_MAX_TILE_ROWS + 1]; /* [r]: the tile of r rows, 1 ≤ r ≤ rows */
    hw_tile_f64 f64[HW_MAX_TILE_ROWS + 1];
    hw_tile_f32 narrow_f32[HW_MAX_TILE_ROWS + 1];
    hw_tile_f64 narrow_f64[HW_MAX_TILE_ROWS + 1];
    hw_copy_f32 copy_f32;
    hw_copy_f64 copy_f64;
    hw_transpose_f32_panels transpose_f32;
    hw_transpose_f64_panels transpose_f64;
    hw_chains_f32 chains_f32;
    hw_chains_f64 chains_f64;
} hw_contraction_tiles;

#endif
