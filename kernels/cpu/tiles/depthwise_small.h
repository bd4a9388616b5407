/* Depthwise convolution of small planes of adjacent columns, for one type: included after
 * depthwise_rows.h.
 *
 * A row of a plane is one vector, its spare lanes zero; so its neighbours to the left and right are
 * the vector moved around by a lane, and neither a frame nor a load across lines is needed. Planes
 * of less than half a vector go by two, one in each half. From row to row three sums are under way:
 * of the output above, which ends, of the one here, and of the one below, which begins. */

/* One value, or two, for the halves of a vector. */
INLINE VEC TYPED(spread)(const REAL *from, int64_t apart, const int many) {
    VEC one = from[0] - (VEC){0};
    return many == 1 ? one : SHUFFLE(HALVES, one, from[apart] - (VEC){0});
}

/* Three taps of a row: their weights, or where to read them. */
INLINE VEC TYPED(meet)(const VEC *weight, const REAL *w, int64_t apart, const int many,
                       const VEC *x, VEC sum) {
#pragma GCC unroll 3
    for (int s = 0; s < 3; s++)
        sum = FMA(KEEP_WEIGHTS ? weight[s] : TYPED(spread)(w + s, apart, many), x[s], sum);
    return sum;
}

INLINE VEC TYPED(load_planes)(const REAL *from, int64_t n, int64_t apart, const int many) {
    VEC row = TYPED(load_part)(from, n);
#ifdef HW_AVX512
    if (many == 2) row = LOAD_UPPER(row, from + apart, n);
#endif
    return row;
}

INLINE void TYPED(store_planes)(REAL *to, int64_t n, int64_t apart, const int many, VEC row) {
    TYPED(store_part)(to, n, row);
#ifdef HW_AVX512
    if (many == 2) STORE_UPPER(to + apart, n, row);
#endif
}

INLINE void TYPED(planes_at)(const hw_planes *job, const int many, const int backward, int64_t k) {
    const REAL *x = (const REAL *)job->x + k * job->x_plane;
    const REAL *w = (const REAL *)job->w + k * job->w_plane;
    REAL *y = (REAL *)job->y + k * job->y_plane;
    const int64_t n = job->columns, x_row = backward ? -job->x_row : job->x_row;
    const int64_t y_row = backward ? -job->y_row : job->y_row;
    const VEC zero = {0};
    VEC weight[9] = {0}, bias = {0}, sum = {0}, met[3] = {0}, next;
    if (backward) { /* later taps meet earlier rows */
        x -= (job->rows - 1) * x_row;
        y -= (job->rows - 1) * y_row;
    }
#pragma GCC unroll 9
    for (int t = 0; t < 9 && KEEP_WEIGHTS; t++)
        weight[t] = TYPED(spread)(w + t, job->w_plane, many);
    if (job->bias)
        bias = TYPED(spread)((const REAL *)job->bias + k * job->bias_plane, job->bias_plane, many);
#define MEET(r, sum) TYPED(meet)(weight + 3 * r, w + 3 * r, job->w_plane, many, met, sum)
    next = MEET(0, zero);
    for (int64_t i = 0;; i++, x += x_row) {
        VEC here = i < job->rows ? TYPED(load_planes)(x, n, job->x_plane, many) : zero;
        __asm__("" : "+r"(w)); /* else compilers keep the weights, and spill them */
        met[backward ? 2 : 0] = SHUFFLE(BEFORE, here, here);
        met[1] = here;
        met[backward ? 0 : 2] = SHUFFLE(AFTER, here, here);
        if (i > 0) {
            sum = MEET(2, sum);
            if (job->bias) sum = sum + bias;
            TYPED(store_planes)(y, n, job->y_plane, many, sum);
            y += y_row;
        }
        if (i == job->rows) break;
        sum = MEET(1, next);
        next = MEET(0, zero);
    }
#undef MEET
}

static void TYPED(correlate_planes)(const hw_planes *job) {
    int64_t k = 0;
#ifdef HW_AVX512
    if (2 * job->columns < LANES) {
        for (; job->backward && k + 2 <= job->planes; k += 2) TYPED(planes_at)(job, 2, 1, k);
        for (; k + 2 <= job->planes; k += 2) TYPED(planes_at)(job, 2, 0, k);
    }
#endif
    for (; job->backward && k < job->planes; k++) TYPED(planes_at)(job, 1, 1, k);
    for (; k < job->planes; k++) TYPED(planes_at)(job, 1, 0, k);
}
#undef KEEP_WEIGHTS
