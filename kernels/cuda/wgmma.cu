/* Products on Hopper's tensor cores by wgmma: matrix products, and convolutions over NHWC pixels,
 * of factors of TF32 or bfloat16, sums in float32. Repeatable from run to run; no part of
 * CONTRACT.md.
 *
 *     c(pixel, column) = sum over taps and channels of a(pixel moved by the tap, channel)
 *                                                    · b(column, tap, channel), + bias
 *
 * A product of matrices has pixels along w alone, its rows, one tap, and its slices along n. Both
 * operands lie along k, the channels, as tensor maps say: a's (channel, w, h, n), b's (k, column,
 * slice), both with zeros outside; so padding, strides and dilation are coordinates, and edges need
 * no care. What lies otherwise pack.cu has copied before. Float32 numbers become TF32 on the way,
 * by the bulk copy.
 *
 * A block of 3 groups of 4 warps: one thread of the first copies a box of 128 pixels × 128 bytes
 * and COLUMNS × 128 bytes a step, as far ahead as stages are free; the other two groups have 64
 * rows each, COLUMNS / 2 sums a thread, one step's products under way while the next are asked for.
 * Blocks stay and take every gridDim.x-th tile: the copies of the next begin while sums are
 * written. Where tiles are few, a block has a part of the steps, and fold.cu folds the parts in
 * order.
 *
 * Estimates for an H200, tiles of 128 × 256: a multiprocessor multiplies and adds 1024 TF32 pairs a
 * cycle (2048 of bfloat16), so that a step takes 1024 cycles and copies 48 KB from the L2, 47 bytes
 * a cycle; wgmma reads 80 KB of shared memory meanwhile, of 128 possible. Tiles of 128 × 128 would
 * copy 63 bytes a cycle. Writing a tile takes about 2000 cycles, of 131,000 where k = 4096. */
#include "cuda/contraction.h"
#include "cuda/hopper.h"

enum {
    TF32 = HW_PRECISION == 0, /* HwPrecision in tensor.h */
    ROWS = 128,
    COLUMNS = HW_COLUMNS,
    STEP = HW_SWIZZLED / (TF32 ? 4 : 2), /* terms */
    A_BYTES = ROWS * HW_SWIZZLED,
    STAGE = A_BYTES + COLUMNS * HW_SWIZZLED,
    STAGES = HW_STAGES,
    GROUP = 128, /* threads that wgmma takes */
    THREADS = 3 * GROUP,
    WARPS = 2 * GROUP / 32, /* that multiply */
    AHEAD = 1               /* steps whose products are under way */
};
static_assert(STAGES > AHEAD + 1, "");

/* Along w, h, n; strides in numbers. */
struct Product {
    int64_t c[3], c_column, c_part, bias_row, bias_column; /* a row of the bias is one of w */
    int32_t size[3], columns;                              /* of the result */
    int32_t box[3], tiles[3];                              /* pixels of a tile; tiles */
    int32_t column_tiles, parts, steps, part_steps;
    int32_t channel_steps, taps_w; /* steps of a tap; taps along w */
    int32_t stride[2], dilation[2], start[2];
    int32_t a_slices, b_slices; /* 1, or 0: the same for all n */
    int32_t vectors;            /* pairs of columns lie side by side, aligned */
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
        int n = tile.first[2], tap = tile.begin / p.channel_steps;
        int channels = tile.begin - tap * p.channel_steps, tap_w = tap % p.taps_w;
        int tap_h = tap / p.taps_w;
        for (int step = tile.begin; step < tile.end; step++, ring.next()) {
            hw_barrier_wait(&empty[ring.stage], ring.parity ^ 1);
            hw_barrier_expect(&full[ring.stage], bytes);
            unsigned char *stage = stages + ring.stage * STAGE;
            hw_copy_box(stage, a, &full[ring.stage], channels * STEP, w + tap_w * p.dilation[0],
                        h + tap_h * p.dilation[1], n * p.a_slices);
            hw_copy_box(stage + A_BYTES, b, &full[ring.stage], channels * STEP, tile.column,
                        n * p.b_slices + tap);
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

/* The sums of a thread, from row (of the tile) on, to c. */
HW_FUNCTION void write(const Product &p, const Tile &tile, int row, int column,
                       const float (&sum)[COLUMNS / 2], const float *bias, float *c) {
    struct alignas(8) Pair {
        float v[2];
    };
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
            Pair pair = {{sum[4 * i + 2 * half], sum[4 * i + 2 * half + 1]}};
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (bias && j + e < p.columns) pair.v[e] += bias[added + (j + e) * p.bias_column];
            if (p.vectors) {
                if (j < p.columns) *(Pair *)(c + place + j) = pair;
            } else {
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (j + e < p.columns) c[place + (j + e) * p.c_column] = pair.v[e];
            }
        }
    }
}

HW_FUNCTION void multiply_tiles(const Product &p, uint32_t tiles, uint32_t stages, uint64_t *full,
                                uint64_t *empty, const float *bias, float *c) {
    int group = threadIdx.x / GROUP - 1, warp = threadIdx.x % GROUP / 32, lane = threadIdx.x % 32;
    uint32_t rows = stages + group * (A_BYTES / 2);
    Ring ring = {0, 0};
    for (uint32_t number = blockIdx.x; number < tiles; number += gridDim.x) {
        Tile tile = tile_of(p, number);
        float sum[COLUMNS / 2];
#pragma unroll
        for (int i = 0; i < COLUMNS / 2; i++) sum[i] = 0;
        int last = 0; /* the stage of the products under way */
        for (int step = tile.begin; step < tile.end; step++) {
            hw_barrier_wait(&full[ring.stage], ring.parity);
            uint64_t a = hw_matrix(rows + ring.stage * STAGE);
            uint64_t b = hw_matrix(stages + A_BYTES + ring.stage * STAGE);
            hw_wgmma_fence();
#pragma unroll
            for (int i = 0; i < 4; i++) /* 32 bytes of k each; addresses / 16 */
                hw_wgmma<TF32>(sum, a + 2 * i, b + 2 * i);
            hw_wgmma_commit();
            if (step > tile.begin) {
                hw_wgmma_wait<AHEAD>();
                if (lane == 0) hw_barrier_arrive(&empty[last]);
            }
            last = ring.stage;
            ring.next();
        }
        hw_wgmma_wait<0>();
        if (lane == 0 && tile.begin < tile.end) hw_barrier_arrive(&empty[last]);
        write(p, tile, 64 * group + 16 * warp + lane / 4, tile.column + lane % 4 * 2, sum, bias, c);
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
        multiply_tiles(p, tiles, hw_shared_address(stages), full, empty, bias, c);
    }
}
