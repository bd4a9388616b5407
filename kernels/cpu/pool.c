/* A small pool: workers spin for some tens of microseconds after a job, then sleep.
 *
 * A job is cut into ranges of tasks, each with a counter of those left, from which caller and
 * workers draw the next one: from their own range, then from the others'. So a thread has the same
 * part of the same arrays call after call, and finds it in its caches, which cores may not have in
 * common. A worker counts itself in before it looks whether any are left, and the caller, once
 * there are none, waits only for those who are in: a worker that wakes late costs nobody anything.
 * fork() leaves the child without workers; it starts its own on first use. */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#define PAUSE() _mm_pause()
#define FENCE() _mm_sfence() /* what tasks have written past the caches is there for all */
typedef unsigned int fp_environment;
static fp_environment fp_default(void) {
    unsigned int before = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return before;
}
static void fp_restore(fp_environment before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#define FENCE() atomic_thread_fence(memory_order_seq_cst)
typedef uint64_t fp_environment;
static fp_environment fp_default(void) {
    uint64_t before, none = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(none));
    return before;
}
static void fp_restore(fp_environment before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
#include <fenv.h>
#define PAUSE() sched_yield()
#define FENCE() atomic_thread_fence(memory_order_seq_cst)
typedef fenv_t fp_environment;
static fp_environment fp_default(void) {
    fenv_t before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
static void fp_restore(fp_environment before) { fesetenv(&before); }
#endif

#define SPINS 4000 /* about 50 µs of pauses before a worker sleeps */
#define POLL_NS 50000000
#define MOST_RANGES 8 /* all of which a thread looks at before it leaves; neighbours share one */

/* Handing work over is lines of the cache that change hands, some tens of nanoseconds each: all
 * that a worker must know of a job comes with the line on which it spins, all that changes while
 * the job runs is in another. */
static struct {
    _Alignas(64) atomic_uint generation; /* one more with every job */
    hw_task task;
    void *context;
    int64_t count;
    int threads, ranges;
    struct {
        /* tasks that nobody has drawn; may be below zero */
        _Alignas(64) atomic_int_fast64_t left;
    } range[MOST_RANGES];
    _Alignas(64) atomic_int inside; /* workers that may draw */
    _Alignas(64) atomic_int sleepers;
    atomic_int stop;
} job;

static atomic_flag busy = ATOMIC_FLAG_INIT;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static int workers;                           /* running ones; changed only by who holds `busy` */
static atomic_int thread_ids[HW_MAX_THREADS]; /* of workers */
static cpu_set_t allowed;                     /* processors of sleeping workers */
static int kept_off;                          /* how many workers know that */
static atomic_int num_threads;
static int (*poll_caller)(void);
static _Thread_local int inside_task;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Looks for signals now and then, counted across loops: an operation may be a row of short ones. */
static int poll(void) {
    static _Thread_local int64_t last;
    int64_t now = now_ns();
    if (now - last <= POLL_NS) return 0;
    last = now;
    return poll_caller();
}

/* What else stands in `job` is only to be read after this: before it may be half of the next. */
static int any_left(void) {
    for (int i = 0; i < MOST_RANGES; i++) {
        if (atomic_load(&job.range[i].left) > 0) return 1;
    }
    return 0;
}

static void draw_tasks(int worker) {
    int polls = worker == 0 && poll_caller && !inside_task, own = worker * job.ranges / job.threads;
    inside_task++;
    for (int i = 0; i < job.ranges; i++) {
        int range = (own + i) % job.ranges;
        int64_t end = job.count * (range + 1) / job.ranges;
        while (atomic_load(&job.range[range].left) > 0) {
            int64_t left = atomic_fetch_sub(&job.range[range].left, 1);
            if (left <= 0 || atomic_load_explicit(&job.stop, memory_order_relaxed)) break;
            job.task(job.context, end - left, worker);
            if (polls && any_left() && poll()) atomic_store(&job.stop, 1);
        }
    }
    inside_task--;
    FENCE();
}

static void *work(void *id) {
    int worker = (int)(intptr_t)id;
    unsigned seen = 0;
    atomic_store(&thread_ids[worker], (int)syscall(SYS_gettid));
    fp_default();
    for (;;) {
        for (int spin = 0; spin < SPINS && atomic_load(&job.generation) == seen; spin++) PAUSE();
        if (atomic_load(&job.generation) == seen) {
            pthread_mutex_lock(&mutex);
            atomic_fetch_add(&job.sleepers, 1);
            while (atomic_load(&job.generation) == seen) pthread_cond_wait(&wake, &mutex);
            atomic_fetch_sub(&job.sleepers, 1);
            pthread_mutex_unlock(&mutex);
        }
        seen = atomic_load(&job.generation);
        atomic_fetch_add(&job.inside, 1);
        if (any_left() && worker < job.threads) draw_tasks(worker);
        atomic_fetch_sub(&job.inside, 1);
    }
    return NULL;
}

static void start_workers(int wanted) {
    if (workers >= wanted) return;
    sigset_t all, callers; /* signals are for the process's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    while (workers < wanted) {
        pthread_t thread;
        pthread_attr_t attributes;
        if (pthread_attr_init(&attributes)) break;
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&thread, &attributes, work, (void *)(intptr_t)(workers + 1));
        pthread_attr_destroy(&attributes);
        if (failed) break; /* fewer threads, the same result */
        workers++;
    }
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
}

/* Workers that sleep are to wake on other processors than the caller's. Linux as the guest of a
 * hypervisor takes a processor that has been idle for a while for one that is not to be had, and
 * puts them on the caller's, where they wait for milliseconds until it is done. So they are
 * excluded from it; else they may run where the caller may. */
static void keep_off_callers_processor(int threads) {
    cpu_set_t set;
    int processor = sched_getcpu();
    if (processor < 0 || processor >= CPU_SETSIZE || sched_getaffinity(0, sizeof set, &set)) return;
    CPU_CLR(processor, &set);
    if (CPU_COUNT(&set) == 0) return;
    if (!CPU_EQUAL(&set, &allowed)) kept_off = 0;
    for (allowed = set; kept_off < threads - 1; kept_off++) {
        int id = atomic_load(&thread_ids[kept_off + 1]);
        if (id == 0) break; /* not running yet, so not asleep either */
        sched_setaffinity(id, sizeof set, &set);
    }
}

static void reset_in_child(void) {
    for (int worker = 1; worker <= workers; worker++) atomic_store(&thread_ids[worker], 0);
    workers = kept_off = 0;
    if (inside_task) atomic_store(&job.stop, 1); /* forked by a signal handler: tasks are lost */
    for (int i = 0; i < MOST_RANGES; i++) atomic_store(&job.range[i].left, 0);
    atomic_store(&job.inside, 0);
    atomic_store(&job.sleepers, 0);
    atomic_flag_clear(&busy);
    pthread_mutex_init(&mutex, NULL);
    pthread_cond_init(&wake, NULL);
}

static int run_serial(hw_task task, void *context, int64_t count) {
    int polls = poll_caller && !inside_task, stopped = 0;
    inside_task++;
    for (int64_t index = 0; index < count && !stopped; index++) {
        task(context, index, 0);
        if (polls && index + 1 < count) stopped = poll();
    }
    inside_task--;
    FENCE();
    return stopped ? -1 : 0;
}

int hw_parallel_for(hw_task task, void *context, int64_t count, int threads) {
    int allowed = hw_get_num_threads(); /* read once: another thread may change it */
    if (threads > allowed) threads = allowed;
    if (threads > count) threads = (int)count;
    fp_environment callers = fp_default();
    int result = 0;
    if (threads <= 1 || inside_task || atomic_flag_test_and_set(&busy)) {
        result = run_serial(task, context, count);
    } else {
        static int registered;
        if (!registered) {
            pthread_atfork(NULL, NULL, reset_in_child);
            registered = 1;
        }
        start_workers(threads - 1);
        job.task = task;
        job.context = context;
        job.count = count;
        job.threads = threads;
        job.ranges = threads < MOST_RANGES ? threads : MOST_RANGES;
        if (atomic_load(&job.stop)) atomic_store(&job.stop, 0);
        for (int i = 0; i < job.ranges; i++)
            atomic_store(&job.range[i].left, count * (i + 1) / job.ranges - count * i / job.ranges);
        atomic_fetch_add(&job.generation, 1);
        if (atomic_load(&job.sleepers)) {
            keep_off_callers_processor(threads);
            pthread_mutex_lock(&mutex);
            pthread_cond_broadcast(&wake);
            pthread_mutex_unlock(&mutex);
        }
        draw_tasks(0);
        for (int spin = 0; atomic_load(&job.inside); spin++) {
            if (spin < SPINS)
                PAUSE();
            else
                sched_yield();
        }
        result = atomic_load(&job.stop) ? -1 : 0;
        for (int i = 0; result && i < MOST_RANGES; i++) atomic_store(&job.range[i].left, 0);
        atomic_flag_clear(&busy);
    }
    fp_restore(callers);
    return result;
}

void hw_set_poll(int (*poll)(void)) { poll_caller = poll; }

int hw_get_num_threads(void) {
    int threads = atomic_load_explicit(&num_threads, memory_order_relaxed);
    if (threads) return threads;
    cpu_set_t set;
    threads = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    if (threads > HW_MAX_THREADS) threads = HW_MAX_THREADS;
    int unset = 0; /* unless another thread has set it meanwhile */
    return atomic_compare_exchange_strong(&num_threads, &unset, threads) ? threads : unset;
}

void hw_set_num_threads(int threads) {
    if (threads < 1) threads = 1;
    atomic_store(&num_threads, threads < HW_MAX_THREADS ? threads : HW_MAX_THREADS);
}

/* ---- workspace --------------------------------------------------------------------------------
 */

#define KEPT_AT_MOST (INT64_C(128) << 20)
#define HUGE_PAGE (INT64_C(2) << 20)

#define KEPT_PIECES 2

static struct {
    void *_Atomic memory; /* NULL while it is replaced, so that no other block is taken for it */
    int64_t bytes;
    atomic_flag taken;
} kept[KEPT_PIECES] = {{.taken = ATOMIC_FLAG_INIT}, {.taken = ATOMIC_FLAG_INIT}};

static void *fresh(int64_t bytes) {
    int64_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    if (bytes > INT64_MAX - alignment) return NULL;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void *memory = aligned_alloc((size_t)alignment, (size_t)bytes);
#ifdef MADV_HUGEPAGE
    if (memory && bytes >= HUGE_PAGE) madvise(memory, (size_t)bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

void *hw_workspace_take(int64_t bytes) {
    if (bytes < 1) bytes = 1;
    for (int i = 0; i < KEPT_PIECES && bytes <= KEPT_AT_MOST; i++) {
        if (atomic_flag_test_and_set(&kept[i].taken)) continue;
        if (bytes > kept[i].bytes) {
            free(atomic_exchange(&kept[i].memory, NULL));
            void *larger = fresh(bytes);
            kept[i].bytes = larger ? bytes : 0;
            kept[i].memory = larger;
        }
        void *memory = kept[i].memory;
        if (!memory) atomic_flag_clear(&kept[i].taken);
        return memory;
    }
    return fresh(bytes);
}

void hw_workspace_give(void *memory) {
    for (int i = 0; memory && i < KEPT_PIECES; i++) {
        if (memory == kept[i].memory) {
            atomic_flag_clear(&kept[i].taken);
            return;
        }
    }
    free(memory);
}
