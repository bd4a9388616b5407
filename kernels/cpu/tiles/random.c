/* Random words: Philox across the lanes of a vector, one block a lane.
 *
 * Each of a block's four words lives in the low half of a 64-bit lane, so that a round is two
 * widening multiplications (which read low halves only: what stands in the high halves never
 * matters), two shifts and the exclusive ors. At the end two words are put into each 64-bit lane and
 * stored, the first two and the last two of every block in turn. */
#include "random.h"

#include "common/philox.h"
#include "vector.h"

typedef uint64_t u64v __attribute__((vector_size(HW_BYTES)));
typedef uint64_t u64u __attribute__((vector_size(HW_BYTES), aligned(4), may_alias));

/* The product of the low halves. */
#if defined(HW_AVX512)
static inline u64v multiply_low(u64v a, u64v b) {
    return (u64v)_mm512_mul_epu32((__m512i)a, (__m512i)b);
}
#elif defined(HW_AVX2)
static inline u64v multiply_low(u64v a, u64v b) {
    return (u64v)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
#elif defined(__x86_64__)
#include <emmintrin.h>
static inline u64v multiply_low(u64v a, u64v b) {
    return (u64v)_mm_mul_epu32((__m128i)a, (__m128i)b);
}
#elif defined(__aarch64__)
static inline u64v multiply_low(u64v a, u64v b) {
    return (u64v)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}
#else
static inline u64v multiply_low(u64v a, u64v b) {
    return (a & 0xffffffff) * (b & 0xffffffff);
}
#endif

/* The lanes' numbers, and the lanes of two vectors in turn: a0 b0 a1 b1 … */
#if defined(HW_AVX512)
#define LANES 0, 1, 2, 3, 4, 5, 6, 7
#define FIRST_HALVES(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define SECOND_HALVES(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif defined(HW_AVX2)
#define LANES 0, 1, 2, 3
#define FIRST_HALVES(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define SECOND_HALVES(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#else
#define LANES 0, 1
#define FIRST_HALVES(a, b) __builtin_shufflevector(a, b, 0, 2)
#define SECOND_HALVES(a, b) __builtin_shufflevector(a, b, 1, 3)
#endif

static void blocks(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, uint32_t *out) {
    const u64v zero = {0}, lanes = {LANES};
    const u64v m0 = zero + HW_PHILOX_M0, m1 = zero + HW_PHILOX_M1;
    for (int64_t i = 0; i < count; i += F64_LANES, out += 4 * F64_LANES) {
        u64v x0 = lanes + (first + (uint64_t)i), x1 = x0 >> 32;
        u64v x2 = zero + stream, x3 = x2 >> 32;
        uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < HW_PHILOX_ROUNDS; round++) {
            u64v product0 = multiply_low(m0, x0), product1 = multiply_low(m1, x2);
            x0 = (product1 >> 32) ^ x1 ^ (zero + key0);
            x1 = product1;
            x2 = (product0 >> 32) ^ x3 ^ (zero + key1);
            x3 = product0;
            key0 += HW_PHILOX_W0;
            key1 += HW_PHILOX_W1;
        }
        u64v front = (x0 & 0xffffffff) | x1 << 32, back = (x2 & 0xffffffff) | x3 << 32;
        *(u64u *)out = FIRST_HALVES(front, back);
        *(u64u *)(out + 2 * F64_LANES) = SECOND_HALVES(front, back);
    }
}

const hw_random_tiles HW_NAME(hw_random_tiles) = {.blocks = blocks};
