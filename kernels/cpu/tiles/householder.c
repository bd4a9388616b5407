/* Householder reflections, for the orthogonal initializer. Every sum runs down the rows, in order;
 * lanes span columns, so that a column's bits do not depend on the columns beside it. */
#include "householder.h"

#include "vector.h"

static double make(int64_t n, const double *x, double *v, double *tau) {
    double alpha = x[0], rest = 0.0;
    for (int64_t i = 1; i < n; i++) rest = rest + x[i * HW_PANEL] * x[i * HW_PANEL];
    v[0] = 1.0;
    if (rest == 0.0) { /* nothing below to remove */
        for (int64_t i = 1; i < n; i++) v[i] = 0.0;
        *tau = 0.0;
        return alpha;
    }
    double norm = __builtin_sqrt(alpha * alpha + rest);
    double beta = alpha < 0.0 ? norm : -norm; /* so that alpha - beta does not cancel */
    double first = alpha - beta;
    for (int64_t i = 1; i < n; i++) v[i] = x[i * HW_PANEL] / first;
    *tau = -first / beta;
    return beta;
}

/* Four vectors of columns at a time: w = vᵀ A, then A - v (tau w). */
static void apply(int64_t n, const double *v, double tau, double *panel) {
    for (int64_t j = 0; j < HW_PANEL; j += 4 * F64_LANES) {
        f64v *row = (f64v *)(panel + j);
        const int64_t next = HW_PANEL / F64_LANES;
        f64v w0 = row[0], w1 = row[1], w2 = row[2], w3 = row[3]; /* v[0] is 1 */
        for (int64_t i = 1; i < n; i++) {
            row += next;
            w0 = w0 + v[i] * row[0];
            w1 = w1 + v[i] * row[1];
            w2 = w2 + v[i] * row[2];
            w3 = w3 + v[i] * row[3];
        }
        w0 = tau * w0;
        w1 = tau * w1;
        w2 = tau * w2;
        w3 = tau * w3;
        row = (f64v *)(panel + j);
        for (int64_t i = 0; i < n; i++, row += next) {
            row[0] = row[0] - v[i] * w0;
            row[1] = row[1] - v[i] * w1;
            row[2] = row[2] - v[i] * w2;
            row[3] = row[3] - v[i] * w3;
        }
    }
}

const hw_householder_tiles HW_NAME(hw_householder_tiles) = {.make = make, .apply = apply};
