/* The tiles of winograd.c for one type: included with REAL, VEC, VEC_U, FMA, LANES, BLOCK (the size
 * of a transpose) and TYPED(name) defined. */

#define LINE(name) static inline __attribute__((always_inline)) void name(const VEC *d, VEC *v)

/* Bᵀ: from 6 pixels. */
LINE(TYPED(input_line)) {
    VEC even = FMA(V(-B2), d[2], d[4]), odd = FMA(V(-B2), d[1], d[3]);
    v[1] = FMA(V(A1), odd, even);
    v[2] = FMA(V(-A1), odd, even);
    even = FMA(V(-A2), d[2], d[4]), odd = FMA(V(-A2), d[1], d[3]);
    v[3] = FMA(V(B1), odd, even);
    v[4] = FMA(V(-B1), odd, even);
    v[0] = FMA(V(AB), d[0], FMA(V(-SUM), d[2], d[4]));
    v[5] = FMA(V(AB), d[1], FMA(V(-SUM), d[3], d[5]));
}

/* G: from 3 taps. */
LINE(TYPED(weight_line)) {
    VEC even = FMA(V(A2), d[2], d[0]);
    v[1] = FMA(V(A1), d[1], even) * V(GA);
    v[2] = FMA(V(-A1), d[1], even) * V(GA);
    even = FMA(V(B2), d[2], d[0]);
    v[3] = FMA(V(B1), d[1], even) * V(GB);
    v[4] = FMA(V(-B1), d[1], even) * V(GB);
    v[0] = d[0] * V(G0);
    v[5] = d[2];
}

/* Aᵀ: to 4 outputs. */
LINE(TYPED(output_line)) {
    VEC sum_a = d[1] + d[2], difference_a = d[1] - d[2];
    VEC sum_b = d[3] + d[4], difference_b = d[3] - d[4];
    v[0] = (d[0] + sum_a) + sum_b;
    v[1] = FMA(V(B1), difference_b, V(A1) * difference_a);
    v[2] = FMA(V(B2), sum_b, V(A2) * sum_a);
    v[3] = FMA(V(B3), difference_b, FMA(V(A3), difference_a, d[5]));
}

/* A: from 4 outputs' gradients. */
LINE(TYPED(gradient_line)) {
    VEC even = FMA(V(A2), d[2], d[0]), odd = FMA(V(A2), d[3], d[1]);
    v[1] = FMA(V(A1), odd, even);
    v[2] = FMA(V(-A1), odd, even);
    even = FMA(V(B2), d[2], d[0]), odd = FMA(V(B2), d[3], d[1]);
    v[3] = FMA(V(B1), odd, even);
    v[4] = FMA(V(-B1), odd, even);
    v[0] = d[0];
    v[5] = d[3];
}

/* Gᵀ: to 3 taps' gradients. */
LINE(TYPED(weight_gradient_line)) {
    VEC sum_a = V(GA) * (d[1] + d[2]), difference_a = V(GA) * (d[1] - d[2]);
    VEC sum_b = V(GB) * (d[3] + d[4]), difference_b = V(GB) * (d[3] - d[4]);
    v[0] = FMA(V(G0), d[0], sum_a + sum_b);
    v[1] = FMA(V(B1), difference_b, V(A1) * difference_a);
    v[2] = FMA(V(B2), sum_b, FMA(V(A2), sum_a, d[5]));
}

/* The 2-D transform of n × n elements to m × m. */
#define TRANSFORM(name, n, m)                                                                      \
    static void TYPED(name)(int64_t tiles, const void *pixels, int64_t from_tile,                  \
                            int64_t from_row, int64_t from_column, void *results, int64_t to_tile, \
                            int64_t to_row, int64_t to_column) {                                   \
        const REAL *from = pixels;                                                                 \
        REAL *to = results;                                                                        \
        for (int64_t t = 0; t < tiles; t++, from += from_tile, to += to_tile) {                    \
            VEC half[m][n], line[n], result[m];                                                    \
            for (int j = 0; j < n; j++) {                                                          \
                for (int i = 0; i < n; i++)                                                        \
                    line[i] = (VEC) * (const VEC_U *)(from + i * from_row + j * from_column);      \
                TYPED(name##_line)(line, result);                                                  \
                for (int i = 0; i < m; i++) half[i][j] = result[i];                                \
            }                                                                                      \
            for (int i = 0; i < m; i++) {                                                          \
                TYPED(name##_line)(half[i], result);                                               \
                for (int j = 0; j < m; j++)                                                        \
                    *(VEC_U *)(to + i * to_row + j * to_column) = (VEC_U)result[j];                \
            }                                                                                      \
        }                                                                                          \
    }
TRANSFORM(input, 6, 6)
TRANSFORM(weight, 3, 6)
TRANSFORM(output, 6, 4)
TRANSFORM(gradient, 4, 6)
TRANSFORM(weight_gradient, 6, 3)
#undef TRANSFORM
#undef LINE
