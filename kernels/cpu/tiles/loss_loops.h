/* The tiles of loss.c for one type: included with REAL and TYPED(name) defined. */
#include "lanes.h"

/* Several maxima side by side make a vector; where there is a NaN, the sum will be NaN anyway. */
static REAL TYPED(largest)(int64_t n, const REAL *x) {
    REAL most[HW_BYTES / sizeof(REAL)];
    const int lanes = HW_BYTES / sizeof(REAL);
    int64_t i = 0;
    REAL result = x[0];
    if (n >= lanes) {
        for (int l = 0; l < lanes; l++) most[l] = x[l];
        for (i = lanes; i + lanes <= n; i += lanes)
            for (int l = 0; l < lanes; l++) most[l] = x[i + l] > most[l] ? x[i + l] : most[l];
        for (int l = 0; l < lanes; l++) result = most[l] > result ? most[l] : result;
    }
    for (; i < n; i++) result = x[i] > result ? x[i] : result;
    return result;
}

/* The sum over j of exp(x[j] - shift), whose terms it writes to `keep` where that is not NULL. */
static REAL TYPED(sum_of_exp)(int64_t n, const REAL *x, REAL shift, REAL *scratch, REAL *keep) {
    REAL *terms = scratch, *chunks = scratch + HW_SUM_CHUNK, sum;
    int64_t count = 0;
    for (int64_t begin = 0; begin < n; begin += HW_SUM_CHUNK, count++) {
        int64_t length = n - begin < HW_SUM_CHUNK ? n - begin : HW_SUM_CHUNK;
        for (int64_t j = 0; j < length; j++) terms[j] = TYPED(hw_exp)(x[begin + j] - shift);
        if (keep) memcpy(keep + begin, terms, (size_t)length * sizeof(REAL));
        TYPED(fold)(terms, length, 1);
        chunks[count] = terms[0];
    }
    TYPED(sum_in_place)(chunks, count, &sum);
    return sum;
}

static void TYPED(cross_entropy)(int64_t classes, const void *logits, int64_t label, void *scratch,
                                 void *loss) {
    const REAL *x = logits;
    REAL most = TYPED(largest)(classes, x);
    REAL sum = TYPED(sum_of_exp)(classes, x, most, scratch, NULL);
    *(REAL *)loss = TYPED(hw_log)(sum) - (x[label] - most);
}

static void TYPED(gradient)(int64_t classes, const void *logits, int64_t label, double divisor,
                            void *scratch, void *gradient) {
    const REAL *x = logits;
    REAL *dx = gradient, by = (REAL)divisor;
    REAL sum = TYPED(sum_of_exp)(classes, x, TYPED(largest)(classes, x), scratch, dx);
    REAL right = (dx[label] / sum - 1) / by;
    for (int64_t j = 0; j < classes; j++) dx[j] = dx[j] / sum / by;
    dx[label] = right;
}
