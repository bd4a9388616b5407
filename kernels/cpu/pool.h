/* The thread pool: the caller and its workers share out numbered tasks.
 *
 * Which thread runs a task is left to chance, so a task may depend on its number alone; that is
 * what makes every result independent of the number of threads. */
#ifndef HALFWAVE_POOL_H
#define HALFWAVE_POOL_H

#include <stdint.h>

#define HW_MAX_THREADS 256

/* Runs task `index` on thread `worker` (0 is the caller, always < hw_get_num_threads()). */
typedef void (*hw_task)(void *context, int64_t index, int worker);

/* Runs tasks 0 … count-1 on at most `threads` threads and returns when all have ended: 0, or -1 if
 * `poll` asked to stop. Serial when called inside a task, when another caller holds the pool, or
 * for one thread. Every task runs in the default floating-point environment: round to nearest,
 * subnormals kept, whatever the caller has set; the caller's own is restored. */
int hw_parallel_for(hw_task task, void *context, int64_t count, int threads);

/* Called on the caller's thread between tasks, at most every 50 ms; non-zero stops the run. */
void hw_set_poll(int (*poll)(void));

/* Exported by name as well, for threadpoolctl. */
__attribute__((visibility("default"))) int hw_get_num_threads(void);
__attribute__((visibility("default"))) void hw_set_num_threads(int threads);

/* Memory for the length of a call. Two pieces of up to 64 MiB are kept between calls (padding and
 * packing of a convolution); whoever finds both taken gets fresh memory. NULL when there is none.
 * Aligned to 64 bytes. */
void *hw_workspace_take(int64_t bytes);
void hw_workspace_give(void *memory);

#endif
