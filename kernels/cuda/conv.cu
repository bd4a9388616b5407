/* 2-D convolution, direct, its three passes: CONTRACT.md section 3. One kernel, an implicit matrix
 * product c = a b per group, over what the host describes (src/halfwave/_cuda/conv.py):
 *
 *     pass              rows   columns      terms        a     b, gathered   c
 *     forward           o      (n, i, j)    (c, r, s)    w     x             y
 *     backward input    c      (n, h, w)    (o, r, s)    w     dy            dx
 *     backward weight   o      (c, r, s)    (n, i, j)    dy    x             dw
 *
 * Columns and terms are numbers of three digits. A column and a term meet in b at (digit 0 of the
 * one, digit 0 of the other, h, w) with h = column step · digit 1 + term step · digit 1 + start, w
 * alike, where b has that element, else at +0. So two tables in shared memory, of the block's
 * columns and of the next STEP terms, say where every element of a tile of b comes from: one
 * addition and two comparisons each, no division, whatever the strides.
 *
 * Backward input cuts dx into classes, the residues of (h, w) modulo the stride: one problem each,
 * of the taps that meet it.
 *
 * A block computes HW_ROWS × HW_COLUMNS results, a thread HW_THREAD_ROWS × HW_THREAD_COLUMNS of
 * them, each a chain in a register. Tiles of STEP terms come by asynchronous copies, STAGES - 1
 * ahead. At the end of a segment the chains are folded into where the results go, so that no second
 * set of registers is needed: c itself, or where the terms are cut into parts (segments or
 * super-segments, a block each), the part's own memory, which `fold` then folds in order. */
#include "common/contraction.h"
#include "cuda/async.h"

typedef HW_INDEX coordinate; /* of rows and columns of an image: int where all fit */

enum {
    STEP = 16,
    STAGES = 3,
    THREAD_ROWS = HW_THREAD_ROWS,
    THREAD_COLUMNS = HW_THREAD_COLUMNS,
    ROWS_APART = HW_ROWS / THREAD_ROWS, /* a thread's vectors: this many vectors */
    COLUMNS_APART = HW_COLUMNS / THREAD_COLUMNS,
    THREADS = ROWS_APART * COLUMNS_APART,
    SIDE = 8, /* lanes along the terms where copies go along them: 32 bytes or more of memory */
    A_PITCH = HW_ROWS + HW_PER_16, /* then these lanes' columns of a tile fill distinct banks */
    B_PITCH = HW_COLUMNS + HW_PER_16
};

struct Axis { /* of the image: down, across */
    int64_t size, columns, terms, column_step, term_step, start;
};

struct Residues { /* of an axis, for backward input; stride 0 in other passes */
    int64_t size, kernel, stride, dilation, padding, tap_step, a_tap, c_step;
};

struct Problem {
    int64_t classes[2], groups, rows, columns, terms; /* the last two: of digit 0 */
    int64_t part, parts, row_tiles, column_tiles;     /* part: terms a block, of the axis cut */
    int64_t a_group, a_row, a_term[3];
    int64_t b_group, b_column, b_term, b_axis[2];
    int64_t c_group, c_row, c_column[3];
    int64_t first_fastest; /* columns in memory's order: digits (1, 2, 0), not (0, 1, 2) */
    Axis axis[2];
    Residues residues[2];
};

struct Block { /* what a block has: its first row and column; its part, of how many tiles each */
    int64_t row, column, part, group, tile, tiles;
};

struct Place { /* in b, of a column or a term: the meeting point is the sum */
    int64_t offset;
    coordinate h, w;
};

struct Term { /* its digits */
    coordinate digit[3];
};

struct Shared {
    real a[STAGES][STEP][A_PITCH], b[STAGES][STEP][B_PITCH];
    Place column[HW_COLUMNS], term[2][STEP];
    int64_t c_column[HW_COLUMNS], a_term[2][STEP];
    Axis axis[2];
    int64_t a_base[2], c_base[2];
    Block block;
    Term next[STEP], step; /* the terms to be listed next, and how to go on by STEP terms */
};
static_assert(sizeof(Shared) <= HW_SHARED, "the host gives less shared memory");

#define NOWHERE \
    (-((coordinate)1 << (8 * sizeof(coordinate) - 2))) /* outside of b, whatever is added */
#define NO_COLUMN (-1 - 0x7fffffffffffffffll)

/* The problem of residue `first` along an axis: which taps meet it, and where. */
HW_FUNCTION void residue(const Residues &of, int64_t first, Axis *axis, int64_t *a_base,
                         int64_t *c_base) {
    int64_t r = 0, most = of.kernel < of.tap_step ? of.kernel : of.tap_step;
    axis->columns = first < of.size ? (of.size - first + of.stride - 1) / of.stride : 0;
    axis->terms = 0;
    while (r < most && (first + of.padding - r * of.dilation) % of.stride) r++;
    if (r < most) {
        axis->terms = (of.kernel - r + of.tap_step - 1) / of.tap_step;
        axis->start = (first + of.padding - r * of.dilation) / of.stride; /* exact */
        *a_base = r * of.a_tap;
    }
    *c_base = first * of.c_step;
}

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
        block->row = at % p.row_tiles * HW_ROWS;
        at /= p.row_tiles;
        block->column = at % p.column_tiles * HW_COLUMNS;
        block->group = at / p.column_tiles;
    }
    if (threadIdx.x < 2) {
        int i = threadIdx.x;
        Axis axis = p.axis[i];
        int64_t a_base = 0, c_base = 0;
        if (p.residues[i].stride)
            residue(p.residues[i], i ? of_class % p.classes[1] : of_class / p.classes[1], &axis,
                    &a_base, &c_base);
        shared->axis[i] = axis;
        shared->a_base[i] = a_base;
        shared->c_base[i] = c_base;
    }
    __syncthreads();
    const Axis *axis = shared->axis;
    const Block *block = &shared->block;
    int64_t columns = p.columns * axis[0].columns * axis[1].columns;
    for (int j = threadIdx.x; j < HW_COLUMNS; j += THREADS) {
        Place place = {0, NOWHERE, 0};
        int64_t c_offset = NO_COLUMN;
        if (block->column + j < columns) {
            int64_t left = block->column + j, d0 = 0;
            if (p.first_fastest) {
                d0 = left % p.columns;
                left /= p.columns;
            }
            int64_t d2 = left % axis[1].columns, d1 = left / axis[1].columns;
            if (!p.first_fastest) {
                d0 = d1 / axis[0].columns;
                d1 -= d0 * axis[0].columns;
            }
            int64_t h = d1 * axis[0].column_step + axis[0].start;
            int64_t w = d2 * axis[1].column_step + axis[1].start;
            place.offset = d0 * p.b_column + h * p.b_axis[0] + w * p.b_axis[1];
            place.h = (coordinate)h;
            place.w = (coordinate)w;
            c_offset = d0 * p.c_column[0] + d1 * p.c_column[1] + d2 * p.c_column[2];
        }
        shared->column[j] = place;
        shared->c_column[j] = c_offset;
    }
    __syncthreads();
    return block->column < columns;
}

/* A thread's rows and columns: vectors of HW_PER_16, far enough apart that a warp of 4 × 8 threads
 * reads from shared memory without conflicts. */
HW_FUNCTION int thread_row(int i) {
    enum { WARPS_ACROSS = COLUMNS_APART / 8 };
    int own = threadIdx.x / 32 / WARPS_ACROSS * 4 + threadIdx.x % 32 / 8;
    return (i / HW_PER_16 * ROWS_APART + own) * HW_PER_16 + i % HW_PER_16;
}
HW_FUNCTION int thread_column(int j) {
    enum { WARPS_ACROSS = COLUMNS_APART / 8 };
    int own = threadIdx.x / 32 % WARPS_ACROSS * 8 + threadIdx.x % 8;
    return (j / HW_PER_16 * COLUMNS_APART + own) * HW_PER_16 + j % HW_PER_16;
}

/* The digits of term number `at`; of a problem without terms, any. */
HW_FUNCTION Term term_of(const Axis *axis, int64_t at) {
    int64_t size1 = axis[0].terms ? axis[0].terms : 1, size2 = axis[1].terms ? axis[1].terms : 1;
    int64_t left = at / size2;
    return {{(coordinate)(left / size1), (coordinate)(left % size1), (coordinate)(at % size2)}};
}

/* The table of the next STEP terms, of which `count` exist, by the first STEP threads. */
HW_FUNCTION void list_terms(const Problem &p, Shared *shared, int slot, int count) {
    if (threadIdx.x >= STEP) return;
    Place place = {0, NOWHERE, 0};
    const Axis *axis = shared->axis;
    coordinate *d = shared->next[threadIdx.x].digit, *step = shared->step.digit;
    if ((int)threadIdx.x < count) {
        place.h = d[1] * (coordinate)axis[0].term_step;
        place.w = d[2] * (coordinate)axis[1].term_step;
        place.offset = d[0] * p.b_term + place.h * p.b_axis[0] + place.w * p.b_axis[1];
        shared->a_term[slot][threadIdx.x] =
            d[0] * p.a_term[0] + d[1] * p.a_term[1] + d[2] * p.a_term[2];
    }
    shared->term[slot][threadIdx.x] = place;
    bool carry = d[2] + step[2] >= axis[1].terms;
    d[2] += step[2] - (carry ? (coordinate)axis[1].terms : 0);
    d[1] += step[1] + carry;
    carry = d[1] >= axis[0].terms;
    d[1] -= carry ? (coordinate)axis[0].terms : 0;
    d[0] += step[0] + carry;
}

/* Copies one tile of a and of b, whose terms slot lists. */
HW_FUNCTION void copy_tiles(const Problem &p, Shared *shared, int stage, int slot, int count,
                            const real *a, const real *b, int rows) {
    int t = threadIdx.x;
#if HW_A_ALONG_TERMS
#pragma unroll
    for (int k = t % SIDE; k < STEP; k += SIDE) {
        const real *from = a + shared->a_term[slot][k < count ? k : 0];
#pragma unroll
        for (int row = t / SIDE; row < HW_ROWS; row += THREADS / SIDE)
            hw_copy_async<sizeof(real)>(&shared->a[stage][k][row], from + row * p.a_row,
                                        k < count && row < rows);
    }
#else
    int row = t % HW_ROWS;
#pragma unroll
    for (int k = t / HW_ROWS; k < STEP; k += THREADS / HW_ROWS)
        hw_copy_async<sizeof(real)>(&shared->a[stage][k][row],
                                    a + shared->a_term[slot][k < count ? k : 0] + row * p.a_row,
                                    k < count && row < rows);
#endif
    typedef unsigned long long wide;
    wide height = (wide)shared->axis[0].size, width = (wide)shared->axis[1].size;
    auto copy_b = [&](int k, int j, const Place &term, const Place &column) {
        coordinate h = column.h + term.h, w = column.w + term.w;
        bool exists = h >= 0 && (wide)h < height && w >= 0 && (wide)w < width;
        hw_copy_async<sizeof(real)>(&shared->b[stage][k][j], b + column.offset + term.offset,
                                    exists);
    };
#if HW_B_ALONG_TERMS
#pragma unroll
    for (int k = t % SIDE; k < STEP; k += SIDE) {
        Place term = shared->term[slot][k];
#pragma unroll
        for (int j = t / SIDE; j < HW_COLUMNS; j += THREADS / SIDE)
            copy_b(k, j, term, shared->column[j]);
    }
#else
    int j = t % HW_COLUMNS;
    Place column = shared->column[j];
#pragma unroll
    for (int k = t / HW_COLUMNS; k < STEP; k += THREADS / HW_COLUMNS)
        copy_b(k, j, shared->term[slot][k], column);
#endif
}

/* One more term in every chain. */
HW_FUNCTION void multiply_add(const Shared *shared, int stage, int k,
                              real (&chain)[THREAD_ROWS][THREAD_COLUMNS]) {
    real a[THREAD_ROWS], b[THREAD_COLUMNS];
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i += HW_PER_16)
        *(real16 *)(a + i) = *(const real16 *)&shared->a[stage][k][thread_row(i)];
#pragma unroll
    for (int j = 0; j < THREAD_COLUMNS; j += HW_PER_16)
        *(real16 *)(b + j) = *(const real16 *)&shared->b[stage][k][thread_column(j)];
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < THREAD_COLUMNS; j++) chain[i][j] = hw_fma(a[i], b[j], chain[i][j]);
}

HW_FUNCTION int rows_of(const Problem &p, const Block &block) {
    int64_t rows = p.rows - block.row;
    return rows < HW_ROWS ? (int)rows : HW_ROWS;
}

/* Where the first of a part's results is, of this thread: they are THREADS apart. */
HW_FUNCTION int64_t part_of(const Block &block, int64_t part) {
    return (part * block.tiles + block.tile) * THREADS * THREAD_ROWS * THREAD_COLUMNS + threadIdx.x;
}

/* Folds the chains of a segment into the results. */
HW_FUNCTION void store(const Problem &p, const Shared *shared,
                       const real (&chain)[THREAD_ROWS][THREAD_COLUMNS], bool first, bool last,
                       const real *bias, real *c, real *partial) {
    const Block &block = shared->block;
    int rows = rows_of(p, block);
    if (partial) {
        partial += part_of(block, block.part);
#pragma unroll
        for (int i = 0; i < THREAD_ROWS; i++)
#pragma unroll
            for (int j = 0; j < THREAD_COLUMNS; j++) {
                real *to = partial + (i * THREAD_COLUMNS + j) * THREADS;
                *to = first ? chain[i][j] : *to + chain[i][j];
            }
        return;
    }
    c += block.group * p.c_group + shared->c_base[0] + shared->c_base[1] + block.row * p.c_row;
    bias += bias ? block.group * p.rows + block.row : 0;
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; i++) {
        int row = thread_row(i);
        if (row >= rows) continue;
#pragma unroll
        for (int j = 0; j < THREAD_COLUMNS; j++) {
            int64_t column = shared->c_column[thread_column(j)];
            if (column == NO_COLUMN) continue;
            real *to = c + row * p.c_row + column;
            real y = first ? chain[i][j] : *to + chain[i][j];
            *to = last && bias ? y + bias[row] : y;
        }
    }
}

HW_KERNEL_BOUNDS(THREADS, HW_BLOCKS)
convolve(Problem p, const real *a, const real *b, const real *bias, real *c, real *partial) {
    HW_DYNAMIC_SHARED(Shared, shared);
    if (!begin(p, p.parts, shared)) return;
    const Block &block = shared->block;
    int64_t all = p.terms * shared->axis[0].terms * shared->axis[1].terms;
    int64_t first = block.part * p.part;
    if (first >= all && block.part) return; /* a class of fewer terms than the others */
    int left = (int)(all - first < p.part ? all - first : p.part), rows = rows_of(p, block);
    a += block.group * p.a_group + shared->a_base[0] + shared->a_base[1] + block.row * p.a_row;
    b += block.group * p.b_group;
    if (threadIdx.x < STEP) {
        shared->next[threadIdx.x] = term_of(shared->axis, first + threadIdx.x);
        if (threadIdx.x == 0) shared->step = term_of(shared->axis, STEP);
    }
    __syncthreads();

    /* Copies of tile t are issued with t - STAGES + 1's arithmetic, its terms listed before. */
    int tiles = (left + STEP - 1) / STEP, listed = 0, copied = 0;
    auto list = [&] {
        list_terms(p, shared, listed % 2, left - listed * STEP);
        listed++;
    };
    auto copy = [&] {
        int count = left - copied * STEP;
        if (count > 0) copy_tiles(p, shared, copied % STAGES, copied % 2, count, a, b, rows);
        hw_copies_commit();
        copied++;
    };
    list();
    for (int i = 0; i < STAGES - 1; i++) {
        __syncthreads();
        list();
        copy();
    }

    for (int tile = 0, segment = 0; segment == 0 || tile < tiles; segment++) {
        real chain[THREAD_ROWS][THREAD_COLUMNS] = {};
        for (int i = 0; i < HW_SEGMENT / STEP && tile < tiles; i++, tile++) {
            hw_copies_wait<STAGES - 2>();
            __syncthreads();
            list();
            copy();
            int count = left - tile * STEP, stage = tile % STAGES;
            if (count >= STEP) {
#pragma unroll
                for (int k = 0; k < STEP; k++) multiply_add(shared, stage, k, chain);
            } else {
#pragma unroll 1
                for (int k = 0; k < count; k++) multiply_add(shared, stage, k, chain);
            }
        }
        store(p, shared, chain, segment == 0, tile == tiles, bias, c, partial);
    }
    hw_copies_wait<0>();
}

/* The parts of every result, in order: segments first into super-segments, and those into c. */
HW_KERNEL_BOUNDS(THREADS, 1)
fold(Problem p, const real *bias, real *c, const real *partial) {
    HW_DYNAMIC_SHARED(Shared, shared);
    if (!begin(p, 1, shared)) return;
    const Block &block = shared->block;
    int64_t all = p.terms * shared->axis[0].terms * shared->axis[1].terms;
    int64_t parts = all ? (all + p.part - 1) / p.part : 1;
    int64_t apart = block.tiles * THREADS * THREAD_ROWS * THREAD_COLUMNS;
    int64_t together = HW_SUPER_SEGMENT / p.part;
    c += block.group * p.c_group + shared->c_base[0] + shared->c_base[1];
    if (bias) bias += block.group * p.rows;
    partial += part_of(block, 0);
    for (int i = 0; i < THREAD_ROWS; i++)
        for (int j = 0; j < THREAD_COLUMNS; j++) {
            int64_t row = block.row + thread_row(i);
            int64_t column = shared->c_column[thread_column(j)];
            if (row >= p.rows || column == NO_COLUMN) continue;
            const real *from = partial + (i * THREAD_COLUMNS + j) * THREADS;
            real y = 0;
            for (int64_t part = 0; part < parts;) {
                real u = from[part * apart];
                int64_t begun = part++;
                for (; part < parts && part < begun + together; part++) u = u + from[part * apart];
                y = begun ? y + u : u;
            }
            c[row * p.c_row + column] = bias ? y + bias[row] : y;
        }
}
