/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011): four words for a 128-bit counter and a 64-bit key.
 *
 * An array's words: key = seed, counter = (block, stream), each 64 bits, low half first; word i of
 * the array is word i mod 4 of block i div 4. So any element can be computed on its own. */
#ifndef HALFWAVE_COMMON_PHILOX_H
#define HALFWAVE_COMMON_PHILOX_H

#include "common/config.h"

#define HW_PHILOX_M0 0xd2511f53u
#define HW_PHILOX_M1 0xcd9e8d57u
#define HW_PHILOX_W0 0x9e3779b9u /* added to the key after each round: the golden ratio, */
#define HW_PHILOX_W1 0xbb67ae85u /* and the square root of 3 less 1 */
#define HW_PHILOX_ROUNDS 10

typedef struct {
    uint32_t word[4];
} hw_philox_block;

HW_FUNCTION hw_philox_block hw_philox4x32(hw_philox_block counter, uint32_t key0, uint32_t key1) {
    uint32_t x0 = counter.word[0], x1 = counter.word[1];
    uint32_t x2 = counter.word[2], x3 = counter.word[3];
    for (int round = 0; round < HW_PHILOX_ROUNDS; round++) {
        uint64_t product0 = hw_product(HW_PHILOX_M0, x0), product1 = hw_product(HW_PHILOX_M1, x2);
        x0 = (uint32_t)(product1 >> 32) ^ x1 ^ key0;
        x1 = (uint32_t)product1;
        x2 = (uint32_t)(product0 >> 32) ^ x3 ^ key1;
        x3 = (uint32_t)product0;
        key0 += HW_PHILOX_W0;
        key1 += HW_PHILOX_W1;
    }
    hw_philox_block result = {{x0, x1, x2, x3}};
    return result;
}

/* Block `block` of stream `stream` of seed `seed`. */
HW_FUNCTION hw_philox_block hw_random_block(uint64_t seed, uint64_t stream, uint64_t block) {
    hw_philox_block counter = {
        {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    return hw_philox4x32(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* Word `index` of that stream. Selects, for a GPU's registers have no index. */
HW_FUNCTION uint32_t hw_random_word(uint64_t seed, uint64_t stream, uint64_t index) {
    hw_philox_block block = hw_random_block(seed, stream, index >> 2);
    uint32_t front = index & 1 ? block.word[1] : block.word[0];
    uint32_t back = index & 1 ? block.word[3] : block.word[2];
    return index & 2 ? back : front;
}

#endif
