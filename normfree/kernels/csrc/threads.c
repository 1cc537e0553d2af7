/* Dividing a batch among threads by image. */

#define _DEFAULT_SOURCE /* madvise */

#include "kernels.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

enum { MOST_THREADS = 64 };

typedef struct {
    Work *work;
    const void *job;
    int64_t first, last;
    int failed, started;
    pthread_t thread;
} Share;

static void *do_share(void *given) {
    Share *share = given;
    share->failed = share->work(share->job, share->first, share->last);
    return NULL;
}

int divide(Work *work, const void *job, int64_t n, int64_t threads) {
    Share shares[MOST_THREADS];
    threads = threads > MOST_THREADS ? MOST_THREADS : threads;
    threads = threads > n ? n : threads;
    threads = threads < 1 ? 1 : threads;
    int failed = DONE;
    for (int64_t i = 0; i < threads; i++) {
        shares[i] = (Share){.work = work, .job = job};
        shares[i].first = n * i / threads;
        shares[i].last = n * (i + 1) / threads;
        if (i) shares[i].started = !pthread_create(&shares[i].thread, NULL, do_share, &shares[i]);
    }
    for (int64_t i = 0; i < threads; i++) /* also the ranges for which no thread could start */
        if (!shares[i].started) do_share(&shares[i]);
    for (int64_t i = 0; i < threads; i++) {
        if (shares[i].started) pthread_join(shares[i].thread, NULL);
        failed = shares[i].failed > failed ? shares[i].failed : failed;
    }
    return failed;
}

void ask_for_huge_pages(void *start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 1 << 21, from = ((uintptr_t)start + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)start + bytes) / page * page;
    if (from < to) madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}
