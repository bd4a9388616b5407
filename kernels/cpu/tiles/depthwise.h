/* Depthwise convolution with channels in the lanes, on frames in the cache. See depthwise.pyx. */
#ifndef HALFWAVE_TILES_DEPTHWISE_H
#define HALFWAVE_TILES_DEPTHWISE_H

#include <stdint.h>

/* All strides and offsets are in elements. A frame is dense: [row][column][width], its width a
 * multiple of the lanes and its memory aligned to a vector. */

/* Part of an array, rows × columns × channels at `array`, and its place in a frame. */
typedef struct {
    void *array;
    int64_t row, column, channel; /* strides of the array */
    int64_t rows, columns, channels;
    void *frame;
    int64_t width;
    int64_t above, below, before, after; /* zeros around the part; of no meaning to drain */
    int64_t ahead;                       /* from the part to what is worth asking for meanwhile */
} hw_frame;

typedef struct {
    int64_t x, w; /* what the tap adds to a position in the frame, and to one in the weights */
} hw_tap;

/* y[i, j, c] = chain over the taps of w[tap.w + c] * x[i, j, tap.x + c] (+ bias[c]), for `vectors`
 * vectors of channels. */
typedef struct {
    int64_t rows, columns, vectors;
    const void *x;
    int64_t x_row, x_column;
    const void *w;
    const void *bias; /* or NULL */
    void *y;          /* any alignment */
    int64_t y_row, y_column;
    int64_t taps;
    const hw_tap *tap;
} hw_correlation;

/* n outputs of a row, of channels `first` and on, all adjacent:
 *     y[p * y_step + c] = chain over r, s of w[w_row[r] + s * w_tap + c] * x[r][p * step + s *
 * apart][c]
 * (+ bias[c]), where x[r] is a table of pixels. A square tile takes several rows of outputs, y_row
 * apart, of which row i meets x[i + r]. */
typedef struct {
    int64_t first, channels; /* at least one vector */
    int64_t second, down;    /* where its second vector begins; whether its last one comes first */
    int64_t rows, across, step, apart;
    const void **const *x;
    const void *w;
    const int64_t *w_row;
    int64_t w_tap;
    const void *bias; /* or NULL */
    void *y;          /* any alignment */
    int64_t y_step, y_row;
    /* What the tile of the next rows will read and write, if it is worth asking for, else NULL: in
     * each row, bytes apart, as many adjacent pixels as this tile's. */
    const void *ahead, *y_ahead;
    int64_t ahead_row, y_ahead_row;
} hw_pixels;
typedef void (*hw_pixels_tile)(const hw_pixels *job);

/* sums[v][r][s] = chain from there over lines i and their positions j of
 *     dy[i * dy_row + j * dy_step] * table[i * row_step + r * row_apart + j * step + s * apart]
 * for the vectors v of channels: the first begins at `first`, the second `second` channels after it
 * (at most the lanes), the last ends with the channels. */
typedef struct {
    int64_t first, channels, second;
    int64_t lines, count;
    int64_t rows, across, step, apart, row_step, row_apart;
    const void *const *table; /* of pixels */
    const void *dy;
    int64_t dy_row, dy_step;
    void *sums; /* aligned */
    /* What comes next, asked for meanwhile: step rows and columns of x and a pixel of dy for each
     * position of a line. */
    const void *x_ahead, *dy_ahead;
    int64_t x_row, x_column; /* bytes */
} hw_pixel_sums;

/* Rows of a plane and their place in a frame of rows of `line` elements, in `phases` equal parts.
 */
typedef struct {
    const void *array;
    int64_t row, rows, columns; /* of the array; columns are adjacent */
    void *frame;
    int64_t line, phases;
    int64_t above, below, before; /* zeros around the part; those before it are there already */
} hw_row_frame;

/* y[i * y_row + j] = chain over planes k and taps t of
 *     w[k * taps + t] * x[k * x_plane + i * x_row + j + tap[t]] (+ bias)
 * where the taps of a square are at (r, s): r * x_line + tap[s]. The rows of x may be read a vector
 * beyond the columns. */
typedef struct {
    int64_t rows, columns, planes, taps;
    const void *x;
    int64_t x_plane, x_row, x_line;
    const int64_t *tap;
    const void *w;
    const void *bias; /* one, or NULL */
    void *y;
    int64_t y_row;
    const char *ahead; /* what is worth asking for meanwhile */
} hw_rows;
typedef void (*hw_rows_tile)(const hw_rows *job);

/* Planes of fewer columns than lanes, 3 × 3 taps, stride 1, as many outputs as inputs:
 *     y[k][i, j] = chain over r, s of w[k][3 * r + s] * x[k][i + r - 1, j + s - 1] (+ bias[k])
 * or backward x[k][i + 1 - r, j + 1 - s], with zeros beyond the plane. */
typedef struct {
    int64_t planes, rows, columns, backward;
    const void *x;
    int64_t x_plane, x_row;
    const void *w;
    int64_t w_plane;
    const void *bias; /* or NULL */
    int64_t bias_plane;
    void *y;
    int64_t y_plane, y_row;
} hw_planes;

typedef struct { /* [0] is float32, [1] float64 */
    int lanes[2];
    void (*fill[2])(const hw_frame *part);  /* frame from array, with the zeros */
    void (*drain[2])(const hw_frame *part); /* array from frame */
    void (*correlate[2])(const hw_correlation *job);
    hw_pixels_tile (*choose_pixels[2])(int64_t n, int64_t across, int64_t step, int64_t apart);
    /* For 2 or 3 rows of 7 outputs; NULL where there is none for the side. */
    hw_pixels_tile (*choose_square[2])(int64_t rows, int64_t side);
    void (*fill_rows[2])(const hw_row_frame *part);
    void (*stream[2])(int64_t n, const void *from, void *to); /* a copy, past the caches */
    void (*weave[2])(int64_t step, int64_t n, const void *from, int64_t pitch, void *to);
    hw_rows_tile (*choose_rows[2])(int64_t side, int64_t step); /* a square of taps, or side 0 */
    void (*correlate_planes[2])(const hw_planes *job);
    void (*add_pixels[2])(const hw_pixel_sums *job);
} hw_depthwise_tiles;

#endif
