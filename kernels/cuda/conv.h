/* What the kernels of convolution are told of a pass: what it multiplies and where the result goes;
 * and the places of its columns and terms, which conv.cu and conv_tensor.cu list in shared memory.
 *
 *     pass              rows   columns      terms        a     b, gathered   c
 *     forward           o      (n, i, j)    (c, r, s)    w     x             y
 *     backward input    c      (n, h, w)    (o, r, s)    w     dy            dx
 *     backward weight   o      (c, r, s)    (n, i, j)    dy    x             dw
 *
 * Columns and terms are numbers of three digits. A column and a term meet in b at (digit 0 of the
 * one, digit 0 of the other, h, w) with h = column step · digit 1 + term step · digit 1 + start, w
 * alike, where b has that element, else at +0.
 *
 * Backward input cuts dx into classes, the residues of (h, w) modulo the stride: one problem each,
 * of the taps that meet it. Strides are in numbers. */
#ifndef HALFWAVE_CUDA_CONV_H
#define HALFWAVE_CUDA_CONV_H

#include "cuda/device.h"

#if HW_NARROW /* rows and columns of an image */
typedef int coordinate;
typedef unsigned extent;
#else
typedef int64_t coordinate;
typedef uint64_t extent;
#endif

struct Axis { /* of the image: down, across */
    int64_t size, columns, terms, column_step, term_step, start;
};

struct Residues { /* of an axis, for backward input with a stride; else of stride 0 */
    int64_t size, kernel, stride, dilation, padding, tap_step, a_tap, c_step;
};

struct Problem {
    int64_t classes[2], groups, rows, columns, terms; /* the last two: of digit 0 */
    int64_t part, parts, row_tiles, column_tiles;     /* part: terms a block, of the axis cut */
    int64_t a_group, a_row, a_term[3];
    int64_t b_group, b_column, b_term, b_axis[2];
    int64_t c_group, c_row, c_column[3];
    int64_t first_fastest; /* columns in memory's order: digits (1, 2, 0), not (0, 1, 2) */
    Axis axis[2];
    Residues residues[2];
};

/* Axis i of a class: its columns, the taps that meet it, and where; what a and c begin with. */
HW_FUNCTION void class_axis(const Problem &p, int i, int64_t of_class, Axis *axis, int64_t *a_base,
                            int64_t *c_base) {
    const Residues &of = p.residues[i];
    *axis = p.axis[i];
    *a_base = *c_base = 0;
    if (!of.stride) return;
    int64_t first = i ? of_class % p.classes[1] : of_class / p.classes[1];
    int64_t r = 0, most = of.kernel < of.tap_step ? of.kernel : of.tap_step;
    axis->columns = first < of.size ? (of.size - first + of.stride - 1) / of.stride : 0;
    axis->terms = 0;
    *c_base = first * of.c_step;
    while (r < most && (first + of.padding - r * of.dilation) % of.stride) r++;
    if (r == most) return;
    axis->terms = (of.kernel - r + of.tap_step - 1) / of.tap_step;
    axis->start = (first + of.padding - r * of.dilation) / of.stride; /* exact */
    *a_base = r * of.a_tap;
}

struct alignas(sizeof(coordinate) == 4 ? 16 : 8) Place { /* in b, of a column or a term */
    int64_t offset; /* in bytes: an instruction less for every copy */
    coordinate h, w;
};

struct Term { /* its digits */
    coordinate digit[3];
};

#define NOWHERE (-((coordinate)1 << (8 * sizeof(coordinate) - 2))) /* whatever is added */

/* Where column number `at` lies in b, and in c, in numbers. */
HW_FUNCTION Place column_place(const Problem &p, const Axis *axis, int64_t at, int64_t *in_c) {
    int64_t d0 = 0;
    if (p.first_fastest) {
        d0 = at % p.columns;
        at /= p.columns;
    }
    int64_t d2 = at % axis[1].columns, d1 = at / axis[1].columns;
    if (!p.first_fastest) {
        d0 = d1 / axis[0].columns;
        d1 -= d0 * axis[0].columns;
    }
    int64_t h = d1 * axis[0].column_step + axis[0].start;
    int64_t w = d2 * axis[1].column_step + axis[1].start;
    *in_c = d0 * p.c_column[0] + d1 * p.c_column[1] + d2 * p.c_column[2];
    return {(int64_t)((d0 * p.b_column + h * p.b_axis[0] + w * p.b_axis[1]) * sizeof(real)),
            (coordinate)h, (coordinate)w};
}

/* Where a term lies in b, and in a, in bytes. */
HW_FUNCTION Place term_place(const Problem &p, const Axis *axis, const Term &term, int64_t *in_a) {
    const coordinate *d = term.digit;
    coordinate h = d[1] * (coordinate)axis[0].term_step;
    coordinate w = d[2] * (coordinate)axis[1].term_step;
    *in_a = (d[0] * p.a_term[0] + d[1] * p.a_term[1] + d[2] * p.a_term[2]) * sizeof(real);
    return {(int64_t)((d[0] * p.b_term + h * p.b_axis[0] + w * p.b_axis[1]) * sizeof(real)), h, w};
}

/* The digits of term number `at`, in the order 0, 1, 2 or, of FIRST_INNERMOST, 1, 2, 0; of a
 * problem without terms, any. */
template <bool FIRST_INNERMOST>
HW_FUNCTION Term term_of(const Problem &p, const Axis *axis, int64_t at) {
    int64_t n0 = p.terms ? p.terms : 1, n1 = axis[0].terms ? axis[0].terms : 1;
    int64_t n2 = axis[1].terms ? axis[1].terms : 1, d0 = 0;
    if (FIRST_INNERMOST) {
        d0 = at % n0;
        at /= n0;
    }
    int64_t d2 = at % n2, d1 = at / n2;
    if (!FIRST_INNERMOST) {
        d0 = d1 / n1;
        d1 -= d0 * n1;
    }
    return {{(coordinate)d0, (coordinate)d1, (coordinate)d2}};
}

/* The term `by` further on. */
template <bool FIRST_INNERMOST>
HW_FUNCTION void advance(const Problem &p, const Axis *axis, Term &at, const Term &by) {
    bool carry = false;
    auto add = [&](int i, int64_t size) {
        at.digit[i] += by.digit[i] + carry;
        carry = at.digit[i] >= (coordinate)size;
        at.digit[i] -= carry ? (coordinate)size : 0;
    };
    if (FIRST_INNERMOST) add(0, p.terms);
    add(2, axis[1].terms);
    if (FIRST_INNERMOST) {
        at.digit[1] += by.digit[1] + carry;
    } else {
        add(1, axis[0].terms);
        at.digit[0] += by.digit[0] + carry;
    }
}

#endif
