/* Initializers without chance, and the orthogonal one: CONTRACT.md section 2.
 *
 * The orthogonal one is the plain Householder method in float64, in panels of 32 columns, each
 * rows × 32: what becomes of a column depends on the order of the reflections alone, so the work is
 * cut as init.pyx cuts it. A block has one panel. Launch p of `factor` brings panel p - 1's
 * reflections to the panels from p on, and its first block goes on to make panel p's; `grow` makes
 * Q, of which every panel is a block's own, in one launch.
 *
 * Every sum runs down the rows in order, one chain a column: bound by the latency of an addition.
 * So one warp adds, a lane a column, and the other warps work out its terms a tile ahead. */
#include "cuda/variate.h"

/* ---- zeros, constant, identity, dirac ------------------------------------------------------- */

enum { FILLERS = 256, UNROLL = 4, PER_16 = 16 / sizeof(Variate) };

HW_KERNEL constant(Variate *out, int64_t size, Variate value) {
    struct alignas(16) Vector {
        Variate v[PER_16];
    } vector;
    for (int j = 0; j < PER_16; j++) vector.v[j] = value;
    const int64_t covered = FILLERS * UNROLL * PER_16, begin = blockIdx.x * covered;
    if ((uintptr_t)out % 16 == 0 && begin + covered <= size) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
            *(Vector *)(out + begin + (u * FILLERS + threadIdx.x) * PER_16) = vector;
    } else {
        int64_t end = begin + covered < size ? begin + covered : size;
        for (int64_t i = begin + threadIdx.x; i < end; i += FILLERS) out[i] = value;
    }
}

/* What a shard takes of a dimension, and how far apart its elements lie in `out`. */
struct Taken {
    int64_t start, step, count, stride;
};

/* `value` where the index along `of` is that along `to` modulo the period: a thread an index of
 * `to`. */
HW_KERNEL diagonal(Variate *out, Variate value, const Taken to, const Taken of, int64_t period) {
    int64_t i = hw_thread();
    if (i >= to.count) return;
    int64_t beyond = (to.start + i * to.step) % period - of.start, j = beyond / of.step;
    if (j * of.step == beyond && 0 <= j && j < of.count) out[i * to.stride + j * of.stride] = value;
}

/* ---- orthogonal ----------------------------------------------------------------------------- */

enum { PANEL = 32, TILE = 64, ADDER = 8, WARPS = ADDER + 1 }; /* warp 8 adds */

struct Householder {
    double *a; /* panels of A, then of Q */
    double *v; /* reflection k at v + k·rows, its first k elements unused */
    double *tau, *beta;
    int64_t rows, columns;
};

struct Lane {
    int lane, warp;
};
HW_FUNCTION Lane here() { return {(int)threadIdx.x % 32, (int)threadIdx.x / 32}; }

/* sum + term(1) + term(2) + … + term(count - 1), of each lane, in the adding warp; elsewhere `sum`.
 * All threads take part; ends with a barrier. */
template <class Term>
static __device__ __forceinline__ double chain(double (*tiles)[TILE][32], double sum, int64_t count,
                                               Term term) {
    const Lane at = here();
    auto fill = [&](int64_t t) {
        double values[TILE / ADDER];
#pragma unroll
        for (int u = 0; u < TILE / ADDER; u++) {
            int64_t i = 1 + t * TILE + u * ADDER + at.warp;
            values[u] = i < count ? term(i) : 0.0;
        }
#pragma unroll
        for (int u = 0; u < TILE / ADDER; u++)
            tiles[t & 1][u * ADDER + at.warp][at.lane] = values[u];
    };
    if (at.warp != ADDER) fill(0);
    __syncthreads();
    for (int64_t t = 0; t * TILE < count - 1; t++) {
        if (at.warp != ADDER) {
            if ((t + 1) * TILE < count - 1) fill(t + 1);
        } else if (count - 1 - t * TILE >= TILE) {
#pragma unroll 16
            for (int r = 0; r < TILE; r++) sum = sum + tiles[t & 1][r][at.lane];
        } else {
            for (int r = 0; r < (int)(count - 1 - t * TILE); r++)
                sum = sum + tiles[t & 1][r][at.lane];
        }
        __syncthreads();
    }
    return sum;
}

/* Reflection k, which takes column k of A, of its own panel, to (…, beta, 0, 0, …). */
static __device__ __forceinline__ void make(double (*tiles)[TILE][32], double *shared,
                                            const Householder &job, int64_t k) {
    const int64_t count = job.rows - k;
    const double *x = job.a + (k / PANEL * job.rows + k) * PANEL + k % PANEL;
    double *v = job.v + k * job.rows + k;
    double alpha = x[0];
    double rest = chain(tiles, 0.0, count, [&](int64_t i) { return x[i * PANEL] * x[i * PANEL]; });
    if (threadIdx.x == ADDER * 32) {
        double norm = hw_sqrt_f64(alpha * alpha + rest);
        double beta = rest == 0.0 ? alpha : alpha < 0.0 ? norm : -norm;
        double first = alpha - beta;
        job.beta[k] = beta;
        job.tau[k] = rest == 0.0 ? 0.0 : -first / beta;
        shared[0] = first; /* 0 if there is nothing below to remove */
    }
    __syncthreads();
    double first = shared[0];
    for (int64_t i = threadIdx.x; i < count; i += WARPS * 32)
        v[i] = i == 0 ? 1.0 : first == 0.0 ? 0.0 : x[i * PANEL] / first;
    __syncthreads();
}

/* Reflection k applied to panel p: w = vᵀ A, then A - v (tau w). */
static __device__ __forceinline__ void reflect(double (*tiles)[TILE][32], double *shared,
                                               const Householder &job, int64_t k, int64_t p) {
    const Lane at = here();
    const int64_t count = job.rows - k;
    const double *v = job.v + k * job.rows + k;
    double *a = job.a + (p * job.rows + k) * PANEL + at.lane;
    double w = chain(tiles, a[0], count, [&](int64_t i) { return v[i] * a[i * PANEL]; });
    if (at.warp == ADDER) shared[at.lane] = job.tau[k] * w;
    __syncthreads();
    double t = shared[at.lane];
#pragma unroll 4
    for (int64_t i = at.warp; i < count; i += WARPS) a[i * PANEL] = a[i * PANEL] - v[i] * t;
    __syncthreads();
}

/* A, of any strides, into panels. */
HW_KERNEL load(const real *source, int64_t row_stride, int64_t column_stride,
               const Householder job) {
    int64_t i = hw_thread(), row = i / PANEL % job.rows;
    int64_t column = i / PANEL / job.rows * PANEL + i % PANEL;
    if (column - column % PANEL >= job.columns) return;
    job.a[i] = column < job.columns ? source[row * row_stride + column * column_stride] : 0;
}

HW_KERNEL factor(const Householder job, int64_t first) {
    __shared__ double tiles[2][TILE][32], shared[32];
    int64_t p = first + blockIdx.x;
    if (first > 0)
        for (int64_t k = (first - 1) * PANEL; k < first * PANEL; k++)
            reflect(tiles, shared, job, k, p);
    if (blockIdx.x == 0)
        for (int64_t k = p * PANEL; k < (p + 1) * PANEL && k < job.columns; k++) {
            make(tiles, shared, job, k);
            reflect(tiles, shared, job, k, p);
        }
}

/* Q from the identity, by the reflections in reverse; columns left of reflection k it leaves alone.
 * Then Q's columns, times the scale, with the signs that make R's diagonal positive. */
HW_KERNEL grow(const Householder job, double scale, Variate *target, int64_t row_stride,
               int64_t column_stride) {
    __shared__ double tiles[2][TILE][32], shared[32];
    const Lane at = here();
    int64_t p = blockIdx.x, column = p * PANEL + at.lane;
    double *q = job.a + p * job.rows * PANEL + at.lane;
    for (int64_t i = at.warp; i < job.rows; i += WARPS) q[i * PANEL] = i == column;
    __syncthreads();
    int64_t end = (p + 1) * PANEL < job.columns ? (p + 1) * PANEL : job.columns;
    for (int64_t k = end - 1; k >= 0; k--) reflect(tiles, shared, job, k, p);
    if (column >= job.columns) return;
    double factor = job.beta[column] < 0 ? -scale : scale;
    for (int64_t i = at.warp; i < job.rows; i += WARPS)
        target[i * row_stride + column * column_stride] = stored((real)(factor * q[i * PANEL]));
}
