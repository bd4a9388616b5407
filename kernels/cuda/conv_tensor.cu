/* 2-D convolution on the tensor cores, its three passes: conv.h's products c = a b by tensor.h.
 *
 * Shared memory has the places of the block's columns, and a few steps ahead of the copies those of
 * the terms: where an element of b lies, and whether there is one, is an addition and two
 * comparisons, whatever the strides. Warp after warp lists the terms of a step, each its own
 * lane's.
 *
 * Terms are summed up by the cores, in what order is theirs: so here it is the order that reads
 * memory best. By HW_ALONG_16 the channel is the innermost digit of a term, where it is memory's: 4
 * terms a copy. The host hands over weights with rows side by side.
 *
 * Where blocks would be few, each has a part of the terms, and writes its sums at c + part *
 * c_part, which fold.cu folds in order. HW_TILE chooses the tile, HW_A_LANES and HW_B_LANES how an
 * operand lies (HwLanes), HW_PRECISION how its numbers are rounded. */
#include "cuda/conv.h"
#include "cuda/tensor.h"

#if HW_TILE == 0
typedef HwTensorTile<128, 128, 4, 4, 16, 4> Tile;
enum { BLOCKS = 2 };
#else
typedef HwTensorTile<64, 128, 4, 4, 16, 4> Tile;
enum { BLOCKS = 3 };
#endif

enum {
    STEP = Tile::STEP,
    AHEAD = Tile::STAGES - 1,
    TABLES = 8, /* of terms: 2 * AHEAD are needed, for nothing parts the first copies */
    WARPS = Tile::THREADS / 32,
    CHANNEL_INNERMOST = HW_B_LANES == HW_ALONG_16,
    STAGE = HwStage<Tile, HW_PRECISION, Tile::ROWS, HW_A_LANES>::NUMBERS +
        HwStage<Tile, HW_PRECISION, Tile::COLUMNS, HW_B_LANES>::NUMBERS
};
static_assert(TABLES >= 2 * AHEAD && AHEAD * STEP <= Tile::THREADS, "");

struct Sink { /* from the block's first row and column on */
    real *base;
    int64_t rows, columns, row_stride;
    const int64_t *column;
    const real *to_add;
    bool biased;

    __device__ __forceinline__ real *place(int64_t i, int64_t j) const {
        return base + i * row_stride + column[j];
    }
    __device__ __forceinline__ real bias(int64_t i, int64_t) const { return to_add[i]; }
};

/* Stages first; what is not asked for in every step is here too, for registers are few. */
struct Shared {
    real stages[Tile::STAGES * STAGE];
    Place column[Tile::COLUMNS], term[TABLES][STEP];
    int64_t c_column[Tile::COLUMNS], a_term[TABLES][STEP];
    Axis axis[2];
    int64_t a_base[2], c_base[2];
    Term next[WARPS][STEP], turn; /* that a warp lists next; from there to its next ones */
    Sink sink;
};
static_assert(sizeof(Shared) <= HW_SHARED, "the host gives less shared memory");

/* The places of the block's columns, in b and in c. */
HW_FUNCTION void list_columns(const Problem &p, Shared *shared, int64_t first, int64_t columns) {
    const Axis *axis = shared->axis;
    for (int j = threadIdx.x; j < Tile::COLUMNS; j += Tile::THREADS) {
        Place place = {0, NOWHERE, 0};
        int64_t in_c = 0;
        if (first + j < columns) place = column_place(p, axis, first + j, &in_c);
        shared->column[j] = place;
        shared->c_column[j] = in_c;
    }
}

/* The places of one term, in a and b: of any, if it does not exist, for nothing reads it. */
HW_FUNCTION void list_term(const Problem &p, Shared *shared, unsigned table, int k,
                           const Term &term) {
    int64_t in_a;
    shared->term[table % TABLES][k] = term_place(p, shared->axis, term, &in_a);
    shared->a_term[table % TABLES][k] = in_a;
}

/* The loaders: what their copies are made of. */
struct Plain { /* a, whose first row of the block is at `from`; `rows` are there */
    enum { LANES = HW_A_LANES };
    const Problem &p;
    const Shared *shared;
    const real *from;
    int rows;
};
struct Gathered { /* b, of the block's group */
    enum { LANES = HW_B_LANES };
    const Problem &p;
    Shared *shared;
    const real *from;
};

template <class T, int SIZE, int PITCH> struct HwCopies<T, SIZE, PITCH, Plain> {
    typedef HwShare<Tile, SIZE, HW_A_LANES> S;
    S share;
    const Shared *shared;
    const char *from;
    int64_t row_bytes;
    int rows;
    unsigned number;

    __device__ __forceinline__ HwCopies(const Plain &a, int64_t, int64_t)
        : shared(a.shared), from((const char *)(a.from + share.x * a.p.a_row)),
          row_bytes(S::APART * a.p.a_row * sizeof(real)), rows(a.rows), number(0) {}
    __device__ __forceinline__ void step(real *stage, int left) {
        const int64_t *places = shared->a_term[number++ % TABLES] + share.k;
        stage += share.k * PITCH + share.x;
#pragma unroll
        for (int k = 0; k < STEP; k += S::K_APART) {
            const char *next = from + places[k];
#pragma unroll
            for (int i = 0; i < SIZE; i += S::APART, next += row_bytes)
                hw_copy_async<S::BYTES>(stage + k * PITCH + i, next,
                                        share.k + k < left & share.x + i < rows);
        }
    }
};

template <class T, int SIZE, int PITCH> struct HwCopies<T, SIZE, PITCH, Gathered> {
    typedef HwShare<Tile, SIZE, HW_B_LANES> S;
    enum { ALONG = HW_B_LANES == HW_ALONG_16 };
    S share;
    const Problem &p;
    Shared *shared;
    const char *from;
    unsigned number;

    __device__ __forceinline__ HwCopies(const Gathered &b, int64_t, int64_t)
        : p(b.p), shared(b.shared), from((const char *)b.from), number(0) {}
    __device__ __forceinline__ void step(real *stage, int left) {
        const Place *places = shared->term[number % TABLES] + share.k;
        const Place *columns = shared->column + share.x;
        extent height = (extent)shared->axis[0].size, width = (extent)shared->axis[1].size;
        stage += ALONG ? share.x * PITCH + share.k : share.k * PITCH + share.x;
#pragma unroll
        for (int k = 0; k < STEP; k += S::K_APART) {
            Place term = places[k];
            const char *next = from + term.offset;
#pragma unroll
            for (int j = 0; j < SIZE; j += S::APART) {
                Place column = columns[j];
                bool there = share.k + k < left & (extent)(column.h + term.h) < height &
                             (extent)(column.w + term.w) < width;
                hw_copy_async<S::BYTES>(stage + (ALONG ? j * PITCH + k : k * PITCH + j),
                                        next + column.offset, there);
            }
        }
        /* What it overwrites was read AHEAD steps ago or earlier, and will be read AHEAD on. */
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        if (warp == (int)(number % WARPS) && lane < STEP) {
            Term &next = shared->next[warp][lane];
            list_term(p, shared, number + AHEAD, lane, next);
            advance<CHANNEL_INNERMOST>(p, shared->axis, next, shared->turn);
        }
        number++;
    }
};

HW_KERNEL_BOUNDS(Tile::THREADS, BLOCKS)
convolve(Problem p, int64_t c_part, const real *a, const real *b, const real *bias, real *c) {
    HW_DYNAMIC_SHARED(Shared, shared);
    int64_t at = blockIdx.x + (int64_t)blockIdx.y * gridDim.x;
    int64_t row = at % p.row_tiles * Tile::ROWS;
    at /= p.row_tiles;
    int64_t column = at % p.column_tiles * Tile::COLUMNS;
    at /= p.column_tiles;
    int64_t part = at % p.parts;
    at /= p.parts;
    int64_t group = at % p.groups, of_class = at / p.groups;
    if (of_class >= p.classes[0] * p.classes[1]) return;
    const Axis *axis = shared->axis;
    if (threadIdx.x < 2) {
        int i = threadIdx.x;
        class_axis(p, i, of_class, &shared->axis[i], &shared->a_base[i], &shared->c_base[i]);
    }
    __syncthreads();
    int64_t columns = p.columns * axis[0].columns * axis[1].columns;
    int64_t terms = p.terms * axis[0].terms * axis[1].terms;
    if (column >= columns) return; /* a class of fewer than the others */
    int64_t begin = part * p.part < terms ? part * p.part : terms;
    int64_t end = begin + p.part < terms ? begin + p.part : terms;
    list_columns(p, shared, column, columns);
    int t = threadIdx.x;
    if (t < AHEAD * STEP)
        list_term(p, shared, t / STEP, t % STEP, term_of<CHANNEL_INNERMOST>(p, axis, begin + t));
    if (t < WARPS * STEP)
        shared->next[t / STEP][t % STEP] =
            term_of<CHANNEL_INNERMOST>(p, axis, begin + AHEAD * STEP + t);
    if (t == 0) {
        shared->turn = term_of<CHANNEL_INNERMOST>(p, axis, WARPS * STEP);
        c += group * p.c_group + shared->c_base[0] + shared->c_base[1] + part * c_part;
        shared->sink = {c + row * p.c_row, p.rows - row,
                        columns - column,  p.c_row,
                        shared->c_column,  bias ? bias + group * p.rows + row : nullptr,
                        bias != nullptr};
    }
    __syncthreads();
    a += group * p.a_group + shared->a_base[0] + shared->a_base[1] + row * p.a_row;
    Plain of_a = {p, shared, a, (int)(p.rows - row < Tile::ROWS ? p.rows - row : Tile::ROWS)};
    Gathered of_b = {p, shared, b + group * p.b_group};
    hw_contract_tensor<Tile, HW_PRECISION>(of_a, of_b, shared->sink, 0, 0, 0, end - begin,
                                           shared->stages);
}
