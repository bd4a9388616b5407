/* Dropout: CONTRACT.md section 10. y = x * scale where the upper 24 bits of the element's word are
 * at least `threshold`, else +0; forward and backward alike, y may be x itself.
 *
 * Bound by memory: a thread has four accesses of 16 bytes in flight, where the arrays are aligned,
 * and one Philox block makes the words of four elements. */
#include "common/philox.h"
#include "cuda/device.h"

enum { THREADS = 256, UNROLL = 4, COVERED = THREADS * UNROLL * HW_PER_16 };

HW_FUNCTION real masked(real x, uint32_t word, uint32_t threshold, real scale) {
    return word >> 8 >= threshold ? x * scale : (real)0;
}

/* The words of a thread's accesses, access u beginning at element begin + (u THREADS + thread) 16
 * bytes; begin is a multiple of 4. Of float32 an access takes a whole block. */
HW_FUNCTION void draw(uint64_t seed, uint64_t stream, int64_t begin, uint32_t words[UNROLL][4]) {
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        hw_philox_block block =
            hw_random_block(seed, stream, (uint64_t)(begin / 4 + u * THREADS + threadIdx.x));
#pragma unroll
        for (int j = 0; j < 4; j++) words[u][j] = block.word[j];
    }
}

/* Of float64 an access takes half a block, and neighbours share one: of two accesses the even
 * thread makes the first one's block, the odd thread the second's, and each hands on a half. */
HW_FUNCTION void draw(uint64_t seed, uint64_t stream, int64_t begin, uint32_t words[UNROLL][2]) {
    int odd = threadIdx.x & 1;
#pragma unroll
    for (int u = 0; u < UNROLL; u += 2) {
        uint32_t unit = (u + odd) * THREADS + threadIdx.x;
        hw_philox_block block = hw_random_block(seed, stream, (uint64_t)(begin / 4 + unit / 2));
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t front = block.word[j], back = block.word[j + 2];
            uint32_t given = __shfl_xor_sync(0xffffffffu, odd ? front : back, 1);
            words[u][j] = odd ? given : front;
            words[u + 1][j] = odd ? back : given;
        }
    }
}

HW_KERNEL dropout(const real *x, real *y, int64_t size, uint64_t seed, uint64_t stream,
                  uint32_t threshold, real scale) {
    int64_t begin = (int64_t)blockIdx.x * COVERED;
    if (((uintptr_t)x | (uintptr_t)y) % 16 == 0 && begin + COVERED <= size) {
        real16 v[UNROLL];
        uint32_t words[UNROLL][HW_PER_16];
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
            v[u] = *(const real16 *)(x + begin + (u * THREADS + threadIdx.x) * HW_PER_16);
        draw(seed, stream, begin, words);
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
#pragma unroll
            for (int j = 0; j < HW_PER_16; j++)
                v[u].v[j] = masked(v[u].v[j], words[u][j], threshold, scale);
            *(real16 *)(y + begin + (u * THREADS + threadIdx.x) * HW_PER_16) = v[u];
        }
    } else {
        int64_t end = begin + COVERED < size ? begin + COVERED : size;
        for (int64_t i = begin + threadIdx.x; i < end; i += THREADS)
            y[i] = masked(x[i], hw_random_word(seed, stream, (uint64_t)i), threshold, scale);
    }
}
