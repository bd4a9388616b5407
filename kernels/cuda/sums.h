/* One chunk of a sum (CONTRACT.md section 5): 4096 elements at most, in 1024 lanes, in a fixed
 * tree.
 *
 * By one warp, where a channel's elements lie side by side (or in runs). A whole chunk of runs that
 * vectors fit: thread g has the lanes 128 i + 4 g + j, i < 8, j < 4, so that it reads 4 neighbours
 * at once, the tree's steps of 512, 256 and 128 lanes stay in its registers, 64 to 4 are shuffles,
 * and 2 and 1 its registers again. Any other chunk: lanes in shared memory, lane l by thread l
 * % 32.
 *
 * By one block of 256, for 8 channels whose elements alternate: thread (g, c) has the lanes 32 i +
 * g, i < 32, of channel c: 8 neighbours are the 32 bytes that memory gives at once. Steps of 512 to
 * 32 are in registers, 16 to 1 in shared memory.
 *
 * `term.load(e)` reads what term e is made of, `term.finish(e, loaded)` makes it; `load4` and
 * `finish4` do so for e … e + 3. Several are loaded before the first is finished, for finishing may
 * write. Each is called once an element. */
#ifndef HALFWAVE_CUDA_SUMS_H
#define HALFWAVE_CUDA_SUMS_H

#include "cuda/device.h"

enum { HW_CHUNK = 4096, HW_LANES = 1024, HW_CHUNK_CHANNELS = 8 };

enum { HW_SUM_THREADS = 128, HW_SUM_WARPS = HW_SUM_THREADS / 32 }; /* of a block of such warps */

/* One step of the tree over lanes in registers: the lanes i < W take those W further, `apart` lanes
 * each, where they exist. */
template <int W, bool FULL, int N>
HW_FUNCTION void hw_tree_step(real (&lane)[N], int at, int apart, int count) {
#pragma unroll
    for (int i = 0; i < W; i++)
        if (FULL || at + apart * (i + W) < count) lane[i] = lane[i] + lane[i + W];
}

/* Of 4096 elements, in vectors. The sum is thread 0's of the warp, here and below. */
template <class Term> HW_FUNCTION real hw_whole_chunk_sum(Term term) {
    int at = 4 * (threadIdx.x % 32);
    real lane[4][8]; /* [j][i] */
#pragma unroll
    for (int i = 0; i < 8; i++) {
        typename Term::Loaded4 loaded[4];
#pragma unroll
        for (int k = 0; k < 4; k++) loaded[k] = term.load4(at + 128 * i + HW_LANES * k);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            real v[4];
            term.finish4(at + 128 * i + HW_LANES * k, loaded[k], v);
#pragma unroll
            for (int j = 0; j < 4; j++) lane[j][i] = k == 0 ? v[j] : lane[j][i] + v[j];
        }
    }
    real v[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        hw_tree_step<4, true>(lane[j], 0, 0, 0);
        hw_tree_step<2, true>(lane[j], 0, 0, 0);
        hw_tree_step<1, true>(lane[j], 0, 0, 0);
        v[j] = lane[j][0];
#pragma unroll
        for (int w = 16; w; w /= 2) v[j] = v[j] + __shfl_down_sync(0xffffffffu, v[j], w);
    }
    return (v[0] + v[2]) + (v[1] + v[3]);
}

template <class Term> HW_FUNCTION real hw_chunk_sum(Term term, int count, bool vectors) {
    __shared__ real shared[HW_SUM_WARPS][HW_LANES];
    if (vectors && count == HW_CHUNK) return hw_whole_chunk_sum(term);
    real *lane = shared[threadIdx.x / 32];
    int g = threadIdx.x % 32;
    for (int l = g; l < HW_LANES && l < count; l += 32) {
        typename Term::Loaded loaded[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (l + HW_LANES * k < count) loaded[k] = term.load(l + HW_LANES * k);
        real sum = term.finish(l, loaded[0]);
#pragma unroll
        for (int k = 1; k < 4; k++)
            if (l + HW_LANES * k < count) sum = sum + term.finish(l + HW_LANES * k, loaded[k]);
        lane[l] = sum;
    }
    for (int w = HW_LANES / 2; w; w /= 2) {
        __syncwarp();
        for (int l = g; l < w && l + w < count; l += 32) lane[l] = lane[l] + lane[l + w];
    }
    return lane[0]; /* which thread 0 has written itself */
}

/* FULL likewise. The sum of channel threadIdx.x % 8 is that of the threads below 8. Of a channel
 * that is not there (`exists` false) no term is asked for. */
template <bool FULL, class Term>
HW_FUNCTION real hw_chunk_sum_of_8_of(Term term, int count, bool exists,
                                      real (*shared)[HW_CHUNK_CHANNELS]) {
    int g = threadIdx.x / HW_CHUNK_CHANNELS, c = threadIdx.x % HW_CHUNK_CHANNELS;
    real lane[32];
#pragma unroll
    for (int i = 0; i < 32; i++) {
        typename Term::Loaded loaded[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            int e = g + 32 * i + HW_LANES * k;
            if (exists && (FULL || e < count)) loaded[k] = term.load(e);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            int e = g + 32 * i + HW_LANES * k;
            if (exists && (FULL || e < count)) {
                real v = term.finish(e, loaded[k]);
                lane[i] = k == 0 ? v : lane[i] + v;
            }
        }
    }
    hw_tree_step<16, FULL>(lane, g, 32, count);
    hw_tree_step<8, FULL>(lane, g, 32, count);
    hw_tree_step<4, FULL>(lane, g, 32, count);
    hw_tree_step<2, FULL>(lane, g, 32, count);
    hw_tree_step<1, FULL>(lane, g, 32, count);
    shared[g][c] = lane[0];
    __syncthreads();
    for (int w = 16; w; w /= 2) {
        if (g < w && g + w < count) shared[g][c] = shared[g][c] + shared[g + w][c];
        __syncthreads();
    }
    return shared[g][c];
}

template <class Term> HW_FUNCTION real hw_chunk_sum_of_8(Term term, int count, bool exists) {
    __shared__ real shared[32][HW_CHUNK_CHANNELS];
    return count == HW_CHUNK ? hw_chunk_sum_of_8_of<true>(term, count, exists, shared)
                             : hw_chunk_sum_of_8_of<false>(term, count, exists, shared);
}

#endif
