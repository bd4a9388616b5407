/* Gradient descent with momentum: CONTRACT.md, section 11. Three streams in, two out, one pass.
 * Vectors begin where a line of w does, and mostly one of v: stores across lines cost a third. */
#include "optimizer.h"
#include "vector.h"

#define SGD_MOMENTUM(type, real)                                                           \
    static inline __attribute__((always_inline)) void sgd_run_##type(                      \
        int64_t n, real *w, const real *dw, real *v, real rate, real mu, real decay) {     \
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
    }                                                                                      \
    static void sgd_momentum_##type(int64_t n, void *weights, const void *gradient,        \
                                    void *velocity, double learning_rate, double momentum, \
                                    double weight_decay) {                                 \
        real *w = weights, *v = velocity;                                                  \
        const real *dw = gradient;                                                         \
        real rate = (real)learning_rate, mu = (real)momentum, decay = (real)weight_decay;  \
        int64_t head = (int64_t)(-(uintptr_t)w % 64 / sizeof(real)); /* to a whole line */ \
        if (head > n) head = n;                                                            \
        sgd_run_##type(head, w, dw, v, rate, mu, decay);                                   \
        sgd_run_##type(n - head, w + head, dw + head, v + head, rate, mu, decay);          \
    }
SGD_MOMENTUM(f32, float)
SGD_MOMENTUM(f64, double)

const hw_optimizer_tiles HW_NAME(hw_optimizer_tiles) = {
    .sgd_momentum = {sgd_momentum_f32, sgd_momentum_f64},
};
