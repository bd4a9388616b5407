/* What the machine gives at most, a table an instruction set. See ceilings.pyx. */
#ifndef HALFWAVE_TILES_CEILINGS_H
#define HALFWAVE_TILES_CEILINGS_H

#include <stdint.h>

typedef struct {
    int64_t step_flops; /* of one step of multiply_add */
    int streams;        /* whether the set has stores that pass the cache by */
    float (*multiply_add)(int64_t steps);
    /* n floats, a multiple of 64, aligned to 64 bytes. [1] streams where the set can. */
    float (*read)(int64_t n, const float *source);
    void (*write[2])(int64_t n, float *target);
    void (*copy[2])(int64_t n, const float *source, float *target);
} hw_ceilings_tiles;

#endif
