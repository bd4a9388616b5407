/* Random words, and variates from them. Philox runs across the lanes of a vector, one
 * block a lane.
 *
 * Each of a block's four words lives in the low half of a 64-bit lane, so that a round is two
 * widening multiplications (which read low halves only: what stands in the high halves never
 * matters), two shifts and the exclusive ors. At the end two words are put into each 64-bit lane
 * and stored, the first two and the last two of every block in turn. The distributions are loops
 * over the words so made. */
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
static inline u64v multiply_low(u64v a, u64v b) { return (a & 0xffffffff) * (b & 0xffffffff); }
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
    /* Two vectors at a time, since each round waits for the one before. */
    for (int64_t i = 0; i < count; i += 2 * F64_LANES) {
        u64v x0[2], x1[2], x2[2], x3[2];
        for (int j = 0; j < 2; j++) {
            x0[j] = lanes + (first + (uint64_t)(i + j * F64_LANES));
            x1[j] = x0[j] >> 32;
            x2[j] = zero + stream;
            x3[j] = x2[j] >> 32;
        }
        uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < HW_PHILOX_ROUNDS; round++) {
            for (int j = 0; j < 2; j++) {
                u64v product0 = multiply_low(m0, x0[j]), product1 = multiply_low(m1, x2[j]);
                x0[j] = (product1 >> 32) ^ x1[j] ^ (zero + key0);
                x1[j] = product1;
                x2[j] = (product0 >> 32) ^ x3[j] ^ (zero + key1);
                x3[j] = product0;
            }
            key0 += HW_PHILOX_W0;
            key1 += HW_PHILOX_W1;
        }
        for (int j = 0; j < 2; j++, out += 4 * F64_LANES) {
            u64v front = (x0[j] & 0xffffffff) | x1[j] << 32;
            u64v back = (x2[j] & 0xffffffff) | x3[j] << 32;
            *(u64u *)out = FIRST_HALVES(front, back);
            *(u64u *)(out + 2 * F64_LANES) = SECOND_HALVES(front, back);
        }
    }
}

/* A loop over words that the compiler makes into vectors. */
#define DRAW(name, word, real, params, ...)                                               \
    static void name(const void *words, int64_t n, const void *distribution, void *out) { \
        const word *restrict w = words;                                                   \
        const params d = *(const params *)distribution;                                   \
        real *restrict x = out;                                                           \
        for (int64_t i = 0; i < n; i++) x[i] = __VA_ARGS__;                               \
    }
DRAW(uniform_f32, uint32_t, float, hw_uniform_f32, hw_draw_uniform_f32(w[i], d))
DRAW(uniform_f64, uint64_t, double, hw_uniform_f64, hw_draw_uniform_f64(w[i], d))
DRAW(normal_f32, uint32_t, float, hw_normal_params_f32, hw_draw_normal_f32(w[i], d))
DRAW(normal_near_f64, uint64_t, double, hw_normal_params_f64, hw_draw_normal_f64(w[i], d, 0))
DRAW(normal_far_f64, uint64_t, double, hw_normal_params_f64, hw_draw_normal_f64(w[i], d, 1))
DRAW(truncated_near_f32, uint32_t, float, hw_truncated_f32, hw_draw_truncated_f32(w[i], d, 0))
DRAW(truncated_far_f32, uint32_t, float, hw_truncated_f32, hw_draw_truncated_f32(w[i], d, 1))
DRAW(truncated_near_f64, uint64_t, double, hw_truncated_f64, hw_draw_truncated_f64(w[i], d, 0))
DRAW(truncated_far_f64, uint64_t, double, hw_truncated_f64, hw_draw_truncated_f64(w[i], d, 1))

/* The far region's polynomials are worked out only for words that may lie there. */
static void normal_f64(const void *words, int64_t n, const void *distribution, void *out) {
    const uint64_t *w = words;
    uint64_t far = 0;
    for (int64_t i = 0; i < n; i++) far |= (uint64_t)hw_normal_f64_is_far(w[i]);
    (far ? normal_far_f64 : normal_near_f64)(words, n, distribution, out);
}

static void truncated_f32(const void *words, int64_t n, const void *distribution, void *out) {
    const hw_truncated_f32 *d = distribution;
    int far = d->below < 0x1p-36f || d->above < 0x1p-36f;
    (far ? truncated_far_f32 : truncated_near_f32)(words, n, distribution, out);
}

static void truncated_f64(const void *words, int64_t n, const void *distribution, void *out) {
    const hw_truncated_f64 *d = distribution;
    int far = d->below < 0x1p-36 || d->above < 0x1p-36;
    (far ? truncated_far_f64 : truncated_near_f64)(words, n, distribution, out);
}

static void round_f16(const float *restrict x, int64_t n, uint16_t *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = hw_f16_bits(x[i]);
}

const hw_random_tiles HW_NAME(hw_random_tiles) = {
    .blocks = blocks,
    .uniform_f32 = uniform_f32,
    .uniform_f64 = uniform_f64,
    .normal_f32 = normal_f32,
    .normal_f64 = normal_f64,
    .truncated_f32 = truncated_f32,
    .truncated_f64 = truncated_f64,
    .round_f16 = round_f16,
};
