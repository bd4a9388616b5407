/* Convolutions of one input channel a group: CONTRACT.md section 3. Bound by memory, so that rows
 * of a matrix product would be lost on them: a thread has a few outputs, its chains in registers.
 *
 * `correlate` is the forward pass and backward input, as conv.h describes them, of up to one
 * segment of terms. A thread has RUN outputs below each other, a tap's weight serves them all;
 * neighbouring threads, neighbouring columns or channels, whichever lie side by side. What overlaps
 * comes from the L1 cache; in `correlate_3_by_3` from registers: 10 rows for 8 outputs, each read
 * once. Row after row meets an output's taps in their order, from above or, in backward input,
 * below.
 *
 * `correlate_weight` has an element of dw and a segment of its terms a thread, and writes the
 * segment's chain for fold.cu. Neighbouring threads have the taps of the same terms, or in memory
 * of channels side by side, the channels. */
#include "common/contraction.h"
#include "cuda/conv.h"

enum { RUN = 8, THREADS = 256, BLOCKS = sizeof(real) == 4 ? 3 : 2 /* of 3 × 3 taps */ };

/* Division of n < 2^31 by a number known before. */
struct Divisor {
    uint32_t by, magic, shift, unused;
    __device__ __forceinline__ uint32_t quotient(uint32_t n) const {
        return (__umulhi(n, magic) + n) >> shift;
    }
    /* n becomes the quotient; the remainder. */
    __device__ __forceinline__ uint32_t split(uint32_t &n) const {
        uint32_t q = quotient(n), rest = n - q * by;
        n = q;
        return rest;
    }
};

struct Threads {
    Divisor digit[3], rows; /* of a thread's number, the fastest first; channels of c a group */
    int64_t count;
    uint32_t order[4]; /* which place each digit is, and what is left of them */

    __device__ __forceinline__ void places(uint32_t at, uint32_t (&place)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t digit = i < 3 ? this->digit[i].split(at) : at;
#pragma unroll
            for (int j = 0; j < 4; j++)
                place[j] = order[i] == j ? digit : i ? place[j] : 0; /* no memory: j is known */
        }
    }
};

/* a, b and c become those of a thread with the places across, down in runs, channel of c, image. */
HW_FUNCTION void go_to(const Problem &p, const Threads &threads, const uint32_t (&place)[4],
                       int64_t a_base, int64_t c_base, const real *&a, const real *&b, real *&c) {
    uint32_t group = place[2], channel = threads.rows.split(group);
    a += group * p.a_group + channel * p.a_row + a_base;
    b += group * p.b_group + place[3] * p.b_column;
    c += c_base + group * p.c_group + channel * p.c_row + place[3] * p.c_column[0] +
         (int)place[1] * RUN * p.c_column[1] + (int)place[0] * p.c_column[2];
}

/* Thread along x. Of one class, with 3 × 3 taps whose rows are as far apart as the outputs'. */
HW_KERNEL_BOUNDS(THREADS, BLOCKS)
correlate_3_by_3(Problem p, Threads threads, const real *a, const real *b, const real *bias,
                 real *c) {
    enum { TAPS = 3, ROWS = RUN + TAPS - 1 };
    int64_t thread = hw_thread();
    if (thread >= threads.count) return;
    const Axis &down = p.axis[0], &across = p.axis[1];
    uint32_t place[4];
    threads.places((uint32_t)thread, place);
    int row = (int)place[1] * RUN;
    go_to(p, threads, place, 0, 0, a, b, c);
    bool up = down.term_step != down.column_step; /* the opposite: the last output comes first */
    coordinate h = (coordinate)((row + (up ? RUN - 1 : 0)) * down.column_step + down.start);
    coordinate w = (coordinate)(place[0] * across.column_step + across.start);
    coordinate step = (coordinate)down.term_step;
    extent height = (extent)down.size, width = (extent)across.size;
    int64_t below = down.term_step * p.b_axis[0];
    b += h * p.b_axis[0] + w * p.b_axis[1];
    coordinate first[TAPS]; /* row of b; nowhere, if the column is */
#pragma unroll
    for (int s = 0; s < TAPS; s++)
        first[s] = (extent)(w + s * (coordinate)across.term_step) < width ? h : NOWHERE;
    real chain[RUN] = {}; /* chain[i] takes tap row r of row i + r */
    for (int t = 0; t < p.terms; t++, a += p.a_term[0], b += p.b_term) {
        real tap[TAPS][TAPS];
        const real *from[TAPS];
#pragma unroll
        for (int s = 0; s < TAPS; s++) {
            from[s] = b + s * across.term_step * p.b_axis[1];
#pragma unroll
            for (int r = 0; r < TAPS; r++) tap[r][s] = a[r * p.a_term[1] + s * p.a_term[2]];
        }
#pragma unroll
        for (int q = 0; q < ROWS; q++) {
            real x[TAPS];
#pragma unroll
            for (int s = 0; s < TAPS; s++) {
                x[s] = (extent)(first[s] + q * step) < height ? *from[s] : 0;
                from[s] += below;
            }
#pragma unroll
            for (int r = 0; r < TAPS; r++)
#pragma unroll
                for (int s = 0; s < TAPS; s++)
                    if (q >= r && q - r < RUN) chain[q - r] = hw_fma(tap[r][s], x[s], chain[q - r]);
        }
    }
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        int at = up ? RUN - 1 - i : i;
        if (row + at < down.columns)
            c[at * p.c_column[1]] = bias ? chain[i] + bias[place[2]] : chain[i];
    }
}

/* Thread along x, class along y. */
HW_KERNEL_BOUNDS(THREADS, 4)
correlate(Problem p, Threads threads, const real *a, const real *b, const real *bias, real *c) {
    __shared__ Axis axis[2];
    __shared__ int64_t a_base[2], c_base[2];
    if (threadIdx.x < 2)
        class_axis(p, threadIdx.x, blockIdx.y, &axis[threadIdx.x], &a_base[threadIdx.x],
                   &c_base[threadIdx.x]);
    __syncthreads();
    int64_t thread = hw_thread();
    if (thread >= threads.count) return;
    const Axis down = axis[0], across = axis[1];
    uint32_t place[4];
    threads.places((uint32_t)thread, place);
    int row = (int)place[1] * RUN, column = (int)place[0];
    if (row >= down.columns || column >= across.columns) return;
    go_to(p, threads, place, a_base[0] + a_base[1], c_base[0] + c_base[1], a, b, c);
    coordinate first_h = (coordinate)(row * down.column_step + down.start);
    coordinate first_w = (coordinate)(column * across.column_step + across.start);
    coordinate step = (coordinate)down.column_step;
    extent height = (extent)down.size, width = (extent)across.size;
    int apart = (int)(down.column_step * p.b_axis[0]); /* RUN times it fits, says the host */
    int64_t aside = across.term_step * p.b_axis[1];
    real chain[RUN] = {};
    for (int t = 0; t < p.terms; t++)
        for (int r = 0; r < down.terms; r++) {
            coordinate h = first_h + r * (coordinate)down.term_step, w = first_w;
            const real *weight = a + t * p.a_term[0] + r * p.a_term[1];
            const real *from = b + t * p.b_term + h * p.b_axis[0] + w * p.b_axis[1];
            bool there[RUN];
#pragma unroll
            for (int i = 0; i < RUN; i++) there[i] = (extent)(h + i * step) < height;
#pragma unroll 1
            for (int s = 0; s < across.terms; s++) {
                bool inside = (extent)w < width;
                real tap = *weight, x[RUN];
#pragma unroll
                for (int i = 0; i < RUN; i++) x[i] = inside && there[i] ? from[i * apart] : 0;
                from += aside;
                weight += p.a_term[2];
                w += (coordinate)across.term_step;
#pragma unroll
                for (int i = 0; i < RUN; i++) chain[i] = hw_fma(tap, x[i], chain[i]);
            }
        }
#pragma unroll
    for (int i = 0; i < RUN; i++)
        if (row + i < down.columns)
            c[i * p.c_column[1]] = bias ? chain[i] + bias[place[2]] : chain[i];
}

/* parts: neighbouring threads have neighbouring taps, then
 * segments, then channels; else channels, then taps, then segments. */
HW_KERNEL_BOUNDS(THREADS, 4)
correlate_weight(Problem p, Threads threads, const real *dy, const real *x, real *parts) {
    int64_t thread = hw_thread();
    if (thread >= threads.count) return;
    uint32_t place[4]; /* tap across, tap down, channel of dy, segment */
    threads.places((uint32_t)thread, place);
    uint32_t group = place[2], channel = threads.rows.split(group);
    const Axis &down = p.axis[0], &across = p.axis[1];
    int64_t all = p.terms * down.terms * across.terms, first = place[3] * (int64_t)HW_SEGMENT;
    int left = all - first < HW_SEGMENT ? (int)(all - first) : HW_SEGMENT;
    int64_t image = first / (down.terms * across.terms);
    int i = (int)(first / across.terms % down.terms), j = (int)(first % across.terms);
    dy += group * p.a_group + channel * p.a_row;
    x += group * p.b_group;
    coordinate first_h = (coordinate)(place[1] * down.column_step + down.start);
    coordinate first_w = (coordinate)(place[0] * across.column_step + across.start);
    extent height = (extent)down.size, width = (extent)across.size;
    real chain = 0;
    while (left > 0) { /* a row of dy, or what the segment has of it */
        int count = (int)across.terms - j < left ? (int)across.terms - j : left;
        coordinate h = first_h + i * (coordinate)down.term_step;
        coordinate w = first_w + j * (coordinate)across.term_step;
        bool inside = (extent)h < height;
        const real *from_dy = dy + image * p.a_term[0] + i * p.a_term[1] + (int64_t)j * p.a_term[2];
        const real *from_x = x + image * p.b_term + h * p.b_axis[0] + w * p.b_axis[1];
#pragma unroll 4
        for (int k = 0; k < count; k++) {
            real other = inside && (extent)w < width ? *from_x : 0;
            chain = hw_fma(*from_dy, other, chain);
            w += (coordinate)across.term_step;
            from_x += across.term_step * p.b_axis[1];
            from_dy += p.a_term[2];
        }
        left -= count;
        j = 0;
        if (++i == down.terms) {
            i = 0;
            image++;
        }
    }
    parts[((place[2] * p.parts + place[3]) * down.columns + place[1]) * across.columns + place[0]] =
        chain;
}
