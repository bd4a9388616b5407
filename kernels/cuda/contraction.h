/* One tile of a contraction (CONTRACT.md section 3) by one block: matrix products of any strides.
 *
 *     c(i, j) = fold over segments of chains over k of a(i, k) * b(k, j), + bias
 *
 * A block has ROWS × COLUMNS outputs, a thread DOWN × ACROSS of them in registers: one chain each,
 * so that k is never divided among threads. Both operands go through shared memory, STEP k's at a
 * time as [k][row or column], by asynchronous copies STAGES - 1 steps ahead, one barrier a step.
 *
 * A thread reads both in vectors of 16 bytes: 4 loads per k for the 64 multiply-adds of 8 × 8
 * floats. Its vectors lie LANES_DOWN (LANES_ACROSS) vectors apart, so that half a warp reads 128
 * bytes side by side of the one operand, and 32 of the other: no bank twice. In machine code
 * (sm_90, NVRTC 13.5) a step of 8 k's of 128 × 128 floats is 512 FFMA of 586 instructions, 602
 * where an operand lies along k, each number loaded 40 to 70 FFMA ahead; 128 registers, two blocks
 * of 256 threads a multiprocessor. One of 128 × 256, 16 × 8 a thread, is 1024 FFMA of 1112 in 205
 * to 233 registers, one block a multiprocessor.
 *
 * Folding. At a segment's end s is added to the super-segment's total, which lies in shared memory,
 * each thread its own, without barriers: 16 vectors read and written per 512 k's, instead of a
 * second set of registers, which would halve the tile. The total over super-segments lies in the
 * output itself: read and written once in 16384 k's. The first s (and u) is taken as it is, for +0
 * + -0 would be another number.
 *
 * The last step may be shorter. Then its chain stops: +0 * +0 more would turn -0 into +0.
 *
 * Long axes: blocks may have a part of the axis each, one segment or one super-segment, and write
 * their part into a workspace, which hw_fold_parts folds in order.
 *
 * An operand is a type for which HwCopies says how a thread copies its share of a step; here those
 * of any strides. The result is a sink:
 *     int64_t rows, columns;  bool vectors;          16 bytes of neighbouring columns at once?
 *     real *place(int64_t i, int64_t j) const;
 *     bool biased;  real bias(int64_t i, int64_t j) const; */
#ifndef HALFWAVE_CUDA_CONTRACTION_H
#define HALFWAVE_CUDA_CONTRACTION_H

#include "common/contraction.h"
#include "cuda/async.h"

enum HwLanes {
    HW_ACROSS,    /* over rows (columns), one number each; each thread has few of them, many k's */
    HW_ACROSS_16, /* the same by 16 bytes: neighbours lie side by side, aligned, all there or none
                   */
    HW_ALONG,     /* over 8 k's of 4 rows (columns): for operands that lie along k */
    HW_ALONG_16   /* the same by 16 bytes: conv_tensor.cu alone has it */
};

enum {
    HW_ALONG_LANES = 8,
    HW_SEGMENTS = HW_SUPER_SEGMENT / HW_SEGMENT /* of a super-segment */
};

/* DOWN × ACROSS outputs a thread in vectors of HW_PER_16, LANES_DOWN threads of a warp below each
 * other. */
template <int ROWS_, int COLUMNS_, int DOWN_, int ACROSS_, int LANES_DOWN_, int STEP_, int STAGES_>
struct HwTile {
    enum {
        ROWS = ROWS_,
        COLUMNS = COLUMNS_,
        DOWN = DOWN_,
        ACROSS = ACROSS_,
        LANES_DOWN = LANES_DOWN_,
        LANES_ACROSS = 32 / LANES_DOWN_,
        STEP = STEP_,
        STAGES = STAGES_,
        WARPS_DOWN = ROWS / (DOWN * LANES_DOWN),
        WARPS_ACROSS = COLUMNS / (ACROSS * LANES_ACROSS),
        THREADS = 32 * WARPS_DOWN * WARPS_ACROSS,
        OUTPUTS = DOWN * ACROSS,
        /* A row of a stage: 16 bytes more, so that the copies of HW_ALONG meet 32 banks. */
        A_PITCH = ROWS + HW_PER_16,
        B_PITCH = COLUMNS + HW_PER_16,
        STAGE = STEP * (A_PITCH + B_PITCH),
        STAGED = STAGES * STAGE,
        TOTALS = THREADS * OUTPUTS,
        /* Numbers of shared memory for up to one segment, and for more. */
        SHARED = STAGED < TOTALS ? TOTALS : STAGED,
        SHARED_FOLDED = STAGED + TOTALS
    };
    static_assert(ROWS % (DOWN * LANES_DOWN) == 0 && COLUMNS % (ACROSS * LANES_ACROSS) == 0, "");
    static_assert(DOWN % HW_PER_16 == 0 && ACROSS % HW_PER_16 == 0 && LANES_DOWN % 2 == 0, "");
    static_assert(STEP % HW_ALONG_LANES == 0 && STAGES >= 2, "");
    static_assert(HW_SEGMENT % (STEP * STAGES) == 0, "a segment begins in the first stage");
};

/* An operand of any strides. HW_ALONG: of k stride 1; HW_ACROSS_16: of stride 1 over rows
 * (columns), 16-byte aligned in all else. Beyond the edge it gives the last row (columns) again: no
 * output that is there sees it. */
template <int LANES_> struct HwStrided {
    enum { LANES = LANES_, WIDTH = LANES == HW_ACROSS_16 ? HW_PER_16 : 1 };
    const real *base;
    int64_t count, stride, k_stride;

    __device__ __forceinline__ const real *first(int64_t x) const {
        return base + (x < count ? x : count - WIDTH) * (LANES == HW_ACROSS_16 ? 1 : stride);
    }
};

/* A result of any strides, with a bias of any strides (0: along the other axis), or none. */
struct HwStridedSink {
    real *base;
    int64_t rows, columns, row_stride, column_stride;
    const real *first_bias;
    int64_t bias_row, bias_column;
    bool vectors, biased;

    __device__ __forceinline__ real *place(int64_t i, int64_t j) const {
        return base + i * row_stride + j * column_stride;
    }
    __device__ __forceinline__ real bias(int64_t i, int64_t j) const {
        return first_bias[i * bias_row + j * bias_column];
    }
};

/* How a block's threads share the copies of an operand's step, SIZE rows (columns) of a tile: one
 * has those from row (column) x and k on, APART and K_APART apart. */
template <class Tile, int SIZE, int LANES> struct HwShare {
    enum {
        ALONG = LANES == HW_ALONG || LANES == HW_ALONG_16,
        WIDTH = LANES == HW_ACROSS_16 ? HW_PER_16 : 1, /* rows, or k's, of one copy */
        K_WIDTH = LANES == HW_ALONG_16 ? HW_PER_16 : 1,
        UNITS = SIZE / WIDTH,
        K_LANES = LANES == HW_ALONG_16 ? Tile::STEP / HW_PER_16
        : LANES == HW_ALONG            ? HW_ALONG_LANES
        : UNITS < Tile::THREADS        ? Tile::THREADS / UNITS
                                       : 1,
        X_LANES = Tile::THREADS / K_LANES,
        APART = X_LANES * WIDTH,
        K_APART = K_LANES * K_WIDTH,
        BYTES = WIDTH * K_WIDTH * sizeof(real)
    };
    static_assert(SIZE % APART == 0 && Tile::STEP % K_APART == 0, "");
    int x, k;

    __device__ __forceinline__ HwShare() {
        int t = threadIdx.x;
        x = (ALONG ? t / K_LANES : t % X_LANES) * WIDTH;
        k = (ALONG ? t % K_LANES : t / X_LANES) * K_WIDTH;
    }
};

/* One thread's share of the copies of an operand, SIZE rows or columns of a tile, from row (column)
 * x and k on. step() issues those of the next step, of which `left` k's are there: no others may be
 * asked for, but all are filled, with 0. */
template <class Tile, int SIZE, int PITCH, class Operand> struct HwCopies;

/* Pointers that move on. */
template <class Tile, int SIZE, int PITCH, int LANES>
struct HwCopies<Tile, SIZE, PITCH, HwStrided<LANES>> {
    typedef HwShare<Tile, SIZE, LANES> Share;
    enum { POINTERS = SIZE / Share::APART };
    const real *next[POINTERS];
    int64_t k_stride;
    int first_k, to; /* of the step, and where it goes in a stage */

    __device__ __forceinline__ HwCopies(const HwStrided<LANES> &from, int64_t x, int64_t k)
        : k_stride(LANES == HW_ALONG ? 1 : from.k_stride) {
        Share share;
        first_k = share.k;
        to = first_k * PITCH + share.x;
#pragma unroll
        for (int p = 0; p < POINTERS; p++)
            next[p] = from.first(x + share.x + p * Share::APART) + (k + first_k) * k_stride;
    }
    __device__ __forceinline__ void step(real *stage, int left) {
#pragma unroll
        for (int k = 0; k < Tile::STEP; k += Share::K_APART)
#pragma unroll
            for (int p = 0; p < POINTERS; p++) {
                hw_copy_async<Share::BYTES>(stage + to + k * PITCH + p * Share::APART, next[p],
                                            first_k + k < left);
                next[p] += Share::K_APART * k_stride;
            }
    }
};

/* s = fma(a, b, s) for a thread's outputs and `count` k's of a stage (STEP, if WHOLE). */
template <class Tile, bool WHOLE>
HW_FUNCTION void hw_multiply(real (&s)[Tile::DOWN][Tile::ACROSS], const real *a, const real *b,
                             int count) {
#pragma unroll(WHOLE ? Tile::STEP : 1)
    for (int k = 0; k < (WHOLE ? (int)Tile::STEP : count); k++) {
        real row[Tile::DOWN], column[Tile::ACROSS];
#pragma unroll
        for (int i = 0; i < Tile::DOWN; i += HW_PER_16)
            *(real16 *)(row + i) = *(const real16 *)(a + k * Tile::A_PITCH + i * Tile::LANES_DOWN);
#pragma unroll
        for (int j = 0; j < Tile::ACROSS; j += HW_PER_16)
            *(real16 *)(column + j) =
                *(const real16 *)(b + k * Tile::B_PITCH + j * Tile::LANES_ACROSS);
#pragma unroll
        for (int i = 0; i < Tile::DOWN; i++)
#pragma unroll
            for (int j = 0; j < Tile::ACROSS; j++) s[i][j] = hw_fma(row[i], column[j], s[i][j]);
    }
}

/* Where in a tile a thread's first output lies. Lanes i and i ^ 1 have the same columns, i and i ^
 * 2 the same rows: the halves of a warp whose 16-byte loads agree so are served at once, not
 * quarters.
 */
template <class Tile> struct HwPlace {
    int row, column;
    __device__ __forceinline__ HwPlace(int t) {
        int warp = t / 32, lane = t % 32;
        int lane_row = lane / (2 * Tile::LANES_ACROSS) * 2 + lane % 2;
        int lane_column = lane / 2 % Tile::LANES_ACROSS;
        row = warp / Tile::WARPS_ACROSS * Tile::LANES_DOWN * Tile::DOWN + lane_row * HW_PER_16;
        column =
            warp % Tile::WARPS_ACROSS * Tile::LANES_ACROSS * Tile::ACROSS + lane_column * HW_PER_16;
    }
};

/* x, of which the compiler knows nothing: what depends on it cannot be moved up out of a loop. */
HW_FUNCTION int hw_opaque(int x) {
#ifndef HW_EMULATED
    asm volatile("" : "+r"(x));
#endif
    return x;
}

/* A segment's end: s is folded into the super-segment's total, and starts anew. */
template <class Tile>
HW_FUNCTION void hw_fold(real (&s)[Tile::DOWN][Tile::ACROSS], bool first, real *totals) {
    real16 *total = (real16 *)totals + hw_opaque(threadIdx.x);
#pragma unroll
    for (int i = 0; i < Tile::DOWN; i++)
#pragma unroll
        for (int j = 0; j < Tile::ACROSS; j += HW_PER_16) {
            real16 *mine = total + (i * Tile::ACROSS + j) / HW_PER_16 * Tile::THREADS, u;
            if (!first) {
                u = *mine;
#pragma unroll
                for (int e = 0; e < HW_PER_16; e++) s[i][j + e] = u.v[e] + s[i][j + e];
            }
#pragma unroll
            for (int e = 0; e < HW_PER_16; e++) u.v[e] = s[i][j + e], s[i][j + e] = 0;
            *mine = u;
        }
}

/* A super-segment's end: its total is folded into the output, whose tile begins at (row, column);
 * the bias added, if it is the last one. A loop over what is worked out anew each time: the
 * addresses of 64 outputs would take the multiply-adds' registers. */
template <class Tile, class Sink>
HW_FUNCTION void hw_store(const Sink &c, int64_t row, int64_t column, bool first, bool last,
                          const real *totals) {
    int t = hw_opaque(threadIdx.x);
    HwPlace<Tile> place(t);
    const real16 *total = (const real16 *)totals + t;
    row += place.row;
    column += place.column;
    enum { VECTORS = Tile::ACROSS / HW_PER_16 };
#pragma unroll 1
    for (int n = 0; n < Tile::DOWN * VECTORS; n++) {
        int down = n / VECTORS, across = n % VECTORS;
        int64_t i = row + down % HW_PER_16 + down / HW_PER_16 * HW_PER_16 * Tile::LANES_DOWN;
        int64_t j = column + across * HW_PER_16 * Tile::LANES_ACROSS;
        if (i >= c.rows || j >= c.columns) continue;
        real16 y = total[n * Tile::THREADS];
        bool whole = j + HW_PER_16 <= c.columns, at_once = whole && c.vectors;
#pragma unroll
        for (int e = 0; e < HW_PER_16; e++)
            if (whole || j + e < c.columns) {
                if (!first) y.v[e] = *c.place(i, j + e) + y.v[e];
                if (last && c.biased) y.v[e] = y.v[e] + c.bias(i, j + e);
                if (!at_once) *c.place(i, j + e) = y.v[e];
            }
        if (at_once) *(real16 *)c.place(i, j) = y;
    }
}

/* The tile whose first output is (row, column), of the terms k_begin (a multiple of 512; of 16384,
 * if there is more than one segment) to k_end. `shared` holds Tile::SHARED numbers, or
 * SHARED_FOLDED for more than 512 terms. */
template <class Tile, class A, class B, class Sink>
HW_FUNCTION void hw_contract(const A &a, const B &b, const Sink &c, int64_t row, int64_t column,
                             int64_t k_begin, int64_t k_end, real *shared) {
    HwPlace<Tile> place(threadIdx.x);
    int64_t terms = k_end - k_begin;
    real *totals = shared + (terms > HW_SEGMENT ? Tile::STAGED : 0);
    HwCopies<Tile, Tile::ROWS, Tile::A_PITCH, A> copies_a(a, row, k_begin);
    HwCopies<Tile, Tile::COLUMNS, Tile::B_PITCH, B> copies_b(b, column, k_begin);
    auto copy = [&](unsigned slot, int left) {
        real *stage = shared + slot * Tile::STAGE;
        copies_a.step(stage, left);
        copies_b.step(stage + Tile::STEP * Tile::A_PITCH, left);
        hw_copies_commit();
    };
    real s[Tile::DOWN][Tile::ACROSS] = {};
    const int AHEAD = Tile::STAGES - 1;
    for (unsigned segment = 0;; segment++) {
        int64_t rest = terms - (int64_t)segment * HW_SEGMENT;
        int left = rest < 2 * HW_SEGMENT ? (int)rest : 2 * HW_SEGMENT;
        if (segment == 0)
#pragma unroll
            for (int step = 0; step < AHEAD; step++) copy(step, left - step * Tile::STEP);
#pragma unroll 1
        for (unsigned step = 0; step < HW_SEGMENT / Tile::STEP && left > 0; step++) {
            hw_copies_wait<AHEAD - 1>();
            __syncthreads(); /* and all have read what is overwritten next */
            copy((step + AHEAD) % Tile::STAGES, left - AHEAD * Tile::STEP);
            const real *stage = shared + step % Tile::STAGES * Tile::STAGE;
            const real *from_a = stage + place.row;
            const real *from_b = stage + Tile::STEP * Tile::A_PITCH + place.column;
            if (left >= Tile::STEP)
                hw_multiply<Tile, true>(s, from_a, from_b, 0);
            else
                hw_multiply<Tile, false>(s, from_a, from_b, left);
            left -= Tile::STEP;
        }
        bool last = terms <= (int64_t)(segment + 1) * HW_SEGMENT;
        if (last) {              /* of one segment alone the totals take the stages' place */
            hw_copies_wait<0>(); /* where steps beyond the end still put zeros */
            __syncthreads();
        }
        hw_fold<Tile>(s, segment % HW_SEGMENTS == 0, totals);
        if (last || segment % HW_SEGMENTS == HW_SEGMENTS - 1)
            hw_store<Tile>(c, row, column, segment < HW_SEGMENTS, last, totals);
        if (last) return;
    }
}

/* Which tile a block has, of row_tiles × column_tiles: bands of 8 rows of tiles, so that blocks at
 * work together share operands in L2. */
HW_FUNCTION void hw_tile_of(unsigned block, unsigned row_tiles, unsigned column_tiles,
                            unsigned &row_tile, unsigned &column_tile) {
    const unsigned BAND = 8;
    unsigned band = block / (BAND * column_tiles), rest = block % (BAND * column_tiles);
    unsigned height = row_tiles - band * BAND < BAND ? row_tiles - band * BAND : BAND;
    row_tile = band * BAND + rest % height;
    column_tile = rest / height;
}

/* An output (before its bias) from its parts, `apart` numbers from each other: segments, if
 * `per_super` is 32, or super-segments, if 1. Several are read before the first is added. */
HW_FUNCTION real hw_fold_parts(const real *parts, int64_t apart, int64_t count, int per_super) {
    enum { AT_ONCE = 16 };
    real y = 0, u = 0;
    int in_super = 0;
    bool first = true;
    for (int64_t begin = 0; begin < count; begin += AT_ONCE) {
        int here = count - begin < AT_ONCE ? (int)(count - begin) : (int)AT_ONCE;
        real s[AT_ONCE];
#pragma unroll
        for (int p = 0; p < AT_ONCE; p++)
            if (p < here) s[p] = parts[(begin + p) * apart];
#pragma unroll
        for (int p = 0; p < AT_ONCE; p++)
            if (p < here) {
                u = in_super == 0 ? s[p] : u + s[p];
                if (++in_super == per_super || begin + p == count - 1) {
                    y = first ? u : y + u;
                    first = false;
                    in_super = 0;
                }
            }
    }
    return y;
}

#endif
