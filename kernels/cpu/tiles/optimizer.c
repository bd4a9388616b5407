/* Gradient descent with momentum: CONTRACT.md, section 11. Three streams in, two out, one pass. */
#include "optimizer.h"
#include "vector.h"

#define SGD_MOMENTUM(type, real)                                                           \
    static void sgd_momentum_##type(int64_t n, void *weights, const void *gradient,        \
                                    void *velocity, double learning_rate, double momentum, \
                                    double weight_decay) {                                 \
        real *w = weights, *v = velocity;                                                  \
        const real *dw = gradient;                                                         \
        real rate = (real)learning_rate, mu = (real)momentum, decay = (real)weight_decay;  \
        if (decay == 0) {                                                                  \
            HW_INDEPENDENT                                                                 \
            for (int64_t i = 0; i < n; i++) {                                              \
                v[i] = mu * v[i] + rate * dw[i];                                           \
                w[i] = w[i] - v[i];                                                        \
            }                                                                              \
            return;                                                                        \
        }                                                                                  \
        HW_INDEPENDENT                                                                     \
        for (int64_t i = 0; i < n; i++) {                                                  \
            v[i] = mu * v[i] + rate * (dw[i] + decay * w[i]);                              \
            w[i] = w[i] - v[i];                                                            \
        }                                                                                  \
    }
SGD_MOMENTUM(f32, float)
SGD_MOMENTUM(f64, double)

const hw_optimizer_tiles HW_NAME(hw_optimizer_tiles) = {
    .sgd_momentum = {sgd_momentum_f32, sgd_momentum_f64},
};
