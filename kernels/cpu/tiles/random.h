/* Vectorised loops of the random numbers, a table an instruction set. See random.pyx. */
#ifndef HALFWAVE_TILES_RANDOM_H
#define HALFWAVE_TILES_RANDOM_H

#include <stdint.h>

#define HW_BLOCKS_SLACK 8

typedef struct {
    /* Blocks first … first + count - 1 of a stream, four words each, in order. Writes whole vectors:
     * out has room for count + HW_BLOCKS_SLACK blocks. */
    void (*blocks)(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *out);
} hw_random_tiles;

#endif
