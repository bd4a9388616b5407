/* Random words, and variates from them: CONTRACT.md section 2.
 *
 * Element i of `out`, in C order, is element base + Σ jd steps[d] of the whole array, (j0, j1, …)
 * its coordinates among `counts`, and takes the word or the two words of that one. Where 16 bytes
 * of `out` take whole Philox blocks, a thread makes UNROLL times these and writes each at once;
 * elsewhere each element's words are computed on their own.
 *
 * HW_HALF: float32 variates, rounded to float16. */
#include "common/philox.h"
#include "cuda/variate.h"

template <class R> struct Of;
template <> struct Of<float> {
    typedef uint32_t Word;
    typedef hw_uniform_f32 Uniform;
    typedef hw_normal_params_f32 Normal;
    typedef hw_truncated_f32 Truncated;
};
template <> struct Of<double> {
    typedef uint64_t Word;
    typedef hw_uniform_f64 Uniform;
    typedef hw_normal_params_f64 Normal;
    typedef hw_truncated_f64 Truncated;
};
typedef Of<real>::Word Word;

enum { THREADS = 256, UNROLL = 4, MOST_DIMENSIONS = 16 };

struct Where {
    uint64_t seed, stream;
    int64_t base, size;
    int64_t counts[MOST_DIMENSIONS], steps[MOST_DIMENSIONS];
    int32_t dimensions, whole_blocks; /* whether any 16 bytes aligned in `out` take whole blocks */
};

HW_FUNCTION uint32_t word_of(const uint32_t *words, uint32_t) { return words[0]; }
HW_FUNCTION uint64_t word_of(const uint32_t *words, uint64_t) {
    return words[0] | (uint64_t)words[1] << 32;
}

/* The element of the whole array that element i of `out` is; I is a type that i and counts fit. */
template <class I> HW_FUNCTION int64_t element(const Where &where, I i) {
    int64_t at = where.base;
#pragma unroll 1
    for (int d = where.dimensions - 1; d > 0; d--) {
        I count = (I)where.counts[d], row = i / count;
        at += (int64_t)(i - row * count) * where.steps[d];
        i = row;
    }
    return at + (int64_t)i * where.steps[0];
}

/* `draw` gives an Out of a W. */
template <class W, class Out, class Draw>
HW_FUNCTION void fill(const Where &where, Out *out, Draw draw) {
    enum { WORDS = sizeof(W) / 4, PER_16 = 16 / sizeof(Out), BLOCKS = PER_16 * WORDS / 4 };
    struct alignas(16) Vector {
        Out v[PER_16];
    };
    const int64_t covered = THREADS * UNROLL * PER_16, begin = blockIdx.x * covered;
    auto whole = [&](int64_t i) {
        return where.dimensions == 1    ? where.base + i * where.steps[0]
               : where.size < 1LL << 32 ? element(where, (uint32_t)i)
                                        : element(where, (uint64_t)i);
    };
    if (where.whole_blocks && begin + covered <= where.size) {
        uint32_t words[UNROLL][4 * BLOCKS];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int64_t first = whole(begin + (u * THREADS + threadIdx.x) * PER_16);
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                hw_philox_block block =
                    hw_random_block(where.seed, where.stream, (uint64_t)(first * WORDS / 4 + b));
#pragma unroll
                for (int j = 0; j < 4; j++) words[u][4 * b + j] = block.word[j];
            }
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            Vector vector;
#pragma unroll
            for (int j = 0; j < PER_16; j++)
                vector.v[j] = draw(word_of(words[u] + j * WORDS, (W)0));
            *(Vector *)(out + begin + (u * THREADS + threadIdx.x) * PER_16) = vector;
        }
    } else {
        int64_t end = begin + covered < where.size ? begin + covered : where.size;
        for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) {
            uint64_t first = (uint64_t)whole(i) * WORDS;
            uint32_t words[WORDS];
#pragma unroll
            for (int j = 0; j < WORDS; j++)
                words[j] = hw_random_word(where.seed, where.stream, first + j);
            out[i] = draw(word_of(words, (W)0));
        }
    }
}

HW_FUNCTION float draw(uint32_t word, const hw_uniform_f32 &d) {
    return hw_draw_uniform_f32(word, d);
}
HW_FUNCTION double draw(uint64_t word, const hw_uniform_f64 &d) {
    return hw_draw_uniform_f64(word, d);
}
HW_FUNCTION float draw(uint32_t word, const hw_normal_params_f32 &d) {
    return hw_draw_normal_f32(word, d);
}
/* The far region's polynomials are worked out only where a word may lie there: hardly ever. */
HW_FUNCTION double draw(uint64_t word, const hw_normal_params_f64 &d) {
    if (hw_normal_f64_is_far(word)) return hw_draw_normal_f64(word, d, 1);
    return hw_draw_normal_f64(word, d, 0);
}
HW_FUNCTION float draw(uint32_t word, const hw_truncated_f32 &d, int far) {
    return hw_draw_truncated_f32(word, d, far);
}
HW_FUNCTION double draw(uint64_t word, const hw_truncated_f64 &d, int far) {
    return hw_draw_truncated_f64(word, d, far);
}

HW_KERNEL bits(const __grid_constant__ Where where, uint32_t *out) {
    fill<uint32_t>(where, out, [](uint32_t word) { return word; });
}
HW_KERNEL uniform(const __grid_constant__ Where where, const Of<real>::Uniform d, Variate *out) {
    fill<Word>(where, out, [&](Word word) { return stored(draw(word, d)); });
}
HW_KERNEL normal(const __grid_constant__ Where where, const Of<real>::Normal d, Variate *out) {
    fill<Word>(where, out, [&](Word word) { return stored(draw(word, d)); });
}
HW_KERNEL truncated_normal(const __grid_constant__ Where where, const Of<real>::Truncated d,
                           Variate *out) {
    fill<Word>(where, out, [&](Word word) { return stored(draw(word, d, 0)); });
}
/* A tail that a bound leaves may begin in the far region. */
HW_KERNEL truncated_normal_far(const __grid_constant__ Where where, const Of<real>::Truncated d,
                               Variate *out) {
    fill<Word>(where, out, [&](Word word) { return stored(draw(word, d, 1)); });
}
