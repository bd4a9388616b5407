/* The tiles of activation.c for one type: included with REAL and TYPED(name) defined. */
#include "lanes.h"

#define MANY_SLOPES 128

static void TYPED(relu)(int64_t n, const void *from, void *to) {
    const REAL *x = from;
    REAL *y = to;
    HW_INDEPENDENT
    for (int64_t i = 0; i < n; i++) y[i] = x[i] <= 0 ? 0 : x[i];
}

static void TYPED(relu_backward)(int64_t n, const void *gradient, const void *input, void *to) {
    const REAL *dy = gradient, *x = input;
    REAL *dx = to;
    HW_INDEPENDENT
    for (int64_t i = 0; i < n; i++) dx[i] = x[i] <= 0 ? 0 : dy[i];
}

static void TYPED(sigmoid)(int64_t n, const void *from, void *to) {
    const REAL *x = from;
    REAL *y = to;
    HW_INDEPENDENT
    for (int64_t i = 0; i < n; i++) y[i] = TYPED(hw_sigmoid)(x[i]);
}

static void TYPED(sigmoid_backward)(int64_t n, const void *gradient, const void *output, void *to) {
    const REAL *dy = gradient, *y = output;
    REAL *dx = to;
    HW_INDEPENDENT
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (y[i] * (1 - y[i]));
}

static void TYPED(tanh)(int64_t n, const void *from, void *to) {
    const REAL *x = from;
    REAL *y = to;
    HW_INDEPENDENT
    for (int64_t i = 0; i < n; i++) y[i] = TYPED(hw_tanh)(x[i]);
}

static void TYPED(tanh_backward)(int64_t n, const void *gradient, const void *output, void *to) {
    const REAL *dy = gradient, *y = output;
    REAL *dx = to;
    HW_INDEPENDENT
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * ((1 - y[i]) * (1 + y[i]));
}

/* Few channels side by side make short rows: repeats their slopes to fill a longer one. Returns its
 * length, a multiple of `channels`. */
static int64_t TYPED(repeat_slopes)(const REAL **alpha, int64_t channels, REAL *repeated) {
    if (channels > MANY_SLOPES / 2) return channels;
    int64_t length = MANY_SLOPES / channels * channels;
    for (int64_t i = 0; i < length; i++) repeated[i] = (*alpha)[i % channels];
    *alpha = repeated;
    return length;
}

static void TYPED(prelu)(int64_t begin, int64_t end, int64_t channels, int64_t inner,
                         const void *slopes, const void *from, void *to) {
    const REAL *alpha = slopes;
    REAL repeated[MANY_SLOPES];
    if (inner == 1) channels = TYPED(repeat_slopes)(&alpha, channels, repeated);
    for (int64_t at = begin; at < end;) {
        const REAL *x = (const REAL *)from + at;
        REAL *y = (REAL *)to + at;
        int64_t length;
        if (inner == 1) { /* a row of channels */
            const REAL *a = alpha + at % channels;
            length = channels - at % channels;
            if (length > end - at) length = end - at;
            HW_INDEPENDENT
            for (int64_t i = 0; i < length; i++) y[i] = x[i] > 0 ? x[i] : a[i] * x[i];
        } else {
            REAL a = alpha[at / inner % channels];
            length = inner - at % inner;
            if (length > end - at) length = end - at;
            HW_INDEPENDENT
            for (int64_t i = 0; i < length; i++) y[i] = x[i] > 0 ? x[i] : a * x[i];
        }
        at += length;
    }
}

/* One row: dx, and the slope terms into the lanes. `step` is 1 where each element has its slope. */
static inline __attribute__((always_inline)) void
TYPED(prelu_backward_row)(int64_t n, const REAL *dy, const REAL *x, const REAL *alpha, int step,
                          REAL *dx, REAL *lanes, int first) {
    HW_INDEPENDENT
    for (int64_t i = 0; i < n; i++) {
        REAL term = x[i] > 0 ? 0 : dy[i] * x[i];
        dx[i] = x[i] > 0 ? dy[i] : alpha[i * step] * dy[i];
        lanes[i] = first ? term : lanes[i] + term;
    }
}

static inline __attribute__((always_inline)) void
TYPED(add_slope_terms)(const hw_chunk_source *source, TYPED(piece) p, REAL *lanes) {
    const REAL *x = (const REAL *)source->x + p.offset, *dy = (const REAL *)source->dy + p.offset;
    const REAL *alpha = (const REAL *)source->alpha + p.channel;
    REAL *dx = (REAL *)source->dx + p.offset;
    if (p.stride == 1 && p.width == 1) { /* one channel's elements, side by side */
        REAL a = *alpha;
        if (p.first)
            TYPED(prelu_backward_row)(p.rows, dy, x, &a, 0, dx, lanes, 1);
        else
            TYPED(prelu_backward_row)(p.rows, dy, x, &a, 0, dx, lanes, 0);
        return;
    }
    REAL repeated[MANY_SLOPES];
    if (p.stride == p.width) { /* whole rows, without gaps between them: one long one, cut anew */
        int64_t n = p.rows * p.width;
        p.width = p.stride = TYPED(repeat_slopes)(&alpha, p.width, repeated);
        p.rows = n / p.width;
        REAL *rest = lanes + p.rows * p.width;
        int64_t i = p.rows * p.width;
        if (p.first)
            TYPED(prelu_backward_row)(n - i, dy + i, x + i, alpha, 1, dx + i, rest, 1);
        else
            TYPED(prelu_backward_row)(n - i, dy + i, x + i, alpha, 1, dx + i, rest, 0);
    }
    for (int64_t row = 0; row < p.rows; row++) {
        int64_t i = row * p.stride;
        REAL *sums = lanes + row * p.width;
        if (p.first)
            TYPED(prelu_backward_row)(p.width, dy + i, x + i, alpha, 1, dx + i, sums, 1);
        else
            TYPED(prelu_backward_row)(p.width, dy + i, x + i, alpha, 1, dx + i, sums, 0);
    }
}

static void TYPED(prelu_backward)(const hw_chunk_source *source, int64_t channels, int64_t inner,
                                  int64_t channel, int64_t width, int64_t begin, int64_t end,
                                  void *lanes, void *result) {
    TYPED(walk_chunk)
    (TYPED(add_slope_terms), source, channels, inner, channel, width, begin, end, lanes, result);
}
