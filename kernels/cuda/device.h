/* What every kernel file includes: the number type of this compilation, and the few operations of
 * CONTRACT.md section 1 that C++ has no sign for. Compiled with --fmad=false --ftz=false, so that
 * a * b + c rounds twice and keeps subnormals; fma(a, b, c), one rounding, is hw_fma.
 *
 * HW_REAL is float or double. One translation unit a family and number type. */
#ifndef HALFWAVE_CUDA_DEVICE_H
#define HALFWAVE_CUDA_DEVICE_H

#include "common/config.h"

#ifndef HW_REAL
#define HW_REAL float
#endif
typedef HW_REAL real;

#define HW_KERNEL extern "C" __global__ void
/* One that `blocks` of `threads` run at once of, on a multiprocessor. */
#define HW_KERNEL_BOUNDS(threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks)

HW_FUNCTION float hw_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
HW_FUNCTION double hw_fma(double a, double b, double c) { return __fma_rn(a, b, c); }

/* 16 bytes of numbers, read and written at once where they are aligned. */
enum { HW_PER_16 = 16 / sizeof(real) };
struct alignas(16) real16 {
    real v[HW_PER_16];
};

/* Shared memory whose size the launch gives. */
#ifndef HW_DYNAMIC_SHARED
#define HW_DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char hw_dynamic_shared[]; \
    type *name = (type *)hw_dynamic_shared
#endif

HW_FUNCTION int64_t hw_thread() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
HW_FUNCTION int64_t hw_threads() { return (int64_t)gridDim.x * blockDim.x; }

#endif
