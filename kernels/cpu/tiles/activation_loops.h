/* The tiles of activation.c for one type: included with REAL and TYPED(name) defined. */
#include "lanes.h"
#include "stream.h"

#define MANY_SLOPES HW_SUM_RUN
#define LONG_RUN 1024
#define STREAMED_RUN 128

static void TYPED(relu)(int64_t n, const void *from, void *to, int past) {
    const REAL *x = from;
    REAL *y = to;
    HW_MAP(REAL, n, x, y, past, x[i] <= 0 ? 0 : x[i]);
}

static void TYPED(relu_backward)(int64_t n, const void *gradient, const void *input, void *to,
                                 int past) {
    const REAL *dy = gradient, *x = input;
    REAL *dx = to;
    HW_MAP_2(REAL, n, x, dy, dx, past, x[i] <= 0 ? 0 : dy[i]);
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
    HW_MAP_2(REAL, n, y, dy, dx, past, dy[i] * (y[i] * (1 - y[i])));
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
    HW_MAP_2(REAL, n, y, dy, dx, past, dy[i] * ((1 - y[i]) * (1 + y[i])));
}

/* Few channels side by side make short rows: repeats their slopes to fill a longer one. Returns its
 * length, a multiple of `channels`. */
static int64_t TYPED(repeat_slopes)(const REAL **alpha, int64_t channels, REAL *repeated) {
    if (channels > MANY_SLOPES / 2) return channels;
    int64_t length = MANY_SLOPES / channels * channels, more;
    memcpy(repeated, *alpha, (size_t)channels * sizeof(REAL));
    for (int64_t done = channels; done < length; done += more) {
        more = done < length - done ? done : length - done;
        memcpy(repeated + done, repeated, (size_t)more * sizeof(REAL));
    }
    *alpha = repeated;
    return length;
}

/* Elements [begin, end) to y[0 …], run by run of one slope or of a row of slopes. There are `row`
 * of them: more than channels where they are repeated, and then a run ends with a line of y. */
static inline __attribute__((always_inline)) void
TYPED(prelu_runs)(int64_t begin, int64_t end, int64_t channels, int64_t inner, const REAL *alpha,
                  int64_t row, const REAL *x, REAL *y, int past) {
    for (int64_t at = begin; at < end;) {
        int64_t length;
        if (inner == 1) {
            const REAL *a = alpha + at % channels;
            length = row - at % channels;
            if (row > channels) length -= (uintptr_t)(y + length) % 64 / sizeof(REAL);
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
    int64_t row = inner == 1 ? TYPED(repeat_slopes)(&alpha, channels, repeated) : 0;
    if (past && inner > 1 && inner < LONG_RUN) { /* many runs to a streamed block */
        HW_STREAM_PIECES(REAL, end - begin, y,
                         TYPED(prelu_runs)(begin + at, begin + at + length, channels, inner, alpha,
                                           row, x + at, piece, 0));
    } else {
        TYPED(prelu_runs)(begin, end, channels, inner, alpha, row, x, y, past);
    }
}

static inline REAL TYPED(slope_term)(REAL dy, REAL x) { return x > 0 ? 0 : dy * x; }

/* One row: dx, and the slope terms into the lanes. `step` is 1 where each element has its slope. */
static inline __attribute__((always_inline)) void
TYPED(prelu_backward_row)(int64_t n, const REAL *dy, const REAL *x, const REAL *alpha, int step,
                          REAL *dx, REAL *lanes, int first, int past) {
    HW_MAP_2(REAL, n, x, dy, dx, past,
             (lanes[i] = first ? TYPED(slope_term)(dy[i], x[i])
                               : lanes[i] + TYPED(slope_term)(dy[i], x[i]),
              x[i] > 0 ? dy[i] : alpha[i * step] * dy[i]));
}

static __attribute__((noinline)) void TYPED(add_slope_terms)(const hw_chunk_source *source,
                                                             const TYPED(run) * run, REAL *lanes) {
    const REAL *x = (const REAL *)source->x + run->offset;
    const REAL *dy = (const REAL *)source->dy + run->offset;
    const REAL *alpha = (const REAL *)source->alpha + run->channel;
    REAL *dx = (REAL *)source->dx + run->offset;
    int past = source->past && run->length >= STREAMED_RUN;
    REAL shared = *alpha;
    if (run->step == 0 && run->first)
        TYPED(prelu_backward_row)(run->length, dy, x, &shared, 0, dx, lanes, 1, past);
    else if (run->step == 0)
        TYPED(prelu_backward_row)(run->length, dy, x, &shared, 0, dx, lanes, 0, past);
    else if (run->first)
        TYPED(prelu_backward_row)(run->length, dy, x, alpha, 1, dx, lanes, 1, past);
    else
        TYPED(prelu_backward_row)(run->length, dy, x, alpha, 1, dx, lanes, 0, past);
}

/* A whole chunk of one slope in one run. The tree adds lanes as they lie on a circle, so any may
 * be the first in `lanes`: that of the first whole line of dx is, and the lanes begin anew where a
 * line does. The terms before it are the first of their lanes, and added second. */
static REAL TYPED(prelu_backward_chunk)(const REAL *dy, const REAL *x, REAL alpha, REAL *dx,
                                        REAL *lanes, int past) {
    int64_t head = -(uintptr_t)dx % 64 / sizeof(REAL), at = head;
    if (past && head > 0) __builtin_prefetch(dx + HW_SUM_CHUNK, 1); /* not written whole */
    TYPED(prelu_backward_row)(HW_SUM_LANES, dy + at, x + at, &alpha, 0, dx + at, lanes, 1, past);
    TYPED(prelu_backward_row)(head, dy, x, &alpha, 0, dx, lanes + HW_SUM_LANES - head, 0, 0);
    while ((at += HW_SUM_LANES) < HW_SUM_CHUNK) {
        int64_t left = HW_SUM_CHUNK - at, length = left < HW_SUM_LANES ? left : HW_SUM_LANES;
        TYPED(prelu_backward_row)(length, dy + at, x + at, &alpha, 0, dx + at, lanes, 0, past);
    }
    return TYPED(fold_lanes)(lanes);
}

/* Where dx is streamed, lanes and slopes are shifted to lie in their cache lines as the chunk's dx
 * does in its: vectors that cross lines would cost a third of the speed. */
static void TYPED(prelu_backward)(const hw_chunk_source *source, int64_t channels, int64_t inner,
                                  int64_t channel, int64_t width, int64_t begin, int64_t end,
                                  void *scratch, void *result) {
    int64_t offset = (begin / inner * channels + channel) * inner + begin % inner;
    if (inner - begin % inner >= HW_SUM_CHUNK && end - begin == HW_SUM_CHUNK) {
        *(REAL *)result = TYPED(prelu_backward_chunk)(
            (const REAL *)source->dy + offset, (const REAL *)source->x + offset,
            ((const REAL *)source->alpha)[channel], (REAL *)source->dx + offset, scratch,
            source->past);
        return;
    }
    uintptr_t skew = source->past ? (uintptr_t)((REAL *)source->dx + offset) % HW_SUM_SKEW : 0;
    REAL *lanes = (REAL *)((char *)scratch + skew);
    if (inner > 1) {
        TYPED(walk_planes)(TYPED(add_slope_terms), source, channels, inner, channel, width, begin,
                           end, lanes, result);
        return;
    }
    hw_chunk_source with_slopes = *source; /* as long as the runs of short rows are */
    const REAL *alpha = source->alpha;
    _Alignas(64) REAL repeated[MANY_SLOPES + HW_SUM_SKEW / sizeof(REAL)];
    TYPED(repeat_slopes)(&alpha, channels, (REAL *)((char *)repeated + skew));
    with_slopes.alpha = alpha;
    if (source->in_memory)
        TYPED(walk_rows_in_order)(TYPED(add_slope_terms), &with_slopes, channels, channel, width,
                                  begin, end, lanes, result);
    else
        TYPED(walk_rows)(TYPED(add_slope_terms), NULL, &with_slopes, channels, channel, width,
                         begin, end, lanes, result);
}
