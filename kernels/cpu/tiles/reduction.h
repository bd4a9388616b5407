/* The sum rule of CONTRACT.md, section 5, a chunk at a time. See reduction.pyx. */
#ifndef HALFWAVE_TILES_REDUCTION_H
#define HALFWAVE_TILES_REDUCTION_H

#include <stdint.h>

enum {
    HW_SUM_LANES = 1024,
    HW_SUM_CHUNK = 4096,
    HW_SUM_SKEW = 64,   /* bytes by which a tile may shift the lanes */
    HW_SUM_ROWS = 256,  /* of lanes kept where channels lie side by side, in a cache */
    HW_SUM_WIDTH = 512, /* channels at most, side by side, */
    HW_SUM_WIDE = 1024, /* or in memory */
    HW_SUM_PIECE = 512, /* of their elements taken at a time, */
    HW_SUM_RUN = 2048,  /* or in memory */
};

/* What a chunk's terms are made from, and what is written on the way: unused pointers are NULL. */
typedef struct {
    const void *x, *dy, *alpha;
    void *dx;
    int in_memory; /* all of it together is more than the caches hold */
    int past;      /* dx goes past the caches */
} hw_chunk_source;

/* The sum of positions [begin, end) of one chunk, for `width` neighbouring channels of an array
 * seen as (outer, channels, inner). `lanes` is scratch for `width` times HW_SUM_LANES elements and
 * HW_SUM_SKEW bytes, or `width` times HW_SUM_ROWS where inner is 1 and all is in a cache. */
typedef void (*hw_chunk_tile)(const hw_chunk_source *source, int64_t channels, int64_t inner,
                              int64_t channel, int64_t width, int64_t begin, int64_t end,
                              void *lanes, void *result);

/* [0] is float32, [1] float64. */
typedef struct {
    hw_chunk_tile sum_chunk[2];
    void (*sum_in_place[2])(void *x, int64_t n,
                            void *result); /* of n elements, which it destroys */
} hw_reduction_tiles;

#endif
