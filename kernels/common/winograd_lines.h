/* The one-dimensional transforms of Winograd's F(4×4, 3×3), CONTRACT.md section 4, with the points
 * 0, ±a, ±b, ∞: a = 5/8, b = 3/2. Included once a number type, with REAL, VEC (a vector of numbers,
 * or one), FMA(a, b, c), V(constant) as a VEC and TYPED(name) defined; so by the CPU's tiles and by
 * CUDA. */
#include "common/config.h"

#ifndef HALFWAVE_COMMON_WINOGRAD_LINES_H
#define HALFWAVE_COMMON_WINOGRAD_LINES_H
#define A1 ((REAL)0.625)            /* a */
#define A2 ((REAL)0.390625)         /* a² */
#define A3 ((REAL)0.244140625)      /* a³ */
#define B1 ((REAL)1.5)              /* b */
#define B2 ((REAL)2.25)             /* b² */
#define B3 ((REAL)3.375)            /* b³ */
#define AB ((REAL)0.87890625)       /* a²·b² */
#define SUM ((REAL)2.640625)        /* a² + b² */
#define G0 ((REAL)(256.0 / 225))    /* 1 / (a²·b²) */
#define GA ((REAL)(-2048.0 / 2975)) /* 1 / (2·a²·(a² - b²)) */
#define GB ((REAL)(128.0 / 1071))   /* 1 / (2·b²·(b² - a²)) */
#endif

#define LINE(name) HW_FUNCTION void name(const VEC *d, VEC *v)

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
#undef LINE
