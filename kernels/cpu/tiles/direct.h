/* What direct convolution is made of: tiles that read an image where it lies, and moves of blocks.
 */
#ifndef HALFWAVE_TILES_DIRECT_H
#define HALFWAVE_TILES_DIRECT_H

#include <stdint.h>

#define HW_DIRECT_ROWS 14

/* c[i][j] = (c[i][j] +) chain over p < k of a[i * a_row + a_k[p]] * b[b_k[p] + j] (+ bias), with
 * the flags of contraction.h, i < rows, j < vectors * lanes. Strides and offsets are in elements.
 */
typedef void (*hw_direct_tile)(int64_t k, const float *a, int64_t a_row, const int64_t *a_k,
                               const float *b, const int64_t *b_k, float *c, int64_t c_row,
                               int flags, const float *bias);

typedef struct {
    int lanes;
    int half_lanes;                             /* 0 where the set has no half vectors */
    int rows[3];                                /* of the largest tile of 1, 2, 4 vectors */
    hw_direct_tile tile[3][HW_DIRECT_ROWS + 1]; /* [0, 1, 2]: of 1, 2, 4 vectors; [rows] */
    hw_direct_tile half[HW_DIRECT_ROWS + 1];    /* of half a vector, as many rows as of one */
    /* to[i * to_row + j * to_column] = from[i * from_row + j * from_column] */
    void (*move)(int64_t rows, int64_t columns, const float *from, int64_t from_row,
                 int64_t from_column, float *to, int64_t to_row, int64_t to_column);
    /* Asks for rows of so many adjacent elements. */
    void (*fetch)(int64_t rows, int64_t columns, const float *from, int64_t from_row);
} hw_direct_tiles;

#endif
