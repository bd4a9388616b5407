/* The walk and the tree of the sum rule, for one type: included with REAL and TYPED(name) defined.
 *
 * A chunk's positions are walked in order, in pieces that lie regularly in memory and belong to
 * consecutive lanes; `add` sets (first 1024 positions) or increases the lanes of a piece. Channels
 * that lie side by side (inner = 1) are `width` sums at once: a lane is then a row of them. */
#include "reduction.h"
#include "vector.h"

typedef struct {
    int64_t offset, rows, width, stride; /* rows of `width` elements, `stride` elements apart */
    int64_t channel;                     /* of the first element of a row */
    int first;                           /* these lanes have no term yet */
} TYPED(piece);

typedef void (*TYPED(adder))(const hw_chunk_source *source, TYPED(piece) piece, REAL *lanes);

/* Folds `count` rows of `width`, as many as there are (at most HW_SUM_CHUNK), into the first. */
static void TYPED(fold)(REAL *rows, int64_t count, int64_t width) {
    for (int64_t lane = HW_SUM_LANES; lane < count; lane += HW_SUM_LANES) {
        int64_t left = count - lane < HW_SUM_LANES ? count - lane : HW_SUM_LANES;
        HW_INDEPENDENT
        for (int64_t i = 0; i < left * width; i++) rows[i] += rows[i + lane * width];
    }
    if (count > HW_SUM_LANES) count = HW_SUM_LANES;
    for (int64_t half = HW_SUM_LANES / 2; half > 0; half /= 2) {
        if (count <= half) continue;
        HW_INDEPENDENT
        for (int64_t i = 0; i < (count - half) * width; i++) rows[i] += rows[i + half * width];
        count = half;
    }
}

/* Of n elements, which it destroys. */
static __attribute__((unused)) void TYPED(sum_in_place)(void *terms, int64_t n, void *result) {
    REAL *x = terms, *sum = result;
    while (n > HW_SUM_CHUNK) {
        int64_t chunks = (n + HW_SUM_CHUNK - 1) / HW_SUM_CHUNK;
        for (int64_t i = 0; i < chunks; i++) {
            int64_t left = n - i * HW_SUM_CHUNK;
            TYPED(fold)(x + i * HW_SUM_CHUNK, left < HW_SUM_CHUNK ? left : HW_SUM_CHUNK, 1);
            x[i] = x[i * HW_SUM_CHUNK];
        }
        n = chunks;
    }
    if (n > 0) TYPED(fold)(x, n, 1);
    *sum = n > 0 ? x[0] : 0;
}

static inline __attribute__((always_inline, unused)) void
TYPED(walk_chunk)(TYPED(adder) add, const hw_chunk_source *source, int64_t channels, int64_t inner,
                  int64_t channel, int64_t width, int64_t begin, int64_t end, void *scratch,
                  void *result) {
    REAL *lanes = scratch;
    int64_t outer = begin / inner, i = begin % inner; /* of position `at` */
    for (int64_t at = begin; at < end;) {
        int64_t lane = (at - begin) % HW_SUM_LANES;
        int64_t rows = end - at < HW_SUM_LANES - lane ? end - at : HW_SUM_LANES - lane;
        int64_t offset = at * channels + channel;
        if (inner > 1) {
            if (rows > inner - i) rows = inner - i;
            offset = (outer * channels + channel) * inner + i;
            i += rows;
            if (i == inner) {
                i = 0;
                outer++;
            }
        }
        TYPED(piece)
        piece = {offset, rows, width, inner > 1 ? 1 : channels, channel, at - begin < HW_SUM_LANES};
        add(source, piece, lanes + lane * width);
        at += rows;
    }
    int64_t count = end - begin < HW_SUM_LANES ? end - begin : HW_SUM_LANES;
    TYPED(fold)(lanes, count, width);
    for (int64_t c = 0; c < width; c++) ((REAL *)result)[c] = lanes[c];
}
