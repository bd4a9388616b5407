/* One tile of a contraction (CONTRACT.md section 3) by one block: what matrix products, convolutions
 * as implicit products and Winograd's products share.
 *
 *     c(i, j) = fold over segments of chains over k of a(i, k) * b(k, j), + bias
 *
 * A block has ROWS × COLUMNS outputs, a thread DOWN × ACROSS of them in registers: one chain each, so
 * that k is never divided among threads. Both operands go through shared memory, STEP k's at a time
 * as [k][row or column], by asynchronous copies STAGES - 1 steps ahead; a thread reads both in
 * vectors of 16 bytes. Those of a warp touch 128 bytes side by side, or fewer and the same. Per k
 * and thread of 8 × 8 that is 64 multiply-adds for 4 loads.
 *
 * Folding. A segment's chain ends where the step's number is a multiple of 512 / STEP. Then s is
 * added to the super-segment's total, which lies in shared memory, each thread its own, without
 * barriers: 32 vectors read and written per 512 k's cost less than a second set of registers, which
 * would halve the tile. The total over super-segments, once in 16384 k's, lies in the output
 * itself. The first s (and u) is taken as it is: +0 + -0 would be another number.
 *
 * The last step may be shorter. Then its chain stops: +0 * +0 more would turn -0 into +0.
 *
 * Long axes: blocks may have a part of the axis each, one segment or one super-segment, and write
 * their part into a workspace, which hw_fold_parts folds in order.
 *
 * An operand is a loader:
 *     enum { LANES };                     how neighbouring threads go over the operand, below
 *     Outer outer(int64_t x) const;       what row (or column) x needs, worked out once; x may be
 *                                         beyond the edge: then nothing is there
 *     Inner inner(int64_t k) const;       likewise of k
 *     void advance(Inner &, int by) const;
 *     bool at(const Outer &, const Inner &, const real *&from) const;
 *                                         where a(x, k) lies; false: nowhere, +0 takes its place.
 *                                         Asked only of k's that are there.
 * The result is a sink:
 *     int64_t rows, columns;  bool vectors;          16 bytes of neighbouring columns at once?
 *     real *place(int64_t i, int64_t j) const;
 *     bool biased;  real bias(int64_t i, int64_t j) const; */
#ifndef HALFWAVE_CUDA_CONTRACTION_H
#define HALFWAVE_CUDA_CONTRACTION_H

#include "common/contraction.h"
#include "cuda/async.h"

enum HwLanes {
    HW_ACROSS,    /* over rows (columns), one number each; each thread has few of them, many k's */
    HW_ACROSS_16, /* the same by 16 bytes: neighbours lie side by side, aligned, all there or none */
    HW_ALONG      /* over 8 k's of 4 rows (columns): for operands that lie along k */
};

enum { HW_ALONG_LANES = 8, HW_SEGMENTS = HW_SUPER_SEGMENT / HW_SEGMENT };

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
        STAGED = STAGES * STAGE,            /* numbers of shared memory for up to one segment */
        FOLDED = STAGED + THREADS * OUTPUTS /* and for more */
    };
    static_assert(ROWS % (DOWN * LANES_DOWN) == 0 && COLUMNS % (ACROSS * LANES_ACROSS) == 0, "");
    static_assert(DOWN % HW_PER_16 == 0 && ACROSS % HW_PER_16 == 0, "");
    static_assert(HW_SEGMENT % STEP == 0 && STEP % HW_ALONG_LANES == 0 && STAGES >= 2, "");
};

/* An operand of any strides. HW_ALONG: of k stride 1; HW_ACROSS_16: of stride 1 over rows (columns),
 * 16-byte aligned in all else. */
template <int LANES_> struct HwStrided {
    enum { LANES = LANES_ };
    struct Outer {
        const real *base;
        bool there;
    };
    typedef int64_t Inner;
    const real *base;
    int64_t count, stride, k_stride;

    __device__ __forceinline__ Outer outer(int64_t x) const {
        bool there = x < count;
        return {base + (there ? x * step() : 0), there};
    }
    __device__ __forceinline__ Inner inner(int64_t k) const { return k * k_step(); }
    __device__ __forceinline__ void advance(Inner &at, int by) const { at += by * k_step(); }
    __device__ __forceinline__ bool at(const Outer &x, const Inner &k, const real *&from) const {
        from = x.base + k;
        return x.there;
    }

  private:
    __device__ __forceinline__ int64_t step() const { return LANES == HW_ACROSS_16 ? 1 : stride; }
    __device__ __forceinline__ int64_t k_step() const { return LANES == HW_ALONG ? 1 : k_stride; }
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

/* One thread's share of the copies of an operand, `SIZE` rows or columns of a tile. */
template <class Tile, int SIZE, int PITCH, class Loader> struct HwCopies {
    enum {
        WIDTH = Loader::LANES == HW_ACROSS_16 ? HW_PER_16 : 1,
        UNITS = SIZE / WIDTH,
        ALONG = Loader::LANES == HW_ALONG,
        K_LANES = ALONG                    ? HW_ALONG_LANES
                  : UNITS < Tile::THREADS ? Tile::THREADS / UNITS
                                          : 1, /* k's that the block copies at once */
        UNITS_AT_ONCE = Tile::THREADS / K_LANES,
        CONTEXTS = UNITS / UNITS_AT_ONCE
    };
    static_assert(UNITS % UNITS_AT_ONCE == 0 && Tile::STEP % K_LANES == 0, "");
    Loader loader;
    typename Loader::Outer outer[CONTEXTS];
    typename Loader::Inner inner;
    int k, to; /* of the first number, in the step and in a stage */

    __device__ __forceinline__ HwCopies(const Loader &from, int64_t x, int64_t k_begin)
        : loader(from) {
        int t = threadIdx.x, unit = ALONG ? t / K_LANES : t % UNITS_AT_ONCE;
        k = ALONG ? t % K_LANES : t / UNITS_AT_ONCE;
        to = k * PITCH + unit * WIDTH;
#pragma unroll
        for (int c = 0; c < CONTEXTS; c++)
            outer[c] = loader.outer(x + (unit + c * UNITS_AT_ONCE) * WIDTH);
        inner = loader.inner(k_begin + k);
    }

    /* The next step's; `left` k's are there, if not WHOLE. */
    template <bool WHOLE> __device__ __forceinline__ void step(real *stage, int left) {
#pragma unroll
        for (int j = 0; j < Tile::STEP; j += K_LANES) {
#pragma unroll
            for (int c = 0; c < CONTEXTS; c++) {
                const real *from = nullptr;
                bool there = (WHOLE || k + j < left) && loader.at(outer[c], inner, from);
                hw_copy_async<WIDTH * sizeof(real)>(
                    stage + to + j * PITCH + c * UNITS_AT_ONCE * WIDTH, from, there);
            }
            loader.advance(inner, K_LANES);
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

/* A segment's end: s is folded into the totals, and into the output where a super-segment, or (LAST)
 * all, ends with it. `segment` counts from the part's first; row and column are the thread's. */
template <class Tile, bool LAST, class Sink>
HW_FUNCTION void hw_fold(real (&s)[Tile::DOWN][Tile::ACROSS], const Sink &c, int64_t row,
                         int64_t column, int64_t segment, real16 *total) {
    int in_super = (int)(segment % HW_SEGMENTS);
    bool supers = segment >= HW_SEGMENTS, ends = LAST || in_super == HW_SEGMENTS - 1;
#pragma unroll
    for (int i = 0; i < Tile::DOWN; i++) {
        int64_t at_row = row + i / HW_PER_16 * HW_PER_16 * Tile::LANES_DOWN + i % HW_PER_16;
#pragma unroll
        for (int j = 0; j < Tile::ACROSS; j += HW_PER_16) {
            real16 u;
            real16 *mine = total + (i * Tile::ACROSS + j) / HW_PER_16 * Tile::THREADS;
#pragma unroll
            for (int e = 0; e < HW_PER_16; e++) u.v[e] = s[i][j + e], s[i][j + e] = 0;
            if (in_super) {
                real16 before = *mine;
#pragma unroll
                for (int e = 0; e < HW_PER_16; e++) u.v[e] = before.v[e] + u.v[e];
            }
            if (!ends) {
                *mine = u;
                continue;
            }
            int64_t at = column + j * Tile::LANES_ACROSS;
            if (at_row >= c.rows || at >= c.columns) continue;
            bool whole = at + HW_PER_16 <= c.columns;
#pragma unroll
            for (int e = 0; e < HW_PER_16; e++)
                if (whole || at + e < c.columns) {
                    if (supers) u.v[e] = *c.place(at_row, at + e) + u.v[e];
                    if (LAST && c.biased) u.v[e] = u.v[e] + c.bias(at_row, at + e);
                    if (!(c.vectors && whole)) *c.place(at_row, at + e) = u.v[e];
                }
            if (c.vectors && whole) *(real16 *)c.place(at_row, at) = u;
        }
    }
}

/* The tile whose first output is (row, column), of the terms k_begin (a multiple of 512; of 16384,
 * if there are more than one segment) to k_end. `shared` holds Tile::STAGED numbers, or FOLDED for
 * more than 512 terms. */
template <class Tile, class A, class B, class Sink>
HW_FUNCTION void hw_contract(const A &a, const B &b, const Sink &c, int64_t row, int64_t column,
                             int64_t k_begin, int64_t k_end, real *shared) {
    int t = threadIdx.x, warp = t / 32, lane = t % 32;
    int i = (warp / Tile::WARPS_ACROSS * Tile::LANES_DOWN * Tile::DOWN) +
            lane / Tile::LANES_ACROSS * HW_PER_16;
    int j = (warp % Tile::WARPS_ACROSS * Tile::LANES_ACROSS * Tile::ACROSS) +
            lane % Tile::LANES_ACROSS * HW_PER_16;
    real16 *total = (real16 *)(shared + Tile::STAGED) + t;
    HwCopies<Tile, Tile::ROWS, Tile::A_PITCH, A> copies_a(a, row, k_begin);
    HwCopies<Tile, Tile::COLUMNS, Tile::B_PITCH, B> copies_b(b, column, k_begin);
    int64_t terms = k_end - k_begin, steps = (terms + Tile::STEP - 1) / Tile::STEP;
    int64_t copied = 0; /* steps */
    auto copy = [&](int slot) {
        real *stage = shared + slot * Tile::STAGE;
        int64_t left = terms - copied * Tile::STEP;
        if (left >= Tile::STEP) {
            copies_a.template step<true>(stage, 0);
            copies_b.template step<true>(stage + Tile::STEP * Tile::A_PITCH, 0);
        } else if (left > 0) {
            copies_a.template step<false>(stage, (int)left);
            copies_b.template step<false>(stage + Tile::STEP * Tile::A_PITCH, (int)left);
        }
        hw_copies_commit();
        copied++;
    };
    real s[Tile::DOWN][Tile::ACROSS] = {};
#pragma unroll
    for (int slot = 0; slot < Tile::STAGES - 1; slot++) copy(slot);
    int slot = 0;
    for (int64_t step = 0; step < steps; step++) {
        hw_copies_wait<Tile::STAGES - 2>();
        __syncthreads(); /* and all have read what is overwritten next */
        copy(slot == 0 ? Tile::STAGES - 1 : slot - 1);
        const real *stage = shared + slot * Tile::STAGE;
        const real *from_a = stage + i, *from_b = stage + Tile::STEP * Tile::A_PITCH + j;
        int64_t left = terms - step * Tile::STEP;
        if (left >= Tile::STEP)
            hw_multiply<Tile, true>(s, from_a, from_b, 0);
        else
            hw_multiply<Tile, false>(s, from_a, from_b, (int)left);
        slot = slot == Tile::STAGES - 1 ? 0 : slot + 1;
        if ((step + 1) % (HW_SEGMENT / Tile::STEP) == 0 && step + 1 < steps)
            hw_fold<Tile, false>(s, c, row + i, column + j, step / (HW_SEGMENT / Tile::STEP),
                                 total);
    }
    hw_fold<Tile, true>(s, c, row + i, column + j, terms > 0 ? (terms - 1) / HW_SEGMENT : 0,
                        total);
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
 * `per_super` is 32, or super-segments, if 1. */
HW_FUNCTION real hw_fold_parts(const real *parts, int64_t apart, int64_t count, int per_super) {
    real y = 0;
    for (int64_t begin = 0; begin < count; begin += per_super) {
        real u = parts[begin * apart];
        int64_t end = begin + per_super < count ? begin + per_super : count;
#pragma unroll 8
        for (int64_t p = begin + 1; p < end; p++) u = u + parts[p * apart];
        y = begin == 0 ? u : y + u;
    }
    return y;
}

#endif
