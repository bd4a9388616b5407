/* Moves of blocks of float32 between layouts: copies, transposes, every second element.
 *
 * A transpose goes by squares as wide as a vector, each a network of zips: stage by stage rows i
 * and i + half interleave, until a vector's lanes are what were rows. So a square loads whole lines
 * of the cache, one of each row, and stores whole ones; squares of 4 × 4 are for what is narrower.
 */
#ifndef HALFWAVE_TILES_DIRECT_MOVES_H
#define HALFWAVE_TILES_DIRECT_MOVES_H

#include "transpose.h"
#include "vector.h"

static inline void copy_line(int64_t n, const float *from, float *to) {
    if (n >= F32_LANES) {
        int64_t j = 0;
        for (; j + F32_LANES <= n; j += F32_LANES) *(f32u *)(to + j) = *(const f32u *)(from + j);
        *(f32u *)(to + n - F32_LANES) = *(const f32u *)(from + n - F32_LANES); /* may overlap */
    } else if (n >= 4) {
        int64_t j = 0;
        for (; j + 4 <= n; j += 4) *(hw_f32x4 *)(to + j) = *(const hw_f32x4 *)(from + j);
        *(hw_f32x4 *)(to + n - 4) = *(const hw_f32x4 *)(from + n - 4);
    } else {
        for (int64_t j = 0; j < n; j++) to[j] = from[j];
    }
}

/* to[j] = from[2 * j], reading nothing beyond from[2 * n - 2]. */
static inline void copy_even(int64_t n, const float *from, float *to) {
    int64_t j = 0;
    for (; j + 4 < n; j += 4) {
        hw_f32x4 low = *(const hw_f32x4 *)(from + 2 * j);
        hw_f32x4 high = *(const hw_f32x4 *)(from + 2 * j + 4);
        *(hw_f32x4 *)(to + j) = __builtin_shufflevector(low, high, 0, 2, 4, 6);
    }
    for (; j < n; j++) to[j] = from[2 * j];
}

/* ZIP(from, to, i, j, p, q): to_p and to_q are from_i and from_j interleaved. */
#define ZIP(from, to, i, j, p, q)                                    \
    f32v to##p = __builtin_shufflevector(from##i, from##j, ZIP_LOW); \
    f32v to##q = __builtin_shufflevector(from##i, from##j, ZIP_HIGH)
#if F32_LANES == 16
#define ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EACH_LANE(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define STAGE(a, b)           \
    ZIP(a, b, 0, 8, 0, 1);    \
    ZIP(a, b, 1, 9, 2, 3);    \
    ZIP(a, b, 2, 10, 4, 5);   \
    ZIP(a, b, 3, 11, 6, 7);   \
    ZIP(a, b, 4, 12, 8, 9);   \
    ZIP(a, b, 5, 13, 10, 11); \
    ZIP(a, b, 6, 14, 12, 13); \
    ZIP(a, b, 7, 15, 14, 15)
#define STAGES   \
    STAGE(v, w); \
    STAGE(w, x); \
    STAGE(x, y); \
    STAGE(y, z)
#elif F32_LANES == 8
#define ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define EACH_LANE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define STAGE(a, b)        \
    ZIP(a, b, 0, 4, 0, 1); \
    ZIP(a, b, 1, 5, 2, 3); \
    ZIP(a, b, 2, 6, 4, 5); \
    ZIP(a, b, 3, 7, 6, 7)
#define STAGES   \
    STAGE(v, w); \
    STAGE(w, x); \
    STAGE(x, z)
#else
#define ZIP_LOW 0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#define EACH_LANE(X) X(0) X(1) X(2) X(3)
#define STAGE(a, b)        \
    ZIP(a, b, 0, 2, 0, 1); \
    ZIP(a, b, 1, 3, 2, 3)
#define STAGES   \
    STAGE(v, w); \
    STAGE(w, z)
#endif

#define LOAD_LANE(i) f32v v##i = *(const f32u *)(from + i * from_column);
#define STORE_LANE(i) *(f32u *)(to + i * to_row) = z##i;

static inline void transpose_square(const float *from, int64_t from_column, float *to,
                                    int64_t to_row) {
    EACH_LANE(LOAD_LANE)
    STAGES;
    EACH_LANE(STORE_LANE)
}

#define AHEAD 48 /* elements from a square to what is asked for meanwhile */

/* Rows of from are contiguous downwards, rows of to across. The last squares overlap the ones
 * before. */
static void transpose(int64_t rows, int64_t columns, const float *from, int64_t from_column,
                      float *to, int64_t to_row) {
    int64_t side = rows < F32_LANES || columns < F32_LANES ? 4 : F32_LANES;
    for (int64_t j = 0; j < columns; j += side) {
        if (j + side > columns) j = columns - side;
        for (int64_t i = 0; i < rows; i += side) {
            if (i + side > rows) i = rows - side;
            const float *square = from + i + j * from_column;
            if (side == F32_LANES) {
                for (int64_t l = 0; l < side; l++)
                    __builtin_prefetch(square + l * from_column + AHEAD);
                transpose_square(square, from_column, to + i * to_row + j, to_row);
            } else
                hw_transpose_f32(square, square + from_column, square + 2 * from_column,
                                 square + 3 * from_column, to + i * to_row + j, to_row);
        }
    }
}

static void fetch(int64_t rows, int64_t columns, const float *from, int64_t from_row) {
    if (from_row == columns) columns *= rows, rows = 1;
    for (int64_t i = 0; i < rows; i++, from += from_row)
        for (int64_t j = 0; j < columns; j += 16) __builtin_prefetch(from + j);
}

static void move(int64_t rows, int64_t columns, const float *from, int64_t from_row,
                 int64_t from_column, float *to, int64_t to_row, int64_t to_column) {
    if (to_column != 1 && (to_row == 1 || columns < rows)) {
        int64_t swap = rows;
        rows = columns, columns = swap;
        swap = from_row, from_row = from_column, from_column = swap;
        swap = to_row, to_row = to_column, to_column = swap;
    }
    if (to_column == 1 && from_row == 1 && from_column != 1 && rows >= 4 && columns >= 4) {
        transpose(rows, columns, from, from_column, to, to_row);
        return;
    }
    for (int64_t i = 0; i < rows; i++, from += from_row, to += to_row) {
        if (to_column == 1 && from_column == 1)
            copy_line(columns, from, to);
        else if (to_column == 1 && from_column == 2)
            copy_even(columns, from, to);
        else
            for (int64_t j = 0; j < columns; j++) to[j * to_column] = from[j * from_column];
    }
}

#endif
