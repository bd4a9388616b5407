/* The pool under ThreadSanitizer: several callers, nested loops, numbers of threads that change.
 * cc -fsanitize=thread -Ikernels/cpu -pthread .ci/pool_races.c kernels/cpu/pool.c */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 1000, CALLERS = 3, MOST = 200 };

static void square(void *results, int64_t index, int worker) {
    ((int64_t *)results)[index] = index * index + (worker < 0);
}

static void squares_of_ten(void *results, int64_t index, int worker) {
    (void)worker;
    hw_parallel_for(square, (int64_t *)results + 10 * index, 10, 4);
}

static void *call(void *number) {
    unsigned random = (unsigned)(intptr_t)number;
    int64_t results[MOST];
    for (int round = 0; round < ROUNDS; round++) {
        memset(results, 0, sizeof results);
        int nested = rand_r(&random) % 4 == 0, count = nested ? MOST : 1 + rand_r(&random) % MOST;
        if (nested)
            hw_parallel_for(squares_of_ten, results, MOST / 10, 4);
        else
            hw_parallel_for(square, results, count, 1 + rand_r(&random) % 11);
        for (int i = 0; i < count; i++)
            if (results[i] != (nested ? i % 10 * (i % 10) : i * i)) abort();
        if (rand_r(&random) % 50 == 0) usleep(300); /* until workers sleep */
        if (rand_r(&random) % 50 == 0) hw_set_num_threads(1 + rand_r(&random) % 11);
        void *memory = hw_workspace_take(100 + rand_r(&random) % 100000);
        memset(memory, 1, 100);
        hw_workspace_give(memory);
    }
    return NULL;
}

int main(void) {
    pthread_t callers[CALLERS];
    hw_set_num_threads(11);
    for (intptr_t i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, call, (void *)(i + 1));
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
    puts("no races");
}
