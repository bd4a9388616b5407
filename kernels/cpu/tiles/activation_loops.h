/* The tiles of activation.c for one type: included with REAL and TYPED(name) defined. */
#include "lanes.h"
#include "stream.h"

#define MANY_SLOPES 128
#define LONG_RUN 1024

static void TYPED(relu)(int64_t n, const void *from, void *to, int past) {
    const REAL *x = from;
    REAL *y = to;
    HW_MAP(REAL, n, x, y, past, x[i] <= 0 ? 0 : x[i]);
}

static void TYPED(relu_backward)(int64_t n, const void *gradient, const void *input, void *to,
                                 int past) {
    const REAL *dy = gradient, *x = input;
    REAL *dx = to;
    HW_MAP(REAL, n, x, dx, past, x[i] <= 0 ? 0 : dy[i]);
}

static void TYPED(sigmoid)(int64_t n, const void *from, void *to, int past) {
    const REAL *x = from;
    REAL *y = to;
    HW_MAP(REAL, n, x, y, past, TYPED(hw_sigmoid)(x[i]));
}

static void TYPED(sigmoid_backward)(int64_t n, const void *gradient, const void *output, void *to,
                                    int past) {
    const REAL *dy = gradient, *y = output;
    REAL *dx = to;
    HW_MAP(REAL, n, y, dx, past, dy[i] * (y[i] * (1 - y[i])));
}

static void TYPED(tanh)(int64_t n, const void *from, void *to, int past) {
    const REAL *x = from;
    REAL *y = to;
    HW_MAP(REAL, n, x, y, past, TYPED(hw_tanh)(x[i]));
}

static void TYPED(tanh_backward)(int64_t n, const void *gradient, const void *output, void *to,
                                 int past) {
    const REAL *dy = gradient, *y = output;
    REAL *dx = to;
    HW_MAP(REAL, n, y, dx, past, dy[i] * ((1 - y[i]) * (1 + y[i])));
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

/* Elements [begin, end) to y[0 …], run by run of one slope or of a row of slopes. */
static inline __attribute__((always_inline)) void
TYPED(prelu_runs)(int64_t begin, int64_t end, int64_t channels, int64_t inner, const REAL *alpha,
                  const REAL *x, REAL *y, int past) {
    for (int64_t at = begin; at < end;) {
        int64_t length;
        if (inner == 1) { /* a row of channels */
            const REAL *a = alpha + at % channels;
            length = channels - at % channels;
            if (length > end - at) length = end - at;
            HW_MAP(REAL, length, x, y, past, x[i] > 0 ? x[i] : a[i] * x[i]);
        } else {
            REAL a = alpha[at / inner % channels];
            length = inner - at % inner;
            if (length > end - at) length = end - at;
            HW_MAP(REAL, length, x, y, past, x[i] > 0 ? x[i] : a * x[i]);
        }
        at += length;
        x += length;
        y += length;
    }
}

static void TYPED(prelu)(int64_t begin, int64_t end, int64_t channels, int64_t inner,
                         const void *slopes, const void *from, void *to, int past) {
    const REAL *alpha = slopes, *x = (const REAL *)from + begin;
    REAL *y = (REAL *)to + begin;
    REAL repeated[MANY_SLOPES];
    if (inner == 1) channels = TYPED(repeat_slopes)(&alpha, channels, repeated);
    if (past && (inner == 1 ? channels : inner) < LONG_RUN) { /* many runs to a streamed block */
        HW_STREAM_PIECES(REAL, end - begin, y,
                         TYPED(prelu_runs)(begin + at, begin + at + length, channels, inner, alpha,
                                           x + at, piece, 0));
    } else {
        TYPED(prelu_runs)(begin, end, channels, inner, alpha, x, y, past);
    }
}

static inline REAL TYPED(slope_term)(REAL dy, REAL x) { return x > 0 ? 0 : dy * x; }

/* One row: dx, and the slope terms into the lanes. `step` is 1 where each element has its slope. */
static inline __attribute__((always_inline)) void
TYPED(prelu_backward_row)(int64_t n, const REAL *dy, const REAL *x, const REAL *alpha, int step,
                          REAL *dx, REAL *lanes, int first, int past) {
    HW_MAP(REAL, n, x, dx, past,
           (lanes[i] =
                first ? TYPED(slope_term)(dy[i], x[i]) : lanes[i] + TYPED(slope_term)(dy[i], x[i]),
            x[i] > 0 ? dy[i] : alpha[i * step] * dy[i]));
}

static inline __attribute__((always_inline)) void
TYPED(add_slope_terms)(const hw_chunk_source *source, TYPED(piece) p, REAL *lanes) {
    const REAL *x = (const REAL *)source->x + p.offset, *dy = (const REAL *)source->dy + p.offset;
    const REAL *alpha = (const REAL *)source->alpha + p.channel;
    REAL *dx = (REAL *)source->dx + p.offset;
    for (int64_t i = 0; p.next && i < p.rows; i += 64 / sizeof(REAL)) {
        __builtin_prefetch(x + p.next + i);
        __builtin_prefetch(dy + p.next + i);
    }
    if (p.stride == 1 && p.width == 1) { /* one channel's elements, side by side */
        REAL a = *alpha;
        int past = source->past && p.rows >= LONG_RUN;
        if (p.first)
            TYPED(prelu_backward_row)(p.rows, dy, x, &a, 0, dx, lanes, 1, past);
        else
            TYPED(prelu_backward_row)(p.rows, dy, x, &a, 0, dx, lanes, 0, past);
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
            TYPED(prelu_backward_row)(n - i, dy + i, x + i, alpha, 1, dx + i, rest, 1, 0);
        else
            TYPED(prelu_backward_row)(n - i, dy + i, x + i, alpha, 1, dx + i, rest, 0, 0);
    }
    for (int64_t row = 0; row < p.rows; row++) {
        int64_t i = row * p.stride;
        REAL *sums = lanes + row * p.width;
        if (p.first)
            TYPED(prelu_backward_row)(p.width, dy + i, x + i, alpha, 1, dx + i, sums, 1, 0);
        else
            TYPED(prelu_backward_row)(p.width, dy + i, x + i, alpha, 1, dx + i, sums, 0, 0);
    }
}

static void TYPED(prelu_backward)(const hw_chunk_source *source, int64_t channels, int64_t inner,
                                  int64_t channel, int64_t width, int64_t begin, int64_t end,
                                  void *lanes, void *result) {
    TYPED(walk_chunk)
    (TYPED(add_slope_terms), source, channels, inner, channel, width, begin, end, lanes, result);
}
