/* ReLU, sigmoid and tanh with their derivatives, PReLU with both of its gradients: CONTRACT.md
 * section 7. Bound by memory: a thread has four accesses of 16 bytes in flight, where the arrays
 * are aligned. PReLU's backward reads dy and x once, writes dx, and sums the slopes' terms on the
 * way (sums.h); the chunks' sums are folded by reduction.cu. */
#include "common/exp.h"
#include "cuda/sums.h"

enum { THREADS = 256, UNROLL = 4, COVERED = THREADS * UNROLL * HW_PER_16 };

HW_FUNCTION real sigmoid_of(float x) { return hw_sigmoid_f32(x); }
HW_FUNCTION real sigmoid_of(double x) { return hw_sigmoid_f64(x); }
HW_FUNCTION real tanh_of(float x) { return hw_tanh_f32(x); }
HW_FUNCTION real tanh_of(double x) { return hw_tanh_f64(x); }

/* y = f(x, …), COVERED elements a block: `f(i)` gives element i, `f(i, v)` the HW_PER_16 from i on.
 */
template <class Vector, class Scalar>
HW_FUNCTION void cover(int64_t size, bool aligned, real *y, Vector vector, Scalar scalar) {
    int64_t begin = (int64_t)blockIdx.x * COVERED;
    if (aligned && begin + COVERED <= size) {
        real16 v[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
            v[u] = vector(begin + (int64_t)(u * THREADS + threadIdx.x) * HW_PER_16);
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
            *(real16 *)(y + begin + (int64_t)(u * THREADS + threadIdx.x) * HW_PER_16) = v[u];
    } else {
        int64_t end = begin + COVERED < size ? begin + COVERED : size;
        for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) y[i] = scalar(i);
    }
}

HW_FUNCTION bool aligned(const void *a, const void *b) {
    return ((uintptr_t)a | (uintptr_t)b) % 16 == 0;
}

template <class F> HW_FUNCTION void map1(const real *x, real *y, int64_t size, F f) {
    auto vector = [&](int64_t i) {
        real16 v = *(const real16 *)(x + i);
#pragma unroll
        for (int j = 0; j < HW_PER_16; j++) v.v[j] = f(v.v[j]);
        return v;
    };
    cover(size, aligned(x, y), y, vector, [&](int64_t i) { return f(x[i]); });
}

template <class F> HW_FUNCTION void map2(const real *a, const real *b, real *y, int64_t size, F f) {
    auto vector = [&](int64_t i) {
        real16 v = *(const real16 *)(a + i), w = *(const real16 *)(b + i);
#pragma unroll
        for (int j = 0; j < HW_PER_16; j++) v.v[j] = f(v.v[j], w.v[j]);
        return v;
    };
    cover(size, aligned(a, b) && aligned(a, y), y, vector,
          [&](int64_t i) { return f(a[i], b[i]); });
}

HW_KERNEL relu(const real *x, real *y, int64_t size) {
    map1(x, y, size, [](real v) { return v <= 0 ? (real)0 : v; });
}
HW_KERNEL relu_backward(const real *dy, const real *x, real *dx, int64_t size) {
    map2(dy, x, dx, size, [](real d, real v) { return v <= 0 ? (real)0 : d; });
}
HW_KERNEL sigmoid(const real *x, real *y, int64_t size) {
    map1(x, y, size, [](real v) { return sigmoid_of(v); });
}
HW_KERNEL sigmoid_backward(const real *dy, const real *y, real *dx, int64_t size) {
    map2(dy, y, dx, size, [](real d, real v) { return d * (v * (1 - v)); });
}
HW_KERNEL tanh_forward(const real *x, real *y, int64_t size) {
    map1(x, y, size, [](real v) { return tanh_of(v); });
}
HW_KERNEL tanh_backward(const real *dy, const real *y, real *dx, int64_t size) {
    map2(dy, y, dx, size, [](real d, real v) { return d * ((1 - v) * (1 + v)); });
}

/* ---- PReLU ------------------------------------------------------------------------------------
 */

/* The slope of element i of (outer, channels, inner), i = the block's first element + less than
 * COVERED: one 64-bit division a block, then 32 bits, where the planes allow it. */
struct Slopes {
    const real *alpha;
    int64_t channels, inner, first_channel, first_rest;

    static __device__ __forceinline__ Slopes of_block(const real *alpha, int64_t channels,
                                                      int64_t inner) {
        int64_t begin = (int64_t)blockIdx.x * COVERED;
        int64_t plane = channels == 1 ? 0 : begin / inner;
        return {alpha, channels, inner, plane % channels, begin - plane * inner};
    }
    __device__ __forceinline__ real operator()(int64_t i) const {
        if (channels == 1) return alpha[0];
        int64_t rest = first_rest + (i - (int64_t)blockIdx.x * COVERED);
        int64_t planes =
            inner + COVERED < 0x7fffffff ? (uint32_t)rest / (uint32_t)inner : rest / inner;
        int64_t channel = first_channel + planes;
        return alpha[channels + COVERED < 0x7fffffff ? (uint32_t)channel % (uint32_t)channels
                                                     : channel % channels];
    }
    __device__ __forceinline__ bool one_a_vector() const {
        return channels == 1 || inner % HW_PER_16 == 0;
    }
};

HW_KERNEL prelu(const real *x, const real *alpha, real *y, int64_t size, int64_t channels,
                int64_t inner) {
    auto f = [](real v, real a) { return v > 0 ? v : a * v; };
    Slopes slope = Slopes::of_block(alpha, channels, inner);
    auto vector = [&](int64_t i) {
        real16 v = *(const real16 *)(x + i);
        real a = slope(i);
#pragma unroll
        for (int j = 0; j < HW_PER_16; j++)
            v.v[j] = f(v.v[j], slope.one_a_vector() || j == 0 ? a : slope(i + j));
        return v;
    };
    cover(size, aligned(x, y), y, vector, [&](int64_t i) { return f(x[i], slope(i)); });
}

/* dx, and the slope's term. */
HW_FUNCTION real prelu_terms(real d, real v, real a, real *dx) {
    *dx = v > 0 ? d : a * d;
    return v > 0 ? (real)0 : d * v;
}

/* The slope's terms of one channel, whose elements lie in runs of `inner`: the plane of a chunk's
 * first element by 64-bit division, that of the others by 32 bits, where the planes allow it. */
struct Runs {
    struct Loaded {
        real d, v;
        int64_t at;
    };
    struct Loaded4 {
        alignas(16) real d[4], v[4];
        int64_t at;
    };
    const real *dy, *x;
    real *dx, a;
    int64_t channels, inner, channel, first_plane, first_rest;
    bool one_plane, small;

    __device__ __forceinline__ int64_t place(int e) const {
        int64_t rest = first_rest + e;
        int64_t planes = one_plane ? 0 : small ? (uint32_t)rest / (uint32_t)inner : rest / inner;
        return ((first_plane + planes) * channels + channel) * inner + (rest - planes * inner);
    }
    __device__ __forceinline__ Loaded load(int e) const {
        int64_t at = place(e);
        return {dy[at], x[at], at};
    }
    __device__ __forceinline__ real finish(int, const Loaded &loaded) const {
        return prelu_terms(loaded.d, loaded.v, a, &dx[loaded.at]);
    }
    __device__ __forceinline__ Loaded4 load4(int e) const {
        Loaded4 loaded;
        loaded.at = place(e);
#pragma unroll
        for (int i = 0; i < 4; i += HW_PER_16) {
            *(real16 *)(loaded.d + i) = *(const real16 *)(dy + loaded.at + i);
            *(real16 *)(loaded.v + i) = *(const real16 *)(x + loaded.at + i);
        }
        return loaded;
    }
    __device__ __forceinline__ void finish4(int, const Loaded4 &loaded, real *terms) const {
        alignas(16) real to[4];
#pragma unroll
        for (int j = 0; j < 4; j++) terms[j] = prelu_terms(loaded.d[j], loaded.v[j], a, &to[j]);
#pragma unroll
        for (int i = 0; i < 4; i += HW_PER_16)
            *(real16 *)(dx + loaded.at + i) = *(real16 *)(to + i);
    }
};

/* partial[c, chunk] of the slopes' gradients; a warp has (c, chunk) = its number. */
HW_KERNEL prelu_backward(const real *dy, const real *x, const real *alpha, real *dx, real *partial,
                         int64_t outer, int64_t channels, int64_t inner, int64_t chunks) {
    int64_t warp = hw_thread() / 32;
    if (warp >= channels * chunks) return;
    int64_t channel = warp / chunks, begin = warp % chunks * HW_CHUNK;
    int64_t left = outer * inner - begin, plane = outer == 1 ? 0 : begin / inner;
    bool vectors = (outer == 1 ? channel * inner : inner) % 4 == 0;
    Runs runs = {dy,
                 x,
                 dx,
                 alpha[channel],
                 channels,
                 inner,
                 channel,
                 plane,
                 begin - plane * inner,
                 outer == 1,
                 inner + HW_CHUNK < 0x7fffffff};
    real sum = hw_chunk_sum(runs, (int)(left < HW_CHUNK ? left : HW_CHUNK),
                            vectors && aligned(dy, x) && aligned(dy, dx));
    if (threadIdx.x % 32 == 0) partial[warp] = sum;
}

/* The slope's terms of one channel of many, side by side. */
struct Column {
    struct Loaded {
        real d, v;
    };
    const real *dy, *x;
    real *dx, a;
    int64_t channels;

    __device__ __forceinline__ Loaded load(int e) const {
        return {dy[e * channels], x[e * channels]};
    }
    __device__ __forceinline__ real finish(int e, const Loaded &loaded) const {
        return prelu_terms(loaded.d, loaded.v, a, &dx[e * channels]);
    }
};

/* The same for inner = 1 and more channels than one: block (chunk, 8 channels). */
HW_KERNEL prelu_backward_last(const real *dy, const real *x, const real *alpha, real *dx,
                              real *partial, int64_t rows, int64_t channels, int64_t chunks) {
    int64_t chunk = blockIdx.x % chunks, begin = chunk * HW_CHUNK, left = rows - begin;
    int64_t channel = blockIdx.x / chunks * HW_CHUNK_CHANNELS + threadIdx.x % HW_CHUNK_CHANNELS;
    bool exists = channel < channels;
    int64_t first = begin * channels + channel;
    Column column = {dy + first, x + first, dx + first, exists ? alpha[channel] : (real)0,
                     channels};
    real sum = hw_chunk_sum_of_8(column, (int)(left < HW_CHUNK ? left : HW_CHUNK), exists);
    if (threadIdx.x < HW_CHUNK_CHANNELS && exists) partial[channel * chunks + chunk] = sum;
}
