/* Pixels to vectors of channels and back, for one type: included with REAL, VEC, VEC_U, LANES,
 * BLOCK (the size of a small transpose) and TYPED(name) defined.
 *
 * Where channels are planes, squares of LANES × LANES elements are transposed in registers: in
 * stage s, of each two vectors s apart, the lanes s apart that stand off the diagonal change
 * places. */
#define LOW(s, l) ((l) & (s) ? LANES + (l) - (s) : (l))
#define HIGH(s, l) ((l) & (s) ? LANES + (l) : (l) + (s))
#if LANES == 16
#define PICK(a, b, P, s)                                                                         \
    __builtin_shufflevector(a, b, P(s, 0), P(s, 1), P(s, 2), P(s, 3), P(s, 4), P(s, 5), P(s, 6), \
                            P(s, 7), P(s, 8), P(s, 9), P(s, 10), P(s, 11), P(s, 12), P(s, 13),   \
                            P(s, 14), P(s, 15))
#elif LANES == 8
#define PICK(a, b, P, s)                                                                         \
    __builtin_shufflevector(a, b, P(s, 0), P(s, 1), P(s, 2), P(s, 3), P(s, 4), P(s, 5), P(s, 6), \
                            P(s, 7))
#elif LANES == 4
#define PICK(a, b, P, s) __builtin_shufflevector(a, b, P(s, 0), P(s, 1), P(s, 2), P(s, 3))
#else
#define PICK(a, b, P, s) __builtin_shufflevector(a, b, P(s, 0), P(s, 1))
#endif

#define STAGE(s)                                               \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) { \
        if (i & (s)) continue;                                 \
        VEC low = v[i], high = v[i + (s)];                     \
        v[i] = PICK(low, high, LOW, s);                        \
        v[i + (s)] = PICK(low, high, HIGH, s);                 \
    }

/* to[j * to_row + i] = from[i * from_row + j], i and j < LANES. */
static inline __attribute__((always_inline)) void TYPED(square)(const REAL *from, int64_t from_row,
                                                                REAL *to, int64_t to_row) {
    VEC v[LANES];
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) {
        v[i] = (VEC) * (const VEC_U *)from;
        from += from_row;
        __asm__("" : "+r"(from));
    }
#if LANES == 16
    STAGE(8)
#endif
#if LANES >= 8
    STAGE(4)
#endif
#if LANES >= 4
    STAGE(2)
#endif
    STAGE(1)
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) {
        *(VEC_U *)to = (VEC_U)v[i];
        to += to_row;
        __asm__("" : "+r"(to));
    }
}
#undef STAGE

/* to[t * LANES + l] = from[9 * l + t], t < 9. Lane i of vector k goes to t = (k * LANES + i) % 9,
 * and for each t these lanes differ. */
#define TAKEN(kt, i) (((kt) / 9 * LANES + (i)) % 9 == (kt) % 9 ? LANES + (i) : (i))
#define ORDER(t, l) ((9 * (l) + (t)) % LANES)
#define TAKE(k, t) all = PICK(all, v[k], TAKEN, 9 * (k) + (t))
#define TAP(t)  \
    all = v[0]; \
    TAKE(1, t); \
    TAKE(2, t); \
    TAKE(3, t); \
    TAKE(4, t); \
    TAKE(5, t); \
    TAKE(6, t); \
    TAKE(7, t); \
    TAKE(8, t); \
    *(VEC_U *)(to + (t) * LANES) = (VEC_U)PICK(all, all, ORDER, t)
static inline void TYPED(nine_taps)(const REAL *from, REAL *to) {
    VEC v[9], all;
    _Pragma("GCC unroll 16") for (int k = 0; k < 9; k++) {
        v[k] = (VEC) * (const VEC_U *)(from + k * LANES);
    }
    TAP(0);
    TAP(1);
    TAP(2);
    TAP(3);
    TAP(4);
    TAP(5);
    TAP(6);
    TAP(7);
    TAP(8);
}
#undef TAP
#undef TAKE
#undef ORDER
#undef TAKEN
#undef PICK
#undef LOW
#undef HIGH

#if BLOCK == 4
#define TRANSPOSE(from, step, to, stride) \
    hw_transpose_f32(from, (from) + (step), (from) + 2 * (step), (from) + 3 * (step), to, stride)
#else
#define TRANSPOSE(from, step, to, stride) hw_transpose_f64(from, (from) + (step), to, stride)
#endif

static void TYPED(gather)(int64_t count, int64_t readable, int64_t channels, const void *pixels,
                          int64_t pixel, int64_t channel, void *vectors) {
    const REAL *from = pixels;
    REAL *to = vectors;
    int64_t c = 0, p;
    if (channel == 1 && channels == LANES) {
        for (p = 0; p < count; p++) *(VEC_U *)(to + p * LANES) = *(const VEC_U *)(from + p * pixel);
        return;
    }
    if (pixel == 1 && channel == 9 && channels == LANES && count == 9) {
        TYPED(nine_taps)(from, to);
        return;
    }
    if (pixel == 1 && channels == LANES && readable >= LANES) {
        for (p = 0; p + LANES <= count; p += LANES)
            TYPED(square)(from + p, channel, to + p * LANES, LANES);
        if (p == count) return;
        /* the rest, with pixels before or behind it */
        if (p + LANES > readable) p = count - LANES;
        TYPED(square)(from + p, channel, to + p * LANES, LANES);
        return;
    }
    for (; pixel == 1 && c + BLOCK <= channels; c += BLOCK) {
        for (p = 0; p + BLOCK <= count; p += BLOCK)
            TRANSPOSE(from + c * channel + p, channel, to + p * LANES + c, LANES);
        for (; p < count; p++)
            for (int i = 0; i < BLOCK; i++) to[p * LANES + c + i] = from[(c + i) * channel + p];
    }
    for (p = 0; p < count; p++) {
        for (int64_t i = c; i < channels; i++) to[p * LANES + i] = from[p * pixel + i * channel];
        for (int64_t i = channels; i < LANES; i++) to[p * LANES + i] = 0;
    }
}

static void TYPED(scatter)(int64_t count, int64_t channels, void *vectors, const void *biases,
                           void *pixels, int64_t pixel, int64_t channel) {
    REAL *from = vectors, *to = pixels;
    const REAL *bias = biases;
    int64_t c = 0, p;
    if (bias) {
        VEC all = {0};
        for (c = 0; c < channels; c++) all[c] = bias[c];
        for (p = 0; p < count; p++)
            *(VEC_U *)(from + p * LANES) = (VEC_U)((VEC) * (VEC_U *)(from + p * LANES) + all);
        c = 0;
    }
    if (channel == 1 && channels == LANES) {
        for (p = 0; p < count; p++) *(VEC_U *)(to + p * pixel) = *(const VEC_U *)(from + p * LANES);
        return;
    }
    if (pixel == 1 && channels == LANES && count >= LANES) {
        for (p = 0; p + LANES <= count; p += LANES)
            TYPED(square)(from + p * LANES, LANES, to + p, channel);
        if (p < count)
            TYPED(square)(from + (count - LANES) * LANES, LANES, to + count - LANES, channel);
        return;
    }
    for (; pixel == 1 && c + BLOCK <= channels; c += BLOCK) {
        for (p = 0; p + BLOCK <= count; p += BLOCK)
            TRANSPOSE(from + p * LANES + c, LANES, to + c * channel + p, channel);
        for (; p < count; p++)
            for (int i = 0; i < BLOCK; i++) to[(c + i) * channel + p] = from[p * LANES + c + i];
    }
    for (p = 0; p < count; p++)
        for (int64_t i = c; i < channels; i++) to[p * pixel + i * channel] = from[p * LANES + i];
}
#undef TRANSPOSE
