/* Contractions whose axis was divided among blocks (contraction.h): the parts' sums, in order. */
#include "cuda/contraction.h"

enum { DIMENSIONS = 18 };

/* Where the result lies: its dimensions in C order, strides in numbers. */
struct Result {
    int64_t dimensions, shape[DIMENSIONS], stride[DIMENSIONS];
};

/* result[slice, i, j] from parts[slice, part, i, j], of which `outputs` are (i, j), j < columns;
 * + bias[i * bias_row + j * bias_column], or none. An output a thread. */
HW_KERNEL fold_parts(const real *parts, const real *bias, real *to, int64_t slices, int64_t count,
                     int64_t per_super, int64_t outputs, int64_t columns, int64_t bias_row,
                     int64_t bias_column, Result result) {
    int64_t at = hw_thread();
    if (at >= slices * outputs) return;
    int64_t slice = at / outputs, output = at - slice * outputs;
    real y =
        hw_fold_parts(parts + slice * count * outputs + output, outputs, count, (int)per_super);
    if (bias) y = y + bias[output / columns * bias_row + output % columns * bias_column];
    for (int d = (int)result.dimensions - 1; d >= 0; d--) {
        to += at % result.shape[d] * result.stride[d];
        at /= result.shape[d];
    }
    *to = y;
}
