/* Dropout: y = x scaled where its random word says so, else +0: CONTRACT.md, section 10. */
#include "dropout.h"
#include "stream.h"
#include "vector.h"

#define APPLY(type, real)                                                                         \
    static void apply_##type(int64_t n, const uint32_t *words, uint32_t threshold, double factor, \
                             const void *from, void *to, int past) {                              \
        const real *x = from;                                                                     \
        real *y = to, scale = (real)factor;                                                       \
        HW_MAP(real, n, x, y, past, words[i] >> 8 >= threshold ? x[i] * scale : 0);               \
    }
APPLY(f32, float)
APPLY(f64, double)

const hw_dropout_tiles HW_NAME(hw_dropout_tiles) = {.apply = {apply_f32, apply_f64}};
