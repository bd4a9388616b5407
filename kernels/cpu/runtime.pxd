"""What every family needs of the runtime: the pool, the tiles in use, and views of arrays."""
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "dispatch.h" nogil:
    ctypedef void (*hw_tile_f32)(int64_t k, const float *a, int64_t a_row, int64_t a_k,
                                 int64_t a_ahead, const float *b, int64_t b_k, const float *next,
                                 int64_t next_k, float *c, int64_t c_row, int flags,
                                 const float *row_bias, const float *column_bias) noexcept nogil
    ctypedef void (*hw_tile_f64)(int64_t k, const double *a, int64_t a_row, int64_t a_k,
                                 int64_t a_ahead, const double *b, int64_t b_k, const double *next,
                                 int64_t next_k, double *c, int64_t c_row, int flags,
                                 const double *row_bias, const double *column_bias) noexcept nogil
    int HW_ACCUMULATE, HW_ROW_BIAS, HW_COLUMN_BIAS, HW_RESUME
    int HW_MAX_TILE_ROWS
    ctypedef struct hw_contraction_tiles:
        int rows, columns_f32, columns_f64
        hw_tile_f32 f32[17]
        hw_tile_f64 f64[17]
        hw_tile_f32 narrow_f32[17]
        hw_tile_f64 narrow_f64[17]
        void (*copy_f32)(int64_t k, const float *b, int64_t b_k, int64_t column, int64_t columns,
                         float *panels, int64_t panel, int64_t pitch) noexcept nogil
        void (*copy_f64)(int64_t k, const double *b, int64_t b_k, int64_t column, int64_t columns,
                         double *panels, int64_t panel, int64_t pitch) noexcept nogil
        void (*transpose_f32)(int64_t k, const float *b, const int64_t *b_column, int64_t columns,
                              float *panels, int64_t panel, int64_t pitch) noexcept nogil
        void (*transpose_f64)(int64_t k, const double *b, const int64_t *b_column, int64_t columns,
                              double *panels, int64_t panel, int64_t pitch) noexcept nogil
        void (*chains_f32)(int64_t k, const float *a, int64_t a_k, const float *b,
                           const int64_t *b_column, float *sums) noexcept nogil
        void (*chains_f64)(int64_t k, const double *a, int64_t a_k, const double *b,
                           const int64_t *b_column, double *sums) noexcept nogil
    ctypedef void (*hw_direct_tile)(int64_t k, const float *a, int64_t a_row, const int64_t *a_k,
                                    const float *b, const int64_t *b_k, float *c, int64_t c_row,
                                    int flags, const float *bias) noexcept nogil
    ctypedef struct hw_direct_tiles:
        int lanes, half_lanes
        int rows[3]
        hw_direct_tile tile[3][15]
        hw_direct_tile half[15]
        void (*move)(int64_t rows, int64_t columns, const float *source, int64_t from_row,
                     int64_t from_column, float *to, int64_t to_row,
                     int64_t to_column) noexcept nogil
        void (*fetch)(int64_t rows, int64_t columns, const float *source,
                      int64_t from_row) noexcept nogil
    ctypedef struct hw_frame:
        void *array
        int64_t row, column, channel
        int64_t rows, columns, channels
        void *frame
        int64_t width
        int64_t above, below, before, after
        int64_t ahead
    ctypedef struct hw_tap:
        int64_t x, w
    ctypedef struct hw_correlation:
        int64_t rows, columns, vectors
        const void *x
        int64_t x_row, x_column
        const void *w
        const void *bias
        void *y
        int64_t y_row, y_column
        int64_t taps
        const hw_tap *tap
    ctypedef struct hw_pixels:
        int64_t first, channels
        int64_t second, down
        int64_t rows, across, step, apart
        const void ***x
        const void *w
        const int64_t *w_row
        int64_t w_tap
        const void *bias
        void *y
        int64_t y_step, y_row
        const void *ahead
        const void *y_ahead
        int64_t ahead_row, y_ahead_row
    ctypedef void (*hw_pixels_tile)(const hw_pixels *job) noexcept nogil
    ctypedef struct hw_pixel_sums:
        int64_t first, channels, second
        int64_t lines, count
        int64_t rows, across, step, apart, row_step, row_apart
        const void **table
        const void *dy
        int64_t dy_row, dy_step
        void *sums
        const void *x_ahead
        const void *dy_ahead
        int64_t x_row, x_column
    ctypedef struct hw_row_frame:
        const void *array
        int64_t row, rows, columns
        void *frame
        int64_t line, phases
        int64_t above, below, before
    ctypedef struct hw_rows:
        int64_t rows, columns, planes, taps
        const void *x
        int64_t x_plane, x_row, x_line
        const int64_t *tap
        const void *w
        const void *bias
        void *y
        int64_t y_row
        const char *ahead
    ctypedef void (*hw_rows_tile)(const hw_rows *job) noexcept nogil
    ctypedef struct hw_planes:
        int64_t planes, rows, columns, backward
        const void *x
        int64_t x_plane, x_row
        const void *w
        int64_t w_plane
        const void *bias
        int64_t bias_plane
        void *y
        int64_t y_plane, y_row
    ctypedef struct hw_depthwise_tiles:
        int lanes[2]
        void (*fill[2])(const hw_frame *part) noexcept nogil
        void (*drain[2])(const hw_frame *part) noexcept nogil
        void (*correlate[2])(const hw_correlation *job) noexcept nogil
        hw_pixels_tile (*choose_pixels[2])(int64_t n, int64_t across, int64_t step,
                                           int64_t apart) noexcept nogil
        hw_pixels_tile (*choose_square[2])(int64_t rows, int64_t side) noexcept nogil
        void (*fill_rows[2])(const hw_row_frame *part) noexcept nogil
        void (*stream[2])(int64_t n, const void *source, void *to) noexcept nogil
        void (*weave[2])(int64_t step, int64_t n, const void *source, int64_t pitch,
                         void *to) noexcept nogil
        hw_rows_tile (*choose_rows[2])(int64_t side, int64_t step) noexcept nogil
        void (*correlate_planes[2])(const hw_planes *job) noexcept nogil
        void (*add_pixels[2])(const hw_pixel_sums *job) noexcept nogil
    ctypedef void (*hw_draw)(const void *words, int64_t n, const void *distribution,
                             void *out) noexcept nogil
    ctypedef void (*hw_transform)(int64_t tiles, const void *source, int64_t from_tile,
                                  int64_t from_row, int64_t from_column, void *to, int64_t to_tile,
                                  int64_t to_row, int64_t to_column) noexcept nogil
    ctypedef struct hw_winograd_tiles:
        int lanes[2]
        hw_transform input[2]
        hw_transform weight[2]
        hw_transform output[2]
        hw_transform gradient[2]
        hw_transform weight_gradient[2]
        void (*gather[2])(int64_t count, int64_t readable, int64_t channels, const void *pixels,
                          int64_t pixel, int64_t channel, void *to) noexcept nogil
        void (*scatter[2])(int64_t count, int64_t channels, void *source, const void *bias,
                           void *pixels, int64_t pixel, int64_t channel) noexcept nogil
    ctypedef struct hw_random_tiles:
        void (*blocks)(uint64_t seed, uint64_t stream, uint64_t first, int64_t count,
                       uint32_t *out) noexcept nogil
        hw_draw uniform_f32, uniform_f64, normal_f32, normal_f64, truncated_f32, truncated_f64
        void (*round_f16)(const float *x, int64_t n, uint16_t *out) noexcept nogil
    ctypedef struct hw_chunk_source:
        const void *x
        const void *dy
        const void *alpha
        void *dx
        int in_memory
        int past
    ctypedef void (*hw_chunk_tile)(const hw_chunk_source *source, int64_t channels, int64_t inner,
                                   int64_t channel, int64_t width, int64_t begin, int64_t end,
                                   void *lanes, void *result) noexcept nogil
    enum:
        HW_SUM_LANES
        HW_SUM_CHUNK
        HW_SUM_SKEW
        HW_SUM_ROWS
        HW_SUM_WIDTH
        HW_SUM_WIDE
    ctypedef struct hw_reduction_tiles:
        hw_chunk_tile sum_chunk[2]
        void (*sum_in_place[2])(void *x, int64_t n, void *result) noexcept nogil
    ctypedef void (*hw_map1_tile)(int64_t n, const void *x, void *y, int past) noexcept nogil
    ctypedef void (*hw_map2_tile)(int64_t n, const void *a, const void *b, void *y,
                                   int past) noexcept nogil
    ctypedef void (*hw_prelu_tile)(int64_t begin, int64_t end, int64_t channels, int64_t inner,
                                   const void *alpha, const void *x, void *y,
                                   int past) noexcept nogil
    int HW_RELU, HW_SIGMOID, HW_TANH
    ctypedef struct hw_activation_tiles:
        hw_map1_tile forward[3][2]
        hw_map2_tile backward[3][2]
        hw_prelu_tile prelu[2]
        hw_chunk_tile prelu_backward[2]
    ctypedef struct hw_reflections:
        int64_t rows
        double *v
        double *tau
    ctypedef struct hw_householder_tiles:
        double (*make)(const hw_reflections *all, int64_t k, const double *column) noexcept nogil
        void (*apply)(const hw_reflections *all, int64_t first, int64_t last,
                      double *panel) noexcept nogil
    ctypedef struct hw_pooling_tiles:
        void (*see[2])(int64_t n, const void *x, int64_t stride, int32_t position, int32_t step,
                       void *best, int32_t *where) noexcept nogil
        void (*scatter[2])(int64_t n, const void *dy, const int32_t *where, int64_t stride,
                           int64_t step, void *dx) noexcept nogil
    ctypedef struct hw_loss_tiles:
        void (*cross_entropy[2])(int64_t classes, const void *logits, int64_t label, void *scratch,
                                 void *loss) noexcept nogil
        void (*gradient[2])(int64_t classes, const void *logits, int64_t label, double divisor,
                            void *scratch, void *gradient) noexcept nogil
    ctypedef struct hw_dropout_tiles:
        void (*apply[2])(int64_t n, const uint32_t *words, uint32_t threshold, double scale,
                         const void *x, void *y, int past) noexcept nogil
    ctypedef struct hw_optimizer_tiles:
        void (*sgd_momentum[2])(int64_t n, void *w, const void *dw, void *velocity,
                                double learning_rate, double momentum,
                                double weight_decay) noexcept nogil
    ctypedef struct hw_ceilings_tiles:
        int64_t step_flops
        int streams
        float (*multiply_add)(int64_t steps) noexcept nogil
        float (*read)(int64_t n, const float *source) noexcept nogil
        void (*write[2])(int64_t n, float *target) noexcept nogil
        void (*copy[2])(int64_t n, const float *source, float *target) noexcept nogil
    ctypedef struct hw_tiles:
        const char *name
        const hw_contraction_tiles *contraction
        const hw_winograd_tiles *winograd
        const hw_direct_tiles *direct
        const hw_depthwise_tiles *depthwise
        const hw_reduction_tiles *reduction
        const hw_activation_tiles *activation
        const hw_pooling_tiles *pooling
        const hw_loss_tiles *loss
        const hw_dropout_tiles *dropout
        const hw_optimizer_tiles *optimizer
        const hw_ceilings_tiles *ceilings
        const hw_random_tiles *random
        const hw_householder_tiles *householder

cdef extern from "pool.h" nogil:
    ctypedef void (*hw_task)(void *context, int64_t index, int worker) noexcept nogil

# The tiles of the instruction set in use; the first call picks it.
cdef const hw_tiles *tiles() except NULL nogil

# Runs task(context, i, worker) for every i < count; raises what a signal handler raised.
cdef int parallel_for(hw_task task, void *context, int64_t count, int threads) except -1 nogil

# How many threads are worth starting for so many nanoseconds of serial work.
cdef int worthwhile_threads(double nanoseconds) noexcept nogil

# Whether a result of so many bytes is better written past the caches (tiles/stream.h).
cdef bint past_caches(int64_t bytes) noexcept nogil

# 64-byte aligned memory for packing; raises MemoryError.
cdef void *workspace_take(int64_t bytes) except NULL nogil
cdef void workspace_give(void *memory) noexcept nogil

# An array's memory for the length of a call. strides are in elements.
cdef struct View:
    char *data
    int ndim
    int64_t size
    int64_t itemsize
    int64_t shape[16]
    int64_t strides[16]

cdef enum:
    HOLDS = 6

cdef class Hold:
    """Keeps the buffers of a call; `hold.view(array, writable)` lends one."""
    cdef Py_buffer buffers[HOLDS]
    cdef int count
    cdef int view(self, object array, View *view, bint writable) except -1

# A fresh array like `array`, which is plain; None for a subclass, whose results are not of its kind.
cdef object fresh_like(object array)

# The same of another shape.
cdef object fresh(object array, tuple shape)

cdef class Plain:
    """Buffers of plain arrays (native float32 or float64, aligned, C order) of one dtype.

    The way in for arrays that need nothing done to them: no check in Python, no copy.
    """
    cdef Py_buffer buffers[5]
    cdef int count
    cdef int wide       # 0 for float32, 1 for float64
    cdef int64_t size   # of the first
    cdef char *add(self, object array, bint writable, bint same_shape) except? NULL
    cdef bint overlap(self, int i, int j) noexcept
