/* Copies an operand for the bulk copies of wgmma.cu: rows along k, each from a multiple of 16 bytes
 * on, rounded to TF32 or bfloat16, with zeros up to the pitch.
 *
 * A block has 64 rows × 64 k's, through shared memory, so that both sides are read and written
 * along what lies side by side: bound by memory. */
#include "cuda/tensor.h"

enum { SIDE = 64, THREADS = 256 };

struct Packing {
    int64_t size[4], stride[4]; /* from the outermost on, the last but one the rows, the last k */
    int64_t pitch;              /* of a row that is written */
    uint32_t row_tiles, k_tiles;
    int32_t across; /* rows lie side by side */
};

HW_KERNEL_BOUNDS(THREADS, 4) pack(const float *from, uint32_t *to, Packing p) {
    __shared__ float tile[SIDE][SIDE + 1];
    int64_t at = blockIdx.x + (int64_t)blockIdx.y * gridDim.x;
    int64_t k = at % p.k_tiles * SIDE;
    at /= p.k_tiles;
    int64_t row = at % p.row_tiles * SIDE;
    at /= p.row_tiles;
    if (at >= p.size[0] * p.size[1]) return;
    from += at / p.size[1] * p.stride[0] + at % p.size[1] * p.stride[1];
    int inner = threadIdx.x % SIDE, outer = threadIdx.x / SIDE;
#pragma unroll
    for (int i = 0; i < SIDE; i += THREADS / SIDE) {
        int r = p.across ? inner : outer + i, c = p.across ? outer + i : inner;
        bool there = row + r < p.size[2] & k + c < p.size[3];
        tile[r][c] = there ? from[(row + r) * p.stride[2] + (k + c) * p.stride[3]] : 0;
    }
    __syncthreads();
    int pair = threadIdx.x % (SIDE / 2) * 2;
    for (int r = threadIdx.x / (SIDE / 2); r < SIDE; r += THREADS / (SIDE / 2)) {
        if (row + r >= p.size[2] || k + pair >= p.pitch) continue;
        int64_t place = (at * p.size[2] + row + r) * p.pitch + k + pair;
        float low = tile[r][pair], high = tile[r][pair + 1];
        if (HW_PRECISION == HW_TF32)
            *(uint2 *)(to + place) = {hw_tf32(low), hw_tf32(high)};
        else
            to[place / 2] = hw_bf16_pair(low, high);
    }
}
