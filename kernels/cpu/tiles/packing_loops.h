/* Packing, for one type: included with REAL, VEC, VEC_U, LANES, INTERLEAVE_LOW and INTERLEAVE_HIGH
 * defined. See contraction.h for what the functions do. */
#define WIDTH (2 * LANES)

/* Rows are read as long as they are, for all panels at once: that is what memory likes. Those some
 * rows ahead are asked for, since no prefetcher follows rows that lie far apart. */
static void TYPED(copy)(int64_t k, const REAL *b, int64_t b_k, int64_t column, int64_t columns,
                        REAL *panels, int64_t panel, int64_t pitch) {
    int64_t head = -column & (WIDTH - 1), ahead = (columns >= 4 * WIDTH ? 4 : 12) * b_k;
    if (head > columns) head = columns;
    int64_t whole = (columns - head) / WIDTH, tail = (columns - head) % WIDTH;
    REAL *first = panels + column / WIDTH * panel + column % WIDTH;
    REAL *rest = panels + (column + head) / WIDTH * panel;
    for (; k > 0; k--, b += b_k, first += pitch, rest += pitch) {
        if (head) memcpy(first, b, (size_t)head * sizeof(REAL));
        const REAL *from = b + head;
        REAL *to = rest;
        for (int64_t i = 0; i < whole; i++, from += WIDTH, to += panel) {
            __builtin_prefetch(from + ahead + LANES - 1);
            __builtin_prefetch(from + ahead + 2 * LANES - 1);
            ((VEC *)to)[0] = ((const VEC_U *)from)[0];
            ((VEC *)to)[1] = ((const VEC_U *)from)[1];
        }
        if (tail & LANES) ((VEC *)to)[0] = ((const VEC_U *)from)[0];
        if (tail % LANES) {
            memcpy(to + (tail & LANES), from + (tail & LANES),
                   (size_t)(tail % LANES) * sizeof(REAL));
        }
    }
}

/* One square: to[p * pitch + i] = b[columns[i] + p]. Interleaving the halves of a list of vectors,
 * as often as the logarithm of its length, transposes it. */
static inline __attribute__((always_inline)) void
TYPED(square)(const REAL *b, const int64_t *columns, REAL *to, int64_t pitch) {
    VEC x[LANES], y[LANES];
    UNROLL for (int i = 0; i < LANES; i++) x[i] = *(const VEC_U *)(b + columns[i]);
    UNROLL for (int width = 1; width < LANES; width *= 2) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = INTERLEAVE_LOW(x[i], x[i + LANES / 2]);
            y[2 * i + 1] = INTERLEAVE_HIGH(x[i], x[i + LANES / 2]);
        }
        UNROLL for (int i = 0; i < LANES; i++) x[i] = y[i];
    }
    UNROLL for (int i = 0; i < LANES; i++) * (VEC *)(to + i * pitch) = x[i];
}

static void TYPED(transpose)(int64_t k, const REAL *b, const int64_t *b_column, int64_t columns,
                             REAL *panels, int64_t panel, int64_t pitch) {
    for (int64_t j = 0; j < columns; j += LANES) {
        REAL *to = panels + j / WIDTH * panel + j % WIDTH;
        int64_t at[LANES], p = 0; /* beyond the last column: that one again */
        for (int64_t i = 0; i < LANES; i++) at[i] = b_column[j + i < columns ? j + i : columns - 1];
        if (k < LANES) {
            for (; p < k; p++) {
                for (int i = 0; i < LANES; i++) to[p * pitch + i] = b[at[i] + p];
            }
            continue;
        }
        for (; p + LANES <= k; p += LANES) {
            UNROLL for (int i = 0; i < LANES; i++) __builtin_prefetch(b + at[i] + p + FETCH, 0, 2);
            TYPED(square)(b + p, at, to + p * pitch, pitch);
        }
        if (p < k) TYPED(square)(b + k - LANES, at, to + (k - LANES) * pitch, pitch); /* overlaps */
    }
}
/* Scalars: lanes would be columns, and lie far apart. Two multiply-adds a cycle are more than
 * memory delivers. The empty assembly keeps compilers from gathering vectors. */
static void TYPED(chains)(int64_t k, const REAL *a, int64_t a_k, const REAL *b,
                          const int64_t *b_column, REAL *sums) {
    REAL s[8];
    const REAL *at[8];
    UNROLL for (int j = 0; j < 8; j++) {
        s[j] = sums[j];
        at[j] = b + b_column[j];
    }
    for (int64_t p = 0; p < k; p++, a += a_k) {
        UNROLL for (int j = 0; j < 8; j++) {
            s[j] = SCALAR_FMA(*a, at[j][p], s[j]);
            KEEP_SCALAR(s[j])
        }
    }
    UNROLL for (int j = 0; j < 8; j++) sums[j] = s[j];
}
#undef WIDTH
