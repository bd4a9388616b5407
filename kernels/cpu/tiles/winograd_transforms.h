/* The tiles of winograd.c for one type: included with REAL, VEC, VEC_U, FMA, V(constant), LANES,
 * BLOCK (the size of a transpose) and TYPED(name) defined. */

#include "common/winograd_lines.h"

/* Pointers walk, and the compiler must not see whereto: it would compute all addresses ahead, and
 * run out of registers. */
#define WALK(pointer, step) \
    (pointer) += (step);    \
    __asm__("" : "+r"(pointer));

/* The 2-D transform of n × n elements to m × m. */
#define TRANSFORM(name, n, m)                                                                      \
    static void TYPED(name)(int64_t tiles, const void *pixels, int64_t from_tile,                  \
                            int64_t from_row, int64_t from_column, void *results, int64_t to_tile, \
                            int64_t to_row, int64_t to_column) {                                   \
        const REAL *from = pixels;                                                                 \
        REAL *to = results;                                                                        \
        for (int64_t t = 0; t < tiles; t++, from += from_tile, to += to_tile) {                    \
            VEC half[m][n], line[n], result[m];                                                    \
            const REAL *column = from;                                                             \
            REAL *row = to;                                                                        \
            for (int j = 0; j < n; j++) {                                                          \
                const REAL *at = column;                                                           \
                for (int i = 0; i < n; i++) {                                                      \
                    line[i] = (VEC) * (const VEC_U *)at;                                           \
                    WALK(at, from_row)                                                             \
                }                                                                                  \
                TYPED(name##_line)(line, result);                                                  \
                for (int i = 0; i < m; i++) half[i][j] = result[i];                                \
                WALK(column, from_column)                                                          \
            }                                                                                      \
            for (int i = 0; i < m; i++) {                                                          \
                REAL *at = row;                                                                    \
                TYPED(name##_line)(half[i], result);                                               \
                for (int j = 0; j < m; j++) {                                                      \
                    *(VEC_U *)at = (VEC_U)result[j];                                               \
                    WALK(at, to_column)                                                            \
                }                                                                                  \
                WALK(row, to_row)                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
TRANSFORM(input, 6, 6)
TRANSFORM(weight, 3, 6)
TRANSFORM(output, 6, 4)
TRANSFORM(gradient, 4, 6)
TRANSFORM(weight_gradient, 6, 3)
#undef TRANSFORM
#undef WALK
