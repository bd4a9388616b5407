/* Depthwise convolution of pixels of adjacent channels, for one type: included with REAL, VEC, …,
 * TYPED(name) defined. Lanes are channels; where the pixels lie is a table's matter.
 *
 * A correlation's register tile is 7 outputs of a row, a vector of channels each: 7 chains, and a
 * pixel is loaded once for all the outputs of the row that it meets. A weight gradient's tile is 9
 * or 10 taps, a chain each, along a row: there a pixel stays in a register for all the taps that it
 * meets, where there are 32 of these. */

#define INLINE static inline __attribute__((always_inline))
#define AT(pointer) ((VEC) * (const VEC_U *)((const REAL *)(pointer) + c))

/* Asks for a share of the lines that tiles will read and write later: n vectors of each row. */
INLINE void TYPED(ask_pixels)(const hw_pixels *job, int rows, int n, int step, int64_t c) {
    const char *x = (const char *)job->ahead + c * n * step * (int)sizeof(REAL);
    const char *y = (const char *)job->y_ahead + c * n * (int)sizeof(REAL);
    for (int i = 0; i < rows * step; i++, x += job->ahead_row) {
#pragma GCC unroll 14
        for (int k = 0; k < n * step; k++) __builtin_prefetch(x + k * HW_BYTES, 0, 2);
    }
    for (int i = 0; i < rows; i++, y += job->y_ahead_row) {
#pragma GCC unroll 7
        for (int k = 0; k < n; k++) __builtin_prefetch(y + k * HW_BYTES, 1, 2);
    }
}

/* ---- correlation ----------------------------------------------------------------------------- */

/* One vector of channels of n outputs; rows of `across` taps side by side, `step` between outputs,
 * or across = 0 for taps and outputs at any distance. */
INLINE void TYPED(pixels_at)(const hw_pixels *job, const int n, const int across, const int step,
                             int64_t c) {
    VEC sum[7];
    if (across >= 3 && job->ahead) TYPED(ask_pixels)(job, 1, n, step, c - job->first);
#pragma GCC unroll 7
    for (int p = 0; p < n; p++) sum[p] = (VEC){0};
    for (int64_t r = 0; r < job->rows; r++) {
        const void *const *x = job->x[r];
        const REAL *w = (const REAL *)job->w + job->w_row[r];
        if (across == 0) {
            for (int64_t s = 0; s < job->across; s++, x += job->apart, w += job->w_tap) {
                VEC weight = AT(w);
#pragma GCC unroll 7
                for (int p = 0; p < n; p++) sum[p] = FMA(weight, AT(x[p * job->step]), sum[p]);
            }
            continue;
        }
        VEC weight[5];
#pragma GCC unroll 5
        for (int s = 0; s < across; s++) weight[s] = AT(w + s * job->w_tap);
#pragma GCC unroll 17
        for (int q = 0; q < (n - 1) * step + across; q++) {
            VEC pixel = AT(x[q]);
#pragma GCC unroll 5
            for (int s = 0; s < across; s++)
                if (q >= s && (q - s) % step == 0 && (q - s) / step < n)
                    sum[(q - s) / step] = FMA(weight[s], pixel, sum[(q - s) / step]);
        }
    }
#pragma GCC unroll 7
    for (int p = 0; p < n; p++) {
        if (job->bias) sum[p] = sum[p] + AT(job->bias);
        *(VEC_U *)((REAL *)job->y + p * job->y_step + c) = sum[p];
    }
}

/* All channels from job->first: the second vector begins at `second`, the last overlaps the one
 * before it. */
#define CHANNELS(second, tile)                             \
    int64_t last = job->channels - LANES, next = (second); \
    for (int64_t c = 0;; next = c + LANES) {               \
        int64_t at = job->first + c;                       \
        tile;                                              \
        if (c == last) break;                              \
        c = next < last ? next : last;                     \
    }
/* The same vectors, the last one first. */
#define CHANNELS_DOWN(second, tile)                                                     \
    int64_t last = job->channels - LANES, first = (second) - LANES;                     \
    for (int64_t c = first + (last - first + LANES - 1) / LANES * LANES;; c -= LANES) { \
        int64_t at = job->first + (c < 0 ? 0 : c < last ? c : last);                    \
        tile;                                                                           \
        if (c <= 0) break;                                                              \
    }
#define UP_OR_DOWN(tile)                 \
    if (job->down) {                     \
        CHANNELS_DOWN(job->second, tile) \
    } else {                             \
        CHANNELS(job->second, tile)      \
    }
#define PIXELS(n, across, step)                                             \
    static void TYPED(tile_##n##_##across##_##step)(const hw_pixels *job) { \
        UP_OR_DOWN(TYPED(pixels_at)(job, n, across, step, at))              \
    }
#define ALL_PIXELS(across, step) \
    PIXELS(1, across, step) PIXELS(4, across, step) PIXELS(7, across, step)
ALL_PIXELS(0, 1)
ALL_PIXELS(1, 1)
ALL_PIXELS(2, 1)
ALL_PIXELS(3, 1)
ALL_PIXELS(5, 1)
ALL_PIXELS(3, 2)
ALL_PIXELS(5, 2)

static hw_pixels_tile TYPED(choose_pixels)(int64_t n, int64_t across, int64_t step, int64_t apart) {
#define CHOICE(a, s)                              \
    if (across == a && step == s)                 \
        return n == 7   ? TYPED(tile_7_##a##_##s) \
               : n == 4 ? TYPED(tile_4_##a##_##s) \
                        : TYPED(tile_1_##a##_##s);
    if (across == 1 || apart == 1) {
        CHOICE(3, 1)
        CHOICE(3, 2)
        CHOICE(5, 1)
        CHOICE(5, 2)
        CHOICE(2, 1)
        CHOICE(1, 1)
    }
    return n == 7 ? TYPED(tile_7_0_1) : n == 4 ? TYPED(tile_4_0_1) : TYPED(tile_1_0_1);
#undef CHOICE
}

#undef PIXELS
#undef ALL_PIXELS

/* One vector of channels of rows × n outputs, side × side taps side by side, stride 1. Each pixel
 * is loaded once; all loads come before all stores, for where rows are a multiple of 4096 bytes
 * apart processors take a load for one of what was just stored. */
INLINE void TYPED(square_at)(const hw_pixels *job, const int rows, const int n, const int side,
                             int64_t c) {
    VEC sum[3][7], weight[9];
    if (job->ahead) TYPED(ask_pixels)(job, rows, n, 1, c - job->first);
#define WEIGHT(r, s) AT((const REAL *)job->w + job->w_row[r] + (s) * job->w_tap)
    if (side == 3) {
#pragma GCC unroll 9
        for (int k = 0; k < 9; k++) weight[k] = WEIGHT(k / 3, k % 3);
    }
#pragma GCC unroll 7
    for (int row = 0; row < rows + side - 1; row++) {
        const void *const *x = job->x[row];
#pragma GCC unroll 7
        for (int p = 0; p < n && row < rows; p++) sum[row][p] = (VEC){0};
#pragma GCC unroll 11
        for (int q = 0; q < n + side - 1; q++) {
            VEC pixel = AT(x[q]);
#pragma GCC unroll 25
            for (int k = 0; k < side * side; k++) {
                const int p = q - k % side, i = row - k / side;
                if (p < 0 || p >= n || i < 0 || i >= rows) continue;
                sum[i][p] =
                    FMA(side == 3 ? weight[k] : WEIGHT(k / side, k % side), pixel, sum[i][p]);
            }
        }
    }
#undef WEIGHT
#pragma GCC unroll 3
    for (int i = 0; i < rows; i++) {
        REAL *y = (REAL *)job->y + i * job->y_row;
#pragma GCC unroll 7
        for (int p = 0; p < n; p++) {
            if (job->bias) sum[i][p] = sum[i][p] + AT(job->bias);
            *(VEC_U *)(y + p * job->y_step + c) = sum[i][p];
        }
    }
}

#if HW_BYTES == 64 || defined(__aarch64__)
#define SQUARE_TILE(rows, n, side)                                          \
    static void TYPED(square_##rows##_##n##_##side)(const hw_pixels *job) { \
        UP_OR_DOWN(TYPED(square_at)(job, rows, n, side, at))                \
    }
SQUARE_TILE(2, 7, 3)
SQUARE_TILE(3, 7, 3)
SQUARE_TILE(2, 7, 5)
#undef SQUARE_TILE
static hw_pixels_tile TYPED(choose_square)(int64_t rows, int64_t side) {
    if (side == 3) return rows == 2 ? TYPED(square_2_7_3) : TYPED(square_3_7_3);
    return rows == 2 && side == 5 ? TYPED(square_2_7_5) : 0;
}
#else
static hw_pixels_tile TYPED(choose_square)(int64_t rows, int64_t side) { return 0; }
#endif

/* ---- weight gradient ------------------------------------------------------------------------- */

/* rows × across taps of one vector of channels, `step` between outputs; or step 0 for taps and
 * outputs at any distance. With 32 registers pixels stay in them until their last tap is met. */
INLINE void TYPED(sums_at)(const hw_pixel_sums *job, const int rows, const int across,
                           const int step, int64_t row, int64_t tap, int64_t c, VEC *sums) {
    const int window = HW_BYTES == 64 && step > 0 && step < across;
    const int64_t count = job->count;
    VEC sum[15], pixel[15];
#pragma GCC unroll 15
    for (int k = 0; k < rows * across; k++)
        sum[k] = sums[(row + k / across) * job->across + tap + k % across];
    for (int64_t line = 0; line < job->lines; line++) {
        const REAL *dy = (const REAL *)job->dy + line * job->dy_row;
        const char *dy_ahead = (const char *)((const REAL *)job->dy_ahead + line * job->dy_row + c);
        const char *x_ahead =
            (const char *)((const REAL *)job->x_ahead + c) + line * step * job->x_row;
        const void *const *x[3];
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++)
            x[r] =
                job->table + line * job->row_step + (row + r) * job->row_apart + tap * job->apart;
        if (window) {
#pragma GCC unroll 15
            for (int k = 0; k < rows * across; k++)
                if (k % across < across - step) pixel[k] = AT(x[k / across][k % across]);
        }
        for (int64_t j = 0;;) {
#pragma GCC unroll 5
            for (int u = 0; u < (window ? across : 1); u++, j++, dy += job->dy_step) {
                if (j == count) goto next;
                VEC gradient = AT(dy);
                if (rows == 3 && job->x_ahead) {
                    __builtin_prefetch(dy_ahead, 0, 2);
#pragma GCC unroll 4
                    for (int k = 0; k < step * step; k++)
                        __builtin_prefetch(
                            x_ahead + k / step * job->x_row + k % step * job->x_column, 0, 2);
                    x_ahead += step * job->x_column;
                    dy_ahead += job->dy_step * (int64_t)sizeof(REAL);
                }
#pragma GCC unroll 15
                for (int k = 0; k < rows * across; k++) {
                    const int r = k / across, s = k % across;
                    const int at = r * across + (window ? (u * step + s) % across : s);
                    const int known = window && s < across - step;
                    VEC met = known  ? pixel[at]
                              : step ? AT(x[r][j * step + s])
                                     : AT(x[r][j * job->step + s * job->apart]);
                    if (window) pixel[at] = met;
                    sum[k] = FMA(gradient, met, sum[k]);
                }
            }
        }
    next:;
    }
#pragma GCC unroll 15
    for (int k = 0; k < rows * across; k++)
        sums[(row + k / across) * job->across + tap + k % across] = sum[k];
}

#define ADD(r, s, stride)                                                                    \
    static void TYPED(tile_sums_##r##_##s##_##stride)(const hw_pixel_sums *job, int64_t row, \
                                                      int64_t tap) {                         \
        VEC *sums = job->sums;                                                               \
        CHANNELS(job->second, TYPED(sums_at)(job, r, s, stride, row, tap, at, sums);         \
                 sums += job->rows * job->across)                                            \
    }
ADD(3, 3, 1)
ADD(3, 3, 2)
ADD(2, 5, 1)
ADD(2, 5, 2)
ADD(1, 5, 1)
ADD(1, 5, 2)
ADD(1, 4, 0)
ADD(1, 1, 0)

static void TYPED(add_pixels)(const hw_pixel_sums *job) {
    const int64_t step = job->step, near = job->apart == 1 && (step == 1 || step == 2);
    for (int64_t row = 0; row < job->rows;) {
        int64_t left = job->rows - row;
        if (near && job->across == 3 && left >= 3) {
            (step == 1 ? TYPED(tile_sums_3_3_1) : TYPED(tile_sums_3_3_2))(job, row, 0);
            row += 3;
        } else if (near && job->across == 5 && left >= 2 && HW_BYTES == 64) {
            (step == 1 ? TYPED(tile_sums_2_5_1) : TYPED(tile_sums_2_5_2))(job, row, 0);
            row += 2;
        } else if (near && job->across == 5) {
            (step == 1 ? TYPED(tile_sums_1_5_1) : TYPED(tile_sums_1_5_2))(job, row++, 0);
        } else {
            int64_t tap = 0;
            for (; tap + 4 <= job->across; tap += 4) TYPED(tile_sums_1_4_0)(job, row, tap);
            for (; tap < job->across; tap++) TYPED(tile_sums_1_1_0)(job, row, tap);
            row++;
        }
    }
}

#undef ADD
#undef PIXELS
#undef ALL_PIXELS
#undef CHANNELS
#undef CHANNELS_DOWN
#undef UP_OR_DOWN
