/* Products on Hopper's tensor cores by wgmma: matrix products, and convolutions over NHWC pixels,
 * of factors of TF32 or bfloat16, sums in float32. Repeatable from run to run; no part of
 * CONTRACT.md.
 *
 *     c(pixel, column) = sum over taps and channels of a(pixel moved by the tap, channel)
 *                                                    · b(column, tap, channel), + bias
 *
 * A product of matrices has pixels along w alone, its rows, one tap, and its slices along n. Both
 * operands lie along k, the channels, as tensor maps say: a's (channel, w, h, n), b's (k, column,
 * slice or tap), both with zeros outside; so padding, strides and dilation are coordinates, and
 * edges need no care. TF32 matrices a may instead have their rows side by side, (row, k, slice),
 * for wgmma takes a from registers too (HW_ROWS = 256): so that nothing is copied before but one
 * operand of aᵀ b, of row-major a and b. What lies otherwise, and all of bfloat16, pack.cu has
 * copied. Float32 numbers become TF32 on the way, by the bulk copy, which rounds to nearest
 * (CUTLASS relies on it; the PTX manual says nothing of how, and wgmma itself would cut off).
 *
 * The weights' gradient (HW_WEIGHTS) is a product for each tap, which take the place of slices,
 *
 *     c(tap, row, column) = sum over pixels of a(pixel, row) · b(pixel moved by the tap, column)
 *
 * whose terms are boxes of so many pixels as a step has: a's (row, w, h, n) lie with rows side by
 * side, or it is packed to (w, h, n, row); so is b, packed, to (w, h, n, column).
 *
 * A block of 3 groups of 4 warps: one thread of the first copies a step of 128 bytes of k, of ROWS
 * and of COLUMNS, as far ahead as stages are free; the other two groups have half the rows each, at
 * most 128 sums a thread (168 registers at the start, 232 for these groups, 40 for the first); a
 * step's products are under way while the next are asked for, or while the other group loads a.
 * Blocks stay and take every gridDim.x-th tile: the copies of the next begin while sums are
 * written. Where tiles are few, a block has a part of the steps, and fold.cu folds the parts in
 * order.
 *
 * Estimates for an H200, tiles of 128 × 256 or 256 × 128: a multiprocessor multiplies and adds 1024
 * TF32 pairs a cycle (2048 of bfloat16), so that a step of TF32 takes 1024 cycles and copies 48 KB
 * from the L2, 47 bytes a cycle (tiles of 128 × 128: 63). Of shared memory's 128 bytes a cycle
 * wgmma reads 80; with a from registers 64, and the loads of a 32. Writing a tile takes about 2000
 * cycles, of 131,000 where k = 4096. A copy by pack.cu instead reads and writes 4 + 4 bytes a
 * number: of b at 4096, 34 of 340 microseconds. Bfloat16 pays 6 bytes a number, of both: 47 of 170
 * at 4096. */
#include "cuda/contraction.h"
#include "cuda/hopper.h"

enum {
    TF32 = HW_PRECISION == 0, /* HwPrecision in tensor.h */
    ACROSS = HW_ROWS == 256,  /* a's rows lie side by side, not its k's */
    ROWS = HW_ROWS,
    COLUMNS = HW_COLUMNS,
    STEP = HW_SWIZZLED / (TF32 ? 4 : 2), /* terms */
    A_BYTES = ROWS * HW_SWIZZLED,
    BOX_ROWS = HW_SWIZZLED / 4, /* of a box of rows side by side, for a warp */
    BOX = BOX_ROWS * STEP * 4,
    STAGE = A_BYTES + COLUMNS * HW_SWIZZLED,
    STAGES = HW_STAGES,
    GROUP = 128, /* threads that wgmma takes */
    THREADS = 3 * GROUP,
    WARPS = 2 * GROUP / 32, /* that multiply */
    PRODUCTS = ROWS / 128,  /* of 64 rows, of a group */
    AHEAD = !ACROSS         /* steps whose products are under way */
};
static_assert(STAGES > AHEAD + 1 && (!ACROSS || (TF32 && COLUMNS == 128)), "");

/* Along w, h, n; strides in numbers. */
struct Product {
    int64_t c[3], c_column, c_part, bias_row, bias_column; /* a row of the bias is one of w */
    int32_t size[3], columns;                              /* of the result */
    int32_t box[3], tiles[3];                              /* pixels of a tile; tiles */
    int32_t column_tiles, parts, steps, part_steps;
    int32_t channel_steps, taps_w; /* steps of a tap; taps along w */
    int32_t stride[2], dilation[2], start[2];
    int32_t k_box[3], k_tiles[2]; /* HW_WEIGHTS: pixels of a step; steps along w and h */
    int32_t a_slices, b_slices;   /* 1, or 0: the same for all n */
    int32_t vectors; /* of the result: pairs of columns side by side, aligned; or of 4 rows */
};

enum { PAIRS = 1, ROWS_OF_16 }; /* Product.vectors */

struct alignas(8) Pair {
    float v[2];
};

struct Tile {
    int32_t first[3], column, part, begin, end; /* begin, end: steps */
};

HW_FUNCTION Tile tile_of(const Product &p, uint32_t number) {
    uint32_t rows = p.tiles[0] * p.tiles[1] * p.tiles[2], tiles = rows * p.column_tiles;
    uint32_t row, column;
    Tile tile;
    tile.part = number / tiles;
    hw_tile_of(number % tiles, rows, p.column_tiles, row, column);
    tile.column = column * COLUMNS;
    for (int i = 0; i < 3; i++) {
        tile.first[i] = row % p.tiles[i] * p.box[i];
        row /= p.tiles[i];
    }
    tile.begin = tile.part * p.part_steps;
    tile.end = p.steps - tile.begin < p.part_steps ? p.steps : tile.begin + p.part_steps;
    return tile;
}

/* Where the steps go on from tile to tile: a stage of the ring, and in which round. */
struct Ring {
    int stage;
    uint32_t parity;
    __device__ __forceinline__ void next() {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

HW_FUNCTION void copy_tiles(const HwTensorMap &a, const HwTensorMap &b, const Product &p,
                            uint32_t tiles, unsigned char *stages, uint64_t *full,
                            uint64_t *empty) {
    uint32_t bytes = (p.box[0] * p.box[1] * p.box[2] + COLUMNS) * HW_SWIZZLED;
    Ring ring = {0, 0};
    for (uint32_t number = blockIdx.x; number < tiles; number += gridDim.x) {
        Tile tile = tile_of(p, number);
        int w = tile.first[0] * p.stride[0] + p.start[0];
        int h = tile.first[1] * p.stride[1] + p.start[1];
        int n = tile.first[2], tap = HW_WEIGHTS ? n : tile.begin / p.channel_steps;
        int channels = tile.begin - tap * p.channel_steps, tap_w = tap % p.taps_w;
        int tap_h = tap / p.taps_w;
        for (int step = tile.begin; step < tile.end; step++, ring.next()) {
            uint64_t *arrived = &full[ring.stage];
            unsigned char *of_a = stages + ring.stage * STAGE, *of_b = of_a + A_BYTES;
            hw_barrier_wait(&empty[ring.stage], ring.parity ^ 1);
            hw_barrier_expect(arrived, bytes);
            if (HW_WEIGHTS) {
                int at_w = step % p.k_tiles[0] * p.k_box[0], at = step / p.k_tiles[0];
                int at_h = at % p.k_tiles[1] * p.k_box[1], at_n = at / p.k_tiles[1] * p.k_box[2];
                int row = tile.first[0];
                if (ACROSS)
                    for (int i = 0; i < ROWS / BOX_ROWS; i++)
                        hw_copy_box(of_a + i * BOX, a, arrived, row + i * BOX_ROWS, at_w, at_h,
                                    at_n);
                else
                    hw_copy_box(of_a, a, arrived, at_w, at_h, at_n, row);
                hw_copy_box(of_b, b, arrived, at_w + p.start[0] + tap_w * p.dilation[0],
                            at_h + p.start[1] + tap_h * p.dilation[1], at_n, tile.column);
                continue;
            }
            if (ACROSS)
                for (int i = 0; i < ROWS / BOX_ROWS; i++)
                    hw_copy_box(of_a + i * BOX, a, arrived, w + i * BOX_ROWS, channels * STEP,
                                n * p.a_slices);
            else
                hw_copy_box(of_a, a, arrived, channels * STEP, w + tap_w * p.dilation[0],
                            h + tap_h * p.dilation[1], n * p.a_slices);
            hw_copy_box(of_b, b, arrived, channels * STEP, tile.column, n * p.b_slices + tap);
            if (++channels == p.channel_steps) {
                channels = 0;
                tap++;
                if (++tap_w == p.taps_w) {
                    tap_w = 0;
                    tap_h++;
                }
            }
        }
    }
}

/* For each way that a lies: a warp's products of a step, of a stage, which it asks for as one group
 * of wgmma; and what a thread has of the sums, to c. */
typedef float Sums[PRODUCTS][COLUMNS / 2];

#if HW_ROWS == 256
/* Thread 4 g + t has of its warp's 32 rows the 4 from 4 (4 (g % 2) + g / 2) on: rows g and g + 8 of
 * both products. So 8 threads read 16 bytes each from 32 banks, whose swizzle is k % 8; and 8 write
 * 128 bytes side by side. The other group multiplies while this one loads. */
HW_FUNCTION int rows_of(int lane) { return (lane / 4 % 2 * 4 + lane / 8) * 4; }

HW_FUNCTION void multiply_step(Sums &sum, const unsigned char *stage, int warp, int lane) {
    uint64_t b = hw_matrix(hw_shared_address(stage) + A_BYTES);
    const unsigned char *box = stage + warp * BOX;
    int t = lane % 4, rows = rows_of(lane) * 4;
    uint32_t a[4][2][4]; /* of 8 k's each, of the two products */
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int k = 4 * i + t;
        real16 four = *(const real16 *)(box + k * HW_SWIZZLED + (rows ^ k % 8 * 16));
#pragma unroll
        for (int r = 0; r < 4; r++) a[i / 2][r / 2][r % 2 + i % 2 * 2] = hw_bits_f32(four.v[r]);
    }
    hw_wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < PRODUCTS; j++) hw_wgmma(sum[j], a[i][j], b + 2 * i);
    hw_wgmma_commit();
    hw_wgmma_wait<0>(); /* a is in registers of this function */
}

HW_FUNCTION void write(const Product &p, const Tile &tile, int warp, int lane, const Sums &sum,
                       const float *bias, float *c) {
    int row = tile.first[0] + warp * BOX_ROWS + rows_of(lane), column = tile.column + lane % 4 * 2;
    c += tile.first[2] * p.c[2] + tile.part * p.c_part;
#pragma unroll
    for (int i = 0; i < COLUMNS / 8; i++) {
        int j = column + 8 * i;
        if (j >= p.columns) continue;
        real16 sums[2]; /* of column j and the next */
#pragma unroll
        for (int e = 0; e < 2; e++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                sums[e].v[r] = sum[r / 2][4 * i + r % 2 * 2 + e];
                if (bias && row + r < p.size[0] && j + e < p.columns)
                    sums[e].v[r] += bias[(row + r) * p.bias_row + (j + e) * p.bias_column];
            }
        if (p.vectors == ROWS_OF_16) {
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (row < p.size[0] && j + e < p.columns)
                    *(real16 *)(c + row + (j + e) * p.c_column) = sums[e];
            continue;
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
            if (row + r >= p.size[0]) continue;
            float *to = c + (row + r) * p.c[0];
            if (p.vectors == PAIRS)
                *(Pair *)(to + j) = {{sums[0].v[r], sums[1].v[r]}};
            else
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (j + e < p.columns) to[(j + e) * p.c_column] = sums[e].v[r];
        }
    }
}
#else
HW_FUNCTION void multiply_step(Sums &sum, const unsigned char *stage, int warp, int) {
    uint64_t a = hw_matrix(hw_shared_address(stage) + warp / 4 * (A_BYTES / 2));
    uint64_t b = hw_matrix(hw_shared_address(stage) + A_BYTES);
    hw_wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; i++) /* 32 bytes of k each; addresses / 16 */
        hw_wgmma<TF32>(sum[0], a + 2 * i, b + 2 * i);
    hw_wgmma_commit();
}

HW_FUNCTION void write(const Product &p, const Tile &tile, int warp, int lane, const Sums &sum,
                       const float *bias, float *c) {
    int row = 16 * warp + lane / 4, column = tile.column + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; half++, row += 8) {
        int at[3] = {row % p.box[0], row / p.box[0] % p.box[1], row / p.box[0] / p.box[1]};
        bool there = at[2] < p.box[2];
        int64_t place = tile.part * p.c_part;
        for (int i = 0; i < 3; i++) {
            at[i] += tile.first[i];
            there &= at[i] < p.size[i];
            place += at[i] * p.c[i];
        }
        if (!there) continue;
        int64_t added = at[0] * p.bias_row;
#pragma unroll
        for (int i = 0; i < COLUMNS / 8; i++) {
            int j = column + 8 * i;
            Pair pair = {{sum[0][4 * i + 2 * half], sum[0][4 * i + 2 * half + 1]}};
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (bias && j + e < p.columns) pair.v[e] += bias[added + (j + e) * p.bias_column];
            if (p.vectors == PAIRS) {
                if (j < p.columns) *(Pair *)(c + place + j) = pair;
            } else {
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (j + e < p.columns) c[place + (j + e) * p.c_column] = pair.v[e];
            }
        }
    }
}
#endif

HW_FUNCTION void multiply_tiles(const Product &p, uint32_t tiles, const unsigned char *stages,
                                uint64_t *full, uint64_t *empty, const float *bias, float *c) {
    int warp = threadIdx.x / 32 - GROUP / 32, lane = threadIdx.x % 32;
    Ring ring = {0, 0};
    for (uint32_t number = blockIdx.x; number < tiles; number += gridDim.x) {
        Tile tile = tile_of(p, number);
        Sums sum;
#pragma unroll
        for (int i = 0; i < PRODUCTS; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS / 2; j++) sum[i][j] = 0;
        int last = 0; /* the stage of the products under way */
        for (int step = tile.begin; step < tile.end; step++, ring.next()) {
            hw_barrier_wait(&full[ring.stage], ring.parity);
            multiply_step(sum, stages + ring.stage * STAGE, warp, lane);
            hw_wgmma_wait<AHEAD>();
            if (lane == 0 && step >= tile.begin + AHEAD)
                hw_barrier_arrive(&empty[AHEAD ? last : ring.stage]);
            last = ring.stage;
        }
        hw_wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < PRODUCTS; i++) hw_wgmma_settle(sum[i]);
        if (AHEAD && lane == 0 && tile.begin < tile.end) hw_barrier_arrive(&empty[last]);
        write(p, tile, warp, lane, sum, bias, c);
    }
}

HW_KERNEL_BOUNDS(THREADS, 1)
multiply(const __grid_constant__ HwTensorMap a, const __grid_constant__ HwTensorMap b,
         const float *bias, float *c, const __grid_constant__ Product p) {
    HW_DYNAMIC_SHARED(unsigned char, shared);
    unsigned char *stages = shared + (-hw_shared_address(shared) & (HW_PATTERN - 1));
    uint64_t *full = (uint64_t *)(stages + STAGES * STAGE), *empty = full + STAGES;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            hw_barrier_make(&full[i], 1);
            hw_barrier_make(&empty[i], WARPS);
        }
        hw_barriers_made();
    }
    __syncthreads();
    uint32_t tiles = p.tiles[0] * p.tiles[1] * p.tiles[2] * p.column_tiles * p.parts;
    if (threadIdx.x < GROUP) {
        hw_fewer_registers<40>();
        if (threadIdx.x == 0) copy_tiles(a, b, p, tiles, stages, full, empty);
    } else {
        hw_more_registers<232>();
        multiply_tiles(p, tiles, stages, full, empty, bias, c);
    }
}
