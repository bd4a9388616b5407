/* Random words, and variates from them: CONTRACT.md section 2.
 *
 * Element i of `out`, in C order, is element base + Σ jd steps[d] of the whole array, with its
 * coordinates (j0, j1, …) among `counts`, and takes the word or the two words of that one. Where 16
 * bytes of `out` take whole Philox blocks, a thread makes UNROLL times these, all blocks first, and
 * writes each at once; elsewhere each element's words are computed on their own.
 *
 * Bound by arithmetic, not memory, where a variate is a normal's quantile. The centre, 85% of the
 * normal, takes a third of the instructions that the tails do; but some lane of a warp is nearly
 * always in a tail. So a warp computes the centre of all its elements, and gathers the tails of
 * them all in a queue, of which each lane takes its share.
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

/* Of 16 bytes a thread makes: 16 words, 8 of 64 bits. */
enum { THREADS = 256, UNROLL = sizeof(Variate) == 2 ? 2 : 4, MOST_DIMENSIONS = 16 };

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

/* `draw` has the types Given and Out; draw.one(given) is a variate, draw.all(given, made) makes
 * those of N words a lane. */
template <class Draw>
HW_FUNCTION void fill(const Where &where, typename Draw::Out *out, Draw draw) {
    typedef typename Draw::Given Given;
    typedef typename Draw::Out Out;
    enum { WORDS = sizeof(Given) / 4, PER_16 = 16 / sizeof(Out), BLOCKS = PER_16 * WORDS / 4 };
    enum { MADE = UNROLL * PER_16 };
    struct alignas(16) Vector {
        Out v[PER_16];
    };
    const int64_t covered = THREADS * MADE, begin = blockIdx.x * covered;
    auto whole = [&](int64_t i) {
        return where.dimensions == 1    ? where.base + i * where.steps[0]
               : where.size < 1LL << 32 ? element(where, (uint32_t)i)
                                        : element(where, (uint64_t)i);
    };
    if (where.whole_blocks && begin + covered <= where.size) {
        int64_t first[UNROLL]; /* elements, of consecutive ones */
#pragma unroll
        for (int u = 0; u < UNROLL; u++) first[u] = begin + (u * THREADS + threadIdx.x) * PER_16;
        if (where.dimensions == 1) { /* once for all, lest the blocks wait for each other */
#pragma unroll
            for (int u = 0; u < UNROLL; u++) first[u] += where.base;
        } else {
#pragma unroll
            for (int u = 0; u < UNROLL; u++) first[u] = whole(first[u]);
        }
        Given given[MADE];
        Out made[MADE];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            uint32_t words[4 * BLOCKS];
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                hw_philox_block block =
                    hw_random_block(where.seed, where.stream, (uint64_t)(first[u] * WORDS / 4 + b));
#pragma unroll
                for (int j = 0; j < 4; j++) words[4 * b + j] = block.word[j];
            }
#pragma unroll
            for (int j = 0; j < PER_16; j++)
                given[u * PER_16 + j] = word_of(words + j * WORDS, (Given)0);
        }
        draw.all(given, made);
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            Vector vector;
#pragma unroll
            for (int j = 0; j < PER_16; j++) vector.v[j] = made[u * PER_16 + j];
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
            out[i] = draw.one(word_of(words, (Given)0));
        }
    }
}

/* ---- words and uniforms: each on its own ----------------------------------------------------- */

template <class G, class O, class F> struct Each {
    typedef G Given;
    typedef O Out;
    F f;
    __device__ __forceinline__ Out one(Given given) const { return f(given); }
    template <int N>
    __device__ __forceinline__ void all(const Given (&given)[N], Out (&out)[N]) const {
#pragma unroll
        for (int j = 0; j < N; j++) out[j] = f(given[j]);
    }
};
template <class G, class O, class F> HW_FUNCTION void fill_each(const Where &where, O *out, F f) {
    fill(where, out, Each<G, O, F>{f});
}

HW_KERNEL bits(const __grid_constant__ Where where, uint32_t *out) {
    fill_each<uint32_t>(where, out, [](uint32_t word) { return word; });
}

HW_FUNCTION float uniform_of(uint32_t word, hw_uniform_f32 d) {
    return hw_draw_uniform_f32(word, d);
}
HW_FUNCTION double uniform_of(uint64_t word, hw_uniform_f64 d) {
    return hw_draw_uniform_f64(word, d);
}
HW_KERNEL uniform(const __grid_constant__ Where where, const Of<real>::Uniform d, Variate *out) {
    fill_each<Word>(where, out, [&](Word word) { return stored(uniform_of(word, d)); });
}

/* ---- quantiles ------------------------------------------------------------------------------- */

HW_FUNCTION hw_half_f32 half_of(uint32_t word, const hw_normal_params_f32 &) {
    return hw_normal_half_f32(word);
}
HW_FUNCTION hw_half_f64 half_of(uint64_t word, const hw_normal_params_f64 &) {
    return hw_normal_half_f64(word);
}
HW_FUNCTION hw_half_f32 half_of(uint32_t word, const hw_truncated_f32 &d) {
    return hw_truncated_half_f32(word, d);
}
HW_FUNCTION hw_half_f64 half_of(uint64_t word, const hw_truncated_f64 &d) {
    return hw_truncated_half_f64(word, d);
}

HW_FUNCTION float variate_of(uint32_t word, float z, const hw_normal_params_f32 &d) {
    return d.mean + d.std * hw_normal_side_f32(word, z);
}
HW_FUNCTION double variate_of(uint64_t word, double z, const hw_normal_params_f64 &d) {
    return d.mean + d.std * hw_normal_side_f64(word, z);
}
HW_FUNCTION float variate_of(uint32_t word, float z, const hw_truncated_f32 &d) {
    return hw_truncated_side_f32(word, z, d);
}
HW_FUNCTION double variate_of(uint64_t word, double z, const hw_truncated_f64 &d) {
    return hw_truncated_side_f64(word, z, d);
}

HW_FUNCTION uint32_t bits_of(float x) { return hw_bits_f32(x); }
HW_FUNCTION uint64_t bits_of(double x) { return hw_bits_f64(x); }
HW_FUNCTION float number_of(uint32_t bits) { return hw_f32_from_bits(bits); }
HW_FUNCTION double number_of(uint64_t bits) { return hw_f64_from_bits(bits); }

HW_FUNCTION bool in_centre(float q) { return q <= 0.425f; }
HW_FUNCTION bool in_centre(double q) { return q <= 0.425; }
HW_FUNCTION float centre(float q) {
    hw_ratio_f32 ratio = hw_centre_f32(q);
    return ratio.top / ratio.bottom;
}
HW_FUNCTION double centre(double q) {
    hw_ratio_f64 ratio = hw_centre_f64(q);
    return ratio.top / ratio.bottom;
}

/* The far region's polynomials, hardly ever: from 2^-36 on, a little above HW_FAR_TAIL. */
HW_FUNCTION float tail(float p) {
    hw_ratio_f32 ratio = p < 0x1p-36f ? hw_tail_f32(p, 1) : hw_tail_f32(p, 0);
    return ratio.top / ratio.bottom;
}
HW_FUNCTION double tail(double p) {
    hw_ratio_f64 ratio = p < 0x1p-36 ? hw_tail_f64(p, 1) : hw_tail_f64(p, 0);
    return ratio.top / ratio.bottom;
}

enum { AT_ONCE = sizeof(real) == 8 ? 3 : 4 }; /* blocks: as many warps as registers allow */

template <class Parameters> struct Quantiles {
    typedef Word Given;
    typedef Variate Out;
    Parameters d;

    __device__ __forceinline__ Out one(Word word) const {
        auto half = half_of(word, d);
        return stored(variate_of(word, in_centre(half.q) ? centre(half.q) : tail(half.p), d));
    }

    /* Whole warps only. Until the queue has been worked off, z < 0 marks a tail. */
    template <int N>
    __device__ __forceinline__ void all(const Word (&words)[N], Variate (&out)[N]) const {
        __shared__ Word queues[THREADS / 32][32 * N]; /* words, then their quantiles */
        Word *queue = queues[threadIdx.x / 32];
        const unsigned lane = threadIdx.x % 32;
        real z[N];
        unsigned tails = 0, end;
#pragma unroll
        for (int j = 0; j < N; j++) {
            real q = half_of(words[j], d).q, quantile = centre(q);
            z[j] = in_centre(q) ? quantile : (real)-1;
            tails += !in_centre(q);
        }
        end = tails; /* of this lane's part of the queue: the lanes' sum up to here */
#pragma unroll
        for (int delta = 1; delta < 32; delta *= 2) {
            unsigned other = __shfl_up_sync(0xffffffffu, end, delta);
            end += lane >= delta ? other : 0;
        }
        const unsigned count = __shfl_sync(0xffffffffu, end, 31);
        Word *slot = queue + (end - tails);
#pragma unroll
        for (int j = 0; j < N; j++)
            if (z[j] < 0) *slot++ = words[j];
        __syncwarp();
#pragma unroll 1
        for (unsigned i = lane; i < count; i += 32)
            queue[i] = bits_of(tail(half_of(queue[i], d).p));
        __syncwarp();
        slot = queue + (end - tails);
#pragma unroll
        for (int j = 0; j < N; j++) {
            if (z[j] < 0) z[j] = number_of(*slot++);
            out[j] = stored(variate_of(words[j], z[j], d));
        }
    }
};

HW_KERNEL_BOUNDS(THREADS, AT_ONCE)
normal(const __grid_constant__ Where where, const Of<real>::Normal d, Variate *out) {
    fill(where, out, Quantiles<Of<real>::Normal>{d});
}
HW_KERNEL_BOUNDS(THREADS, AT_ONCE)
truncated_normal(const __grid_constant__ Where where, const Of<real>::Truncated d, Variate *out) {
    fill(where, out, Quantiles<Of<real>::Truncated>{d});
}

/* Of given words: how the tests see those that a stream hardly ever has. */
HW_KERNEL normal_of_words(const Word *words, const Of<real>::Normal d, Variate *out, int64_t size) {
    const Quantiles<Of<real>::Normal> draw = {d};
    for (int64_t i = hw_thread(); i < size; i += hw_threads()) out[i] = draw.one(words[i]);
}
