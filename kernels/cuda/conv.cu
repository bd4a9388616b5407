/* 2-D convolution, direct, its three passes: CONTRACT.md section 3. One kernel, an implicit matrix
 * product c = a b per group of what conv.h describes.
 *
 * Two tables in shared memory, of the block's columns and of the next STEP terms, say where every
 * element of a tile of b comes from: one addition and two comparisons each, no division, whatever
 * the strides.
 *
 * Tiles and chains are those of contraction.h. At the end of a segment the chains are folded into
 * where the results go, so that neither registers nor shared memory hold them twice: c itself, or
 * where the terms are cut into parts (segments or super-segments, a block each), the part's own
 * memory, which `fold` then folds in order.
 *
 * HW_TILE chooses the tile, HW_A_LANES and HW_B_LANES how an operand lies (HwLanes). */
#include "cuda/contraction.h"
#include "cuda/conv.h"

#if HW_TILE == 0
typedef HwTile<128, sizeof(real) == 4 ? 128 : 64, 8, sizeof(real) == 4 ? 8 : 4, 4, 16, 2> Tile;
enum { BLOCKS = sizeof(real) == 4 ? 2 : 1 };
#elif HW_TILE == 1
typedef HwTile<64, sizeof(real) == 4 ? 128 : 64, 8, sizeof(real) == 4 ? 8 : 4, 4, 16, 2> Tile;
enum { BLOCKS = sizeof(real) == 4 ? 4 : 3 };
#else
typedef HwTile<16, 256, 4, 8, 4, 16, 2> Tile;
enum { BLOCKS = sizeof(real) == 4 ? 4 : 2 };
#endif

enum { STEP = Tile::STEP, STAGES = Tile::STAGES, AHEAD = STAGES - 1, THREADS = Tile::THREADS };

struct Block { /* what a block has: its first row and column; its part, of how many tiles each */
    int64_t row, column, part, group, tile, tiles;
};

struct Shared {
    real stages[Tile::STAGED];
    Place column[Tile::COLUMNS], term[2][STEP];
    int64_t c_column[Tile::COLUMNS], a_term[2][STEP];
    Axis axis[2];
    int64_t a_base[2], c_base[2];
    Block block;
    Term next[STEP], step; /* the terms to be listed next, and how to go on by STEP terms */
};
static_assert(sizeof(Shared) <= HW_SHARED, "the host gives less shared memory");

#define NO_COLUMN (-1 - 0x7fffffffffffffffll)

/* False if it has none. Shared memory then holds the axes and the columns of the block. */
HW_FUNCTION bool begin(const Problem &p, int64_t parts, Shared *shared) {
    int64_t at = blockIdx.x + (int64_t)blockIdx.y * gridDim.x;
    int64_t tiles = p.row_tiles * p.column_tiles * p.groups;
    int64_t of_class = at / (tiles * parts);
    if (of_class >= p.classes[0] * p.classes[1]) return false;
    if (threadIdx.x == 0) {
        Block *block = &shared->block;
        block->tiles = tiles * p.classes[0] * p.classes[1];
        at -= of_class * tiles * parts;
        block->part = at / tiles;
        at -= block->part * tiles;
        block->tile = of_class * tiles + at;
        block->row = at % p.row_tiles * Tile::ROWS;
        at /= p.row_tiles;
        block->column = at % p.column_tiles * Tile::COLUMNS;
        block->group = at / p.column_tiles;
    }
    if (threadIdx.x < 2) {
        int i = threadIdx.x;
        class_axis(p, i, of_class, &shared->axis[i], &shared->a_base[i], &shared->c_base[i]);
    }
    __syncthreads();
    const Axis *axis = shared->axis;
    const Block *block = &shared->block;
    int64_t columns = p.columns * axis[0].columns * axis[1].columns;
    for (int j = threadIdx.x; j < Tile::COLUMNS; j += THREADS) {
        Place place = {0, NOWHERE, 0};
        int64_t c_offset = NO_COLUMN;
        if (block->column + j < columns)
            place = column_place(p, axis, block->column + j, &c_offset);
        shared->column[j] = place;
        shared->c_column[j] = c_offset;
    }
    __syncthreads();
    return block->column < columns;
}

/* The table of the next STEP terms, of which `count` exist; table by table the next warp's work.
 * What lacks is in no place of b; of a it is the first term's, and not used. */
HW_FUNCTION void list_terms(const Problem &p, Shared *shared, int table, int count) {
    int t = threadIdx.x % 32, slot = table % 2;
    if ((int)threadIdx.x / 32 != table % (THREADS / 32) || t >= STEP) return;
    Place place = {0, NOWHERE, 0};
    int64_t in_a = 0;
    const Axis *axis = shared->axis;
    if (t < count) place = term_place(p, axis, shared->next[t], &in_a);
    shared->term[slot][t] = place;
    shared->a_term[slot][t] = in_a;
    advance<false>(p, axis, shared->next[t], shared->step);
}

typedef HwShare<Tile, Tile::ROWS, HW_A_LANES> ShareA;
typedef HwShare<Tile, Tile::COLUMNS, HW_B_LANES> ShareB;

/* Copies one step of a, whose thread's first row is at `a`. Rows beyond the edge stay as they are:
 * of their results none is kept. */
HW_FUNCTION void copy_a(const Problem &p, const Shared *shared, real *stage, int slot,
                        const char *a, int rows) {
    ShareA share;
    int64_t row_bytes = ShareA::APART * p.a_row * (int64_t)sizeof(real);
#pragma unroll
    for (int k = 0; k < STEP; k += ShareA::K_APART) {
        const char *from = a + shared->a_term[slot][share.k + k];
        real *to = stage + (share.k + k) * Tile::A_PITCH + share.x;
#pragma unroll
        for (int i = 0; i < Tile::ROWS; i += ShareA::APART, from += row_bytes)
            if (share.x + i < rows) hw_copy_async<ShareA::BYTES>(to + i, from);
    }
}

HW_FUNCTION void copy_b(const Shared *shared, real *stage, int slot, const char *b) {
    ShareB share;
    extent height = (extent)shared->axis[0].size, width = (extent)shared->axis[1].size;
    Place column = shared->column[share.x];
#pragma unroll
    for (int k = 0; k < STEP; k += ShareB::K_APART) {
        Place term = shared->term[slot][share.k + k];
        real *to = stage + (share.k + k) * Tile::B_PITCH + share.x;
#pragma unroll
        for (int j = 0; j < Tile::COLUMNS; j += ShareB::APART) {
            if (ShareB::APART < Tile::COLUMNS) column = shared->column[share.x + j];
            bool there = (extent)(column.h + term.h) < height & (extent)(column.w + term.w) < width;
            hw_copy_async<ShareB::BYTES>(to + j, b + column.offset + term.offset, there);
        }
    }
}

HW_FUNCTION int rows_of(const Problem &p, const Block &block) {
    int64_t rows = p.rows - block.row;
    return rows < Tile::ROWS ? (int)rows : (int)Tile::ROWS;
}

/* Where the first of a part's results is, of this thread: they are THREADS apart. */
HW_FUNCTION int64_t part_of(const Block &block, int64_t part) {
    return (part * block.tiles + block.tile) * Tile::TOTALS + threadIdx.x;
}

/* Folds the chains of a segment into the results: c, in lines of 16 bytes where they lie so (down
 * its columns where b lies along the terms, channels last; else across), or a part's own memory. */
HW_FUNCTION void store(const Problem &p, const Shared *shared,
                       const real (&chain)[Tile::DOWN][Tile::ACROSS], bool first, bool last,
                       const real *bias, real *c, real *partial) {
    const Block &block = shared->block;
    if (partial) {
        partial += part_of(block, block.part);
#pragma unroll
        for (int n = 0; n < Tile::OUTPUTS; n++) {
            real *to = partial + n * THREADS, s = chain[n / Tile::ACROSS][n % Tile::ACROSS];
            *to = first ? s : *to + s;
        }
        return;
    }
    enum { SIDE = HW_PER_16, DOWN = HW_B_LANES == HW_ALONG };
    int rows = rows_of(p, block);
    c += block.group * p.c_group + shared->c_base[0] + shared->c_base[1] + block.row * p.c_row;
    bias += bias ? block.group * p.rows + block.row : 0;
#pragma unroll
    for (int m = 0; m < (DOWN ? Tile::DOWN : Tile::ACROSS); m += SIDE) {
        HwPlace<Tile> place(hw_opaque(threadIdx.x)); /* anew: few registers are left */
        bool together = DOWN ? p.c_row == 1 : true;
        const int64_t *line = shared->c_column + place.column + m * Tile::LANES_ACROSS;
#pragma unroll
        for (int e = 1; e < SIDE && !DOWN; e++) together &= line[e] == line[0] + e;
#pragma unroll
        for (int n = 0; n < (DOWN ? Tile::ACROSS : Tile::DOWN); n++) {
            int i = DOWN ? m : n, j = DOWN ? n : m;
            int row = place.row + i / SIDE * SIDE * Tile::LANES_DOWN + i % SIDE;
            const int64_t *column =
                shared->c_column + place.column + j / SIDE * SIDE * Tile::LANES_ACROSS + j % SIDE;
            if (row >= rows || column[0] == NO_COLUMN) continue; /* nor what follows */
            real *to = c + row * p.c_row + column[0];
            auto result = [&](int e, real u) {
                real s = DOWN ? chain[i + e][j] : chain[i][j + e], y = first ? s : u + s;
                return last && bias ? y + bias[DOWN ? row + e : row] : y;
            };
            if (together && (!DOWN || row + SIDE <= rows) && (uintptr_t)to % 16 == 0) {
                real16 y;
                if (!first) y = *(real16 *)to;
#pragma unroll
                for (int e = 0; e < SIDE; e++) y.v[e] = result(e, y.v[e]);
                *(real16 *)to = y;
            } else {
#pragma unroll
                for (int e = 0; e < SIDE; e++) {
                    if (DOWN ? row + e >= rows : column[e] == NO_COLUMN) break;
                    real *one = DOWN ? to + e * p.c_row : to + (column[e] - column[0]);
                    *one = result(e, first ? 0 : *one);
                }
            }
        }
    }
}

HW_KERNEL_BOUNDS(THREADS, BLOCKS)
convolve(Problem p, const real *a, const real *b, const real *bias, real *c, real *partial) {
    HW_DYNAMIC_SHARED(Shared, shared);
    if (!begin(p, p.parts, shared)) return;
    const Block &block = shared->block;
    int64_t all = p.terms * shared->axis[0].terms * shared->axis[1].terms;
    int64_t first = block.part * p.part;
    if (first >= all && block.part) return; /* a class of fewer terms than the others */
    int left = (int)(all - first < p.part ? all - first : p.part), rows = rows_of(p, block);
    a += block.group * p.a_group + shared->a_base[0] + shared->a_base[1];
    const char *first_a = (const char *)(a + (block.row + ShareA().x) * p.a_row);
    const char *first_b = (const char *)(b + block.group * p.b_group);
    if (threadIdx.x < STEP) {
        shared->next[threadIdx.x] = term_of<false>(p, shared->axis, first + threadIdx.x);
        if (threadIdx.x == 0) shared->step = term_of<false>(p, shared->axis, STEP);
    }
    __syncthreads();

    /* Copies of a step are issued AHEAD steps before its arithmetic, its terms listed before. */
    int steps = (left + STEP - 1) / STEP;
    auto list = [&](int step) { list_terms(p, shared, step, left - step * STEP); };
    auto copy = [&](int step) {
        if (step < steps) {
            real *stage = shared->stages + step % STAGES * Tile::STAGE;
            copy_a(p, shared, stage, step % 2, first_a, rows);
            copy_b(shared, stage + STEP * Tile::A_PITCH, step % 2, first_b);
        }
        hw_copies_commit();
    };
    list(0);
    for (int step = 0; step < AHEAD; step++) {
        __syncthreads();
        list(step + 1);
        copy(step);
    }

    HwPlace<Tile> place(threadIdx.x);
    real chain[Tile::DOWN][Tile::ACROSS] = {};
    int step = 0;
    do {
        if (steps) {
            hw_copies_wait<AHEAD - 1>();
            __syncthreads(); /* and all have read what is overwritten next */
            list(step + AHEAD + 1);
            copy(step + AHEAD);
            const real *stage = shared->stages + step % STAGES * Tile::STAGE;
            const real *from_a = stage + place.row;
            const real *from_b = stage + STEP * Tile::A_PITCH + place.column;
            int count = left - step * STEP;
            if (count >= STEP)
                hw_multiply<Tile, true>(chain, from_a, from_b, 0);
            else
                hw_multiply<Tile, false>(chain, from_a, from_b, count);
            step++;
        }
        if (step % (HW_SEGMENT / STEP) == 0 || step == steps) {
            store(p, shared, chain, step <= HW_SEGMENT / STEP, step == steps, bias, c, partial);
#pragma unroll
            for (int n = 0; n < Tile::OUTPUTS; n++) chain[n / Tile::ACROSS][n % Tile::ACROSS] = 0;
        }
    } while (step < steps);
    hw_copies_wait<0>();
}

/* The parts of every result, in order: segments first into super-segments, and those into c. Blocks
 * along z share a tile, where there are few. */
HW_KERNEL_BOUNDS(THREADS, 1)
fold(Problem p, const real *bias, real *c, const real *partial) {
    HW_DYNAMIC_SHARED(Shared, shared);
    if (!begin(p, 1, shared)) return;
    const Block &block = shared->block;
    int64_t all = p.terms * shared->axis[0].terms * shared->axis[1].terms;
    int64_t parts = all ? (all + p.part - 1) / p.part : 1;
    int rows = rows_of(p, block);
    c += block.group * p.c_group + shared->c_base[0] + shared->c_base[1] + block.row * p.c_row;
    bias += bias ? block.group * p.rows + block.row : 0;
    partial += part_of(block, 0);
    HwPlace<Tile> place(threadIdx.x);
    for (int n = blockIdx.z; n < Tile::OUTPUTS; n += gridDim.z) {
        int i = n / Tile::ACROSS, j = n % Tile::ACROSS;
        int row = place.row + i / HW_PER_16 * HW_PER_16 * Tile::LANES_DOWN + i % HW_PER_16;
        int64_t column = shared->c_column[place.column + j % HW_PER_16 +
                                          j / HW_PER_16 * HW_PER_16 * Tile::LANES_ACROSS];
        if (row >= rows || column == NO_COLUMN) continue;
        real y = hw_fold_parts(partial + n * THREADS, block.tiles * Tile::TOTALS, parts,
                               HW_SUPER_SEGMENT / (int)p.part);
        c[row * p.c_row + column] = bias ? y + bias[row] : y;
    }
}
