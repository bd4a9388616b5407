/* Max pooling and the bins of a pyramid, forward and backward: CONTRACT.md section 8.
 *
 * Forward: a thread an output, its window in row-major order. Backward: `maxima` notes where each
 * window has its maximum, then a thread an element of dx visits the windows that it lies in,
 * ascending, and adds dy of those whose maximum it is: no atomics, one order. Arrays are taken by
 * their strides; neighbouring threads are neighbours in memory in either layout. Bound by memory:
 * windows overlap in the caches. */
#include "cuda/device.h"

struct Axis {
    int64_t length, number;                 /* of x, of windows */
    int64_t size, stride, dilation, before; /* of a window; a bin of a pyramid has size 0 */
};

struct Pooling {
    int64_t images, channels;
    Axis rows, columns;
    int64_t x_strides[4], y_strides[4]; /* n, c, h, w; in elements */
    int64_t channels_last;
};

struct Window {
    int64_t first, count, step;
};

HW_FUNCTION int64_t ceil_divided(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* What lies in x of window i: of one with padding, of a bin. */
HW_FUNCTION Window window_of(const Axis &axis, int64_t i) {
    if (!axis.size) {
        int64_t first = i * axis.length / axis.number;
        return {first, ceil_divided((i + 1) * axis.length, axis.number) - first, 1};
    }
    int64_t begin = i * axis.stride - axis.before;
    int64_t skipped = begin < 0 ? ceil_divided(-begin, axis.dilation) : 0;
    int64_t end = ceil_divided(axis.length - begin, axis.dilation);
    return {begin + skipped * axis.dilation, (end < axis.size ? end : axis.size) - skipped,
            axis.dilation};
}

/* The windows that may have element h of an axis: from the first on, one after the last. */
HW_FUNCTION Window windows_with(const Axis &axis, int64_t h) {
    if (!axis.size) {
        int64_t first = h * axis.number / axis.length;
        int64_t end = ceil_divided((h + 1) * axis.number, axis.length);
        return {first, end - first, 1};
    }
    int64_t reach = axis.dilation * (axis.size - 1), at = h + axis.before;
    int64_t first = at > reach ? ceil_divided(at - reach, axis.stride) : 0;
    int64_t end = at / axis.stride + 1;
    return {first, (end < axis.number ? end : axis.number) - first, 1};
}

struct Place {
    int64_t n, c, h, w;
};

/* Element `i` in the memory order of the layout, of planes of `height` rows and `width` columns. */
HW_FUNCTION Place place_of(const Pooling &p, int64_t i, int64_t height, int64_t width) {
    Place at;
    if (p.channels_last) {
        at.c = i % p.channels, i /= p.channels;
        at.w = i % width, i /= width;
        at.h = i % height, at.n = i / height;
    } else {
        at.w = i % width, i /= width;
        at.h = i % height, i /= height;
        at.c = i % p.channels, at.n = i / p.channels;
    }
    return at;
}

struct Maximum {
    real value;
    int32_t where; /* row · width + column */
};

HW_FUNCTION Maximum maximum_of(const Pooling &p, const real *plane, Window rows, Window columns) {
    Maximum best = {0, -1};
    for (int64_t r = 0; r < rows.count; r++) {
        int64_t h = rows.first + r * rows.step;
        for (int64_t s = 0; s < columns.count; s++) {
            int64_t w = columns.first + s * columns.step;
            real v = plane[h * p.x_strides[2] + w * p.x_strides[3]];
            if (best.where < 0 || (best.value == best.value && !(v <= best.value)))
                best = {v, (int32_t)(h * p.columns.length + w)};
        }
    }
    return best;
}

HW_FUNCTION Maximum window_maximum(const Pooling &p, const real *x, Place at) {
    const real *plane = x + at.n * p.x_strides[0] + at.c * p.x_strides[1];
    return maximum_of(p, plane, window_of(p.rows, at.h), window_of(p.columns, at.w));
}

HW_FUNCTION int64_t in_y(const Pooling &p, Place at) {
    return at.n * p.y_strides[0] + at.c * p.y_strides[1] + at.h * p.y_strides[2] +
           at.w * p.y_strides[3];
}

HW_KERNEL forward(const real *x, real *y, Pooling p) {
    int64_t i = hw_thread();
    if (i >= p.images * p.channels * p.rows.number * p.columns.number) return;
    Place at = place_of(p, i, p.rows.number, p.columns.number);
    y[in_y(p, at)] = window_maximum(p, x, at).value;
}

/* where[i] of window i, counted in the order of place_of. */
HW_KERNEL maxima(const real *x, int32_t *where, Pooling p) {
    int64_t i = hw_thread();
    if (i >= p.images * p.channels * p.rows.number * p.columns.number) return;
    where[i] = window_maximum(p, x, place_of(p, i, p.rows.number, p.columns.number)).where;
}

/* dx += …; dx is contiguous in the layout, x's strides are not asked for. */
HW_KERNEL backward(const real *dy, const int32_t *where, real *dx, Pooling p) {
    int64_t i = hw_thread();
    if (i >= p.images * p.channels * p.rows.length * p.columns.length) return;
    Place at = place_of(p, i, p.rows.length, p.columns.length);
    int32_t own = (int32_t)(at.h * p.columns.length + at.w);
    Window rows = windows_with(p.rows, at.h), columns = windows_with(p.columns, at.w);
    real sum = dx[i];
    for (int64_t r = 0; r < rows.count; r++)
        for (int64_t s = 0; s < columns.count; s++) {
            Place from = {at.n, at.c, rows.first + r, columns.first + s};
            int64_t plane = p.channels_last ? from.n : from.n * p.channels + from.c;
            int64_t window = (plane * p.rows.number + from.h) * p.columns.number + from.w;
            if (p.channels_last) window = window * p.channels + from.c;
            if (where[window] == own) sum = sum + dy[in_y(p, from)];
        }
    dx[i] = sum;
}
