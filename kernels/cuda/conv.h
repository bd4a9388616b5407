/* What conv.cu and depthwise.cu are told of a pass: what it multiplies and where the result goes.
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

#endif
