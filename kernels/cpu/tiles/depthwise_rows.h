/* Depthwise convolution of planes of adjacent columns, for one type: included with REAL, VEC, …,
 * TYPED(name) defined. Lanes are columns.
 *
 * Source rows lie in a frame, with the zeros around them; for a stride of columns each residue
 * modulo it, a phase, has a part of the row for itself. So a tap is a shift of the row. The tile is
 * a vector of columns of 7 or 4 rows: a shifted row is loaded once for all the rows of outputs that
 * it meets, the weights stay in registers, where there are 32. */

#if HW_BYTES == 64 || defined(__aarch64__)
#define KEEP_WEIGHTS 1
#else
#define KEEP_WEIGHTS 0
#endif

/* At most n lanes; the others are zero, or are not written. */
INLINE VEC TYPED(load_part)(const REAL *from, int64_t n) {
#if defined(HW_AVX512) || defined(HW_AVX2)
    return LOAD_MASKED(from, n);
#else
    if (n >= LANES) return *(const VEC_U *)from;
    VEC part = {0};
    if (n > 0) memcpy(&part, from, (size_t)n * sizeof(REAL));
    return part;
#endif
}

INLINE void TYPED(store_part)(REAL *to, int64_t n, VEC value) {
    if (n >= LANES)
        *(VEC_U *)to = value;
    else if (n > 0)
#ifdef HW_AVX512
        STORE_MASKED(to, n, value);
#else
        memcpy(to, &value, (size_t)n * sizeof(REAL));
#endif
}

/* ---- frames ---------------------------------------------------------------------------------- */

static void TYPED(clear)(REAL *to, int64_t n) {
    for (int64_t j = 0; j < n; j += LANES) *(VEC_U *)(to + j) = (VEC){0};
}

/* Rows of a plane into a frame whose columns beyond the border are zero already. Up to a vector of
 * zeros is written after a row's, a phase's or the frame's end: rows are written in their order. */
static void TYPED(fill_rows)(const hw_row_frame *part) {
    REAL *to = part->frame;
    const REAL *from = part->array;
    const int64_t phases = part->phases, pitch = part->line / phases, columns = part->columns;
    TYPED(clear)(to, part->above * part->line);
    to += part->above * part->line;
    for (int64_t i = 0; i < part->rows; i++, from += part->row, to += part->line) {
        REAL *inside = to + part->before;
        if (phases == 1 && columns < LANES) {
            *(VEC_U *)inside = TYPED(load_part)(from, columns);
            continue;
        }
        if (phases == 1) {
            for (int64_t j = 0; j < columns; j += LANES) {
                if (j > columns - LANES) j = columns - LANES;
                *(VEC_U *)(inside + j) = *(const VEC_U *)(from + j);
            }
            continue;
        }
        if (phases == 2) {
            REAL *evens = to + part->before % 2 * pitch + part->before / 2;
            REAL *odds = to + (part->before + 1) % 2 * pitch + (part->before + 1) / 2;
            for (int64_t j = 0; j < columns; j += 2 * LANES) {
                VEC low = TYPED(load_part)(from + j, columns - j);
                VEC high = TYPED(load_part)(from + j + LANES, columns - j - LANES);
                *(VEC_U *)(evens + j / 2) = SHUFFLE(EVENS, low, high);
                *(VEC_U *)(odds + j / 2) = SHUFFLE(ODDS, low, high);
            }
            continue;
        }
        for (int64_t j = 0; j < columns; j++)
            to[(part->before + j) % phases * pitch + (part->before + j) / phases] = from[j];
    }
    TYPED(clear)(to, part->below * part->line);
}

/* to[j * step + p] = from[p * pitch + j], for j * step + p < n. Up to a vector is read beyond that.
 */
static void TYPED(weave)(int64_t step, int64_t n, const void *from, int64_t pitch, void *to) {
    const REAL *x = from;
    REAL *y = to;
    if (step != 2) {
        for (int64_t k = 0; k < n; k++) y[k] = x[k % step * pitch + k / step];
        return;
    }
    for (int64_t j = 0; j < n; j += 2 * LANES) {
        VEC evens = *(const VEC_U *)(x + j / 2), odds = *(const VEC_U *)(x + pitch + j / 2);
        TYPED(store_part)(y + j, n - j, SHUFFLE(LOW, evens, odds));
        TYPED(store_part)(y + j + LANES, n - j - LANES, SHUFFLE(HIGH, evens, odds));
    }
}

static void TYPED(stream)(int64_t n, const void *from, void *to) {
    const REAL *x = from;
    REAL *y = to;
    HW_MAP(REAL, n, x, y, 1, x[i]);
}

/* ---- correlation ----------------------------------------------------------------------------- */

/* n columns of `rows` rows; side × side taps, row r of taps meets source row i * step + r, or side
 * 0 for taps anywhere. */
INLINE void TYPED(rows_at)(const hw_rows *job, const int rows, const int side, const int step,
                           const REAL *x, REAL *y, int64_t n) {
    VEC sum[7], weight[25];
#pragma GCC unroll 7
    for (int i = 0; i < rows; i++) sum[i] = (VEC){0};
    const REAL *w = job->w;
    const int64_t *tap = job->tap;
    for (int64_t plane = 0; plane < job->planes; plane++, x += job->x_plane) {
        if (side == 0) {
            for (int64_t k = 0; k < job->taps; k++) {
                VEC factor = *w++ - (VEC){0};
                const REAL *from = x + tap[k];
#pragma GCC unroll 7
                for (int i = 0; i < rows; i++)
                    sum[i] = FMA(factor, (VEC) * (const VEC_U *)(from + i * job->x_row), sum[i]);
            }
            continue;
        }
        if (KEEP_WEIGHTS) {
#pragma GCC unroll 25
            for (int k = 0; k < side * side; k++) weight[k] = w[k] - (VEC){0};
        }
        const REAL *line = x;
#pragma GCC unroll 17
        for (int t = 0; t < (rows - 1) * step + side; t++, line += job->x_line) {
            /* Else compilers keep all sums of line and tap, or all weights, and spill them. */
            __asm__("" : "+r"(line), "+r"(w));
#pragma GCC unroll 5
            for (int s = 0; s < side; s++) {
                VEC shifted = *(const VEC_U *)(line + tap[s]);
                HW_KEEP(shifted);
#pragma GCC unroll 5
                for (int r = 0; r < side; r++) {
                    if (t < r || (t - r) % step != 0 || (t - r) / step >= rows) continue;
                    const int i = (t - r) / step;
                    VEC factor = KEEP_WEIGHTS ? weight[r * side + s] : w[r * side + s] - (VEC){0};
                    sum[i] = FMA(factor, shifted, sum[i]);
                }
            }
        }
        w += side * side;
    }
#pragma GCC unroll 7
    for (int i = 0; i < rows; i++) {
        if (job->bias) sum[i] = sum[i] + *(const REAL *)job->bias;
        TYPED(store_part)(y + i * job->y_row, n, sum[i]);
    }
}

/* For the source of one tile and the rows of the next: asks for them. */
INLINE void TYPED(ask)(const char *ahead, const REAL *y, int64_t y_row, int64_t rows, int step) {
    for (int64_t k = 0; k < rows * step * step * HW_BYTES; k += 64)
        __builtin_prefetch(ahead + k, 0, 2);
    for (int64_t i = 0; i < rows; i++) __builtin_prefetch(y + i * y_row, 1, 3);
}

/* All columns of all rows; the last rows and columns overlap those before, if there are as many. */
#define ROWS(many, side, step)                                                             \
    static void TYPED(tile_rows_##many##_##side##_##step)(const hw_rows *job) {            \
        const char *ahead = job->ahead;                                                    \
        for (int64_t i = 0; i < job->rows;) {                                              \
            int64_t here = job->rows < many ? 1 : many, last = job->columns - LANES;       \
            if (i > job->rows - here) i = job->rows - here;                                \
            const REAL *x = (const REAL *)job->x + i * job->x_row;                         \
            REAL *y = (REAL *)job->y + i * job->y_row;                                     \
            for (int64_t j = 0;; j = j + LANES < last ? j + LANES : last) {                \
                if (ahead) {                                                               \
                    TYPED(ask)(ahead, y + here * job->y_row + j, job->y_row, here, step);  \
                    ahead += here * step * step * HW_BYTES;                                \
                }                                                                          \
                if (here == 1)                                                             \
                    TYPED(rows_at)(job, 1, side, step, x + j, y + j, job->columns - j);    \
                else                                                                       \
                    TYPED(rows_at)(job, many, side, step, x + j, y + j, job->columns - j); \
                if (j >= last) break;                                                      \
            }                                                                              \
            i += here;                                                                     \
        }                                                                                  \
    }
ROWS(4, 0, 1)
ROWS(7, 3, 1)
ROWS(4, 3, 2)
ROWS(4, 5, 1)
ROWS(4, 5, 2)
#undef ROWS

static hw_rows_tile TYPED(choose_rows)(int64_t side, int64_t step) {
    if (side == 3 && step == 1) return TYPED(tile_rows_7_3_1);
    if (side == 3 && step == 2) return TYPED(tile_rows_4_3_2);
    if (side == 5 && step == 1) return TYPED(tile_rows_4_5_1);
    if (side == 5 && step == 2) return TYPED(tile_rows_4_5_2);
    return TYPED(tile_rows_4_0_1);
}
