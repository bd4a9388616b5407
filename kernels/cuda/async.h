/* Copies from global to shared memory that go on beside the arithmetic (cp.async, sm_80 and newer).
 *
 * hw_copy_async issues one of SIZE = 4, 8 or 16 bytes, both ends aligned to it; of these the first
 * `filled` (all or none) come from memory, the others become 0, and nothing is read where none is.
 * hw_copies_commit closes a group; hw_copies_wait<N> waits until all but the last N groups of this
 * thread have arrived. What other threads have copied needs a __syncthreads after that. */
#ifndef HALFWAVE_CUDA_ASYNC_H
#define HALFWAVE_CUDA_ASYNC_H

#include "cuda/device.h"

#ifdef HW_EMULATED
template <int SIZE>
HW_FUNCTION void hw_copy_async(void *shared, const void *global, bool filled = true) {
    if ((uintptr_t)shared % SIZE || (filled && (uintptr_t)global % SIZE))
        hw_host::fail("a misaligned asynchronous copy");
    hw_host::current->open.push_back({shared, global, SIZE, filled ? (unsigned)SIZE : 0u});
    if (hw_host::copies_at_once) hw_host::land(hw_host::current->open.back());
}
HW_FUNCTION void hw_copies_commit() {
    hw_host::current->groups.push_back(std::move(hw_host::current->open));
    hw_host::current->open.clear();
}
template <int LEFT> HW_FUNCTION void hw_copies_wait() {
    auto &groups = hw_host::current->groups;
    for (; groups.size() > LEFT; groups.erase(groups.begin()))
        for (auto &copy : groups.front())
            if (!hw_host::copies_at_once) hw_host::land(copy);
}
#else
template <int SIZE>
HW_FUNCTION void hw_copy_async(void *shared, const void *global, bool filled = true) {
    unsigned to = (unsigned)__cvta_generic_to_shared(shared), bytes = filled ? SIZE : 0;
    if (SIZE == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
                     "r"(bytes));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global),
                     "n"(SIZE), "r"(bytes));
}
HW_FUNCTION void hw_copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> HW_FUNCTION void hw_copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}
#endif

#endif
