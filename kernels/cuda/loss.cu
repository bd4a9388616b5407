/* Softmax cross-entropy and its gradient, CONTRACT.md section 9, a warp a row of logits.
 *
 *     m = max x[j], e[j] = exp(x[j] - m), s = sum e (section 5), loss = log(s) - (x[label] - m)
 *
 * Rows of at most 4096 logits are one chunk of the sum; longer ones are summed chunk by chunk by
 * reduction.cu, from e in memory. Where a label is no column of logits, the row's results are NaN:
 * nothing here can raise. */
#include "common/exp.h"
#include "common/log.h"
#include "cuda/sums.h"

HW_FUNCTION float exp_of(float x) { return hw_exp_f32(x); }
HW_FUNCTION double exp_of(double x) { return hw_exp_f64(x); }
HW_FUNCTION float log_of(float x) { return hw_log_f32(x); }
HW_FUNCTION double log_of(double x) { return hw_log_f64(x); }

HW_FUNCTION real not_a_number() { return (real)hw_f32_from_bits(0x7fc00000); }

/* The larger; NaN where either is. */
HW_FUNCTION real larger(real a, real b) { return a != a || a > b ? a : b; }

/* Of a row, in every thread of the warp. */
HW_FUNCTION real row_maximum(const real *row, int64_t classes) {
    int g = threadIdx.x % 32;
    real m = row[g < classes ? g : 0];
    for (int64_t j = g; j < classes; j += 32) m = larger(m, row[j]);
    for (int w = 16; w; w /= 2) m = larger(m, __shfl_xor_sync(0xffffffffu, m, w));
    return m;
}

struct Exponentials {
    typedef real Loaded;
    struct Loaded4 {};
    const real *row;
    real m;

    __device__ __forceinline__ real load(int e) const { return row[e]; }
    __device__ __forceinline__ real finish(int, real loaded) const { return exp_of(loaded - m); }
    __device__ __forceinline__ Loaded4 load4(int) const { return {}; }
    __device__ __forceinline__ void finish4(int, Loaded4, real *v) const {
        v[0] = v[1] = v[2] = v[3] = 0;
    }
};

HW_FUNCTION real row_loss(const real *row, int64_t label, int64_t classes, real m, real s) {
    return label >= 0 && label < classes ? log_of(s) - (row[label] - m) : not_a_number();
}

HW_FUNCTION void row_gradient(const real *row, int64_t label, int64_t classes, real m, real s,
                              real divisor, real *gradient) {
    bool known = label >= 0 && label < classes;
    for (int64_t j = threadIdx.x % 32; j < classes; j += 32) {
        real share = exp_of(row[j] - m) / s;
        if (j == label) share = share - 1;
        gradient[j] = known ? share / divisor : not_a_number();
    }
}

/* ---- rows of at most 4096 logits ---------------------------------------------------------------
 */

struct Row {
    const real *logits;
    int64_t number, label;
    real m, s;
};

/* The warp's row, with its maximum and sum in every thread; number = -1 where there is none. */
HW_FUNCTION Row row_of_warp(const real *logits, const int64_t *labels, int64_t rows,
                            int64_t classes) {
    int64_t number = hw_thread() / 32;
    if (number >= rows) return {logits, -1, 0, 0, 0};
    const real *row = logits + number * classes;
    real m = row_maximum(row, classes);
    real s = hw_chunk_sum(Exponentials{row, m}, (int)classes, false);
    return {row, number, labels[number], m, __shfl_sync(0xffffffffu, s, 0)};
}

HW_KERNEL cross_entropy(const real *logits, const int64_t *labels, real *losses, int64_t rows,
                        int64_t classes) {
    Row row = row_of_warp(logits, labels, rows, classes);
    if (row.number >= 0 && threadIdx.x % 32 == 0)
        losses[row.number] = row_loss(row.logits, row.label, classes, row.m, row.s);
}

HW_KERNEL cross_entropy_backward(const real *logits, const int64_t *labels, real divisor,
                                 real *gradient, int64_t rows, int64_t classes) {
    Row row = row_of_warp(logits, labels, rows, classes);
    if (row.number >= 0)
        row_gradient(row.logits, row.label, classes, row.m, row.s, divisor,
                     gradient + row.number * classes);
}

/* ---- longer rows: e, its sums by reduction.cu, the rest -----------------------------------------
 */

HW_KERNEL exponentials(const real *logits, real *maxima, real *e, int64_t rows, int64_t classes) {
    int64_t number = hw_thread() / 32;
    if (number >= rows) return;
    const real *row = logits + number * classes;
    real m = row_maximum(row, classes);
    if (threadIdx.x % 32 == 0) maxima[number] = m;
    for (int64_t j = threadIdx.x % 32; j < classes; j += 32)
        e[number * classes + j] = exp_of(row[j] - m);
}

HW_KERNEL losses_of_sums(const real *logits, const int64_t *labels, const real *maxima,
                         const real *sums, real *losses, int64_t rows, int64_t classes) {
    int64_t i = hw_thread();
    if (i < rows)
        losses[i] = row_loss(logits + i * classes, labels[i], classes, maxima[i], sums[i]);
}

HW_KERNEL gradients_of_sums(const real *logits, const int64_t *labels, const real *maxima,
                            const real *sums, real divisor, real *gradient, int64_t rows,
                            int64_t classes) {
    int64_t i = hw_thread() / 32;
    if (i < rows)
        row_gradient(logits + i * classes, labels[i], classes, maxima[i], sums[i], divisor,
                     gradient + i * classes);
}

/* ---- the mean -----------------------------------------------------------------------------------
 */

HW_KERNEL divide(real *total, real divisor) {
    if (hw_thread() == 0) *total = *total / divisor;
}
