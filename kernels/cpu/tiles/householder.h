/* Householder reflections of panels of columns, a table an instruction set. See init.pyx. */
#ifndef HALFWAVE_TILES_HOUSEHOLDER_H
#define HALFWAVE_TILES_HOUSEHOLDER_H

#include <stdint.h>

#define HW_PANEL 32 /* columns of a panel, whose rows lie one behind the other */

typedef struct {
    /* v, of n elements, and tau such that (1 - tau v vᵀ) x = (beta, 0, 0, …), for the x that is
     * x[0], x[HW_PANEL], x[2 HW_PANEL], …; returns beta. */
    double (*make)(int64_t n, const double *x, double *v, double *tau);
    /* Applies it to n rows of a panel. */
    void (*apply)(int64_t n, const double *v, double tau, double *panel);
} hw_householder_tiles;

#endif
