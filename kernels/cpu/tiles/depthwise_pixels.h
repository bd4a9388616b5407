/* Depthwise convolution of pixels of adjacent channels, for one type: included with REAL, VEC, …,
 * TYPED(name) defined. Lanes are channels; where the pixels lie is a table's matter.
 *
 * A correlation's register tile is 7 outputs of a row, a vector of channels each: 7 chains, and a
 * pixel is loaded once for all the outputs of the row that it meets. A weight gradient's tile is 9
 * or 10 taps, a chain each, along a row: there a pixel stays in a register for all the taps that it
 * meets, where there are 32 of these. */

#define INLINE static inline __attribute__((always_inline))
#define AT(pointer) ((VEC) * (const VEC_U *)((const REAL *)(pointer) + c))

/* ---- correlation ----------------------------------------------------------------------------- */

/* One vector of channels of n outputs; rows of `across` taps side by side, `step` between outputs,
 * or across = 0 for taps and outputs at any distance. */
INLINE void TYPED(pixels_at)(const hw_pixels *job, const int n, const int across, const int step,
                             int64_t c) {
    VEC sum[7];
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

/* All channels; the last vector overlaps the one before. */
#define CHANNELS(tile)                                                                \
    int64_t last = job->channels - LANES, next = LANES;                               \
    if (last >= 4 * LANES)                                                            \
        next -= ((uintptr_t)((REAL *)job->y + job->first) % HW_BYTES) / sizeof(REAL); \
    for (int64_t c = 0;; next = c + LANES) {                                          \
        int64_t at = job->first + c;                                                  \
        tile;                                                                         \
        if (c == last) break;                                                         \
        c = next < last ? next : last;                                                \
    }
#define PIXELS(n, across, step)                                             \
    static void TYPED(tile_##n##_##across##_##step)(const hw_pixels *job) { \
        CHANNELS(TYPED(pixels_at)(job, n, across, step, at))                \
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
        CHANNELS(TYPED(square_at)(job, rows, n, side, at))                  \
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

#undef PIXELS
#undef ALL_PIXELS
#undef CHANNELS
