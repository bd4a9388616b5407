/* One tile of a product on the tensor cores: float32 in and out, the factors rounded to TF32 or
 * bfloat16, sums in float32. The fast path that a caller asks for; repeatable from run to run, and
 * no part of CONTRACT.md: how the cores add up inside is theirs.
 *
 * The operands come by the loaders and copies of contraction.h, as [k][row or column] of float32,
 * or by HW_ALONG_16 as [row or column][k], and are rounded where they are taken into registers. A
 * warp has 16 DOWN × 8 ACROSS outputs, in fragments of mma.sync: lane (g, t), g = lane / 4, t =
 * lane % 4, holds of a (16 × K)  rows g and g + 8, k's t and t + 4 (TF32, K = 8); 2t, 2t + 1 and 8
 * more (bf16, 16) b (K × 8)   column g, the same k's c (16 × 8)  rows g and g + 8, columns 2t and
 * 2t + 1 A pitch of 8 more than a multiple of 32 puts the lanes' k's and rows into 32 different
 * banks; so do along k 4 more than a multiple of 16, and for pairs 8 more. */
#ifndef HALFWAVE_CUDA_TENSOR_H
#define HALFWAVE_CUDA_TENSOR_H

#include "cuda/contraction.h"

enum HwPrecision { HW_TF32, HW_BF16 };

template <int ROWS_, int COLUMNS_, int DOWN_, int ACROSS_, int STEP_, int STAGES_>
struct HwTensorTile {
    enum {
        ROWS = ROWS_,
        COLUMNS = COLUMNS_,
        DOWN = DOWN_,     /* fragments of a warp below each other, of 16 rows */
        ACROSS = ACROSS_, /* and side by side, of 8 columns */
        STEP = STEP_,
        STAGES = STAGES_,
        WARPS_ACROSS = COLUMNS / (8 * ACROSS),
        THREADS = 32 * (ROWS / (16 * DOWN)) * WARPS_ACROSS
    };
    static_assert(ROWS % 32 == 0 && COLUMNS % 32 == 0 && STEP % 16 == 0 && STAGES >= 2, "");
};

/* How an operand's SIZE rows or columns lie in a stage. */
template <class Tile, int PRECISION, int SIZE, int LANES> struct HwStage {
    enum {
        ALONG = LANES == HW_ALONG_16,
        PITCH = ALONG ? Tile::STEP + (PRECISION == HW_TF32 ? 4 : 8) : SIZE + 8,
        NUMBERS = (ALONG ? SIZE : Tile::STEP) * PITCH,
        X_STEP = ALONG ? PITCH : 1,
        K_STEP = ALONG ? 1 : PITCH
    };
};

#ifdef HW_EMULATED
HW_FUNCTION uint32_t hw_tf32(float x) {
    uint32_t bits = hw_bits_f32(x), size = bits & 0x7fffffff;
    return size >= 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000; /* ties away from 0 */
}
HW_FUNCTION uint32_t hw_bf16_of(float x) {
    uint32_t bits = hw_bits_f32(x), size = bits & 0x7fffffff;
    if (size > 0x7f800000) return 0x7fff;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16; /* to even */
}
HW_FUNCTION uint32_t hw_bf16_pair(float low, float high) {
    return hw_bf16_of(low) | hw_bf16_of(high) << 16;
}
/* c += a b over a warp, from what all of its lanes hold. */
template <int PRECISION>
HW_FUNCTION void hw_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    static uint32_t held[32][32][6]; /* of a block's warps */
    int warp = hw_host::current->number / 32, lane = hw_host::current->number % 32;
    std::copy(a, a + 4, held[warp][lane]);
    std::copy(b, b + 2, held[warp][lane] + 4);
    hw_host::wait("mma");
    const int size = PRECISION == HW_TF32 ? 8 : 16;
    auto number = [&](int owner, int reg, int half) {
        uint32_t bits = held[warp][owner][reg];
        return hw_f32_from_bits(size == 8 ? bits : half ? bits & 0xffff0000 : bits << 16);
    };
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < size; k++) {
            int t = size == 8 ? k % 4 : k % 8 / 2, upper = k >= size / 2;
            c[i] += number(row % 8 * 4 + t, row / 8 + 2 * upper, k % 2) *
                    number(column * 4 + t, 4 + upper, k % 2);
        }
    }
    hw_host::wait("the end of mma");
}
#else
HW_FUNCTION uint32_t hw_tf32(float x) {
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
HW_FUNCTION uint32_t hw_bf16_pair(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
template <int PRECISION>
HW_FUNCTION void hw_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if (PRECISION == HW_TF32)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
                     "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                     "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

/* Two k's of one row or column, rounded: k and k + 4 (TF32), or the pairs at k and k + 8 (bf16). */
template <int PRECISION, int K_STEP>
HW_FUNCTION void hw_fragment(const real *from, uint32_t &lower, uint32_t &upper) {
    struct alignas(8) Pair {
        float low, high;
    };
    if (PRECISION == HW_TF32) {
        lower = hw_tf32(from[0]);
        upper = hw_tf32(from[4 * K_STEP]);
    } else if (K_STEP == 1) {
        Pair first = *(const Pair *)from, second = *(const Pair *)(from + 8);
        lower = hw_bf16_pair(first.low, first.high);
        upper = hw_bf16_pair(second.low, second.high);
    } else {
        lower = hw_bf16_pair(from[0], from[K_STEP]);
        upper = hw_bf16_pair(from[8 * K_STEP], from[9 * K_STEP]);
    }
}

/* The tile whose first output is (row, column), of the terms k_begin to k_end. `shared` holds
 * Tile::STAGES stages of both operands. */
template <class Tile, int PRECISION, class A, class B, class Sink>
HW_FUNCTION void hw_contract_tensor(const A &a, const B &b, const Sink &c, int64_t row,
                                    int64_t column, int64_t k_begin, int64_t k_end, real *shared) {
    enum { K = PRECISION == HW_TF32 ? 8 : 16, K_OF_LANE = K == 8 ? 1 : 2 };
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int i = warp / Tile::WARPS_ACROSS * 16 * Tile::DOWN;
    int j = warp % Tile::WARPS_ACROSS * 8 * Tile::ACROSS;
    typedef HwStage<Tile, PRECISION, Tile::ROWS, A::LANES> InA;
    typedef HwStage<Tile, PRECISION, Tile::COLUMNS, B::LANES> InB;
    enum { STAGE = InA::NUMBERS + InB::NUMBERS };
    HwCopies<Tile, Tile::ROWS, InA::PITCH, A> copies_a(a, row, k_begin);
    HwCopies<Tile, Tile::COLUMNS, InB::PITCH, B> copies_b(b, column, k_begin);
    int64_t terms = k_end - k_begin, steps = (terms + Tile::STEP - 1) / Tile::STEP;
    auto copy = [&](int64_t step) { /* what is beyond the last term becomes 0 */
                                    real *stage = shared + step % Tile::STAGES * STAGE;
                                    int64_t rest = terms - step * Tile::STEP;
                                    int left = rest > 0
                                                   ? rest < Tile::STEP ? (int)rest : (int)Tile::STEP
                                                   : 0;
                                    copies_a.step(stage, left);
                                    copies_b.step(stage + InA::NUMBERS, left);
                                    hw_copies_commit();
    };
    float sum[Tile::DOWN][Tile::ACROSS][4] = {};
    for (int step = 0; step < Tile::STAGES - 1; step++) copy(step);
    for (int64_t step = 0; step < steps; step++) {
        hw_copies_wait<Tile::STAGES - 2>();
        __syncthreads(); /* and all have read what is overwritten next */
        copy(step + Tile::STAGES - 1);
        const real *stage = shared + step % Tile::STAGES * STAGE;
        const real *from_a = stage + K_OF_LANE * t * InA::K_STEP + (i + g) * InA::X_STEP;
        const real *from_b =
            stage + InA::NUMBERS + K_OF_LANE * t * InB::K_STEP + (j + g) * InB::X_STEP;
#pragma unroll
        for (int k = 0; k < Tile::STEP; k += K) {
            uint32_t of_a[Tile::DOWN][4], of_b[Tile::ACROSS][2];
#pragma unroll
            for (int m = 0; m < Tile::DOWN; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    hw_fragment<PRECISION, InA::K_STEP>(from_a + k * InA::K_STEP +
                                                            (16 * m + 8 * half) * InA::X_STEP,
                                                        of_a[m][half], of_a[m][2 + half]);
#pragma unroll
            for (int n = 0; n < Tile::ACROSS; n++)
                hw_fragment<PRECISION, InB::K_STEP>(from_b + k * InB::K_STEP + 8 * n * InB::X_STEP,
                                                    of_b[n][0], of_b[n][1]);
#pragma unroll
            for (int m = 0; m < Tile::DOWN; m++)
#pragma unroll
                for (int n = 0; n < Tile::ACROSS; n++)
                    hw_mma<PRECISION>(sum[m][n], of_a[m], of_b[n]);
        }
    }
    hw_copies_wait<0>();
#pragma unroll
    for (int m = 0; m < Tile::DOWN; m++)
#pragma unroll
        for (int n = 0; n < Tile::ACROSS; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int64_t at_row = row + i + 16 * m + g + e / 2 * 8;
                int64_t at = column + j + 8 * n + 2 * t + e % 2;
                if (at_row < c.rows && at < c.columns)
                    *c.place(at_row, at) =
                        c.biased ? sum[m][n][e] + c.bias(at_row, at) : sum[m][n][e];
            }
}

#endif
