/* Householder reflections of panels of columns, a table an instruction set. See init.pyx. */
#ifndef HALFWAVE_TILES_HOUSEHOLDER_H
#define HALFWAVE_TILES_HOUSEHOLDER_H

#include <stdint.h>

#define HW_PANEL 32 /* columns of a panel, whose rows lie one behind the other */

/* Reflection k is 1 - tau[k] v vᵀ, with v at v + k * rows, its first k elements 0 and not stored.
 */
typedef struct {
    int64_t rows;
    double *v, *tau;
} hw_reflections;

typedef struct {
    /* v and tau of reflection k such that it makes (beta, 0, 0, …) of a panel's column from row k
     * down; returns beta. */
    double (*make)(const hw_reflections *all, int64_t k, const double *column);
    /* Applies reflections `first` to `last` to a panel, downwards where `last` is the smaller one.
     */
    void (*apply)(const hw_reflections *all, int64_t first, int64_t last, double *panel);
} hw_householder_tiles;

#endif
