/* Runs a .cu file on the CPU, for tests: forced in front of it (g++ -include).
 *
 * A block's threads are fibres (ucontext), switched at barriers and shuffles only, in one of
 * several orders; blocks run one after another. Shared memory holds NaN (all bits set) before each
 * block, and an asynchronous copy happens when it is waited for, as late as it may, or in one of
 * the orders at once, as early as it may: a missing barrier or wait is a wrong result in some
 * order. Global memory is the host's, so that address and undefined-behaviour sanitizers see it. */
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <setjmp.h>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define HW_EMULATED 1
#define __global__ __attribute__((visibility("default")))
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline, unused))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("hw_shared"), used))
#define __constant__ static const
#define __align__(n) alignas(n)
#define __grid_constant__

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

extern "C" char __start_hw_shared[] __attribute__((weak));
extern "C" char __stop_hw_shared[] __attribute__((weak));

namespace hw_host {

struct Copy {
    void *to;
    const void *from;
    unsigned size, filled;
};

struct Fibre {
    ucontext_t context;
    jmp_buf point; /* where it goes on, once it has started */
    bool started;
    uint3 index;
    unsigned number;
    bool finished;
    const char *waits; /* nullptr: may run; else for what */
    long long exchanged;
    std::vector<Copy> open;                /* asynchronous copies not yet committed */
    std::vector<std::vector<Copy>> groups; /* committed, oldest first */
};

enum { STACK = 128 * 1024 };

inline std::vector<Fibre> fibres;
inline std::vector<char> stacks;
inline ucontext_t scheduler;
inline jmp_buf scheduler_point;
inline bool copies_at_once, products_at_once;
inline Fibre *current;
inline dim3 grid, block;
inline uint3 block_index;
inline unsigned char *dynamic_shared;
inline void (*body)(void *);
inline void *body_argument;

[[noreturn]] inline void fail(const char *what) {
    std::fprintf(stderr, "emulation: %s (thread %u of block %u, %u, %u)\n", what,
                 current ? current->number : 0, block_index.x, block_index.y, block_index.z);
    std::abort();
}

/* Jumps are much quicker than swapcontext, which asks the system for signal masks; the address
 * sanitizer follows the latter only. */
inline void run_fibre(Fibre &f) {
    current = &f;
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&scheduler, &f.context);
#else
    if (_setjmp(scheduler_point)) return;
    if (f.started) _longjmp(f.point, 1);
    f.started = true;
    setcontext(&f.context);
#endif
}

inline void leave_fibre() {
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&current->context, &scheduler);
#else
    if (!_setjmp(current->point)) _longjmp(scheduler_point, 1);
#endif
}

inline void land(const Copy &copy) {
    std::memset(copy.to, 0, copy.size);
    if (copy.filled) std::memcpy(copy.to, copy.from, copy.filled);
}

inline void hopper_begins(); /* of a block; hopper_on_host.h */
inline void hopper_ends();

inline void start() {
    body(body_argument);
    if (!current->open.empty()) fail("asynchronous copies were never committed");
    for (auto &group : current->groups) /* they may yet land in memory that is used again */
        if (!group.empty()) fail("asynchronous copies were never waited for");
    current->finished = true;
    leave_fibre();
}

inline void wait(const char *what) {
    current->waits = what;
    leave_fibre();
}

/* Lets those go on that wait for the same thing, all of them; false if threads wait for different.
 */
inline bool release(unsigned begin, unsigned end) {
    const char *what = nullptr;
    for (unsigned i = begin; i < end; i++) {
        Fibre &f = fibres[i];
        if (f.finished) continue;
        if (!f.waits) return true;
        if (what && std::strcmp(what, f.waits)) return false;
        what = f.waits;
    }
    for (unsigned i = begin; i < end; i++) fibres[i].waits = nullptr;
    return true;
}

inline uint64_t random_state;
inline unsigned random_below(unsigned n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((random_state >> 33) % n);
}

inline void run_block(unsigned threads, int order) {
    if (__start_hw_shared) /* there is any */
        std::memset(__start_hw_shared, 0xff, __stop_hw_shared - __start_hw_shared);
    std::vector<unsigned> turn(threads);
    for (unsigned i = 0; i < threads; i++) {
        turn[i] = order == 1 ? threads - 1 - i : i;
        Fibre &f = fibres[i];
        f.number = i;
        f.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        f.finished = f.started = false;
        f.waits = nullptr;
        f.open.clear();
        f.groups.clear();
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = &stacks[(size_t)i * STACK];
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, start, 0);
    }
    hopper_begins();
    for (;;) {
        bool ran = false, alive = false;
        if (order == 2)
            for (unsigned i = threads; i > 1; i--) std::swap(turn[i - 1], turn[random_below(i)]);
        for (unsigned i : turn) {
            Fibre &f = fibres[i];
            if (f.finished || f.waits) continue;
            run_fibre(f);
            ran = true;
        }
        for (unsigned i = 0; i < threads; i++) alive |= !fibres[i].finished;
        if (!alive) break;
        /* A warp's own exchange first, then the whole block's barrier. */
        for (unsigned w = 0; w < threads; w += 32) {
            unsigned end = std::min(w + 32, threads);
            bool block_wide = false;
            for (unsigned i = w; i < end; i++)
                block_wide |= fibres[i].waits && !std::strcmp(fibres[i].waits, "__syncthreads");
            bool left = false, waits = false;
            for (unsigned i = w; i < end; i++) {
                left |= fibres[i].finished;
                waits |= !fibres[i].finished && fibres[i].waits;
            }
            if (!block_wide && left && waits) fail("a thread has left a warp that exchanges");
            if (!block_wide && !release(w, end)) fail("a warp's threads wait for different things");
        }
        bool any = false;
        for (unsigned i = 0; i < threads; i++) any |= !fibres[i].finished && !fibres[i].waits;
        if (!any && !release(0, threads)) fail("a block's threads wait for different things");
        if (!any && !ran) fail("no thread can go on");
    }
    current = nullptr;
    hopper_ends();
}

template <class T> T exchange(T value, unsigned from, const char *what) {
    static_assert(sizeof(T) <= 8);
    std::memcpy(&current->exchanged, &value, sizeof(T));
    wait(what);
    T result;
    std::memcpy(&result, &fibres[from].exchanged, sizeof(T));
    wait("the end of an exchange");
    return result;
}

inline void full(unsigned mask) {
    if (mask != 0xffffffffu || block.x * block.y * block.z % 32) fail("a partial warp exchanges");
}

struct Launch {
    unsigned grid[3], block[3], order, seed;
    uint64_t shared, arguments;
    void **values;
    uint64_t *sizes;
};

template <class... A, size_t... I>
int launch(void (*kernel)(A...), const Launch &l, std::index_sequence<I...>) {
    const uint64_t sizes[] = {sizeof(A)..., 0};
    if (l.arguments != sizeof...(A)) return 1000;
    for (size_t i = 0; i < sizeof...(A); i++)
        if (sizes[i] != l.sizes[i]) return (int)i + 1;
    auto arguments = std::make_tuple(*(std::remove_const_t<A> *)l.values[I]...);
    auto call = [&] { std::apply(kernel, arguments); };
    body = [](void *f) { (*(decltype(call) *)f)(); };
    body_argument = &call;
    grid = {l.grid[0], l.grid[1], l.grid[2]};
    block = {l.block[0], l.block[1], l.block[2]};
    unsigned threads = block.x * block.y * block.z;
    fibres.resize(std::max<size_t>(fibres.size(), threads));
    stacks.resize(std::max(stacks.size(), (size_t)threads * STACK));
    random_state = l.seed;
    copies_at_once = l.order == 1;
    products_at_once = l.order == 2;
    uint64_t count = (uint64_t)grid.x * grid.y * grid.z;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t b = l.order == 1 ? count - 1 - i : i;
        block_index = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                       (unsigned)(b / grid.x / grid.y)};
        dynamic_shared = (unsigned char *)std::aligned_alloc(128, (l.shared + 127) / 128 * 128);
        std::memset(dynamic_shared, 0xff, l.shared);
        run_block(threads, (int)l.order);
        std::free(dynamic_shared);
    }
    return 0;
}

template <class... A> int launch(void (*kernel)(A...), const Launch &l) {
    return launch(kernel, l, std::index_sequence_for<A...>{});
}

} // namespace hw_host

#define HW_EMULATE(name)                                                  \
    extern "C" __attribute__((visibility("default"))) int name##_on_host( \
        const hw_host::Launch *l) {                                       \
        return hw_host::launch(name, *l);                                 \
    }

#define threadIdx (hw_host::current->index)
#define blockIdx (hw_host::block_index)
#define blockDim (hw_host::block)
#define gridDim (hw_host::grid)
#define warpSize 32

#define HW_DYNAMIC_SHARED(type, name) type *name = (type *)hw_host::dynamic_shared

inline void __syncthreads() { hw_host::wait("__syncthreads"); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    hw_host::full(mask);
    hw_host::wait("__syncwarp");
}
inline void __threadfence() {}

inline unsigned hw_warp_begin() { return hw_host::current->number & ~31u; }
template <class T> T __shfl_sync(unsigned mask, T v, int lane) {
    hw_host::full(mask);
    return hw_host::exchange(v, hw_warp_begin() + (lane & 31), "__shfl_sync");
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned delta) {
    hw_host::full(mask);
    unsigned lane = hw_host::current->number & 31u;
    return hw_host::exchange(v, hw_warp_begin() + (lane + delta < 32 ? lane + delta : lane),
                             "__shfl_down_sync");
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned delta) {
    hw_host::full(mask);
    unsigned lane = hw_host::current->number & 31u;
    return hw_host::exchange(v, hw_warp_begin() + (lane >= delta ? lane - delta : lane),
                             "__shfl_up_sync");
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits) {
    hw_host::full(mask);
    unsigned lane = hw_host::current->number & 31u;
    return hw_host::exchange(v, hw_warp_begin() + (lane ^ bits), "__shfl_xor_sync");
}

inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> void __stcs(T *p, T v) { *p = v; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((uint64_t)a * b) >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
    return (uint64_t)(((unsigned __int128)a * b) >> 64);
}
using std::max;
using std::min;

#include "hopper_on_host.h"
