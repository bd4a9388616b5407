/* Dispatch on CPU features (CPUID, and XGETBV for what the system saves), never on a model. */
#include "dispatch.h"

#define DECLARE(set)                                              \
    extern const hw_contraction_tiles hw_contraction_tiles_##set; \
    extern const hw_winograd_tiles hw_winograd_tiles_##set;       \
    extern const hw_direct_tiles hw_direct_tiles_##set;           \
    extern const hw_depthwise_tiles hw_depthwise_tiles_##set;     \
    extern const hw_random_tiles hw_random_tiles_##set;           \
    extern const hw_householder_tiles hw_householder_tiles_##set; \
    extern const hw_reduction_tiles hw_reduction_tiles_##set;     \
    extern const hw_activation_tiles hw_activation_tiles_##set;   \
    extern const hw_pooling_tiles hw_pooling_tiles_##set;         \
    extern const hw_loss_tiles hw_loss_tiles_##set;               \
    extern const hw_dropout_tiles hw_dropout_tiles_##set;         \
    extern const hw_optimizer_tiles hw_optimizer_tiles_##set;     \
    extern const hw_ceilings_tiles hw_ceilings_tiles_##set;
#define TABLE(set)                               \
    {.name = #set,                               \
     .contraction = &hw_contraction_tiles_##set, \
     .winograd = &hw_winograd_tiles_##set,       \
     .direct = &hw_direct_tiles_##set,           \
     .depthwise = &hw_depthwise_tiles_##set,     \
     .random = &hw_random_tiles_##set,           \
     .householder = &hw_householder_tiles_##set, \
     .reduction = &hw_reduction_tiles_##set,     \
     .activation = &hw_activation_tiles_##set,   \
     .pooling = &hw_pooling_tiles_##set,         \
     .loss = &hw_loss_tiles_##set,               \
     .dropout = &hw_dropout_tiles_##set,         \
     .optimizer = &hw_optimizer_tiles_##set,     \
     .ceilings = &hw_ceilings_tiles_##set}

#if defined(__x86_64__)
#include <cpuid.h>

DECLARE(baseline)
DECLARE(avx2)
DECLARE(avx512)
static const hw_tiles sets[] = {TABLE(baseline), TABLE(avx2), TABLE(avx512)};

static unsigned long long saved_state(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

int hw_set_supported(int set) {
    unsigned a, b, c, d, leaf7 = 0;
    if (set == 0) return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!(c & bit_OSXSAVE) || !(c & bit_AVX) || !(c & bit_FMA) || !(c & bit_F16C)) return 0;
    unsigned long long saved = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &leaf7, &c, &d)) return 0;
    if ((saved & 0x6) != 0x6 || !(leaf7 & bit_AVX2)) return 0; /* xmm, ymm */
    if (set == 1) return 1;
    unsigned wanted = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    return (saved & 0xe6) == 0xe6 && (leaf7 & wanted) == wanted; /* and opmask, zmm */
}

#elif defined(__aarch64__)
DECLARE(baseline)
DECLARE(neon)
static const hw_tiles sets[] = {TABLE(baseline), TABLE(neon)};
int hw_set_supported(int set) { return set < hw_set_count(); } /* NEON is part of AArch64 */

#else
DECLARE(baseline)
static const hw_tiles sets[] = {TABLE(baseline)};
int hw_set_supported(int set) { return set < hw_set_count(); }
#endif

int hw_set_count(void) { return (int)(sizeof sets / sizeof sets[0]); }
const hw_tiles *hw_set_tiles(int set) { return &sets[set]; }
