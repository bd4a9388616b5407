/* Depthwise convolution: lanes are channels. See depthwise_loops.h. */
#include <string.h>

#include "depthwise.h"
#include "shuffles.h"
#include "stream.h"
#include "turn.h"
#include "vector.h"

#if defined(HW_AVX512)
#define MASK(n, lanes) ((n) >= (lanes) ? -1 : (n) > 0 ? (1 << (n)) - 1 : 0)
#define F32_LOAD_MASKED(from, n) (f32v) _mm512_maskz_loadu_ps((__mmask16)MASK(n, 16), from)
#define F64_LOAD_MASKED(from, n) (f64v) _mm512_maskz_loadu_pd((__mmask8)MASK(n, 8), from)
#define F32_STORE_MASKED(to, n, v) _mm512_mask_storeu_ps(to, (__mmask16)MASK(n, 16), (__m512)(v))
#define F64_STORE_MASKED(to, n, v) _mm512_mask_storeu_pd(to, (__mmask8)MASK(n, 8), (__m512d)(v))
/* Into the upper half of a vector, from it. */
#define F32_LOAD_UPPER(v, from, n) \
    (f32v) _mm512_mask_loadu_ps((__m512)(v), (__mmask16)(MASK(n, 8) << 8), (from) - 8)
#define F64_LOAD_UPPER(v, from, n) \
    (f64v) _mm512_mask_loadu_pd((__m512d)(v), (__mmask8)(MASK(n, 4) << 4), (from) - 4)
#define F32_STORE_UPPER(to, n, v) \
    _mm512_mask_storeu_ps((to) - 8, (__mmask16)(MASK(n, 8) << 8), (__m512)(v))
#define F64_STORE_UPPER(to, n, v) \
    _mm512_mask_storeu_pd((to) - 4, (__mmask8)(MASK(n, 4) << 4), (__m512d)(v))
#elif defined(HW_AVX2) /* whose masked store is slow */
#define F32_LOAD_MASKED(from, n) \
    (f32v) _mm256_maskload_ps(   \
        from, (__m256i)((i32v){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)((n) < 8 ? (n) : 8)))
#define F64_LOAD_MASKED(from, n) \
    (f64v) _mm256_maskload_pd(from, (__m256i)((i64v){0, 1, 2, 3} < (int64_t)(n)))
#endif

#define REAL float
#define VEC f32v
#define VEC_U f32u
#define FMA f32_fma
#define LOAD F32_LOAD
#define LANES F32_LANES
#define SIDE 4
#define SHUFFLE F32_SHUFFLE
#define LOAD_MASKED F32_LOAD_MASKED
#define STORE_MASKED F32_STORE_MASKED
#define LOAD_UPPER F32_LOAD_UPPER
#define STORE_UPPER F32_STORE_UPPER
#define SQUARE(from, step, to, stride) \
    hw_transpose_f32(from, (from) + (step), (from) + 2 * (step), (from) + 3 * (step), to, stride)
#define TYPED(name) name##_f32
#include "depthwise_loops.h"
#include "depthwise_pixels.h"
#include "depthwise_rows.h"
#include "depthwise_small.h"
#undef REAL
#undef VEC
#undef VEC_U
#undef FMA
#undef LOAD
#undef LANES
#undef SIDE
#undef SHUFFLE
#undef LOAD_MASKED
#undef STORE_MASKED
#undef LOAD_UPPER
#undef STORE_UPPER
#undef SQUARE
#undef TYPED

#define REAL double
#define VEC f64v
#define VEC_U f64u
#define FMA f64_fma
#define LOAD F64_LOAD
#define LANES F64_LANES
#define SIDE 2
#define SHUFFLE F64_SHUFFLE
#define LOAD_MASKED F64_LOAD_MASKED
#define STORE_MASKED F64_STORE_MASKED
#define LOAD_UPPER F64_LOAD_UPPER
#define STORE_UPPER F64_STORE_UPPER
#define SQUARE(from, step, to, stride) hw_transpose_f64(from, (from) + (step), to, stride)
#define TYPED(name) name##_f64
#include "depthwise_loops.h"
#include "depthwise_pixels.h"
#include "depthwise_rows.h"
#include "depthwise_small.h"

const hw_depthwise_tiles HW_NAME(hw_depthwise_tiles) = {
    .lanes = {F32_LANES, F64_LANES},
    .fill = {fill_f32, fill_f64},
    .drain = {drain_f32, drain_f64},
    .correlate = {correlate_f32, correlate_f64},
    .choose_pixels = {choose_pixels_f32, choose_pixels_f64},
    .choose_square = {choose_square_f32, choose_square_f64},
    .fill_rows = {fill_rows_f32, fill_rows_f64},
    .stream = {stream_f32, stream_f64},
    .weave = {weave_f32, weave_f64},
    .choose_rows = {choose_rows_f32, choose_rows_f64},
    .correlate_planes = {correlate_planes_f32, correlate_planes_f64},
    .add_pixels = {add_pixels_f32, add_pixels_f64},
};
