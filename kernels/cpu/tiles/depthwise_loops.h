/* Depthwise convolution for one type: included with REAL, VEC, …, TYPED(name) defined.
 *
 * A correlation's register tile is 2 rows × 7 columns of outputs, one vector of channels each: 14
 * chains, one weight loaded for all of them, the inputs read straight into the multiply-adds. The
 * sides of ImageNet's maps are multiples of 7. */

/* ---- frames ---------------------------------------------------------------------------------- */

/* to[q * stride + p] = from[p * step + q] for p < lanes, q < n, by blocks of 16 bytes of each; the
 * last one overlaps the one before. What lies `ahead` is asked for meanwhile. */
static inline void TYPED(turn_lanes)(int64_t n, const REAL *from, int64_t step, REAL *to,
                                     int64_t stride, int64_t ahead) {
    for (int64_t q = 0; q < n; q += SIDE) {
        if (q > n - SIDE) q = n - SIDE;
        const REAL *next = from + (q + SIDE - 1) / SIDE % SIDE * step + q + ahead;
        for (int k = 0; k < LANES; k += SIDE, next += SIDE * step) __builtin_prefetch(next, 0, 2);
        TYPED(turn_block)(from + q, step, to + q * stride, stride);
    }
}

/* to[q * stride + p] = from[p * step + q] for p < m, q < n: the same, or by squares of 16 bytes. */
static void TYPED(turn)(int64_t m, int64_t n, const REAL *from, int64_t step, REAL *to,
                        int64_t stride, int64_t ahead) {
    if (m < SIDE || n < SIDE) {
        for (int64_t p = 0; p < m; p++)
            for (int64_t q = 0; q < n; q++) to[q * stride + p] = from[p * step + q];
        return;
    }
    for (int64_t p = 0; p < m && m >= LANES; p += LANES) {
        if (p > m - LANES) p = m - LANES;
        TYPED(turn_lanes)(n, from + p * step, step, to + p, stride, ahead);
    }
    for (int64_t p = 0; p < m && m < LANES; p += SIDE) {
        if (p > m - SIDE) p = m - SIDE;
        for (int64_t q = 0; q < n; q += SIDE) {
            if (q > n - SIDE) q = n - SIDE;
            __builtin_prefetch(from + (p + (q + SIDE - 1) / SIDE % SIDE) * step + q + ahead, 0, 2);
            SQUARE(from + p * step + q, step, to + q * stride + p, stride);
        }
    }
}

static void TYPED(fill)(const hw_frame *part) {
    int64_t width = part->width, line = part->before + part->columns + part->after;
    int64_t between = (part->before + part->after) * width * (int64_t)sizeof(REAL);
    int64_t full = part->channels / LANES * LANES;
    REAL *to = part->frame;
    if (part->channels < width || part->rows == 0)
        memset(to, 0, (part->above + part->rows + part->below) * line * width * sizeof(REAL));
    if (part->rows == 0) return;
    memset(to, 0, (part->above * line + part->before) * width * sizeof(REAL));
    to += (part->above * line + part->before) * width;
    for (int64_t i = 0; i < part->rows; i++, to += line * width) {
        const REAL *from = (const REAL *)part->array + i * part->row;
        if (part->channel == 1) {
            for (int64_t j = 0; j < part->columns; j++, from += part->column) {
                for (int64_t c = 0; c < full; c += LANES)
                    *(VEC *)(to + j * width + c) = *(const VEC_U *)(from + c);
                for (int64_t c = full; c < part->channels; c++) to[j * width + c] = from[c];
            }
        } else if (part->column == 1) {
            TYPED(turn)(part->channels, part->columns, from, part->channel, to, width, part->ahead);
        } else {
            for (int64_t c = 0; c < part->channels; c++)
                for (int64_t j = 0; j < part->columns; j++)
                    to[j * width + c] = from[c * part->channel + j * part->column];
        }
        if (i < part->rows - 1) memset(to + part->columns * width, 0, between);
    }
    to += (part->columns - line) * width;
    memset(to, 0, (part->after + part->below * line) * width * sizeof(REAL));
}

static void TYPED(drain)(const hw_frame *part) {
    int64_t width = part->width;
    for (int64_t i = 0; i < part->rows; i++) {
        const REAL *from = (const REAL *)part->frame + i * part->columns * width;
        REAL *to = (REAL *)part->array + i * part->row;
        if (part->column == 1) {
            TYPED(turn)(part->columns, part->channels, from, width, to, part->channel, 0);
        } else {
            for (int64_t j = 0; j < part->columns; j++)
                for (int64_t c = 0; c < part->channels; c++)
                    to[j * part->column + c * part->channel] = from[j * width + c];
        }
    }
}

/* ---- correlation ----------------------------------------------------------------------------- */

#define ZERO_TOP(i) VEC t##i = {0};
#define ZERO_BOTTOM(i) VEC b##i = {0};
#define STEP_TOP(i) t##i = FMA(weight, LOAD(top + i * step), t##i);
#define STEP_BOTTOM(i) b##i = FMA(weight, LOAD(bottom + i * step), b##i);
#define STORE_TOP(i) *(VEC_U *)(y + i * y_step) = bias ? t##i + *bias : t##i;
#define STORE_BOTTOM(i) *(VEC_U *)(y + y_row + i * y_step) = bias ? b##i + *bias : b##i;
#define ALONE(i)
#define TILE(name, n, ZERO_2, STEP_2, STORE_2)                                                \
    static void TYPED(name)(const hw_correlation *job, const REAL *x, const REAL *w, REAL *y, \
                            const VEC *bias) {                                                \
        const int64_t step = job->x_column, y_step = job->y_column, taps = job->taps;         \
        const int64_t x_row = job->x_row, y_row = job->y_row;                                 \
        const hw_tap *tap = job->tap;                                                         \
        EACH_##n(ZERO_TOP) EACH_##n(ZERO_2) for (int64_t k = 0; k < taps; k++) {              \
            const REAL *top = x + tap[k].x, *bottom = top + x_row;                            \
            VEC weight = LOAD(w + tap[k].w);                                                  \
            EACH_##n(STEP_TOP) EACH_##n(STEP_2)(void) bottom;                                 \
        }                                                                                     \
        EACH_##n(STORE_TOP) EACH_##n(STORE_2)(void) y_row;                                    \
    }
#define TILES(n)                             \
    TILE(tile_1x##n, n, ALONE, ALONE, ALONE) \
    TILE(tile_2x##n, n, ZERO_BOTTOM, STEP_BOTTOM, STORE_BOTTOM)
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)
TILES(7)

typedef void (*TYPED(tile))(const hw_correlation *job, const REAL *x, const REAL *w, REAL *y,
                            const VEC *bias);
static const TYPED(tile) TYPED(tiles)[2][8] = {
    {0, TYPED(tile_1x1), TYPED(tile_1x2), TYPED(tile_1x3), TYPED(tile_1x4), TYPED(tile_1x5),
     TYPED(tile_1x6), TYPED(tile_1x7)},
    {0, TYPED(tile_2x1), TYPED(tile_2x2), TYPED(tile_2x3), TYPED(tile_2x4), TYPED(tile_2x5),
     TYPED(tile_2x6), TYPED(tile_2x7)},
};

static void TYPED(correlate)(const hw_correlation *job) {
    for (int64_t v = 0; v < job->vectors; v++) {
        const REAL *w = (const REAL *)job->w + v * LANES;
        const VEC *bias = job->bias ? (const VEC *)job->bias + v : 0;
        for (int64_t i = 0; i < job->rows; i += 2) {
            const TYPED(tile) *tiles = TYPED(tiles)[i + 1 < job->rows];
            const REAL *x = (const REAL *)job->x + i * job->x_row + v * LANES;
            REAL *y = (REAL *)job->y + i * job->y_row + v * LANES;
            int64_t j = 0;
            for (; j + 7 <= job->columns; j += 7)
                tiles[7](job, x + j * job->x_column, w, y + j * job->y_column, bias);
            if (j < job->columns)
                tiles[job->columns - j](job, x + j * job->x_column, w, y + j * job->y_column, bias);
        }
    }
}
#undef TILE
#undef TILES
