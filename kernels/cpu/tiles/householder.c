/* Householder reflections, for the orthogonal initializer. Every sum runs down the rows, in order;
 * lanes span columns, so that a column's bits do not depend on the columns beside it. */
#include "householder.h"

#include "vector.h"

static double make(const hw_reflections *all, int64_t k, const double *column) {
    const double *x = column + k * HW_PANEL;
    double *v = all->v + k * all->rows + k;
    int64_t n = all->rows - k;
    double alpha = x[0], rest = 0.0;
    for (int64_t i = 1; i < n; i++) {
        v[i] = x[i * HW_PANEL];
        rest = rest + v[i] * v[i];
    }
    v[0] = 1.0;
    if (rest == 0.0) { /* nothing below to remove: v[i] is 0, or its square is */
        for (int64_t i = 1; i < n; i++) v[i] = 0.0;
        all->tau[k] = 0.0;
        return alpha;
    }
    double norm = __builtin_sqrt(alpha * alpha + rest);
    double beta = alpha < 0.0 ? norm : -norm; /* so that alpha - beta does not cancel */
    double first = alpha - beta;
    HW_INDEPENDENT
    for (int64_t i = 1; i < n; i++) v[i] = v[i] / first;
    all->tau[k] = -first / beta;
    return beta;
}

#define EACH(DO) DO(0) DO(1) DO(2) DO(3)
#define DECLARE(j) f64v t##j, w##j;
#define START(j) w##j = row[j];
#define SCALE(j) t##j = tau * w##j;
#define ADD(j) w##j = w##j + v_next * row[j];
#define REMOVE(j) row[j] = row[j] - v * t##j;
#define REMOVE_AND_ADD(j)         \
    {                             \
        f64v a = row[j];          \
        a = a - v * t##j;         \
        row[j] = a;               \
        w##j = w##j + v_next * a; \
    }

/* For each reflection w = vᵀ A, then A - v (tau w), four vectors of columns at a time: the next
 * one's w is added up in the pass over the rows that applies this one. */
static void apply(const hw_reflections *all, int64_t first, int64_t last, double *panel) {
    const int64_t rows = all->rows, step = last < first ? -1 : 1, pitch = HW_PANEL / F64_LANES;
    for (int64_t column = 0; column < HW_PANEL; column += 4 * F64_LANES) {
        f64v *block = (f64v *)(panel + column), *row = block + first * pitch;
        const double *of_next = all->v + first * rows;
        EACH(DECLARE)
        EACH(START) /* v is 1 there */
        for (int64_t i = first + 1; i < rows; i++) {
            double v_next = of_next[i];
            row += pitch;
            EACH(ADD)
        }
        for (int64_t k = first;; k += step) {
            const double *of_this = of_next;
            double tau = all->tau[k];
            /* The next one begins a row further down, or up. */
            int64_t i = k, alone = k == last ? rows : step > 0 ? k + 2 : k;
            EACH(SCALE)
            for (row = block + k * pitch; i < alone; i++, row += pitch) {
                double v = of_this[i];
                EACH(REMOVE)
            }
            if (k == last) break;
            of_next += step * rows;
            row -= pitch;
            EACH(START)
            row += pitch;
            for (; i < rows; i++, row += pitch) {
                double v = of_this[i], v_next = of_next[i];
                EACH(REMOVE_AND_ADD)
            }
        }
    }
}

const hw_householder_tiles HW_NAME(hw_householder_tiles) = {.make = make, .apply = apply};
