/* The walk and the tree of the sum rule, for one type: included with REAL and TYPED(name) defined.
 *
 * A chunk is taken run by run: elements that lie one behind the other and belong to consecutive
 * lanes, or, with channels side by side, to consecutive channels. */
#include "reduction.h"
#include "vector.h"

typedef struct {
    int64_t offset, length;
    int64_t channel; /* of the first element */
    int step;        /* 1 where each element is of the next channel, else 0 */
    int first;       /* its lanes have no term yet */
} TYPED(run);

/* Sets the lanes of a run's elements to their terms, or adds the terms to them. */
typedef void (*TYPED(adder))(const hw_chunk_source *source, const TYPED(run) * run, REAL *lanes);

/* lanes = the terms of sixteen runs of channels side by side, `apart` from each other, folded. */
typedef void (*TYPED(folder))(const hw_chunk_source *source, const TYPED(run) * run, int64_t apart,
                              REAL *lanes);

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

/* Channels one after the other, in planes of `inner` elements: a run of each of `width` channels
 * before the next one of the first, as they lie in memory. */
static inline __attribute__((always_inline, unused)) void
TYPED(walk_planes)(TYPED(adder) add, const hw_chunk_source *source, int64_t channels, int64_t inner,
                   int64_t channel, int64_t width, int64_t begin, int64_t end, REAL *lanes,
                   REAL *result) {
    int64_t plane = begin / inner * channels + channel, i = begin % inner; /* of position `at` */
    for (int64_t at = begin, length; at < end; at += length) {
        int64_t lane = (at - begin) % HW_SUM_LANES;
        length = inner - i;
        if (length > HW_SUM_LANES - lane) length = HW_SUM_LANES - lane;
        if (length > end - at) length = end - at;
        for (int64_t c = 0; c < width; c++) {
            TYPED(run)
            run = {(plane + c) * inner + i, length, channel + c, 0, at - begin < HW_SUM_LANES};
            add(source, &run, lanes + c * HW_SUM_LANES + lane);
        }
        i += length;
        if (i == inner) {
            i = 0;
            plane += channels;
        }
    }
    int64_t count = end - begin < HW_SUM_LANES ? end - begin : HW_SUM_LANES;
    for (int64_t c = 0; c < width; c++, lanes += HW_SUM_LANES) {
        if (count < HW_SUM_LANES) TYPED(fold)(lanes, count, 1);
        result[c] = count < HW_SUM_LANES ? lanes[0] : TYPED(fold_lanes)(lanes);
    }
}

/* to = the sum of up to four rows of lanes, as the tree has it. */
static inline void TYPED(fold_rows)(int64_t count, int64_t n, const REAL *rows, REAL *to) {
    const REAL *r0 = rows, *r1 = r0 + n, *r2 = r1 + n, *r3 = r2 + n;
    if (count == 4)
        for (int64_t i = 0; i < n; i++) to[i] = (r0[i] + r2[i]) + (r1[i] + r3[i]);
    else if (count == 3)
        for (int64_t i = 0; i < n; i++) to[i] = (r0[i] + r2[i]) + r1[i];
    else if (count == 2)
        for (int64_t i = 0; i < n; i++) to[i] = r0[i] + r1[i];
    else
        for (int64_t i = 0; i < n; i++) to[i] = r0[i];
}

/* Channels side by side. With row l the rows l + 256, l + 512, … are taken, whose lanes are folded
 * with its own: of the lanes 256 are left, which the second-level cache holds. For what lies in a
 * cache; and for sums alone, as adding one after the other keeps fewer lines on their way. */
static inline __attribute__((always_inline, unused)) void
TYPED(walk_rows)(TYPED(adder) add, TYPED(folder) fold_16, const hw_chunk_source *source,
                 int64_t channels, int64_t channel, int64_t width, int64_t begin, int64_t end,
                 REAL *lanes, REAL *result) {
    enum { APART = HW_SUM_ROWS, PIECE = HW_SUM_PIECE };
    REAL sums[4 * PIECE];
    int64_t n = end - begin, rows = n < APART ? n : APART;
    int joined = channels == width && width <= PIECE / 2; /* short rows are taken as a long one */
    int64_t piece = joined ? PIECE / width * width : PIECE;
    for (int64_t l = 0, until; l < rows; l = until) {
        int64_t there = (n - l + APART - 1) / APART; /* of the rows l, l + 256, … */
        until = joined && l >= n % APART ? rows : joined ? n % APART : l + 1;
        int64_t total = (until - l) * width;
        for (int64_t i = 0; i < total; i += piece) {
            int64_t length = total - i < piece ? total - i : piece;
            TYPED(run)
            run = {(begin + l) * channels + channel + i, length, joined ? 0 : channel + i, 1, 1};
            REAL *to = lanes + l * width + i;
            if (fold_16 && there == 16) {
                fold_16(source, &run, APART * channels, to);
                continue;
            }
            for (int64_t m = 0; m < there; m++, run.offset += APART * channels) {
                run.first = m < 4;
                add(source, &run, sums + m % 4 * length);
            }
            TYPED(fold_rows)(there < 4 ? there : 4, length, sums, to);
        }
    }
    TYPED(fold)(lanes, rows, width);
    for (int64_t c = 0; c < width; c++) result[c] = lanes[c];
}

/* The same in the order of memory, many elements a run: for what comes from there and goes back to
 * it, which is a third faster than at sixteen places at once, though the lanes fill the
 * second-level cache. Where rows are joined a run ends with a line of dx, and the next begins at
 * any channel: it is shorter by a row than the slopes. */
static inline __attribute__((always_inline, unused)) void
TYPED(walk_rows_in_order)(TYPED(adder) add, const hw_chunk_source *source, int64_t channels,
                          int64_t channel, int64_t width, int64_t begin, int64_t end, REAL *lanes,
                          REAL *result) {
    enum { LINE = 64 / sizeof(REAL) };
    int64_t n = end - begin, total = n * width, circle = HW_SUM_LANES * width;
    int joined = channels == width;
    _Static_assert(2 * HW_SUM_WIDE <= HW_SUM_RUN, "a run has a row at least");
    int64_t longest = joined ? (HW_SUM_RUN / width - 1) * width : width;
    int64_t first = begin * channels + channel;
    int64_t in_line = (int64_t)((uintptr_t)((REAL *)source->dx + first) % 64 / sizeof(REAL));
    for (int64_t at = 0, length; at < total; at += length) {
        int64_t lane = at % circle, c = at % width;
        length = joined ? longest - (in_line + at + longest) % LINE : longest;
        if (length > circle - lane) length = circle - lane;
        if (length > total - at) length = total - at;
        TYPED(run)
        run = {first + at / width * channels + c, length, channel + c, 1, at < circle};
        add(source, &run, lanes + lane);
    }
    TYPED(fold)(lanes, n < HW_SUM_LANES ? n : HW_SUM_LANES, width);
    for (int64_t c = 0; c < width; c++) result[c] = lanes[c];
}
