/* Matrix products, CONTRACT.md section 3: tiles of contraction.h over operands of any strides.
 *
 * HW_TILE chooses the tile, HW_A_LANES and HW_B_LANES how an operand lies (HwLanes). A thin tile
 * serves few rows: it is bound by reading b, so that it has small blocks with many copies under
 * way, and the idle multiply-adds of missing rows cost nothing. */
#include "cuda/tensor.h"

enum { DOUBLE = sizeof(real) == 8 };

#ifdef HW_PRECISION /* on the tensor cores */
typedef HwTensorTile<128, 128, 4, 4, 32, 3> Tile;
enum { BLOCKS = 1 };
#elif HW_TILE == 0 /* for double with 99 KB of shared memory, which all have from sm_80 on */
typedef HwTile<128, DOUBLE ? 64 : 128, 8, DOUBLE ? 4 : 8, 4, 8, DOUBLE ? 2 : 4> Tile;
enum { BLOCKS = DOUBLE ? 1 : 2 };
#elif HW_TILE == 1
typedef HwTile<64, 64, 8, 4, 4, 8, 4> Tile;
enum { BLOCKS = DOUBLE ? 3 : 4 };
#elif HW_TILE == 2
typedef HwTile<32, 32, 4, 4, 4, 16, 4> Tile;
enum { BLOCKS = 8 };
#elif HW_TILE == 3
typedef HwTile<8, 128, 4, 4, 2, 16, 4> Tile;
enum { BLOCKS = 6 };
#else /* of floats: most multiply-adds for a number read; with its totals 153 KB of memory */
typedef HwTile<128, 256, 16, 8, 4, 8, 2> Tile;
enum { BLOCKS = 1 };
#endif

enum { DIMENSIONS = 16 };

/* c[slice] = a[slice] b[slice] + bias. The slices' dimensions in C order; strides in numbers. Part
 * p of an axis has the terms from p * part_terms on, and lies at c + p * c_part. */
struct Product {
    int64_t rows, columns, terms, part_terms, a_row, a_k, b_k, b_column, c_row, c_column, c_part,
        bias_row, bias_column;
    uint32_t row_tiles, column_tiles, vectors, dimensions;
    int64_t slices, shape[DIMENSIONS], a_slice[DIMENSIONS], b_slice[DIMENSIONS],
        c_slice[DIMENSIONS];
};

/* Blocks along x: the tiles of a part, part after part; along y and z: slices. */
HW_KERNEL_BOUNDS(Tile::THREADS, BLOCKS)
product(const real *a, const real *b, const real *bias, real *c, Product p) {
    HW_DYNAMIC_SHARED(real, shared);
    int64_t slice = blockIdx.y + (int64_t)blockIdx.z * gridDim.y;
    if (slice >= p.slices) return;
    for (int d = (int)p.dimensions - 1; d >= 0; d--) {
        int64_t at = slice % p.shape[d];
        slice /= p.shape[d];
        a += at * p.a_slice[d];
        b += at * p.b_slice[d];
        c += at * p.c_slice[d];
    }
    uint32_t tiles = p.row_tiles * p.column_tiles, row_tile, column_tile;
    hw_tile_of(blockIdx.x % tiles, p.row_tiles, p.column_tiles, row_tile, column_tile);
    int64_t part = blockIdx.x / tiles, begin = part * p.part_terms, end = begin + p.part_terms;
    HwStrided<HW_A_LANES> rows = {a, p.rows, p.a_row, p.a_k};
    HwStrided<HW_B_LANES> columns = {b, p.columns, p.b_column, p.b_k};
    HwStridedSink sink = {c + part * p.c_part, p.rows,         p.columns,  p.c_row,
                          p.c_column,          bias,           p.bias_row, p.bias_column,
                          p.vectors != 0,      bias != nullptr};
    int64_t row = (int64_t)row_tile * Tile::ROWS, column = (int64_t)column_tile * Tile::COLUMNS;
    if (end > p.terms) end = p.terms;
#ifdef HW_PRECISION
    hw_contract_tensor<Tile, HW_PRECISION>(rows, columns, sink, row, column, begin, end, shared);
#else
    hw_contract<Tile>(rows, columns, sink, row, column, begin, end, shared);
#endif
}
