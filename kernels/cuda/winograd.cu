/* The transforms of Winograd's convolution F(4×4, 3×3), CONTRACT.md section 4; the products between
 * them are those of matmul.cu, a batch of 36 frequencies (and groups).
 *
 *     pixels     Bᵀ⟨x of (tile, channel), 6 × 6⟩        gradients  A⟨dy of (tile, channel), 4 × 4⟩
 *     weights    G⟨w[o, c]⟩, turned for backward input   results    Aᵀ⟨m⟩ + bias, into y (or dx)
 *     weight_results                                     Gᵀ⟨m⟩, into dw
 *
 * A thread has one square in its registers, and its neighbours' squares lie beside it in what is
 * written or read most: tiles are neighbours with NCHW, channels with NHWC. The domain is
 * [frequency] [channel][tile] or [frequency][tile][channel] accordingly, so both sides of a
 * transform are read and written in runs. Bound by memory: 36 / 16 of the pixels. */
#include "cuda/device.h"

#define REAL real
#define VEC real
#define FMA hw_fma
#define V(constant) (constant)
#define TYPED(name) name
#include "common/winograd_lines.h"

struct Squares {
    int64_t channels, height, width;         /* of the tensor */
    int64_t tensor[4];                       /* its strides: n, c, h, w; in elements */
    int64_t first_tile, tiles, down, across; /* tiles of the domain, and of an image */
    int64_t top, left;                       /* what lies before pixel (0, 0) in tile (0, 0) */
    int64_t frequency, channel, tile;        /* the domain's strides */
    int64_t channels_last;
};

struct Kernels {
    int64_t groups, outs, ins;       /* of a group, in the product's sense */
    int64_t of_group, of_out, of_in; /* strides in w of 3 × 3 taps that lie side by side */
    int64_t turned;
};

/* L⟨d⟩ of N × N numbers: down the columns, then along the rows, to M × M. */
template <int N, int M, void (*LINE_OF)(const real *, real *)>
HW_FUNCTION void square(const real (&d)[N][N], real (&v)[M][M]) {
    real half[M][N];
#pragma unroll
    for (int j = 0; j < N; j++) {
        real line[N], result[M];
#pragma unroll
        for (int i = 0; i < N; i++) line[i] = d[i][j];
        LINE_OF(line, result);
#pragma unroll
        for (int i = 0; i < M; i++) half[i][j] = result[i];
    }
#pragma unroll
    for (int i = 0; i < M; i++) LINE_OF(half[i], v[i]);
}

struct Square {
    int64_t channel, tile, row, column; /* row and column of the tile's first output */
    int64_t tensor;                     /* where the channel's plane begins */
};

/* The thread's square; channel = -1 where there is none. */
HW_FUNCTION Square square_of(const Squares &s) {
    int64_t i = hw_thread();
    if (i >= s.channels * s.tiles) return {-1, 0, 0, 0, 0};
    Square at;
    at.channel = s.channels_last ? i % s.channels : i / s.tiles;
    at.tile = s.channels_last ? i / s.channels : i % s.tiles;
    int64_t t = s.first_tile + at.tile, image = t / (s.down * s.across);
    at.row = t / s.across % s.down * 4;
    at.column = t % s.across * 4;
    at.tensor = image * s.tensor[0] + at.channel * s.tensor[1];
    return at;
}

template <int N>
HW_FUNCTION void read_pixels(const real *plane, const Squares &s, int64_t row, int64_t column,
                             real (&d)[N][N]) {
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int j = 0; j < N; j++) {
            bool inside =
                row + i >= 0 && row + i < s.height && column + j >= 0 && column + j < s.width;
            d[i][j] = inside ? plane[(row + i) * s.tensor[2] + (column + j) * s.tensor[3]] : 0;
        }
}

HW_FUNCTION void write_domain(real *domain, const Squares &s, const Square &at,
                              const real (&v)[6][6]) {
    real *to = domain + at.channel * s.channel + at.tile * s.tile;
#pragma unroll
    for (int i = 0; i < 6; i++)
#pragma unroll
        for (int j = 0; j < 6; j++) to[(6 * i + j) * s.frequency] = v[i][j];
}

HW_KERNEL pixels(const real *x, real *domain, Squares s) {
    Square at = square_of(s);
    if (at.channel < 0) return;
    real d[6][6], v[6][6];
    read_pixels(x + at.tensor, s, at.row - s.top, at.column - s.left, d);
    square<6, 6, input_line>(d, v);
    write_domain(domain, s, at, v);
}

HW_KERNEL gradients(const real *dy, real *domain, Squares s) {
    Square at = square_of(s);
    if (at.channel < 0) return;
    real d[4][4], v[6][6];
    read_pixels(dy + at.tensor, s, at.row, at.column, d);
    square<4, 6, gradient_line>(d, v);
    write_domain(domain, s, at, v);
}

HW_KERNEL results(const real *domain, const real *bias, real *y, Squares s) {
    Square at = square_of(s);
    if (at.channel < 0) return;
    real d[6][6], v[4][4];
    const real *from = domain + at.channel * s.channel + at.tile * s.tile;
#pragma unroll
    for (int i = 0; i < 6; i++)
#pragma unroll
        for (int j = 0; j < 6; j++) d[i][j] = from[(6 * i + j) * s.frequency];
    square<6, 4, output_line>(d, v);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (at.row + i < s.height && at.column + j < s.width)
                y[at.tensor + (at.row + i) * s.tensor[2] + (at.column + j) * s.tensor[3]] =
                    bias ? v[i][j] + bias[at.channel] : v[i][j];
}

/* u[ξ, group, in, out]. */
HW_KERNEL weights(const real *w, real *u, Kernels k) {
    int64_t i = hw_thread(), all = k.groups * k.ins * k.outs;
    if (i >= all) return;
    const real *taps = w + i / (k.ins * k.outs) * k.of_group + i / k.outs % k.ins * k.of_in +
                       i % k.outs * k.of_out;
    real d[3][3], v[6][6];
#pragma unroll
    for (int r = 0; r < 3; r++)
#pragma unroll
        for (int s = 0; s < 3; s++) {
            real tap = taps[3 * r + s], turned = taps[8 - (3 * r + s)];
            d[r][s] = k.turned ? turned : tap;
        }
    square<3, 6, weight_line>(d, v);
#pragma unroll
    for (int a = 0; a < 6; a++)
#pragma unroll
        for (int b = 0; b < 6; b++) u[(6 * a + b) * all + i] = v[a][b];
}

/* dw[o, c] from m[ξ, o, c], c within the group. */
HW_KERNEL weight_results(const real *m, real *dw, int64_t outs, int64_t ins, int64_t of_out,
                         int64_t of_in, int64_t of_row, int64_t of_column) {
    int64_t i = hw_thread(), all = outs * ins;
    if (i >= all) return;
    real d[6][6], v[3][3];
#pragma unroll
    for (int a = 0; a < 6; a++)
#pragma unroll
        for (int b = 0; b < 6; b++) d[a][b] = m[(6 * a + b) * all + i];
    square<6, 3, weight_gradient_line>(d, v);
    real *to = dw + i / ins * of_out + i % ins * of_in;
#pragma unroll
    for (int r = 0; r < 3; r++)
#pragma unroll
        for (int s = 0; s < 3; s++) to[r * of_row + s * of_column] = v[r][s];
}

/* y = y + u: a super-segment of backward weight's contraction to those before it. */
HW_KERNEL add(real *y, const real *u, int64_t size) {
    int64_t i = hw_thread();
    if (i < size) y[i] = y[i] + u[i];
}
