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
    int64_t next; /* so far away lies what the next channel takes: worth asking for now; or 0 */
} TYPED(piece);

typedef void (*TYPED(adder))(const hw_chunk_source *source, TYPED(piece) piece, REAL *lanes);

/* The sum of 1024 lanes: 16 rows of 64 as a tree, then 64 lanes, then one vector of 16. */
static REAL TYPED(fold_lanes)(const REAL *lanes) {
#define AT(w) lanes[i + (w)]
#define BY_512(w) (AT(w) + AT(w + 512))
#define BY_256(w) (BY_512(w) + BY_512(w + 256))
#define BY_128(w) (BY_256(w) + BY_256(w + 128))
    _Alignas(64) REAL sums[64];
    for (int i = 0; i < 64; i++) sums[i] = BY_128(0) + BY_128(64);
#undef AT
#undef BY_512
#undef BY_256
#undef BY_128
    for (int i = 0; i < 32; i++) sums[i] += sums[i + 32];
    for (int i = 0; i < 16; i++) sums[i] += sums[i + 16];
    for (int i = 0; i < 8; i++) sums[i] += sums[i + 8];
    for (int i = 0; i < 4; i++) sums[i] += sums[i + 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

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
        piece = {offset,
                 rows,
                 width,
                 inner > 1 ? 1 : channels,
                 channel,
                 at - begin < HW_SUM_LANES,
                 inner > 1 && inner < HW_SUM_CHUNK ? inner : 0};
        add(source, piece, lanes + lane * width);
        at += rows;
    }
    int64_t count = end - begin < HW_SUM_LANES ? end - begin : HW_SUM_LANES;
    if (width == 1 && count == HW_SUM_LANES) {
        *(REAL *)result = TYPED(fold_lanes)(lanes);
        return;
    }
    TYPED(fold)(lanes, count, width);
    for (int64_t c = 0; c < width; c++) ((REAL *)result)[c] = lanes[c];
}
