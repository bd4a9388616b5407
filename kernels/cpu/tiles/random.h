/* Vectorised loops of the random numbers, a table an instruction set. See random.pyx. */
#ifndef HALFWAVE_TILES_RANDOM_H
#define HALFWAVE_TILES_RANDOM_H

#include <stdint.h>

#include "common/distributions.h"

/* n variates of a distribution (hw_uniform_f32 and so on) from n words: 32 bits each for float32,
 * 64, the low half first, for float64. */
typedef void (*hw_draw)(const void *words, int64_t n, const void *distribution, void *out);

#define HW_BLOCKS_SLACK 16

typedef struct {
    /* Blocks first … first + count - 1 of a stream, four words each, in order. Writes whole
     * vectors: out has room for count + HW_BLOCKS_SLACK blocks. */
    void (*blocks)(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *out);
    hw_draw uniform_f32, uniform_f64, normal_f32, normal_f64, truncated_f32, truncated_f64;
    void (*round_f16)(const float *x, int64_t n, uint16_t *out);
} hw_random_tiles;

#endif
