/* Sums per channel, CONTRACT.md section 5: one chunk of 4096 elements a warp, or 8 channels' chunks
 * a block; the chunks' sums are summed by the same kernel again, until one is left (the host's
 * loop).
 *
 * Element e of channel c of an array (outer, channels, inner) is (e / inner, c, e % inner). */
#include "cuda/sums.h"

/* Terms of one channel, whose elements lie in runs of `inner`. */
struct Elements {
    typedef real Loaded;
    struct Loaded4 {
        alignas(16) real v[4];
    };
    const real *x;
    int64_t outer, channels, inner, channel, begin;

    __device__ __forceinline__ const real *place(int e) const {
        int64_t at = begin + e, plane = outer == 1 ? 0 : at / inner;
        return x + (plane * channels + channel) * inner + (at - plane * inner);
    }
    __device__ __forceinline__ real load(int e) const { return *place(e); }
    __device__ __forceinline__ real finish(int, real loaded) const { return loaded; }
    __device__ __forceinline__ Loaded4 load4(int e) const {
        Loaded4 loaded;
        const real *from = place(e);
#pragma unroll
        for (int i = 0; i < 4; i += HW_PER_16)
            *(real16 *)(loaded.v + i) = *(const real16 *)(from + i);
        return loaded;
    }
    __device__ __forceinline__ void finish4(int, const Loaded4 &loaded, real *v) const {
#pragma unroll
        for (int j = 0; j < 4; j++) v[j] = loaded.v[j];
    }
};

/* partial[c, chunk]; a warp has (c, chunk) = its number. */
HW_KERNEL channel_sums(const real *x, real *partial, int64_t outer, int64_t channels, int64_t inner,
                       int64_t chunks) {
    int64_t warp = hw_thread() / 32;
    if (warp >= channels * chunks) return;
    int64_t begin = warp % chunks * HW_CHUNK, left = outer * inner - begin;
    Elements elements = {x, outer, channels, inner, warp / chunks, begin};
    bool vectors =
        (outer == 1 ? elements.channel * inner : inner) % 4 == 0 && (uintptr_t)x % 16 == 0;
    real sum = hw_chunk_sum(elements, (int)(left < HW_CHUNK ? left : HW_CHUNK), vectors);
    if (threadIdx.x % 32 == 0) partial[warp] = sum;
}

/* Terms of one channel of many, side by side. */
struct Column {
    typedef real Loaded;
    const real *x;
    int64_t channels;

    __device__ __forceinline__ real load(int e) const { return x[e * channels]; }
    __device__ __forceinline__ real finish(int, real loaded) const { return loaded; }
};

/* The same for inner = 1: block (chunk, 8 channels). */
HW_KERNEL channel_sums_last(const real *x, real *partial, int64_t rows, int64_t channels,
                            int64_t chunks) {
    int64_t chunk = blockIdx.x % chunks, begin = chunk * HW_CHUNK, left = rows - begin;
    int64_t channel = blockIdx.x / chunks * HW_CHUNK_CHANNELS + threadIdx.x % HW_CHUNK_CHANNELS;
    Column column = {x + begin * channels + channel, channels};
    real sum =
        hw_chunk_sum_of_8(column, (int)(left < HW_CHUNK ? left : HW_CHUNK), channel < channels);
    if (threadIdx.x < HW_CHUNK_CHANNELS && channel < channels)
        partial[channel * chunks + chunk] = sum;
}
