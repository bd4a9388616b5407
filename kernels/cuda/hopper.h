/* Hopper's own instructions (sm_90a), each behind one function: barriers in shared memory, the bulk
 * copy of a tensor's box, and wgmma, the tensor cores' product by a group of 4 warps. The tests put
 * a model of each in their place (tests/emulation/hopper_on_host.h), by the PTX ISA as cited here.
 *
 * A tile of an operand in shared memory is rows (of a, or columns of b) of 128 bytes along k, 8
 * rows after 8 from an address that 1024 divides, and the 16 bytes number i of row r lie at i ^ (r
 * % 8): the 128-byte swizzle, which the bulk copy writes and wgmma reads without bank conflicts
 * (PTX ISA, "Swizzling modes" of tensors; "Shared Memory Matrix Layout" of wgmma). */
#ifndef HALFWAVE_CUDA_HOPPER_H
#define HALFWAVE_CUDA_HOPPER_H

#include "cuda/device.h"

enum { HW_SWIZZLED = 128, HW_PATTERN = 1024 }; /* bytes of a row, and of the 8 that repeat */

/* What wgmma reads of a tile from address `shared` on: 32 bytes along k of 8, 16, ... rows. PTX
 * ISA, "Matrix Descriptor Format" of wgmma: bits 0 to 13 the address / 16; 16 to 29 the leading
 * dimension's byte offset / 16, which a swizzled tile along k has no use for, 1; 32 to 45 the
 * stride / 16 from 8 rows to the next 8; 49 to 51 the base offset, 0 where the pattern begins at
 * its own multiple; 62 and 63 the swizzle, 1 of 128 bytes. Steps along k within the 128 bytes just
 * move the address, for the swizzle is one of address bits. */
HW_FUNCTION uint64_t hw_matrix(uint32_t shared) {
    return (uint64_t)((shared & 0x3ffff) >> 4) | (uint64_t)1 << 16 |
           (uint64_t)(HW_PATTERN >> 4) << 32 | (uint64_t)1 << 62;
}

#ifndef HW_EMULATED

/* A CUtensorMap, which the host encodes (cuTensorMapEncodeTiled), as a __grid_constant__. */
struct alignas(64) HwTensorMap {
    uint64_t opaque[16];
};

HW_FUNCTION uint32_t hw_shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Barriers (PTX ISA, "mbarrier"). Phases of parity 0, 1, 0, ...: a phase ends when `count` threads
 * have arrived and all bytes have that were expected. hw_barrier_wait returns once the phase of
 * this parity has ended; of a new barrier that of parity 1 has. One thread makes the barriers,
 * which a hw_barriers_made and a __syncthreads have to follow. */
HW_FUNCTION void hw_barrier_make(uint64_t *barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(hw_shared_address(barrier)),
                 "r"(count)
                 : "memory");
}
HW_FUNCTION void hw_barriers_made() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
HW_FUNCTION void hw_barrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(hw_shared_address(barrier))
                 : "memory");
}
/* Arrives, and expects so many bytes of bulk copies in this phase. */
HW_FUNCTION void hw_barrier_expect(uint64_t *barrier, uint32_t bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(hw_shared_address(barrier)),
        "r"(bytes)
        : "memory");
}
HW_FUNCTION void hw_barrier_wait(uint64_t *barrier, uint32_t parity) {
    uint32_t over;
    do
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(over)
                     : "r"(hw_shared_address(barrier)), "r"(parity)
                     : "memory");
    while (!over);
}

/* The box whose first element has these coordinates (innermost first; any that are outside give
 * zeros), to shared memory; its bytes, all of the box, arrive at the barrier (PTX ISA,
 * "cp.async.bulk.tensor"). One thread asks for it. */
HW_FUNCTION void hw_copy_box(void *to, const HwTensorMap &map, uint64_t *barrier, int x0, int x1,
                             int x2) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(hw_shared_address(to)),
                 "l"(&map), "r"(hw_shared_address(barrier)), "r"(x0), "r"(x1), "r"(x2)
                 : "memory");
}
HW_FUNCTION void hw_copy_box(void *to, const HwTensorMap &map, uint64_t *barrier, int x0, int x1,
                             int x2, int x3) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(hw_shared_address(to)),
                 "l"(&map), "r"(hw_shared_address(barrier)), "r"(x0), "r"(x1), "r"(x2), "r"(x3)
                 : "memory");
}

/* Registers of each thread of this group of 4 warps, all of which call it ("setmaxnreg"). */
template <int N> HW_FUNCTION void hw_fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> HW_FUNCTION void hw_more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/* wgmma (PTX ISA, "Asynchronous warpgroup level matrix instructions"), by all of a group of 4
 * warps: a fence, products, a commit that closes a group of them; what products read and write is
 * theirs until hw_wgmma_wait<N> has all but the last N groups done. */
HW_FUNCTION void hw_wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
HW_FUNCTION void hw_wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int LEFT> HW_FUNCTION void hw_wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
/* No instruction: after the wait, so that the compiler reads no sum before it. */
template <int N> HW_FUNCTION void hw_wgmma_settle(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

#define HW_REGISTERS_32                                                      \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"

#define HW_REGISTERS_64                                                                \
    HW_REGISTERS_32                                                                    \
    ", "                                                                               \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

#define HW_REGISTERS_128                                                                     \
    HW_REGISTERS_64                                                                          \
    ", "                                                                                     \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "       \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "       \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, " \
    "%111, "                                                                                 \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "   \
    "%126, %127"

#define HW_OUTPUTS_8(i)                                                                         \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define HW_OUTPUTS_32(i) \
    HW_OUTPUTS_8(i), HW_OUTPUTS_8(i + 8), HW_OUTPUTS_8(i + 16), HW_OUTPUTS_8(i + 24)
#define HW_OUTPUTS_64(i) HW_OUTPUTS_32(i), HW_OUTPUTS_32(i + 32)
#define HW_OUTPUTS_128(i) HW_OUTPUTS_64(i), HW_OUTPUTS_64(i + 64)

/* d of R numbers a thread is 64 rows × N = 2 R columns; what is added up is a product of 64 × K and
 * K × N where K is 32 bytes. The predicate: d is added to, not overwritten; 1, 1: neither is
 * negated; 0, 0 (of 16 bits alone): both lie along k. */
#define HW_WGMMA(N, R, A, B, K, TYPE, MAJOR)                                         \
    asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"                          \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k" #K ".f32." TYPE "." TYPE \
                 " {" HW_REGISTERS_##R "}, %" #A ", %" #B ", p, 1, 1" MAJOR ";\n}"   \
                 : HW_OUTPUTS_##R(0)                                                 \
                 : "l"(a), "l"(b))
#define HW_WGMMA_OF(N, R, A, B)                                                             \
    template <bool TF32> HW_FUNCTION void hw_wgmma(float (&d)[R], uint64_t a, uint64_t b) { \
        if constexpr (TF32)                                                                 \
            HW_WGMMA(N, R, A, B, 8, "tf32", "");                                            \
        else                                                                                \
            HW_WGMMA(N, R, A, B, 16, "bf16", ", 0, 0");                                     \
    }

/* d += a b of 32 bytes along k, descriptors of tiles of TF32 (whose low 13 bits are ignored) or of
 * bfloat16. Thread 32 w + 4 g + t has of row 16 w + g: d[4 i], d[4 i + 1], columns 8 i + 2 t and
 * one more; of 8 rows further down d[4 i + 2], d[4 i + 3] (PTX ISA, "Accumulator D" of
 * wgmma.m64nNk8). */
HW_WGMMA_OF(64, 32, 32, 33)
HW_WGMMA_OF(128, 64, 64, 65)
HW_WGMMA_OF(256, 128, 128, 129)

/* The same of TF32 with a in registers: thread 32 w + 4 g + t has of rows 16 w + g and 8 more the
 * k's t (a[0], a[1]) and t + 4 (a[2], a[3]). They are wgmma's until it has been waited for. */
HW_FUNCTION void hw_wgmma(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {" HW_REGISTERS_64
                 "}, {%64, %65, %66, %67}, %68, p, 1, 1;\n}"
                 : HW_OUTPUTS_64(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#endif
#endif
