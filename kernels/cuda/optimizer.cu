/* Stochastic gradient descent with momentum, CONTRACT.md section 11:
 *
 *     g = dw + decay w (dw itself without decay),   v = momentum v + rate g,   w = w - v
 *
 * Bound by memory, three arrays read and two written: 16 bytes an access, where they are aligned.
 */
#include "cuda/device.h"

HW_FUNCTION void step(real &w, real dw, real &v, real rate, real momentum, real decay) {
    real g = decay == 0 ? dw : dw + decay * w;
    v = momentum * v + rate * g;
    w = w - v;
}

HW_KERNEL sgd_momentum(real *w, const real *dw, real *velocity, real rate, real momentum,
                       real decay, int64_t size) {
    int64_t i = hw_thread() * HW_PER_16;
    if (i >= size) return;
    bool aligned = ((uintptr_t)w | (uintptr_t)dw | (uintptr_t)velocity) % 16 == 0;
    if (aligned && i + HW_PER_16 <= size) {
        real16 of_w = *(real16 *)(w + i), of_v = *(real16 *)(velocity + i);
        real16 of_dw = *(const real16 *)(dw + i);
#pragma unroll
        for (int j = 0; j < HW_PER_16; j++)
            step(of_w.v[j], of_dw.v[j], of_v.v[j], rate, momentum, decay);
        *(real16 *)(velocity + i) = of_v;
        *(real16 *)(w + i) = of_w;
    } else {
        for (int64_t end = i + HW_PER_16 < size ? i + HW_PER_16 : size; i < end; i++)
            step(w[i], dw[i], velocity[i], rate, momentum, decay);
    }
}
