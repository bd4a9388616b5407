/* What random arrays hold: numbers of this compilation's type, or with HW_HALF float32 rounded to
 * float16. */
#ifndef HALFWAVE_CUDA_VARIATE_H
#define HALFWAVE_CUDA_VARIATE_H

#include "common/distributions.h"
#include "cuda/device.h"

#ifdef HW_HALF
typedef uint16_t Variate;
HW_FUNCTION Variate stored(float x) { return hw_f16_bits(x); }
#else
typedef real Variate;
HW_FUNCTION Variate stored(real x) { return x; }
#endif

#endif
